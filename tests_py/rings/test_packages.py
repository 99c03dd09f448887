"""Ring plugins of installed packages, found by their entry points."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.runtime.gate import compute_plugin_sha256
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.runtime.manifest import ENTRY_POINT_GROUP
from llm_proxy.rings.sdk import PluginHook
from repo import ROOT

EXAMPLE = ROOT / "plugins_examples" / "word_guard"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site directory that holds the example package, as pip would have put it there."""
    project = (EXAMPLE / "pyproject.toml").read_text()
    points = re.search(rf'entry-points."{ENTRY_POINT_GROUP}"\]\n((?:.+\n)+)', project)
    assert points is not None
    info = tmp_path / "llm_proxy_word_guard-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: llm-proxy-word-guard\nVersion: 0.1.0\n")
    declared = points[1].replace('"', "")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{declared}")
    shutil.copytree(EXAMPLE / "src", tmp_path, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


async def test_installed_plugins_run_in_the_ring_they_name(installed: Path) -> None:
    manager = PluginManager(None)
    await manager.load_plugins()
    rings = {meta["name"]: meta["hook"] for meta in manager.list_plugins() if meta["loaded"]}
    assert rings == {"word-guard": "pre_flight", "reply-counter": "post_flight"}


async def test_a_manifest_row_configures_an_installed_plugin(
    installed: Path, tmp_path: Path
) -> None:
    (tmp_path / "manifest.yaml").write_text(
        "plugins:\n"
        "  - {name: Guard, hook: ingress, entrypoint: 'llm_proxy_plugins:word-guard',\n"
        "     timeout_ms: 33, config: {words: [swordfish]}}\n"
        "  - {name: reply-counter, hook: post_flight, enabled: false, "
        "entrypoint: 'llm_proxy_plugins:reply-counter'}\n"
    )
    manager = PluginManager(tmp_path)
    generation = await manager.load_plugins()
    (guard,) = generation.entries
    assert (guard.name, guard.ring.value, guard.timeout_ms) == ("Guard", "ingress", 33)
    assert guard.instance.words == ["swordfish"]
    counter = manager.get_plugin("reply-counter")
    assert counter is not None
    assert (counter["loaded"], counter["problem"]) == (False, "disabled")


async def test_a_row_for_a_package_that_is_not_installed_says_so(tmp_path: Path) -> None:
    (tmp_path / "manifest.yaml").write_text(
        "plugins: [{name: Gone, hook: ingress, entrypoint: 'llm_proxy_plugins:gone'}]\n"
    )
    manager = PluginManager(tmp_path)
    await manager.load_plugins()
    gone = manager.get_plugin("Gone")
    assert gone is not None
    assert "no installed package offers 'gone'" in gone["problem"]


# ---- what tests of plugin authors reach into


GUARD = (
    "from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse\n"
    "class Guard(BasePlugin):\n"
    "    name = 'guard'\n"
    "    hook = PluginHook.PRE_FLIGHT\n"
    "    async def execute(self, ctx):\n"
    "        if ctx.state.extra['store'] is None:\n"
    "            raise RuntimeError('no store')\n"
    "        return PluginResponse.block(429, 'x', 'no')\n"
)


async def test_one_row_is_loaded_into_tables_of_the_callers_own(tmp_path: Path) -> None:
    (tmp_path / "guard.py").write_text(GUARD)
    manager = PluginManager(tmp_path)
    rings: Any = {hook: [] for hook in PluginHook}
    meta: Any = {}
    instances: Any = {}
    stats: Any = {}
    tables = {"rings": rings, "meta": meta, "instances": instances, "stats": stats}
    row = {"name": "Guard", "hook": "pre_flight", "entrypoint": "guard:Guard", "priority": 5}
    await manager._load_plugin(row, **tables)
    (entry,) = rings[PluginHook.PRE_FLIGHT]
    assert (entry["type"], entry["instance"], meta["Guard"]["loaded"]) == (
        "class",
        instances["Guard"],
        True,
    )
    assert stats["Guard"]["invocations"] == 0
    with pytest.raises(RuntimeError):
        await manager._load_plugin({**row, "name": "Lost", "entrypoint": "guard:Lost"}, **tables)
    assert meta["Lost"]["loaded"] is False
    await manager.close()


async def test_rows_put_in_by_hand_are_counted(tmp_path: Path) -> None:
    manager = PluginManager(tmp_path)
    state = await manager._build_plugin_state()
    assert state.extra["store"] is not None

    async def fails(ctx: Any) -> None:
        raise ValueError("x")

    manager._init_stats("mine")
    assert manager._plugin_stats["mine"]["errors"] == 0
    manager.rings[PluginHook.PRE_FLIGHT] = [{"type": "python", "func": fails, "name": "mine"}]
    for _ in range(2):
        await manager.execute_ring(PluginHook.PRE_FLIGHT, PluginContext(state=state))
    assert manager._plugin_stats["mine"]["errors"] == 2
    assert manager.get_plugin_stats("mine")["invocations"] == 2
    await manager.close()


async def test_installing_stamps_the_hash_of_what_was_installed(tmp_path: Path) -> None:
    (tmp_path / "guard.py").write_text(GUARD)
    manager = PluginManager(tmp_path)
    entry: dict[str, Any] = {"name": "Guard", "hook": "pre_flight", "entrypoint": "guard:Guard"}
    entry["allow_inprocess"] = True
    await manager.install_plugin(entry)
    assert entry["sha256"] == compute_plugin_sha256(GUARD)
    await manager.generation.unload()
    await manager.close()
