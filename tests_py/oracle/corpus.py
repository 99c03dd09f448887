"""The recorded exchanges, and ways to change one without changing what it says."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oracle.reader import GEMINI
from repo import SHARED

CORPUS = Path(os.environ.get("LLM_PROXY_CORPUS") or SHARED / "corpus")


@dataclass(frozen=True)
class Record:
    id: str
    api: str
    request: Any  # JSON, or None
    reply: Any  # JSON, or None
    stream: str | None


def records(api: str) -> Iterator[Record]:
    for path in sorted((CORPUS / api).glob("*.json")):
        raw = json.loads(path.read_text(encoding="utf-8"))
        response = raw["response"]
        request = (raw["request"] or {}).get("body")
        good = response["status"] == 200
        stream = "".join(response["sse"]) if good and "sse" in response else None
        reply = response.get("body") if good else None
        yield Record(path.stem, api, request, reply, stream)


def respelled(value: Any, chance: random.Random) -> str:
    """The same JSON, spelled otherwise: white space, escapes, members nobody knows.

    Members keep their order where a reader may depend on it.
    """
    return _spell(value, chance, 0)


def _spell(value: Any, chance: random.Random, depth: int) -> str:
    space = lambda: chance.choice(["", "", " ", "\n\t"])  # noqa: E731
    if isinstance(value, str):
        return _text(value, chance)
    if isinstance(value, list):
        parts = [space() + _spell(item, chance, depth + 1) + space() for item in value]
        return "[" + ",".join(parts) + "]"
    if isinstance(value, dict):
        members = [
            f"{space()}{_text(key, chance)}{space()}:{space()}{_spell(item, chance, depth + 1)}"
            for key, item in value.items()
        ]
        if depth < 2 and chance.random() < 0.5:
            members.insert(chance.randrange(len(members) + 1), '"x_nobody_knows":[{"type":null}]')
        return "{" + ",".join(members) + space() + "}"
    return json.dumps(value)


def _text(text: str, chance: random.Random) -> str:
    way = chance.randrange(3)
    if way == 0:
        return json.dumps(text)  # everything beyond ASCII escaped
    if way == 1:
        return json.dumps(text, ensure_ascii=False)
    escaped = "".join(
        f"\\u{ord(c):04x}" if c.isalnum() and c.isascii() and chance.random() < 0.2 else None or c
        for c in json.dumps(text, ensure_ascii=False)[1:-1].replace("\\", "\0")
    ).replace("\0", "\\")
    return f'"{escaped}"' if "\\" not in json.dumps(text) else json.dumps(text)


def respelled_stream(text: str, api: str, chance: random.Random) -> list[tuple[str, str]]:
    """The events of a stream, each JSON spelled otherwise."""
    from oracle.reader import events

    out = []
    for name, data in events(text):
        if data.strip() != "[DONE]":
            data = respelled(json.loads(data), chance)
        out.append((name if api != GEMINI else "", data))
    return out


def reordered(value: Any, chance: random.Random) -> Any:
    """The same JSON with the members of every object in another order."""
    if isinstance(value, list):
        return [reordered(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    members = [(key, reordered(item, chance)) for key, item in value.items()]
    chance.shuffle(members)
    return dict(members)
