"""The program as users start and stop it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import sys
from pathlib import Path

import httpx
import pytest

from e2e.answers import TEXT, chat_stream
from e2e.conftest import program
from e2e.upstream import Stall, Upstream, Wait, answering, stream
from repo import ROOT

CHAT = {"model": "any", "messages": [{"role": "user", "content": "Hello"}]}


async def test_without_any_key_it_answers_and_says_how_to_name_a_provider(tmp_path: Path) -> None:
    async with program(folder=tmp_path) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
        assert (await client.get("/health")).status_code == 200
        reply = await client.post("/v1/chat/completions", json=CHAT)
        assert reply.status_code == 200
        assert "Hello" in reply.json()["choices"][0]["message"]["content"]
        assert proxy.process is not None and proxy.process.stdout is not None
        banner = (await proxy.process.stdout.readuntil(b"try: curl")).decode()
    assert "OPENAI_API_KEY" in banner
    assert "echo" in banner


async def test_a_key_and_an_address_in_the_environment_are_enough(tmp_path: Path) -> None:
    async with Upstream(answering(TEXT)) as upstream:
        environment = {"OPENAI_API_KEY": "secret-key", "OPENAI_API_BASE_URL": upstream.url}
        async with (
            program(folder=tmp_path, environment=environment) as proxy,
            httpx.AsyncClient(base_url=proxy.url) as client,
        ):
            reply = await client.post("/v1/chat/completions", json=CHAT)
        assert reply.json()["choices"][0]["message"]["content"] == TEXT.text
        assert upstream.last.headers["authorization"] == "Bearer secret-key"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
async def test_told_to_stop_it_lets_a_request_finish_and_exits_with_0(
    signum: signal.Signals, tmp_path: Path
) -> None:
    go_on = asyncio.Event()
    said = list(chat_stream(TEXT))
    events = [*said[:4], Wait(go_on), *said[4:]]
    async with Upstream(lambda _: stream(events)) as upstream:
        environment = {"OPENAI_API_KEY": "k", "OPENAI_API_BASE_URL": upstream.url}
        async with (
            program(folder=tmp_path, environment=environment) as proxy,
            httpx.AsyncClient(base_url=proxy.url, timeout=30) as client,
        ):
            assert proxy.process is not None
            ask = client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True})
            async with ask as reply:
                await upstream.request(0)
                proxy.process.send_signal(signum)
                with pytest.raises(httpx.ConnectError):
                    while True:
                        async with httpx.AsyncClient() as other:
                            await other.get(f"{proxy.url}/health")
                go_on.set()
                assert (await reply.aread()).endswith(b"data: [DONE]\n\n")
            assert await asyncio.wait_for(proxy.process.wait(), 10) == 0


async def test_the_program_with_the_interpreter_inside_serves_streams_and_stops_alike(
    tmp_path: Path,
) -> None:
    daemon = ROOT / "build" / "dev" / "cpp" / "python" / "llm-proxyd"
    if not daemon.exists() and not os.environ.get("CI"):
        pytest.skip("llm-proxyd is not built: ./dev build")
    async with Upstream(lambda _: stream(list(chat_stream(TEXT)))) as upstream:
        environment = {
            "OPENAI_API_KEY": "k",
            "OPENAI_API_BASE_URL": upstream.url,
            "VIRTUAL_ENV": sys.prefix,
        }
        async with (
            program(folder=tmp_path, environment=environment, command=(str(daemon),)) as proxy,
            httpx.AsyncClient(base_url=proxy.url) as client,
        ):
            reply = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
            assert reply.content.endswith(b"data: [DONE]\n\n")
            models = (await client.get("/v1/models")).json()
            assert models["object"] == "list"
            assert proxy.process is not None
            proxy.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(proxy.process.wait(), 10) == 0


async def test_a_second_signal_exits_at_once(tmp_path: Path) -> None:
    async with Upstream(lambda _: stream([b": \n\n", Stall()])) as upstream:
        environment = {"OPENAI_API_KEY": "k", "OPENAI_API_BASE_URL": upstream.url}
        async with program(folder=tmp_path, environment=environment) as proxy:
            assert proxy.process is not None
            client = httpx.AsyncClient(base_url=proxy.url, timeout=30)
            pending = asyncio.create_task(
                client.post("/v1/chat/completions", json={**CHAT, "stream": True})
            )
            await upstream.request(0)
            proxy.process.send_signal(signal.SIGTERM)
            with pytest.raises(httpx.ConnectError):
                while True:
                    async with httpx.AsyncClient() as other:
                        await other.get(f"{proxy.url}/health")
            assert proxy.process.returncode is None
            proxy.process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(proxy.process.wait(), 5) == 128 + signal.SIGTERM
            with pytest.raises(httpx.HTTPError):
                await pending
            await client.aclose()


async def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    async with Upstream() as taken:
        port = str(taken.port)
        with pytest.raises(AssertionError) as caught:
            async with program("--port", port, folder=tmp_path):
                pass
    message = str(caught.value)
    assert port in message and "in use" in message
    assert "Traceback" not in message


async def test_it_reads_its_configuration_anew_on_sighup(tmp_path: Path) -> None:
    async with Upstream(answering(TEXT)) as first, Upstream(answering(TEXT)) as second:
        file = tmp_path / "proxy.yaml"

        def write(upstream: Upstream) -> None:
            file.write_text(f"backends:\n  openai: {{api_key: k, api_url: '{upstream.url}'}}\n")

        write(first)
        async with (
            program("--config", str(file), folder=tmp_path) as proxy,
            httpx.AsyncClient(base_url=proxy.url) as client,
        ):
            await client.post("/v1/chat/completions", json=CHAT)
            assert (len(first.requests), len(second.requests)) == (1, 0)
            write(second)
            assert proxy.process is not None and proxy.process.stderr is not None
            proxy.process.send_signal(signal.SIGHUP)
            await asyncio.wait_for(proxy.process.stderr.readuntil(b"read anew"), 10)
            await client.post("/v1/chat/completions", json=CHAT)
            assert (len(first.requests), len(second.requests)) == (1, 1)
            file.write_text("nonsense: 1\n")
            proxy.process.send_signal(signal.SIGHUP)
            await asyncio.wait_for(proxy.process.stderr.readuntil(b"old configuration stays"), 10)
            await client.post("/v1/chat/completions", json=CHAT)
            assert len(second.requests) == 2


async def test_every_line_of_the_log_is_an_object_where_that_is_wanted(tmp_path: Path) -> None:
    log = tmp_path / "proxy.log"
    flags = ("--log-format", "json", "--log", str(log), "--no-access-log")
    async with program(*flags, folder=tmp_path) as proxy:
        assert proxy.process is not None
        connections = []
        open_files = len(os.listdir(f"/proc/{proxy.process.pid}/fd"))
        limits = (open_files + 5, open_files + 5)
        resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, limits)
        for _ in range(20):  # more than it has room for: the engine complains
            connections.append(await asyncio.open_connection("127.0.0.1", proxy.port))
        for _ in range(1000):
            if b"cannot accept" in log.read_bytes():
                break
            await asyncio.sleep(0.01)
        for _, writer in connections:
            writer.close()
        proxy.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(proxy.process.wait(), 20)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"llm_proxy", "llm_proxy.engine"} <= {line["logger"] for line in lines}
    assert all(re.fullmatch(r"[-\d]{10}T[:\d]{8}\.\d{3}Z", line["time"]) for line in lines)
    complaint = next(line for line in lines if line["logger"] == "llm_proxy.engine")
    assert complaint["level"] == "warning"
    assert complaint["message"].startswith("cannot accept connections: ")
