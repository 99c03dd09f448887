"""Requests: the codecs against the slow reader, on the recorded ones and on respellings."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_proxy import _core
from oracle.corpus import Record, records, reordered, respelled
from oracle.reader import CHAT, FORMATS, GEMINI, MESSAGES, RESPONSES
from oracle.requests import Asked, Json, asked

ROUNDS = int(os.environ.get("ORACLE_ROUNDS", "1"))
PAIRS = [(source, target) for source in FORMATS for target in FORMATS if source != target]

# Sampling settings a format has a place for (wire formats, 7.7).
PLACES = {
    CHAT: {"temperature", "top_p", "seed", "n", "presence_penalty", "frequency_penalty", "stop"},
    RESPONSES: {"temperature", "top_p"},
    MESSAGES: {"temperature", "top_p", "top_k", "stop"},
    GEMINI: {
        *("temperature", "top_p", "top_k", "seed", "n", "stop"),
        *("presence_penalty", "frequency_penalty"),
    },
}


def recorded(source: str) -> Iterator[tuple[Record, Json]]:
    """Recorded requests with a model of ours: Gemini's is in the path."""
    for record in records(source):
        if isinstance(record.request, dict) and (record.reply or record.stream):
            yield record, record.request


def translated(body: Any, source: str, target: str) -> Any:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return json.loads(_core.translate_request(text.encode(), source, target, model="m"))


def bare(text: str) -> str:
    """Without white space, and without the marks around system text that has no place."""
    return "".join(text.replace("<system>", "").replace("</system>", "").split())


def told(out: Asked, kinds: tuple[str, ...]) -> str:
    return bare("".join(what for kind, what in out.said if kind in kinds))


def things(out: Asked, kind: str) -> list[Any]:
    return [what for each, what in out.said if each == kind]


def shape(schema: Any) -> Any:
    """What a schema says in any dialect: Gemini's own spells types in capitals and nulls apart."""
    if isinstance(schema, list):
        return [shape(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: shape(item) for name, item in value.items()}
        if key == "properties" and isinstance(value, dict)
        else shape(value)
        for key, value in schema.items()
        if key in ("properties", "items", "required", "enum")
    }


