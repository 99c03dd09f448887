"""Ring plugins of installed packages, found by their entry points."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from llm_proxy.plugins.manager import PluginManager
from llm_proxy.plugins.manifest import ENTRY_POINT_GROUP
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
