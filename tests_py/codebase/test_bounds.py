"""What a peer sends is kept in buffers that have a bound: never in a member string that grows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from repo import ROOT

FOLDERS = ("http", "json", "net", "upstream", "exchange", "session")

# Member strings that are appended to all the same, and why that is bounded.
MAY_GROW = {
    ("http/http_reply", "body_"): "what one feed() gave",
    ("net/socket_stream", "copied_"): "what one write of our own left over",
    ("upstream/http_call", "head_text_"): "the head we send",
    ("upstream/relay", "out_"): "one read's events; no read follows before the client took them",
    ("session/client_session", "queued_"): "as out_: its writer waits for on_written()",
    ("session/client_session", "reply_head_"): "the head we send",
    ("exchange/exchange", "commands_run_"): "names of our own commands, of one message",
}

HEADERS = [path for folder in FOLDERS for path in sorted((ROOT / "cpp" / folder).glob("*.h"))]
MEMBER = re.compile(r"^\s+std::string ([a-z_]+_(?:, [a-z_]+_)*)(?: = [^;]*)?;", re.M)


def growing(header: Path) -> set[str]:
    """The member strings of a header that its sources append to."""
    members = {name for found in MEMBER.findall(header.read_text()) for name in found.split(", ")}
    sources = [header, *header.parent.glob(header.stem + "*.cc")]
    text = "".join(source.read_text() for source in sources if source.exists())
    return {name for name in members if re.search(rf"\b{name}(?: \+=|\.append\()", text)}


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_member_string_grows_without_a_reason(header: Path) -> None:
    place = str(header.relative_to(ROOT / "cpp").with_suffix(""))
    unexplained = {name for name in growing(header) if (place, name) not in MAY_GROW}
    assert not unexplained, f"{place}: use a BoundedBuffer for {sorted(unexplained)}"


def test_every_reason_is_still_needed() -> None:
    grown = {
        (str(header.relative_to(ROOT / "cpp").with_suffix("")), name)
        for header in HEADERS
        for name in growing(header)
    }
    assert set(MAY_GROW) <= grown