def keys(value: Any) -> list[Any]:
    """The names of all members, in their order: prompt caches depend on it."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in (key, *keys(item))]
    return [found for item in value for found in keys(item)] if isinstance(value, list) else []


def plain_schema(schema: Any) -> Any:
    """None for a function without arguments, which every format says in its own way."""
    said = shape(schema)
    return said if said and said.get("properties", True) else None


def differences(slow: Asked, fast: Asked, target: str) -> Iterator[str]:
    def equal(name: str, mine: Any, theirs: Any) -> Iterator[str]:
        if mine != theirs:
            yield f"{name}: {mine!r} -> {theirs!r}"[:400]

    yield from equal("system", bare(slow.system), bare(fast.system))
    if not slow.odd:
        yield from equal("assistant", told(slow, ("assistant",)), told(fast, ("assistant",)))
        others = ("user", "system")
        yield from equal("user", told(slow, others), told(fast, others))
        yield from equal("media", things(slow, "media"), things(fast, "media"))
        order = [
            "".join(kind[0] for kind, _ in each.said if kind in ("assistant", "call", "result"))
            for each in (slow, fast)
        ]
        runs = [re.sub("a+", "a", each) for each in order]
        if target not in (CHAT, RESPONSES) or "ca" not in runs[0]:
            yield from equal("order", *runs)
    raw = [
        (name, given if isinstance(given, dict) else {"_raw_arguments": given})
        for name, given in things(slow, "call")
    ]
    if target in (CHAT, RESPONSES):
        raw = things(slow, "call")
    yield from equal("calls", raw, things(fast, "call"))
    yield from equal(
        "keys of calls", json.dumps(raw), json.dumps([*map(list, things(fast, "call"))])
    )
    if not slow.odd & {"media in a result", "failed result", "custom call"}:
        yield from equal("results", things(slow, "result"), things(fast, "result"))
    if "late tools" not in slow.odd and "subset" not in slow.odd:
        yield from equal("tools", list(slow.tools), list(fast.tools))
        mine, theirs = (
            [keys(plain_schema(tool["schema"])) for tool in a.tools.values()] for a in (slow, fast)
        )
        yield from equal("keys of schemas", mine, theirs)
        for name, tool in slow.tools.items():
            other = fast.tools.get(name, {"description": None, "schema": None})
            yield from equal(f"{name} described", tool["description"], other["description"])
            schemas = plain_schema(tool["schema"]), plain_schema(other["schema"])
            yield from equal(f"{name} schema", *schemas)
        if slow.tools and not (slow.settings.get("effort") and target == MESSAGES):
            mine, theirs = (None if c == "auto" else c for c in (slow.choice, fast.choice))
            yield from equal("choice", mine, theirs)
        if slow.tools and target != GEMINI:
            yield from equal("one at a time", slow.one_at_a_time, fast.one_at_a_time)
    yield from equal("answer's schema", shape(slow.schema), shape(fast.schema))
    yield from settings(slow, fast, target)


def settings(slow: Asked, fast: Asked, target: str) -> Iterator[str]:
    want, got = slow.settings, fast.settings
    thinks = "effort" in got
    for name in PLACES[target] & set(want):
        value = want[name]
        if name == "temperature" and target == MESSAGES:
            value = min(value, 1)
        if thinks and target == MESSAGES and name not in got:
            continue  # not taken beside thinking
        if name == "n" and value == 1:
            continue
        if got.get(name) != value:
            yield f"{name}: {want[name]!r} -> {got.get(name)!r}"
    limit = want.get("max")
    if limit is None:
        if target != MESSAGES and got.get("max") is not None:
            yield f"max: none -> {got['max']}"
    elif target == MESSAGES and thinks:
        if got.get("max", 0) < limit:
            yield f"max: {limit} -> {got.get('max')}"
    elif got.get("max") != (max(16, limit) if target == RESPONSES else limit):
        yield f"max: {limit} -> {got.get('max')}"


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_recorded_requests_are_read_alike(shared: Path, source: str, target: str) -> None:
    wrong: list[str] = []
    seen: Counter[str] = Counter()
    for record, body in recorded(source):
        try:
            out = translated(body, source, target)
        except ValueError:
            seen["refused"] += 1  # what a translation must refuse: the judge holds the list
            continue
        seen["read"] += 1
        wrong += [
            f"{record.id}: {line}"
            for line in differences(asked(body, source), asked(out, target), target)
        ]
    assert wrong == [], f"{len(wrong)} of {dict(seen)}:\n" + "\n".join(wrong[:20])
    assert seen["read"] > 100


def meant(value: Any) -> Any:
    """JSON that stands in a string is what it says; members have no order."""
    if isinstance(value, dict):
        return {key: meant(item) for key, item in value.items()}
    if isinstance(value, list):
        return [meant(item) for item in value]
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return meant(json.loads(value))
        except ValueError:
            return value
    return value


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_request_means_the_same_however_it_is_spelt(
    shared: Path, source: str, target: str
) -> None:
    """Escapes, white space, members nobody knows, the order of members: a reader of whole
    documents sees no difference, so the fast one must not."""
    wrong: list[str] = []
    read = 0
    for record, body in recorded(source):
        chance = random.Random(record.id)
        try:
            plain = meant(translated(body, source, target))
        except ValueError as error:
            plain = str(error)
        for _ in range(ROUNDS):
            for spelt in (respelled(body, chance), json.dumps(reordered(body, chance))):
                try:
                    again = meant(translated(spelt, source, target))
                except ValueError as error:
                    again = str(error)
                read += 1
                if again != plain:
                    wrong.append(f"{record.id}: {first_difference(plain, again)}")
    assert wrong == [], f"{len(wrong)} of {read}:\n" + "\n".join(wrong[:20])
    assert read > 200


def first_difference(one: Any, other: Any, at: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in [*one, *other]:
            if key not in one or key not in other or one[key] != other[key]:
                return first_difference(one.get(key), other.get(key), f"{at}.{key}")
    if isinstance(one, list) and isinstance(other, list):
        for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
            if mine != theirs:
                return first_difference(mine, theirs, f"{at}[{place}]")
    return f"{at}: {one!r} -> {other!r}"[:400]


def without_last_turn(out: Json) -> None:
    next(out[key] for key in ("messages", "input", "contents") if key in out).pop()


def with_other_words(out: Json) -> None:
    for key in ("messages", "input", "contents"):
        if key in out:
            out[key] = json.loads(json.dumps(out[key]).replace("sunny", "rainy"))


def with_other_arguments(out: Json) -> None:
    text = json.dumps(out).replace("Kraków", "Łódź").replace("Krak\\u00f3w", "Lodz")
    out.clear()
    out.update(json.loads(text))


def with_another_tool(out: Json) -> None:
    out.update(json.loads(json.dumps(out).replace('"look"', '"see"')))


def with_another_limit(out: Json) -> None:
    for key in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        if key in out:
            out[key] += 1
    if "generationConfig" in out:
        out["generationConfig"]["maxOutputTokens"] += 1


def without_schema(out: Json) -> None:
    out.update(json.loads(json.dumps(out).replace('"city"', '"town"')))


def without_system(out: Json) -> None:
    out.update(json.loads(json.dumps(out).replace("Be brief.", "")))


def forced(out: Json) -> None:
    for key, value in (("tool_choice", None), ("toolConfig", None)):
        if key in out:
            out[key] = value
            return
    raise AssertionError("no choice was sent")


CHANGES = (
    without_last_turn,
    with_other_words,
    with_other_arguments,
    with_another_tool,
    with_another_limit,
    without_schema,
    without_system,
    forced,
)
TOOL = {
    "name": "look",
    "description": "d",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = {"name": "look", "arguments": '{"city":"Kraków"}'}
ASKED: Json = {
    "model": "m",
    "max_tokens": 64,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Is it sunny?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": CALL}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "yes"},
        {"role": "user", "content": "And there?"},
    ],
    "tools": [{"type": "function", "function": TOOL}],
    "tool_choice": "required",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("target", [MESSAGES, RESPONSES, GEMINI])
def test_the_slow_reader_sees_what_is_wrong(target: str, change: Callable[[Json], None]) -> None:
    slow, out = asked(ASKED, CHAT), translated(ASKED, CHAT, target)
    assert list(differences(slow, asked(out, target), target)) == []
    change(out)
    assert list(differences(slow, asked(out, target), target)) != []
