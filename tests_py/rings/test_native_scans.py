"""What C++ rules out before a pattern is tried is never what the pattern would have found."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from llm_proxy import _core
from llm_proxy.rings.builtin.default import context_minifier, kill_switch
from llm_proxy.rings.services import pii

REAL = [
    "ann@example.org", "x.y+z@a-b.co.uk", "sk-abcdefghijklmnop1234", "AKIAABCDEFGHIJKLMNOP",
    "ghp_abcdefghijklmnopqrst12", "xoxb-1234567890-ab", "AIzaSyA1234567890123456789012345678",
    "DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "4111 1111 1111 1111",
    "5500-0000-0000-0004", "378282246310005", "3782 822463 10005", "123-45-6789", "+49 30 123456",
    "(555) 123-4567", "555.123.4567", "+44 (0)20 7946 0958", "10.1.2.3", "255.255.255.255",
    "١٢٣-٤٥-٦٧٨٩", "+٤٩ ٣٠ ١٢٣٤٥٦", "१०.१.२.३", "AB١٢ ABCD 1234",
]  # fmt: skip
PIECES = [
    *REAL, " ", " ", "-", ".", "+", "(", ")", "1", "23", "4567", "8901234", "a", "Z", "AB12", "@",
    "sk-", "gh", "xox", "é", "नमस्ते", "你好", "\n", "_", "[PII_EMAIL_00000000]", "\ud800", "٣", "𝟛",
]  # fmt: skip


def without_scan(monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    with monkeypatch.context() as patched:
        patched.setattr(pii, "_core", SimpleNamespace(pii_candidates=lambda _: 0xFF))
        return pii.Vault("t").mask(text)


def test_every_kind_of_personal_data_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in REAL:
        for text in (value, f"it is {value}, yes", f"é {value}", f"你 {value}"):
            assert pii.Vault("t").mask(text) == without_scan(monkeypatch, text), text
    found = [value for value in REAL if pii.Vault("t").mask(f" {value} ") != f" {value} "]
    assert len(found) >= 19


def test_texts_of_all_sorts_are_masked_as_without_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    masked = 0
    for _ in range(4000):
        text = "".join(dice.choices(PIECES, k=dice.randint(1, 12)))
        now = pii.Vault("t").mask(text)
        assert now == without_scan(monkeypatch, text), text
        masked += now != text
    assert masked > 1000


def test_prose_meets_no_pattern() -> None:
    assert _core.pii_candidates("In 2024, 3 of 10 (or 1.5 +/- 2) said: well-known. " * 50) == 0


def test_loops_are_found_as_without_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(8)
    cut = 0
    pieces = [
        "word ",
        "word " * 15,
        "word" + " word" * 15,
        "a ",
        " ",
        "\n" * 10,
        "long" * 100 + " ",
    ]
    for _ in range(2000):
        text = "".join(dice.choices(pieces, k=dice.randint(1, 6)))
        now = kill_switch.snip(text)
        with monkeypatch.context() as patched:
            always = SimpleNamespace(repeats_word=lambda text, most: True)
            patched.setattr(kill_switch, "_core", always)
            assert now == kill_switch.snip(text), text
        cut += now != text
    assert 200 < cut < 1900


def test_a_long_text_is_shortened_as_by_its_patterns_alone() -> None:
    dice = random.Random(9)
    pieces = [
        "line\n",
        "line \n",
        "tab\t\n",
        "\n\n\n",
        "  indented\n",
        "``` code\n",
        "~~~",
        "end",
        " ",
    ]
    changed = 0
    for _ in range(1000):
        text = "x" * 1000 + "".join(dice.choices(pieces, k=dice.randint(1, 8)))
        wanted = text
        if not context_minifier._FENCE.search(text):
            wanted = context_minifier._TRAILING.sub("", text)
            wanted = context_minifier._BLANK_LINES.sub("\n\n", wanted)
        assert context_minifier.shorten(text) == wanted, repr(text[1000:])
        changed += wanted != text
    assert 200 < changed < 900
