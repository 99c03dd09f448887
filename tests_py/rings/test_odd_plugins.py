"""Plugins that leave nonsense behind: an answer or a clear error, and the rest goes on."""

from __future__ import annotations

import asyncio
import json
import textwrap
from pathlib import Path

import httpx
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.rings.runtime import loader
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.runtime.swap import SwapRefused
from llm_proxy.rings.sdk import PluginHook
from rings.test_all_at_once import CONFIG
from rings.test_swap import WORKS, answer, entry, files

SOURCE = """
from core.plugin_sdk import PluginResponse
from fastapi.responses import Response


class Odd:
    def __init__(self, **parts):
        self.__dict__.update(parts)


def block(status=403, kind="k", message="m"):
    made = PluginResponse.block()
    made.status_code, made.error_type, made.message = status, kind, message
    return made


DEEDS = {
    "block with status 99999": lambda ctx: block(99999),
    "block with status 0": lambda ctx: block(0),
    "block with status -5": lambda ctx: block(-5),
    "block with status 200": lambda ctx: block(200),
    "block with a text for status": lambda ctx: block("no number"),
    "block with status None": lambda ctx: block(None),
    "block with bytes for words": lambda ctx: block(403, b"x", b"y"),
    "block with lines in words": lambda ctx: block(403, "a\\r\\nb: c", "d\\r\\n\\r\\ne"),
    "block with half a character": lambda ctx: block(403, "k", "\\ud800"),
    "no body": lambda ctx: setattr(ctx, "body", None),
    "a list for a body": lambda ctx: setattr(ctx, "body", [1]),
    "a text for a body": lambda ctx: setattr(ctx, "body", "x"),
    "an object in the body": lambda ctx: ctx.body.update(x=object()),
    "a loop in the body": lambda ctx: ctx.body.update(x=ctx.body),
    "half a character in the body": lambda ctx: ctx.body.update(x="\\ud800"),
    "numbers for keys": lambda ctx: ctx.body.update({1: 2}),
    "messages None": lambda ctx: ctx.body.update(messages=None),
    "messages a text": lambda ctx: ctx.body.update(messages="x"),
    "messages of nothing": lambda ctx: ctx.body.update(messages=[None, 1, "x"]),
    "no model": lambda ctx: ctx.body.pop("model", None),
    "a number for a model": lambda ctx: ctx.body.update(model=5),
    "no metadata": lambda ctx: setattr(ctx, "metadata", None),
    "metadata emptied": lambda ctx: ctx.metadata.clear(),
    "an object for an error": lambda ctx: (setattr(ctx, "error", Odd()), stop(ctx)),
    "a number for a response": lambda ctx: setattr(ctx, "response", 5),
    "a response without a body": lambda ctx: setattr(ctx, "response", Odd(status_code=200)),
    "a response of None": lambda ctx: setattr(ctx, "response", None),
    "status 7 in the response": lambda ctx: setattr(ctx, "response", Odd(body=b"x", status_code=7)),
    "a text for the response's status": lambda ctx: setattr(
        ctx, "response", Odd(body=b"x", status_code="x")
    ),
    "lines in a header": lambda ctx: setattr(
        ctx, "response", Odd(body=b"{}", status_code=200, headers={"x-a": "b\\r\\nx-evil: 1"})
    ),
    "lines in a header's name": lambda ctx: setattr(
        ctx, "response", Odd(body=b"{}", status_code=200, headers={"x\\r\\nx-evil": "b"})
    ),
    "a wrong length": lambda ctx: setattr(
        ctx, "response", Odd(body=b"{}", status_code=200, headers={"content-length": "99"})
    ),
    "chunked by itself": lambda ctx: setattr(
        ctx, "response", Odd(body=b"{}", status_code=200, headers={"transfer-encoding": "chunked"})
    ),
    "placeholders that are none": lambda ctx: setattr(ctx, "placeholders", {1: None, "x": "y"}),
    "a body deleted": lambda ctx: delattr(ctx, "body"),
    "an unknown attribute": lambda ctx: setattr(ctx, "anything", 1),
    "an exit": lambda ctx: exit_now(),
    "a hit on nothing": lambda ctx: PluginResponse.cache_hit(None),
    "a hit on an object": lambda ctx: PluginResponse.cache_hit({"a": Odd()}),
    "a hit on a loop": lambda ctx: PluginResponse.cache_hit(loop(ctx.metadata)),
    "five headers": lambda ctx: setattr(ctx, "response", Odd(body=b"{}", headers=5)),
    "a hit on a list": lambda ctx: PluginResponse.cache_hit([1]),
    "another action": lambda ctx: setattr(PluginResponse.modify({"a": 1}), "action", 5),
}


def stop(ctx):
    ctx.stop_chain = 1


def loop(row):
    row["x"] = row
    return row


def exit_now():
    raise SystemExit(3)


async def do(ctx, ring):
    first, _, deed = ctx.request.headers.get("x-deed", "").partition("|")
    if first == ring:
        made = DEEDS[deed](ctx)
        return made if isinstance(made, PluginResponse) else None
"""
ENDS_STREAMS = ("block", "an object for an error")
RINGS = [hook.value for hook in PluginHook]
SOURCE = textwrap.dedent(SOURCE) + "".join(
    f"\n\nasync def {ring}(ctx):\n    return await do(ctx, {ring!r})\n" for ring in RINGS
)
DEEDS = [line.split('"')[1] for line in SOURCE.splitlines() if line.startswith('    "')]


