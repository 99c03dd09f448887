"""The page on security promises only what a test shows: every test that it names exists."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from repo import ROOT

PAGE = ROOT / "docs" / "security.md"
ROW = re.compile(r"^\| (?P<promise>.+?) \| `(?P<test>tests_[^`]+)` \|$", re.M)


@dataclass(frozen=True)
class Promise:
    text: str
    test: str  # FILE, FILE::FUNCTION, FILE::CLASS::FUNCTION or FILE.cc::SUITE.NAME

    @property
    def file(self) -> Path:
        return ROOT / self.test.partition("::")[0]

    @property
    def name(self) -> str:
        return self.test.partition("::")[2]


PROMISES = [Promise(found["promise"], found["test"]) for found in ROW.finditer(PAGE.read_text())]


def python_tests(file: Path) -> set[str]:
    """`test_x` and `TestY::test_x`, as pytest names them without parameters."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names = (each.name for each in node.body if isinstance(each, FUNCTIONS))
            found |= {f"{node.name}::{name}" for name in names}
        elif isinstance(node, FUNCTIONS):
            found.add(node.name)
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def cpp_tests(file: Path) -> set[str]:
    """`Suite.name` of each TEST, TEST_F and TEST_P."""
    macro = re.compile(r"^TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", re.M)
    return {f"{suite}.{name}" for suite, name in macro.findall(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.text)
def test_the_test_that_a_promise_names_exists(promise: Promise) -> None:
    assert promise.file.is_file(), f"{promise.file} is not there"
    tests = cpp_tests(promise.file) if promise.file.suffix == ".cc" else python_tests(promise.file)
    assert tests, f"{promise.file} holds no test"
    assert not promise.name or promise.name in tests, f"no such test: {promise.test}"


def test_every_row_of_a_table_of_promises_names_a_test() -> None:
    tables = PAGE.read_text().partition("## Promises and their tests")[2]
    rows = [line for line in tables.splitlines() if line.startswith("| ")]
    kept = [line for line in rows if not line.startswith(("| promise |", "|---"))]
    assert len(kept) == len(PROMISES) > 0
    assert [line for line in kept if not ROW.match(line)] == []


def test_no_promise_is_made_twice() -> None:
    texts = [promise.text for promise in PROMISES]
    assert len(texts) == len(set(texts))


def test_the_policy_says_how_to_report_and_what_is_supported() -> None:
    policy = (ROOT / "SECURITY.md").read_text()
    assert "docs/security.md" in policy
    for heading in ("## Reporting a vulnerability", "## Supported versions"):
        assert heading in policy
