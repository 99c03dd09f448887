"""The house keeps its order: includes go one way, Python in its room, no paths of one machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repo import ROOT, tracked

# What each folder of cpp/ may include beside itself. The first rows are the ground floor.
MAY_INCLUDE: dict[str, set[str]] = {
    "base": set(),
    "json": {"base"},
    "http": {"base"},
    "net": {"base", "http"},
    "model": {"base", "json"},
    "formats": {"base", "json", "model"},
    "routing": {"base", "json", "model", "formats"},
    "rings": {"base", "json", "model"},
    "ledger": {"base", "json", "model"},
    "auth": {"base", "json", "http"},
    "hosting": {"base", "json", "http", "model"},
    "stores": {"base", "json", "http", "model", "formats"},
}
MAY_INCLUDE["config"] = set(MAY_INCLUDE)
MAY_INCLUDE["upstream"] = set(MAY_INCLUDE)
MAY_INCLUDE["exchange"] = set(MAY_INCLUDE)
MAY_INCLUDE["session"] = set(MAY_INCLUDE)
MAY_INCLUDE["server"] = set(MAY_INCLUDE)
MAY_INCLUDE["python"] = set(MAY_INCLUDE)

# Includes that still run against the order: (file, included header). A row may only go away.
AGAINST_THE_ORDER: set[tuple[str, str]] = {
    ("exchange/exchange.h", "session/client_session.h"),
    ("exchange/session_id.h", "session/client_session.h"),
    ("session/client_session.h", "server/worker_context.h"),
    ("upstream/hosted_call.h", "server/worker_context.h"),
    ("upstream/http_call.h", "server/worker_context.h"),
    ("upstream/model_lister.cc", "server/worker_context.h"),
}

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
            if (str(path.relative_to(ROOT / "cpp")), included) in AGAINST_THE_ORDER:
                continue
            assert first == folder or first in MAY_INCLUDE[folder], included


def test_every_include_against_the_order_still_stands() -> None:
    """A row of AGAINST_THE_ORDER whose include is gone must go as well."""
    for file, included in AGAINST_THE_ORDER:
        assert f'"{included}"' in (ROOT / "cpp" / file).read_text(), (file, included)


@pytest.mark.parametrize("path", CPP, ids=names(CPP))
def test_python_is_seen_only_in_its_folder(path: Path) -> None:
    if path.is_relative_to(ROOT / "cpp" / "python"):
        return
    for _, included in INCLUDE.findall(path.read_text()):
        assert included != "Python.h" and not included.startswith("pybind11"), included


@pytest.mark.parametrize("folder", ["net", "http", "session", "exchange", "upstream", "server"])
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
