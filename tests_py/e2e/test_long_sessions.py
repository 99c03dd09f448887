"""A session of 200 messages: what was sent once is sent again in the same bytes, so caches hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from e2e.answers import TWO_TOOLS, Answer
from e2e.conftest import StartProxy
from e2e.upstream import Received, Upstream, answering, whole

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ODD_SCHEMA = {
    "type": "object",
    "required": ["z"],
    "properties": {
        "z": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "a": {"$ref": "#/$defs/Node"},
    },
    "$defs": {"Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}},
    "additionalProperties": False,
}
LOOK = Answer("I will look.", TWO_TOOLS.calls)
Session = Callable[[int], dict[str, Any]]
Json = dict[str, Any]


def messages_session(turns: int) -> Json:
    """Claude Code's habits: a marker that wanders, text that is now a string and now a block."""
    messages: list[Json] = []
    for i in range(turns):
        last = i == turns - 1
        said: Any = f"<system-reminder>{i}</system-reminder> zażółć {i}"
        if last:
            said = [{"type": "text", "text": said, "cache_control": {"type": "ephemeral"}}]
        messages.append({"role": "user", "content": said})
        if last:
            break
        call = {"type": "tool_use", "id": f"toolu_{i}", "name": "look", "input": {"z": i, "a": {}}}
        messages.append(
            {"role": "assistant", "content": [{"type": "text", "text": f"Turn {i}."}, call]}
        )
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        seen = [{"type": "text", "text": f"seen {i}"}, {"type": "image", "source": source}]
        result = {"type": "tool_result", "tool_use_id": f"toolu_{i}", "content": seen[: 1 + i % 2]}
        messages.append({"role": "user", "content": [result]})
        messages.append({"role": "assistant", "content": f"Saw {i}."})
    return {
        "model": "m",
        "max_tokens": 64,
        "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
        "tools": [{"name": "look", "description": "d", "input_schema": ODD_SCHEMA}],
        "messages": messages,
    }


def chat_session(turns: int) -> Json:
    messages: list[Json] = [{"role": "system", "content": "S"}]
    for i in range(turns):
        messages.append({"role": "user", "content": f"zażółć {i}"})
        if i == turns - 1:
            break
        function = {"name": "look", "arguments": json.dumps({"z": i, "a": {}})}
        call = {"id": f"call_{i}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": f"seen {i}"})
        messages.append({"role": "assistant", "content": f"Saw {i}."})
    tool = {"name": "look", "description": "d", "parameters": ODD_SCHEMA}
    return {"model": "m", "messages": messages, "tools": [{"type": "function", "function": tool}]}


def responses_session(turns: int) -> Json:
    items: list[Json] = []
    for i in range(turns):
        items.append({"role": "user", "content": f"zażółć {i}"})
        if i == turns - 1:
            break
        call = {"call_id": f"call_{i}", "name": "look", "arguments": json.dumps({"z": i})}
        items.append({"type": "function_call", "id": f"fc_{i}", **call})
        result = {"type": "function_call_output", "call_id": f"call_{i}", "output": f"seen {i}"}
        items.append(result)
        text = {"type": "output_text", "text": f"Saw {i}.", "annotations": []}
        items.append({"type": "message", "role": "assistant", "content": [text]})
    tool = {"type": "function", "name": "look", "description": "d", "parameters": ODD_SCHEMA}
    return {"model": "m", "instructions": "S", "input": items, "tools": [tool], "store": False}


def gemini_session(turns: int) -> Json:
    """Calls of one name and without ids, as Gemini's clients send them."""
    contents: list[Json] = []
    for i in range(turns):
        contents.append({"role": "user", "parts": [{"text": f"zażółć {i}"}]})
        if i == turns - 1:
            break
        call = {"functionCall": {"name": "look", "args": {"z": i, "a": {}}}}
        contents.append({"role": "model", "parts": [call, call]})
        result = {"functionResponse": {"name": "look", "response": {"output": f"seen {i}"}}}
        contents.append({"role": "user", "parts": [result, result]})
        contents.append({"role": "model", "parts": [{"text": f"Saw {i}."}]})
    declared = {"name": "look", "description": "d", "parametersJsonSchema": ODD_SCHEMA}
    return {
        "systemInstruction": {"parts": [{"text": "S"}]},
        "contents": contents,
        "tools": [{"functionDeclarations": [declared]}],
    }


CLIENTS: dict[str, tuple[str, Session]] = {
    "chat": ("/v1/chat/completions", chat_session),
    "responses": ("/v1/responses", responses_session),
    "messages": ("/v1/messages", messages_session),
    "gemini": ("/v1beta/models/m:generateContent", gemini_session),
}
UPSTREAMS = {
    "openai": "messages",
    "openai-responses": "input",
    "anthropic": "messages",
    "gemini": "contents",
}


