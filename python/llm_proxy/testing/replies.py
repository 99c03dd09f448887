"""Reads chat replies that may be cut, garbled or errors: a test that fails says why it failed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from llm_proxy._core import SseReader


def object_of(raw: bytes | str) -> dict[str, Any]:
    """The JSON object; empty if it is none."""
    try:
        read = json.loads(raw)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def events_of(raw: bytes) -> list[str]:
    return [data for _, data in SseReader().events(raw)]


def text_of(completion: dict[str, Any]) -> str:
    """The text of a whole chat completion; empty if it has none."""
    return "".join(_texts(completion, "message"))


def deltas_of(events: Iterable[str]) -> str:
    """The text of a streamed chat completion, as far as it came."""
    return "".join(text for data in events for text in _texts(object_of(data), "delta"))


def _texts(body: dict[str, Any], member: str) -> Iterable[str]:
    choices = body.get("choices")
    for choice in choices[:1] if isinstance(choices, list) else ():
        said = choice.get(member) if isinstance(choice, dict) else None
        content = said.get("content") if isinstance(said, dict) else None
        if isinstance(content, str):
            yield content
