"""The map in docs/architecture.md has every room, and says of it what the room says of itself."""

from __future__ import annotations

from docs.architecture_page import PAGE, renewed, table
from repo import ROOT


def test_the_table_of_folders_is_what_the_folders_say() -> None:
    page = PAGE.read_text()
    assert page == renewed(page), "PYTHONPATH=python:tests_py python -m docs.architecture_page"


def test_every_folder_is_on_the_map() -> None:
    shown = table()
    for above in ("cpp", "python/llm_proxy", "."):
        for path in (ROOT / above).iterdir():
            tracked = path.is_dir() and not path.name.startswith((".", "_"))
            if tracked and path.name not in ("build", "cmake", "cpp", "dist", "docs", "python"):
                assert f"| `{path.relative_to(ROOT)}` |" in shown, path.name
