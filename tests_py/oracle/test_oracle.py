"""The engine's codecs against the slow reader: every recorded reply, and respellings of it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llm_proxy import _core
from oracle.corpus import Record, records, respelled, respelled_stream
from oracle.reader import CHAT, FORMATS, GEMINI, Facts, events, reply_facts, stream_facts

# Respellings of each record; more by hand: ORACLE_ROUNDS=20.
ROUNDS = int(os.environ.get("ORACLE_ROUNDS", "1"))


def differences(slow: Facts, fast: Facts, target: str) -> list[str]:
    """Where the two readings differ. What the target has no place for is left out."""
    said, heard = comparable(slow), comparable(fast)
    if target == GEMINI:  # has no place for arguments that are no JSON
        said["calls"] = [
            (name, {"_raw_arguments": given} if isinstance(given, str) else given)
            for name, given in said["calls"]
        ]
    if target == CHAT:
        said.pop("order"), heard.pop("order")  # text, reasoning and calls have one place each
    if not slow.stop:
        said.pop("stop"), heard.pop("stop")
    for number in ("prompt", "output"):
        if said[number] is None:
            said.pop(number), heard.pop(number)
    if slow.prompt is not None and slow.cached > slow.prompt:
        said.pop("prompt"), heard.pop("prompt")  # figures that do not add up have no sum
    for told in (said, heard):  # members of arguments keep their order
        told["calls"] = [[name, json.dumps(given)] for name, given in told["calls"]]
    return [
        f"{key}: {said[key]!r} -> {heard[key]!r}"[:300] for key in said if said[key] != heard[key]
    ]


def comparable(facts: Facts) -> dict[str, Any]:
    """The facts without what the formats spell differently: white space between parts, and how a
    turn that calls tools ends."""
    told = dataclasses.asdict(facts)
    told.pop("cached")
    for key in ("text", "reasoning"):
        told[key] = "".join(told[key].split())
    if facts.calls and facts.stop == "stop":
        told["stop"] = "tools"
    return told


def spellings(record: Record, value: object) -> list[bytes]:
    chance = random.Random(record.id)
    plain = json.dumps(value, ensure_ascii=False)
    return [text.encode() for text in [plain, *(respelled(value, chance) for _ in range(ROUNDS))]]


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_whole_replies_are_read_alike(shared: Path, source: str, target: str) -> None:
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    for record in records(source):
        if not isinstance(record.reply, dict):
            continue
        slow = reply_facts(record.reply, source)
        for body in spellings(record, record.reply):
            try:
                out = json.loads(_core.translate_reply(body, source, target))
            except ValueError as error:
                seen["refused"] += 1
                if slow.text or slow.calls:
                    wrong.append(f"{record.id}: refused: {error}")
                continue
            seen["read"] += 1
            found = differences(slow, reply_facts(out, target), target)
            wrong += [f"{record.id}: {line}" for line in found]
    assert wrong == [], f"{len(wrong)} of {dict(seen)}"
    assert seen["read"] > 50


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_streams_are_read_alike(shared: Path, source: str, target: str) -> None:
    wrong: list[str] = []
    read = 0
    for record in records(source):
        if record.stream is None:
            continue
        chance = random.Random(record.id)
        slow = stream_facts(record.stream, source)
        if '"error":{' in record.stream.replace(" ", ""):
            continue  # fails on purpose: the tests of broken streams have it
        for spelled in [
            events(record.stream),
            *(respelled_stream(record.stream, source, chance) for _ in range(ROUNDS)),
        ]:
            translator = _core.stream_translator(source, target)
            out = b""
            try:
                for name, data in spelled:
                    out += translator.event(name, data.encode())
                out += translator.end()
            except ValueError as error:
                if slow.stop:
                    wrong.append(f"{record.id}: refused: {error}")
                continue
            read += 1
            found = differences(slow, stream_facts(out.decode(), target), target)
            wrong += [f"{record.id}: {line}" for line in found]
    assert wrong == [], f"{len(wrong)} of {read}"
    assert read > 50
