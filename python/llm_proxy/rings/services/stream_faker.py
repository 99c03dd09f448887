"""A whole chat completion told as a stream, for clients that asked for one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

CHUNK_CHARACTERS = 4


def _line(data: Any) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


async def fake_stream(
    response: dict[str, Any], chunk_size: int = CHUNK_CHARACTERS
) -> AsyncIterator[str]:
    """The completion as server-sent events: role first, the text in pieces, finish, usage, DONE."""
    head = {
        "id": response.get("id", "chatcmpl-cached"),
        "object": "chat.completion.chunk",
        "created": response.get("created", 0),
        "model": response.get("model", ""),
    }

    def event(index: int, delta: dict[str, Any], finish: Any = None) -> str:
        return _line(
            {**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish}]}
        )

    for position, choice in enumerate(response.get("choices") or ()):
        index = choice.get("index", position)
        message = choice.get("message") or {}
        yield event(index, {"role": message.get("role", "assistant")})
        content = message.get("content") or ""
        for start in range(0, len(content), max(1, chunk_size)):
            yield event(index, {"content": content[start : start + max(1, chunk_size)]})
        for number, call in enumerate(message.get("tool_calls") or ()):
            yield event(index, {"tool_calls": [{"index": number, **call}]})
        yield event(index, {}, choice.get("finish_reason") or "stop")
    if response.get("usage"):
        yield _line({**head, "choices": [], "usage": response["usage"]})
    yield "data: [DONE]\n\n"
