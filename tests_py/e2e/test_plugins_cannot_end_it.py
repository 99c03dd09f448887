"""A plugin may stop the loop, cancel what it finds, exit, or never come back: the proxy lives, and
ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.conftest import Proxy, program

PLUGIN = """
import asyncio
import re

def leave(error):
    def now():
        raise error
    return now

async def later(error):
    await asyncio.sleep(0)
    raise error

def cancel_all():
    for task in asyncio.all_tasks():
        task.cancel()

kept = []
DEEDS = {
    "stop": lambda: asyncio.get_event_loop().stop(),
    "cancel": cancel_all,
    "exit": lambda: leave(SystemExit(3))(),
    "interrupt": lambda: leave(KeyboardInterrupt())(),
    "generator exit": lambda: leave(GeneratorExit())(),
    "cancelled": lambda: leave(asyncio.CancelledError())(),
    "exit soon": lambda: asyncio.get_event_loop().call_soon(leave(SystemExit(3))),
    "interrupt soon": lambda: asyncio.get_event_loop().call_soon(leave(KeyboardInterrupt())),
    "exit in a task": lambda: kept.append(asyncio.ensure_future(later(SystemExit(3)))),
    "close": lambda: asyncio.get_event_loop().close(),
    "stuck": lambda: re.match("(a+)+$", "a" * 60 + "b"),
}

async def run(ctx):
    deed = ctx.body["messages"][-1]["content"]
    if deed == "wait":
        await asyncio.sleep(3600)
    if deed.startswith("later "):
        await asyncio.sleep(0)
    if deed.removeprefix("later ") in DEEDS:
        DEEDS[deed.removeprefix("later ")]()
"""
HARMLESS = ("stop", "cancel", "exit", "interrupt", "generator exit", "cancelled", "exit soon",
            "interrupt soon", "exit in a task", "close")  # fmt: skip


def install(folder: Path, policy: str, drain: float = 5) -> tuple[str, ...]:
    """The flags of a proxy with that plugin."""
    (folder / "mine.py").write_text(PLUGIN)
    row = {"name": "Rude One", "hook": "pre_flight", "entrypoint": "mine:run"}
    row |= {"fail_policy": policy, "timeout_ms": 60_000}
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": [row]}))
    (folder / "proxy.yaml").write_text(json.dumps({"timeouts": {"drain": drain}}))
    return ("--config", str(folder / "proxy.yaml"), "--plugins-dir", str(folder),
            "--default-backend", "echo")  # fmt: skip


def chat(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}]}


async def ask(http: httpx.AsyncClient, text: str) -> httpx.Response:
    return await http.post("/v1/chat/completions", json=chat(text))


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_the_proxy_outlives_what_a_plugin_does_to_the_loop(
    tmp_path: Path, policy: str
) -> None:
    async with (
        program(*install(tmp_path, policy), folder=tmp_path) as proxy,
        httpx.AsyncClient(trust_env=False, base_url=proxy.url, timeout=90) as http,
    ):
        assert proxy.process is not None
        waiting = asyncio.create_task(ask(http, "wait"))  # another client's: it is not cancelled
        await http.get("/api/v1/plugins/stats")
        for deed in HARMLESS:
            for text in (deed, f"later {deed}"):
                if text.endswith("generator exit"):
                    continue  # says nothing of its end: the exchange waits its patience
                answer = await ask(http, text)
                assert answer.status_code in (200, 500), (text, answer.text)
                assert (await ask(http, "hello")).status_code == 200, text
                assert proxy.process.returncode is None, text
        assert not waiting.done()
        waiting.cancel()
        proxy.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(proxy.process.wait(), 10) == 0


async def stuck(proxy: Proxy, http: httpx.AsyncClient) -> asyncio.Task[httpx.Response]:
    """A request whose plugin is inside a call of C that does not end."""
    asked = asyncio.create_task(ask(http, "stuck"))
    while True:  # until Python answers nothing any more
        try:
            await http.get("/api/v1/plugins/stats", timeout=0.5)
        except httpx.TimeoutException:
            return asked


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_a_plugin_stuck_in_c_does_not_keep_the_process_and_is_named(
    tmp_path: Path, signum: signal.Signals
) -> None:
    async with (
        program(*install(tmp_path, "closed", drain=0.5), folder=tmp_path) as proxy,
        httpx.AsyncClient(trust_env=False, base_url=proxy.url, timeout=90) as http,
    ):
        assert proxy.process is not None and proxy.process.stderr is not None
        asked = await stuck(proxy, http)
        proxy.process.send_signal(signum)
        said = await asyncio.wait_for(proxy.process.stderr.read(), 10)
        assert await proxy.process.wait() == 128 + signum
        assert b"the ring plugin 'Rude One' is running" in said
        with pytest.raises(httpx.TransportError):
            await asked


async def test_a_second_signal_ends_a_process_that_is_stuck_at_once(tmp_path: Path) -> None:
    async with (
        program(*install(tmp_path, "closed", drain=600), folder=tmp_path) as proxy,
        httpx.AsyncClient(trust_env=False, base_url=proxy.url, timeout=90) as http,
    ):
        assert proxy.process is not None and proxy.process.stderr is not None
        asked = await stuck(proxy, http)
        ending = asyncio.create_task(proxy.process.wait())
        while not ending.done():  # two signals that come at once are one
            proxy.process.send_signal(signal.SIGINT)
            await asyncio.wait({ending}, timeout=0.2)
        assert ending.result() == 128 + signal.SIGINT
        assert b"'Rude One'" in await proxy.process.stderr.read()
        with pytest.raises(httpx.TransportError):
            await asked
