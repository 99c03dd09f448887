"""What one wire format does differently is in its folder: nothing else of the engine names it."""

from __future__ import annotations

import re

from repo import ROOT, tracked

FORMATS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini_generate")
NAMED = re.compile(r"\bWireFormat::(?:" + "|".join(FORMATS) + r")\b")

# Files that name another format than that of their folder: how often, and why.
ALLOWED = {
    "cpp/config/endpoints.cc": (3, "formats of errors on paths that belong to the proxy itself"),
    "cpp/exchange/ring_bodies.h": (1, "the format in which plugins see every request"),
    "cpp/formats/gemini_generate/request_decoder.cc": (1, "seals of redacted thinking"),
    "cpp/formats/gemini_generate/request_encoder.cc": (1, "thinking that is not asked for"),
    "cpp/formats/openai_chat/reply_encoder.cc": (2, "seals of Anthropic's thinking"),
    "cpp/formats/openai_chat/request_decoder.cc": (1, "seals of redacted thinking"),
}

# The files of each folder; a format may have more.
FILES = {
    "errors.cc",
    "format.cc",
    "format.h",
    "observer.cc",
    "reply_decoder.cc",
    "reply_encoder.cc",
    "request_decoder.cc",
    "request_encoder.cc",
    "wire.cc",
    "wire.h",
}


def test_a_format_is_named_in_its_folder_only() -> None:
    found = {}
    for path in tracked("cpp/*.h", "cpp/*.cc"):
        where = path.relative_to(ROOT)
        own = f"WireFormat::{where.parts[2]};" if where.parts[1] == "formats" else None
        text = path.read_text()
        if count := len(NAMED.findall(text.replace(own, "") if own else text)):
            found[str(where)] = count
    assert found == {where: count for where, (count, _) in ALLOWED.items()}


def test_every_format_has_the_same_files() -> None:
    for name in FORMATS:
        folder = ROOT / "cpp" / "formats" / name
        missing = FILES - {path.name for path in folder.iterdir()}
        assert not missing, (name, missing)


def test_no_format_includes_another() -> None:
    for name in FORMATS:
        for path in (ROOT / "cpp" / "formats" / name).iterdir():
            others = set(re.findall(r'"formats/(\w+)/', path.read_text())) - {name, "shared"}
            assert not others, path
