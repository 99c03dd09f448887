"""The page of the built-in plugins says what their manifest does."""

from __future__ import annotations

from docs.builtin_page import NOTES, page
from llm_proxy.rings.runtime.manifest import built_in
from repo import ROOT


def test_the_page_is_what_the_manifest_says() -> None:
    written = (ROOT / "docs" / "plugins_builtin.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: python tests_py/docs/builtin_page.py"


def test_every_plugin_has_its_note_and_no_other_has() -> None:
    assert set(NOTES) == set(built_in())
