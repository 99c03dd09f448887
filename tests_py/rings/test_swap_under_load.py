"""Plugins swapped, installed, refused and rolled back while clients ask and streams are open.

LLM_PROXY_SWAP_LOAD=whole: 1,000 requests a second, 200 streams, 100 changes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.runtime.swap import SwapRefused
from llm_proxy.rings.runtime.wasm_runner import _check_extism
from repo import ROOT
from rings.test_all_at_once import until

WHOLE = os.environ.get("LLM_PROXY_SWAP_LOAD") == "whole"
RATE, STREAMS, CHANGES = (1000, 200, 100) if WHOLE else (100, 20, 15)
LEAK_MB = 24  # more than this between the first fifth and the end is a leak

MARK = """
from core.plugin_sdk import BasePlugin, PluginHook

GEN = {gen}


def note(state, what):
    state.extra[what] = state.extra.get(what, 0) + 1


class Mark(BasePlugin):
    # Marks an exchange with its generation in every ring, and knows who still uses it.
    also = {{
        PluginHook.ROUTING: "route",
        PluginHook.POST_FLIGHT: "reply",
        PluginHook.BACKGROUND: "leave",
    }}

    def __init__(self, config=None):
        super().__init__(config)
        self.users = 0
        self.gone = False

    async def execute(self, ctx):
        if self.gone:
            note(ctx.state, "used after on_unload")
        self.users += 1
        ctx.metadata["mark"] = self
        ctx.body["messages"][-1]["content"] += f" {{GEN}}"

    async def route(self, ctx):
        self.same(ctx)
        ctx.body["messages"][-1]["content"] += f" {{GEN}}."

    async def reply(self, ctx):
        self.same(ctx)
        ctx.response.headers["x-gen"] = str(GEN)

    async def leave(self, ctx):
        self.same(ctx)
        self.users -= 1

    def same(self, ctx):
        if ctx.metadata["mark"] is not self:
            note(ctx.state, "mixed generations")

    async def on_unload(self):
        self.gone = True
        if self.users:
            note(self.state, "unloaded while used")
        note(self.state, "unloaded")


async def first(ctx):
    ctx.body["messages"][-1]["content"] += f" {{GEN}}"
"""
ROWS = [
    {"name": "First", "hook": "ingress", "entrypoint": "mark:first", "timeout_ms": 5000},
    {"name": "Mark", "hook": "pre_flight", "entrypoint": "mark:Mark", "timeout_ms": 5000},
]
BAD = {
    "raises": "raise KeyError('import')\n",
    "load": "from core.plugin_sdk import BasePlugin\nclass run(BasePlugin):\n"
    "    async def on_load(self):\n        raise OSError('no')\n",
    "fails": "async def run(ctx):\n    raise KeyError('health')\n",
    "hangs": "import asyncio\nasync def run(ctx):\n    await asyncio.sleep(60)\n",
    "syntax": "def run(:\n",
}


def row(name: str) -> dict[str, Any]:
    made = {"name": name, "hook": "pre_flight", "timeout_ms": 50, "priority": 200}
    if name == "guard":
        return {**made, "type": "wasm", "entrypoint": "guard", "timeout_ms": 2000}
    return {**made, "entrypoint": f"{name}:run", "allow_inprocess": True}


def files(directory: Path) -> dict[str, str]:
    return {str(p): p.read_text() for p in directory.rglob("*.yaml")}


def memory() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss) / 1e6


def modules() -> list[str]:
    return [name for name in sys.modules if name.startswith("_llm_proxy_plugin_")]


async def change(plugins: PluginManager, directory: Path, number: int) -> None:
    """One of: a new version, an install, a refused install, a rollback, an uninstall."""
    step = number % 5
    good = "guard" if _check_extism() and number % 2 else "extra"
    if step == 0:
        (directory / "mark.py").write_text(MARK.format(gen=number + 1))
        await plugins.hot_swap()
    elif step == 1:
        assert await plugins.install_plugin(row(good))
    elif step == 2:
        bad = list(BAD)[number // 5 % len(BAD)]
        before, served = files(directory), plugins.generation
        with pytest.raises(SwapRefused, match=bad):
            await plugins.install_plugin(row(bad))
        assert (files(directory), plugins.generation) == (before, served)
    elif step == 3:
        assert await plugins.rollback()
    else:
        for name in ("guard", "extra"):
            await plugins.uninstall_plugin(name)


@pytest.mark.alone
async def test_no_request_notices_that_the_plugins_change(tmp_path: Path) -> None:
    others = modules()
    for name, source in {**BAD, "extra": "async def run(ctx):\n    pass\n"}.items():
        (tmp_path / f"{name}.py").write_text(source)
    shutil.copy(ROOT / "plugins_examples/wasm_guests/word_guard.wasm", tmp_path / "guard.wasm")
    (tmp_path / "mark.py").write_text(MARK.format(gen=0))
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": ROWS}))
    program = [sys.executable, str(ROOT / "tests_py/rings/swap_load.py")]
    pipe = asyncio.subprocess.PIPE
    load = await asyncio.create_subprocess_exec(*program, stdin=pipe, stdout=pipe)
    assert load.stdin is not None and load.stdout is not None
    upstream = f"http://127.0.0.1:{int(await load.stdout.readline())}/v1"
    backend = {"name": "up", "type": "openai", "kind": "http", "format": "openai-chat"}
    config = {
        "host": "127.0.0.1",
        "port": 0,
        "io_threads": 2,
        "logging": {"access_log": False},
        "default_backend": "up",
        "backends": [{**backend, "base_url": upstream, "keys": ["k"]}],
    }
    try:
        async with make_server(config, plugins_dir=tmp_path) as server:
            plugins = server.plugins
            assert plugins is not None
            asked = {"proxy": server.port, "rate": RATE, "streams": STREAMS}
            load.stdin.write(json.dumps(asked).encode() + b"\n")
            await asyncio.sleep(2 if WHOLE else 0.5)
            before = 0.0
            for number in range(CHANGES):
                await change(plugins, tmp_path, number)
                await asyncio.sleep(0.3 if WHOLE else 0.05)
                if number == CHANGES // 5:
                    before = memory()
            after = memory()
            load.stdin.write(b"stop\n")
            report = json.loads(await load.stdout.readline())
            state = plugins.state.extra
            await until(lambda: plugins._live <= 2)  # what serves, what a rollback brings back
        ends = {key: state[key] for key in state if isinstance(state[key], int)}
    finally:
        if load.returncode is None:
            load.terminate()
        await load.wait()
    print(json.dumps({**report, **ends, "rss_mb": [before, after]}))
    assert report["failures"] == []
    assert report["requests"] > 0 and report["streams"] >= STREAMS
    assert set(ends) == {"unloaded"}, ends  # nothing mixed, nothing unloaded while in use
    assert modules() == others
    assert after - before < LEAK_MB
    async with make_server(config, plugins_dir=tmp_path) as server:  # and it starts from its files
        assert server.plugins is not None
        loaded = {meta["name"] for meta in server.plugins.list_plugins() if meta["loaded"]}
        assert {"First", "Mark"} <= loaded
