"""The page of losses says what the code does."""

from __future__ import annotations

import re

from docs.translation_page import FORMATS, from_client, page, source_of, to_upstream
from repo import ROOT


def test_the_page_is_what_the_code_says() -> None:
    written = (ROOT / "docs" / "translation.md").read_text(encoding="utf-8")
    assert written == page(), "write it anew: python tests_py/docs/translation_page.py"


def test_no_loss_of_the_code_is_missed() -> None:
    """Every place that loses or refuses by name is understood by the page's writer."""
    for name in FORMATS:
        source = source_of(name)
        listed = {what.strip("`") for what, _, _ in to_upstream(name)}
        named = set(
            re.findall(
                r'\b(?:lose|refuse)\(\s*(?:translation_,\s*)?(?:Loss::Class::\w+,\s*)?"([^"]+)"',
                source,
            )
        )
        assert named <= listed, named - listed
        assert from_client(name)