def spans(body: bytes, name: str) -> tuple[str, list[str], str]:
    """What stands before the conversation, its items one by one, what stands behind: as text."""
    text = body.decode()
    begin = text.index(f'"{name}":[') + len(name) + 4
    decoder, at, items = json.JSONDecoder(), begin, []
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        items.append(text[at:end])
        at = end + (text[end] == ",")
    return text[:begin], items, text[at:]


OWN = {
    "openai": "chat",
    "openai-responses": "responses",
    "anthropic": "messages",
    "gemini": "gemini",
}
# A client of the upstream's own format has its own bytes passed on.
PAIRS = [(client, backend) for client in CLIENTS for backend in UPSTREAMS if OWN[backend] != client]


async def arrivals(
    client: str, backend: str, start_proxy: StartProxy, every: tuple[int, ...]
) -> list[Received]:
    """What reaches the upstream of sessions with so many turns."""
    path, session = CLIENTS[client]
    async with (
        Upstream(lambda _: whole(b'{"error":{"message":"no"}}', 400)) as upstream,
        start_proxy(upstream, backend) as proxy,
        httpx.AsyncClient(timeout=20, base_url=proxy.url) as http,
    ):
        came = []
        for turns in every:
            await http.post(path, json=session(turns))
            came.append(upstream.last)
        return came


@pytest.mark.parametrize(("client", "backend"), PAIRS)
async def test_equal_prefixes_stay_equal_bytes(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    came = await arrivals(client, backend, start_proxy, (1, 2, 3, 25, 50, 51))
    sent = [spans(received.body, UPSTREAMS[backend]) for received in came]
    assert len(sent[-1][1]) >= 150
    for (head, items, tail), (next_head, next_items, next_tail) in pairwise(sent):
        assert next_items[: len(items)] == items
        assert (next_head, next_tail) == (head, tail)


def ids(body: Any) -> list[str]:
    """The ids of all calls, as they stand upstream, in order."""
    if isinstance(body, list):
        return [found for item in body for found in ids(item)]
    if not isinstance(body, dict):
        return []
    if body.get("type") in ("function_call", "tool_use") or "functionCall" in body:
        call = body.get("functionCall", body)
        return [str(call.get("call_id") or call.get("id"))]
    if body.get("type") == "function":
        return [body["id"]] if "id" in body else []
    return [found for item in body.values() for found in ids(item)]


@pytest.mark.parametrize(("client", "backend"), PAIRS)
async def test_no_call_is_renumbered_between_turns(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    before: list[str] = []
    every = (2, 3, 50, 51)
    for turns, received in zip(
        every, await arrivals(client, backend, start_proxy, every), strict=True
    ):
        now = ids(received.json)
        assert now[: len(before)] == before
        # A Gemini provider needs no ids, where the client's history has none that are its own.
        assert len(set(now)) == len(now) >= turns - 1
        before = now


@pytest.mark.parametrize("backend", UPSTREAMS)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_the_last_event_has_all_output_and_usage(
    backend: str, streamed: bool, start_proxy: StartProxy
) -> None:
    body = {**responses_session(50), "stream": streamed}
    async with (
        Upstream(answering(LOOK)) as upstream,
        start_proxy(upstream, backend) as proxy,
        httpx.AsyncClient(timeout=20, base_url=proxy.url) as http,
    ):
        for _ in range(3):
            got = (await http.post("/v1/responses", json=body)).text
            if streamed:
                datas = [line[6:] for line in got.splitlines() if line.startswith("data: ")]
                events = [json.loads(data) for data in datas if data != "[DONE]"]
                assert events[-1]["type"] == "response.completed"
                assert [event["sequence_number"] for event in events] == list(range(len(events)))
                done = [e["item"] for e in events if e["type"] == "response.output_item.done"]
                response = events[-1]["response"]
                assert response["output"] == done
            else:
                response = json.loads(got)
            said, *calls = response["output"]
            assert said["content"][0]["text"] == LOOK.text
            assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
                (call.name, call.arguments) for call in LOOK.calls
            ]
            usage = response["usage"]
            assert usage["input_tokens"] > 0 and usage["output_tokens"] > 0
            assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
            # The next turn has this one in it.
            results = [
                {"type": "function_call_output", "call_id": call["call_id"], "output": "ok"}
                for call in calls
            ]
            body = {**body, "input": [*body["input"], *response["output"], *results]}
