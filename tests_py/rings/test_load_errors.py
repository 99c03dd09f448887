"""A guard that cannot run is never silently off: `plugins.on_load_error`."""

from __future__ import annotations

import logging
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from llm_proxy.cli import main
from llm_proxy.rings.runtime import manifest
from llm_proxy.rings.runtime.manager import PluginManager, RequiredPluginMissing
from llm_proxy.rings.runtime.swap import SwapRefused

ROW = "  - {{name: {name}, hook: pre_flight, entrypoint: 'guard:{symbol}'{more}}}\n"
GUARD = "async def guard(ctx):\n    return None\n"


def write(folder: Path, *rows: str) -> Path:
    (folder / "guard.py").write_text(GUARD)
    (folder / "manifest.yaml").write_text("plugins:\n" + "".join(rows))
    return folder


def row(name: str, symbol: str = "guard", more: str = "") -> str:
    return ROW.format(name=name, symbol=symbol, more=more)


@pytest.fixture
def broken_package(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("Lost", "no_such_module:Lost", manifest.ENTRY_POINT_GROUP)
    monkeypatch.setattr(manifest, "entry_points", lambda group: (point,))


@pytest.mark.parametrize("policy", ["auto", "refuse"])
async def test_what_the_manifest_names_must_run(policy: str, tmp_path: Path) -> None:
    folder = write(tmp_path, row("Good"), row("Bad", "nobody"), row("Worse", "neither"))
    manager = PluginManager(folder, on_load_error=policy)  # type: ignore[arg-type]
    with pytest.raises(RequiredPluginMissing) as caught:
        await manager.build()
    told = [(entry.name, entry.where) for entry, _ in caught.value.rows]
    assert told == [("Bad", f"{folder}/manifest.yaml:3"), ("Worse", f"{folder}/manifest.yaml:4")]
    await manager.close()


async def test_skip_leaves_out_what_does_not_load_and_runs_the_rest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, row("Good"), row("Bad", "nobody"))
    manager = PluginManager(folder, on_load_error="skip")
    made = await manager.build()
    assert [entry.name for entry in made.entries] == ["Good"]
    assert "Plugin Bad is not loaded" in caplog.text
    await made.unload()
    await manager.close()


async def test_a_key_that_nobody_reads_is_refused_or_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path, row("Good", more=", priorty: 1"))
    strict = PluginManager(folder, on_load_error="auto")
    with pytest.raises(RequiredPluginMissing, match="no key 'priorty'; did you mean 'priority'"):
        await strict.build()
    await strict.close()
    lenient = PluginManager(folder, on_load_error="skip")
    with caplog.at_level(logging.ERROR):
        made = await lenient.build()
    assert [entry.name for entry in made.entries] == ["Good"], "it is a guard all the same"
    assert "priorty" in caplog.text
    await made.unload()
    await lenient.close()


@pytest.mark.parametrize("key", ["x-team: blue", "_source: bundled", "tags: [a]", "license: MIT"])
async def test_what_authors_write_for_people_is_no_mistake(key: str, tmp_path: Path) -> None:
    manager = PluginManager(write(tmp_path, row("Good", more=f", {key}")), on_load_error="refuse")
    made = await manager.build()
    assert [entry.name for entry in made.entries] == ["Good"]
    await made.unload()
    await manager.close()


async def test_what_was_only_found_installed_is_skipped_unless_all_must_run(
    broken_package: None, tmp_path: Path
) -> None:
    folder = write(tmp_path, row("Good"))
    auto = PluginManager(folder, on_load_error="auto")
    made = await auto.build()
    assert [entry.name for entry in made.entries] == ["Good"]
    await made.unload()
    await auto.close()
    strict = PluginManager(folder, on_load_error="refuse")
    with pytest.raises(RequiredPluginMissing, match="no_such_module"):
        await strict.build()
    await strict.close()


async def test_a_row_that_is_off_may_be_wrong(tmp_path: Path) -> None:
    folder = write(tmp_path, row("Bad", "nobody", ", enabled: false, priorty: 1"))
    manager = PluginManager(folder, on_load_error="refuse")
    made = await manager.build()
    assert made.entries == []
    await manager.close()


async def test_a_swap_to_a_manifest_with_a_mistake_changes_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path, row("Good"))
    manager = PluginManager(folder, on_load_error="auto")
    before = await manager.load_plugins()
    write(folder, row("Good", more=", fail_polcy: closed"))
    with pytest.raises(SwapRefused, match="did you mean 'fail_policy'"):
        await manager.hot_swap()
    assert manager.generation is before
    await before.unload()
    await manager.close()


def test_check_config_tells_what_is_left_out(
    broken_package: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(tmp_path, row("Good"))
    assert main(["check-config", "--plugins-dir", str(folder)]) == 0
    assert "note: ring plugin 'Lost': is left out" in capsys.readouterr().out
    assert (
        main(["check-config", "--plugins-dir", str(folder), "--plugins-on-load-error", "refuse"])
        == 2
    )
    assert "ring plugin 'Lost'" in capsys.readouterr().err


def test_the_list_of_plugins_says_of_each_whether_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write(
        tmp_path, row("Good"), row("Bad", "nobody"), row("Idle", more=", enabled: false")
    )
    assert main(["plugins", "--plugins-dir", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "Good: pre_flight, bundled, runs" in out
    assert "Bad: pre_flight, bundled, does not run: guard.py has no 'nobody'" in out
    assert "Idle: pre_flight, bundled, off" in out