@pytest.mark.parametrize("ring", RINGS)
async def test_nothing_a_plugin_leaves_behind_breaks_the_proxy(tmp_path: Path, ring: str) -> None:
    (tmp_path / "odd.py").write_text(SOURCE)
    rows = [{"name": r, "hook": r, "entrypoint": f"odd:{r}", "fail_policy": "open"} for r in RINGS]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    wrong = []
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=5) as http:
            for deed in DEEDS:
                for stream in (False, True):
                    message = {"role": "user", "content": "hello"}
                    body = {"model": "m", "messages": [message], "stream": stream}
                    headers = {"x-deed": f"{ring}|{deed}"}
                    try:
                        reply = await http.post("/v1/chat/completions", json=body, headers=headers)
                    except httpx.HTTPError as error:
                        if stream and ring == "post_flight" and deed.startswith(ENDS_STREAMS):
                            continue  # an error event, and no clean end
                        wrong.append((deed, stream, repr(error)))
                        continue
                    told = reply.status_code == 200 or "error" in reply.json()
                    if not told or "x-evil" in reply.headers or reply.status_code < 200:
                        wrong.append((deed, stream, reply.status_code, reply.text[:200]))
                    well = await http.post("/v1/chat/completions", json={**body, "stream": False})
                    if well.status_code != 200 or "hello" not in well.text:
                        wrong.append((deed, stream, "afterwards", well.text[:200]))
                        await server.plugins.hot_swap()  # type: ignore[union-attr]
    assert wrong == []


CLASS = "import asyncio, re\nfrom core.plugin_sdk import BasePlugin\nclass run(BasePlugin):\n"
# One of the ways round the gate: it is a lint.
SYSTEM = (
    "from random import Random\n"
    "found = getattr(Random().seed.__func__, ''.join(('__glo', 'bals__')))\n"
    "found['_os']."
)
LOADS = {
    "exits": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "is interrupted": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "is cancelled": ("import asyncio\nraise asyncio.CancelledError\n", "CancelledError"),
    "ends the process": (
        SYSTEM + "_exit(0)\n",
        "importing it ends the process with status 0",
    ),
    "crashes": (
        SYSTEM + "abort()\n",
        "importing it ends the process with SIGABRT",
    ),
    "computes when imported": ("while True:\n    pass\n", "importing it takes more than"),
    "computes in C when imported": (
        "import re\nre.match('(a+)+$', 'a' * 60 + 'b')\n",
        "importing it takes more than",
    ),
    "sleeps when imported": (
        "import asyncio\nasyncio.new_event_loop().run_until_complete(asyncio.sleep(600))\n",
        "importing it takes more than",
    ),
    "computes when imported for good": (
        "if not __name__.endswith('rehearsed'):\n    while True:\n        pass\n",
        "importing it takes more than",
    ),
    "computes when made": (
        CLASS + "    def __init__(self, config=None):\n        while True:\n            pass\n",
        "on_load computes for more than 0.2 s",
    ),
    "computes on load": (
        CLASS + "    async def on_load(self):\n        while True:\n            pass\n",
        "on_load computes for more than 0.2 s",
    ),
    "computes on load between awaits, and on and on": (
        CLASS + "    async def on_load(self):\n        await asyncio.sleep(0.01)\n"
        "        for _ in range(3):\n            try:\n                while True:\n"
        "                    pass\n            except BaseException:\n                pass\n",
        "on_load computes for more than 0.2 s",
    ),
    "never loads": (
        CLASS + "    async def on_load(self):\n        await asyncio.sleep(60)\n",
        "on_load takes more than 0.5 s",
    ),
    "exits on load": (CLASS + "    async def on_load(self):\n        raise SystemExit(3)\n", "3"),
    "computes when checked": (
        "async def run(ctx):\n    while True:\n        pass\n",
        "the health check failed in bad",
    ),
    "is a text": ("run = 'x' * 1_000\n", "neither a BasePlugin class nor an async function"),
    "makes no coroutine": ("def run(ctx):\n    pass\n", "neither a BasePlugin class nor"),
}


@pytest.mark.parametrize("what", LOADS)
async def test_a_plugin_that_ends_loads_or_hangs_its_host_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    source, said = LOADS[what]
    monkeypatch.setattr(loader, "ON_LOAD_SECONDS", 0.5)
    monkeypatch.setattr(loader, "ON_LOAD_STEP_SECONDS", 0.2)
    (tmp_path / "mine.py").write_text(WORKS.format("first"))
    (tmp_path / "bad.py").write_text(source)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins: PluginManager | None = server.plugins
        assert plugins is not None
        await plugins.install_plugin(entry("mine"))
        before, served = files(tmp_path), plugins.generation
        monkeypatch.setattr(loader, "IMPORT_SECONDS", 1.5)
        installing = asyncio.create_task(plugins.install_plugin(entry("bad")))
        answered = 0
        while not installing.done():
            assert "dear first" in await answer(server)
            answered += 1
        if "imported" in what:  # it takes seconds, and the loop none of them
            assert answered > 5
        with pytest.raises(SwapRefused, match="bad") as refused:
            await installing
        assert said in str(refused.value)
        assert (files(tmp_path), plugins.generation) == (before, served)
        assert "dear first" in await answer(server)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        assert "dear first" in await answer(server)


async def test_a_proxy_starts_without_what_hangs_or_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "IMPORT_SECONDS", 1.5)
    (tmp_path / "mine.py").write_text(WORKS.format("first"))
    names = ("computes in C when imported", "ends the process", "computes when imported for good")
    rows = [entry("mine")]
    for number, name in enumerate(names):
        (tmp_path / f"bad{number}.py").write_text(LOADS[name][0])
        rows.append({**entry(f"bad{number}"), "name": name})
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        assert server.plugins is not None
        for name in names:
            meta = server.plugins.get_plugin(name)
            assert meta is not None and not meta["loaded"]
            assert LOADS[name][1] in meta["problem"]
        assert "dear first" in await answer(server)
