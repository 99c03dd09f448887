"""The pages on configuration and backends say what the code has."""

from __future__ import annotations

import pytest

from docs.settings_tables import PAGES, TABLES, renewed


@pytest.mark.parametrize("name", PAGES)
def test_the_tables_of_the_page_are_those_of_the_code(name: str) -> None:
    page = PAGES[name].read_text()
    assert page == renewed(page), "PYTHONPATH=python:tests_py python -m docs.settings_tables"


def test_every_table_stands_on_a_page() -> None:
    pages = "".join(file.read_text() for file in PAGES.values())
    assert all(f"<!-- {name} -->" in pages for name in TABLES)
