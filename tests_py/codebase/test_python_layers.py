"""The order of the Python packages: imports go one way, between packages and between files."""

from __future__ import annotations

from pathlib import Path

import pytest

from codebase.import_graph import Import, circles, imports_of, modules_of
from repo import ROOT

PACKAGE = ROOT / "python" / "llm_proxy"

# What each room may import beside itself; the ground floor comes first. A room is a module or a
# package below llm_proxy with all that has no row of its own; a room's name alone is its
# __init__.py where rooms lie below it. Everything may import the extension, `_core`, but contracts.
CORE = "_core"
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "contracts": set(),
    "cpus": set(),
    "import_problem": set(),
    "lane_watchdog": set(),
    "backends.catalog": set(),
    "backends": {CORE, "contracts", "backends.catalog"},
    "native": {"contracts", "backends"},
    "backends.runtime": {CORE, "contracts", "import_problem", "backends.catalog", "backends"},
    "rings": set(),
    "rings.services": {CORE, "rings"},
    "rings.builtin": {CORE, "rings", "rings.services"},
    "rings.runtime": {
        *(CORE, "cpus", "import_problem", "lane_watchdog"),
        *("rings", "rings.services", "rings.builtin"),
    },
    "config": {CORE, "", "contracts", "cpus", "backends", "backends.catalog"},
    "server": {CORE, "lane_watchdog", "backends", "backends.runtime"},
    "admin": {"config", "rings", "rings.runtime"},
    "assembly": {"admin", "rings", "rings.runtime", "server"},
}
MAY_IMPORT["cli"] = {CORE, *MAY_IMPORT}
MAY_IMPORT["__main__"] = {"cli"}
MAY_IMPORT["testing"] = {CORE, *MAY_IMPORT} - {"__main__"}

# Circles that close only when a function runs, each with its reason. A row may only go away.
CIRCLES_WITH_A_REASON: dict[tuple[str, ...], str] = {}

IMPORTS = imports_of(PACKAGE)


def room_of(module: str) -> str:
    inside = module.partition(".")[2]
    parts = inside.split(".")
    names = [".".join(parts[: at + 1]) for at in range(len(parts))]
    return next((name for name in reversed(names) if name in MAY_IMPORT), inside)


def against_the_order(imports: list[Import]) -> list[str]:
    wrong = []
    for entry in imports:
        source, target = room_of(entry.source), room_of(entry.target)
        if source != target and target not in MAY_IMPORT.get(source, ()):
            wrong.append(f"{entry.source}:{entry.line} imports {entry.target}")
    return wrong


def test_every_module_has_a_room() -> None:
    modules = modules_of(PACKAGE)
    assert len(modules) > 100
    rooms = {room_of(module) for module in modules} - {CORE}
    assert rooms == set(MAY_IMPORT)


def test_imports_between_packages_go_one_way() -> None:
    assert against_the_order(IMPORTS) == []


def test_rooms_form_no_circle() -> None:
    rows = [Import(a, b, 0, False) for a, others in MAY_IMPORT.items() for b in others]
    assert circles(rows) == []


def test_files_form_no_circle_even_with_imports_inside_functions() -> None:
    assert {tuple(circle) for circle in circles(IMPORTS)} == set(CIRCLES_WITH_A_REASON)


def test_a_circle_is_not_excused_at_import_time() -> None:
    assert circles([entry for entry in IMPORTS if not entry.lazy]) == []


@pytest.mark.parametrize("package", ["compat/src", "compat/core", "compat/plugins", "compat/cli"])
def test_compat_modules_hold_nothing_that_the_product_imports(package: str) -> None:
    """The old names stand on the product; a product that imported them would be a circle."""
    name = package.rpartition("/")[2]
    for module, path in modules_of(PACKAGE).items():
        text = path.read_text(encoding="utf-8")
        assert not any(
            line.startswith((f"from {name}.", f"import {name}."))
            for line in map(str.strip, text.splitlines())
        ), module


# ---- the test itself: it fails when a circle or a wrong import is planted


def tree(folder: Path, **files: str) -> list[Import]:
    for name, text in files.items():
        path = folder / "demo" / (name.replace("__in__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        (path.parent / "__init__.py").touch()
    (folder / "demo" / "__init__.py").touch()
    return imports_of(folder / "demo")


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ("import demo.b", "import demo.a", True),
        ("from demo import b", "from demo.a import x", True),
        ("from . import b", "from .a import x", True),
        ("def f():\n    from demo import b", "import demo.a", True),
        ("class A:\n    def f(self):\n        import demo.b", "import demo.a", True),
        ("try:\n    import demo.b\nexcept ImportError:\n    pass", "import demo.a", True),
        ("from importlib import import_module\nimport_module('demo.b')", "import demo.a", True),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import demo.b",
            "import demo.a",
            False,
        ),
        (
            "import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    import demo.b",
            "import demo.a",
            True,
        ),
        ("import demo.b", "import json", False),
    ],
)
def test_a_planted_circle_is_found(tmp_path: Path, one: str, other: str, found: bool) -> None:
    imports = tree(tmp_path, a=one, b=other)
    assert circles(imports) == ([["demo.a", "demo.b"]] if found else [])


def test_a_circle_through_a_packages_init_is_found(tmp_path: Path) -> None:
    tree(tmp_path, a="import demo.pack.leaf", pack__in__leaf="")
    (tmp_path / "demo" / "pack" / "__init__.py").write_text("import demo.a")
    assert circles(imports_of(tmp_path / "demo")) == [["demo.a", "demo.pack"]]


def test_a_long_circle_is_found_and_a_ladder_is_none(tmp_path: Path) -> None:
    ladder = tree(tmp_path, a="import demo.b, demo.c", b="import demo.c", c="import demo.d", d="")
    assert circles(ladder) == []
    ring = tree(tmp_path, d="import demo.a")
    assert circles(ring) == [["demo.a", "demo.b", "demo.c", "demo.d"]]


@pytest.mark.parametrize(
    ("source", "target", "wrong"),
    [
        ("llm_proxy.contracts.chat", "llm_proxy.backends.registry", True),
        ("llm_proxy.contracts.chat", "llm_proxy._core", True),
        ("llm_proxy.server", "llm_proxy.admin.bridge", True),
        ("llm_proxy.cli.plugins", "llm_proxy.testing.proxy", True),
        ("llm_proxy.rings.services.host", "llm_proxy.rings.runtime.engine", True),
        ("llm_proxy.backends.base", "llm_proxy.backends.runtime.bridge", True),
        ("llm_proxy.backends.runtime.bridge", "llm_proxy.backends.base", False),
        ("llm_proxy.rings.builtin.default.pii_masker", "llm_proxy.rings.services.pii", False),
    ],
)
def test_an_import_against_the_order_is_found(source: str, target: str, wrong: bool) -> None:
    assert bool(against_the_order([Import(source, target, 1, True)])) is wrong
