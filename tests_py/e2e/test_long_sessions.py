"""A session of 200 messages: what was sent once is sent again in the same bytes, so caches hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import httpx
import pytest

from e2e.conftest import StartProxy
from e2e.upstream import Reply, Upstream, whole

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


@pytest.mark.parametrize(("client", "backend"), PAIRS)
async def test_equal_prefixes_stay_equal_bytes(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    path, session = CLIENTS[client]
    refused: Callable[..., Reply] = lambda _: whole(b'{"error":{"message":"no"}}', 400)  # noqa: E731
    async with (
        Upstream(refused) as upstream,
        start_proxy(upstream, backend) as proxy,
        httpx.AsyncClient(timeout=20, base_url=proxy.url) as http,
    ):
        sent = []
        for turns in (1, 2, 3, 25, 50, 51):
            await http.post(path, json=session(turns))
            sent.append(spans(upstream.last.body, UPSTREAMS[backend]))
    assert len(sent[-1][1]) >= 150
    for (head, items, tail), (next_head, next_items, next_tail) in pairwise(sent):
        assert next_items[: len(items)] == items
        assert (next_head, next_tail) == (head, tail)
