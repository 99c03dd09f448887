"""The house keeps its order: includes go one way, Python in its room, no paths of one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repo import ROOT, tracked

# What each folder of cpp/ may include beside itself.
MAY_INCLUDE: dict[str, set[str]] = {
    "base": set(),
    "json": {"base"},
    "http": {"base"},
    "net": {"base", "http"},
    "model": {"base", "json"},
    "translate": {"base", "json", "model"},
    "routing": {"base", "json", "model", "translate"},
    "plugin": {"base", "json", "model"},
    "ledger": {"base", "json", "model"},
    "wasm": {"base", "json"},
    "proxy": {
        "base", "json", "http", "net", "model", "translate", "routing", "plugin", "ledger", "wasm"
    },
}  # fmt: skip
MAY_INCLUDE["python"] = {*MAY_INCLUDE["proxy"], "proxy"}

CPP = sorted(path for path in (ROOT / "cpp").rglob("*") if path.suffix in (".h", ".cc"))
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def test_there_are_sources_to_check() -> None:
    assert len(CPP) > 10


@pytest.mark.parametrize("path", CPP, ids=names(CPP))
def test_includes_go_one_way(path: Path) -> None:
    folder = path.relative_to(ROOT / "cpp").parts[0]
    assert folder in MAY_INCLUDE, f"cpp/{folder} has no place in the order of folders"
    for bracket, included in INCLUDE.findall(path.read_text()):
        first = included.split("/")[0]
        if bracket == '"':
            assert (ROOT / "cpp" / included).is_file(), f"{included} is not below cpp/"
            assert first == folder or first in MAY_INCLUDE[folder], included


@pytest.mark.parametrize("path", CPP, ids=names(CPP))
def test_python_is_seen_only_in_its_folder(path: Path) -> None:
    if path.is_relative_to(ROOT / "cpp" / "python"):
        return
    for _, included in INCLUDE.findall(path.read_text()):
        assert included != "Python.h" and not included.startswith("pybind11"), included


@pytest.mark.parametrize("folder", ["net", "http", "proxy"])
def test_the_data_path_has_no_coroutines(folder: str) -> None:
    """gcc 12 miscompiles common co_await expressions."""
    for path in (ROOT / "cpp" / folder).rglob("*"):
        if path.suffix in (".h", ".cc"):
            assert not re.search(r"\bco_(await|return|yield)\b", path.read_text()), path


HEADERS = [path for path in CPP if path.suffix == ".h"]


@pytest.mark.parametrize("path", HEADERS, ids=names(HEADERS))
def test_headers_include_the_light_json_only(path: Path) -> None:
    """nlohmann/json.hpp costs two seconds a file; headers take json_fwd.hpp."""
    assert "<nlohmann/json.hpp>" not in path.read_text()
    assert "#pragma once" in path.read_text()


def test_no_source_names_a_folder_of_one_machine() -> None:
    machine = re.compile("/(?:" + "|".join(("work", "root", "home/[a-z]+", "farm")) + ")/")
    for path in tracked(
        "*.py", "*.h", "*.cc", "*.md", "*.toml", "*.json", "*.txt", "*.cmake", "dev"
    ):
        text = path.read_text(encoding="utf-8")
        found = machine.search(text)
        assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_nothing_is_left_undone() -> None:
    words = re.compile(
        "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3, "raise Not" + "ImplementedError"))
    )
    for path in tracked("*.py", "*.pyi", "*.h", "*.cc", "*.cmake", "CMakeLists.txt", "dev"):
        found = words.search(path.read_text(encoding="utf-8"))
        assert found is None, f"{path.relative_to(ROOT)}: {found and found.group()}"


def test_every_folder_of_cpp_says_what_it_is() -> None:
    folders = {path.parent for path in CPP if path.parent.parent == ROOT / "cpp"}
    missing = [folder.name for folder in sorted(folders) if not (folder / "README.md").is_file()]
    assert missing == []
