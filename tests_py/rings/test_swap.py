"""Swapping, installing and switching plugins while a server serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
import yaml

from llm_proxy.assembly import make_server
from llm_proxy.rings.runtime.gate import compute_plugin_sha256
from llm_proxy.rings.runtime.swap import SwapRefused
from llm_proxy.server import Server
from rings.test_all_at_once import CHAT, CONFIG, ask, until

WORKS = "async def run(ctx):\n    ctx.body['messages'][-1]['content'] = 'dear {}'\n"
BAD = {
    "raises": "raise KeyError('import')",
    "fails": "async def run(ctx):\n    raise KeyError('health')\n",
    "missing": "x = 1\n",
    "hangs": "import asyncio\nasync def run(ctx):\n    await asyncio.sleep(60)\n",
}


def entry(name: str) -> dict[str, object]:
    return {
        "name": name,
        "hook": "pre_flight",
        "entrypoint": f"{name}:run",
        "allow_inprocess": True,
        "timeout_ms": 50,
    }


def files(directory: Path) -> dict[str, str]:
    return {str(p): p.read_text() for p in directory.rglob("*.yaml")}


async def answer(server: Server) -> str:
    return (await ask(server, "/v1/chat/completions", CHAT)).text


async def test_the_stock_set_can_be_swapped_toggled_and_rolled_back(tmp_path: Path) -> None:
    async with make_server(CONFIG, plugins_dir=tmp_path, plugins=["stock"]) as server:
        plugins = server.plugins
        assert plugins is not None
        await plugins.hot_swap()
        assert await plugins.toggle_plugin("A/B Model Router", True)
        meta = plugins.get_plugin("A/B Model Router")
        assert meta is not None and meta["loaded"]
        assert "dear" in await answer(server)
        assert await plugins.rollback()
        meta = plugins.get_plugin("A/B Model Router")
        assert meta is not None and not meta["loaded"]
        assert not await plugins.toggle_plugin("nobody", True)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        assert server.plugins is not None
        meta = server.plugins.get_plugin("A/B Model Router")
        assert meta is not None and not meta["loaded"]  # what was rolled back stays so
        assert await server.plugins.toggle_plugin("A/B Model Router", True)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        assert server.plugins is not None
        meta = server.plugins.get_plugin("A/B Model Router")
        assert meta is not None and meta["loaded"]  # the switch outlives the process


async def test_a_plugin_is_installed_and_removed_under_load(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WORKS.format("installed"))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        running = True

        async def load() -> int:
            count = 0
            while running:
                assert "dear" in await answer(server)
                count += 1
            return count

        clients = [asyncio.create_task(load()) for _ in range(2)]
        for _ in range(3):
            await plugins.install_plugin(entry("mine"))
            assert "dear installed" in await answer(server)
            assert await plugins.uninstall_plugin("mine")
        running = False
        assert min(await asyncio.gather(*clients)) > 0
        assert not await plugins.uninstall_plugin("mine")


@pytest.mark.parametrize("bad", BAD)
async def test_a_refused_install_leaves_everything_as_it_was(tmp_path: Path, bad: str) -> None:
    (tmp_path / "mine.py").write_text(WORKS.format("first"))
    (tmp_path / f"{bad}.py").write_text(BAD[bad])
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        await plugins.install_plugin(entry("mine"))
        before = files(tmp_path)
        with pytest.raises(SwapRefused, match=bad):
            await plugins.install_plugin(entry(bad))
        assert files(tmp_path) == before
        assert "dear first" in await answer(server)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        assert "dear first" in await answer(server)


async def test_an_installed_file_is_pinned_and_no_other_is_loaded_for_it(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text(WORKS.format("first"))
    pin = compute_plugin_sha256(source.read_text())
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        wrong = {**entry("mine"), "sha256": "0" * 64}
        with pytest.raises(SwapRefused, match=f"its SHA-256 is {pin}, the pin says 000"):
            await plugins.install_plugin(wrong)
        assert files(tmp_path) == {}
        await plugins.install_plugin(entry("mine"))
        (row,) = yaml.safe_load((tmp_path / "installed/manifest.yaml").read_text())["plugins"]
        assert row == {**entry("mine"), "sha256": pin}
        source.write_text(WORKS.format("second"))
        with pytest.raises(SwapRefused, match="mine' is not the file that was pinned"):
            await plugins.hot_swap()
        assert "dear first" in await answer(server)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        assert server.plugins is not None
        meta = server.plugins.get_plugin("mine")
        assert meta is not None and "not the file that was pinned" in meta["problem"]
        await server.plugins.install_plugin(entry("mine"))  # who installs it means this one
        assert "dear second" in await answer(server)


async def test_old_plugins_are_unloaded_after_the_swap_that_forgets_them(tmp_path: Path) -> None:
    source = (
        "from core.plugin_sdk import BasePlugin\n"
        "class run(BasePlugin):\n"
        "    async def on_unload(self):\n"
        "        self.state.extra.setdefault('unloaded', []).append(1)\n"
    )
    (tmp_path / "mine.py").write_text(source)
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        await plugins.install_plugin(entry("mine"))
        await plugins.hot_swap()
        assert "unloaded" not in plugins.state.extra
    assert plugins.state.extra["unloaded"] == [1, 1]


async def test_changes_at_once_keep_each_other_and_what_was_written_by_hand(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text(WORKS.format(name))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        await asyncio.gather(
            *(plugins.install_plugin(entry(name)) for name in ("one", "two")),
            plugins.toggle_plugin("Tool Guard", True),
        )
        rows = yaml.safe_load((tmp_path / "installed/manifest.yaml").read_text())["plugins"]
        rows.append(entry("three"))
        (tmp_path / "installed/manifest.yaml").write_text(yaml.safe_dump({"plugins": rows}))
        await plugins.configure_plugin("Tool Guard", {"action": "block"})
        loaded = {meta["name"] for meta in plugins.list_plugins() if meta["loaded"]}
        assert loaded == {"one", "two", "three", "Tool Guard"}
        assert plugins.get_plugin_config("Tool Guard")["action"] == "block"


async def test_a_rollback_takes_the_files_back_too(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WORKS.format("installed"))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        await plugins.toggle_plugin("Tool Guard", True)
        before = files(tmp_path)
        await plugins.install_plugin(entry("mine"))
        after = files(tmp_path)
        assert await plugins.rollback()
        assert "installed" not in await answer(server)
        rolled_back = files(tmp_path)
        assert await plugins.rollback()  # and forth again
        assert "dear installed" in await answer(server)
        assert files(tmp_path) == after
    installed = str(tmp_path / "installed/manifest.yaml")
    assert yaml.safe_load(rolled_back.pop(installed)) == {"plugins": []}
    assert rolled_back == before


async def test_files_that_cannot_be_read_are_left_alone_and_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WORKS.format("installed"))
    (tmp_path / "installed").mkdir()
    broken = tmp_path / "installed/manifest.yaml"
    broken.write_text("plugins: [")
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        assert "cannot be read" in str(plugins.list_plugins())
        with pytest.raises(SwapRefused, match="cannot be read"):
            await plugins.install_plugin(entry("mine"))
        assert broken.read_text() == "plugins: ["
        assert "dear world" in await answer(server)


async def test_a_connection_that_waits_keeps_no_old_plugins_loaded(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WORKS.format("first"))
    async with make_server({**CONFIG, "io_threads": 2}, plugins_dir=tmp_path) as server:
        plugins = server.plugins
        assert plugins is not None
        base = f"http://127.0.0.1:{server.port}"
        async with httpx.AsyncClient(trust_env=False, base_url=base) as http:
            for _ in range(3):
                await plugins.install_plugin(entry("mine"))
                await http.post("/v1/chat/completions", json=CHAT)
            await plugins.hot_swap()
            await until(lambda: plugins._live == 2)  # what serves, what a rollback would bring back
