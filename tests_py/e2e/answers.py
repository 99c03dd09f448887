"""What a model says, free of any format, and the four formats a scripted provider says it in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

ALL_SCRIPTS = "Zażółć gęślą jaźń, 你好, שלום, 👩\u200d👩\u200d👧\u200d👦 and plain text."


@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    text: str = ""
    calls: tuple[Call, ...] = ()
    cut_short: bool = False
    input_tokens: int = 11
    output_tokens: int = 7
    model: str = field(default="model-of-the-upstream")


TEXT = Answer(ALL_SCRIPTS)
ONE_TOOL = Answer("I will look.", (Call("call_one", "get_weather", {"city": "Łódź", "days": 2}),))
TWO_TOOLS = Answer(
    "",
    (
        Call("call_a", "get_weather", {"city": "Paris"}),
        Call("call_b", "get_time", {"zone": "Europe/Paris", "list": [1, {"a": None}]}),
    ),
)
CUT_SHORT = Answer("A beginning of", cut_short=True)
ANSWERS = {"text": TEXT, "one tool": ONE_TOOL, "two tools": TWO_TOOLS, "cut short": CUT_SHORT}


def pieces(text: str, size: int = 7) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


# --- OpenAI chat ----------------------------------------------------------------------------------


def _chat_finish(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "length" if answer.cut_short else "stop"


def _chat_usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
    }


def chat_whole(answer: Answer) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.name,
                    "arguments": json.dumps(call.arguments, ensure_ascii=False),
                },
            }
            for call in answer.calls
        ]
    body = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1700000000,
        "model": answer.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _chat_finish(answer)}],
        "usage": _chat_usage(answer),
    }
    return json.dumps(body, ensure_ascii=False).encode()


def chat_stream(answer: Answer, usage: bool = True) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _sse(
            {
                "id": "chatcmpl-scripted",
                "object": "chat.completion.chunk",
                "created": 1700000000,
                "model": answer.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
            }
        )

    yield chunk({"role": "assistant", "content": ""})
    for piece in pieces(answer.text):
        yield chunk({"content": piece})
    for index, call in enumerate(answer.calls):
        function = {"name": call.name, "arguments": ""}
        head = {"index": index, "id": call.id, "type": "function", "function": function}
        yield chunk({"tool_calls": [head]})
        for piece in pieces(json.dumps(call.arguments, ensure_ascii=False)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _chat_finish(answer))
    if usage:
        yield _sse(
            {
                "id": "chatcmpl-scripted",
                "object": "chat.completion.chunk",
                "created": 1700000000,
                "model": answer.model,
                "choices": [],
                "usage": _chat_usage(answer),
            }
        )
    yield b"data: [DONE]\n\n"


# --- Anthropic messages ---------------------------------------------------------------------------


def _messages_stop(answer: Answer) -> str:
    return "tool_use" if answer.calls else "max_tokens" if answer.cut_short else "end_turn"


def messages_whole(answer: Answer) -> bytes:
    content: list[dict[str, Any]] = []
    if answer.text:
        content.append({"type": "text", "text": answer.text})
    content += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        for call in answer.calls
    ]
    body = {
        "id": "msg_scripted",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": content,
        "stop_reason": _messages_stop(answer),
        "stop_sequence": None,
        "usage": {"input_tokens": answer.input_tokens, "output_tokens": answer.output_tokens},
    }
    return json.dumps(body, ensure_ascii=False).encode()


def messages_stream(answer: Answer) -> Iterator[bytes]:
    def event(kind: str, **rest: Any) -> bytes:
        return f"event: {kind}\n".encode() + _sse({"type": kind, **rest})

    yield event(
        "message_start",
        message={
            "id": "msg_scripted",
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": answer.input_tokens, "output_tokens": 1},
        },
    )
    index = 0
    if answer.text:
        start = {"type": "text", "text": ""}
        yield event("content_block_start", index=index, content_block=start)
        yield event("ping")
        for piece in pieces(answer.text):
            delta = {"type": "text_delta", "text": piece}
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
        index += 1
    for call in answer.calls:
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}  # type: ignore[dict-item]
        yield event("content_block_start", index=index, content_block=start)
        for piece in pieces(json.dumps(call.arguments, ensure_ascii=False)):
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield event("content_block_delta", index=index, delta=delta)
        yield event("content_block_stop", index=index)
        index += 1
    yield event(
        "message_delta",
        delta={"stop_reason": _messages_stop(answer), "stop_sequence": None},
        usage={"output_tokens": answer.output_tokens},
    )
    yield event("message_stop")


# --- OpenAI Responses -----------------------------------------------------------------------------


def responses_whole(answer: Answer, status: str = "completed") -> bytes:
    return json.dumps(_response(answer, status), ensure_ascii=False).encode()


def _response_items(answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.text or not answer.calls:
        part = {"type": "output_text", "text": answer.text, "annotations": []}
        items.append(
            {
                "type": "message",
                "id": "msg_scripted",
                "status": "completed",
                "role": "assistant",
                "content": [part],
            }
        )
    items += [
        {
            "type": "function_call",
            "id": f"fc_{call.id}",
            "call_id": call.id,
            "name": call.name,
            "arguments": json.dumps(call.arguments, ensure_ascii=False),
            "status": "completed",
        }
        for call in answer.calls
    ]
    return items


def _response(answer: Answer, status: str) -> dict[str, Any]:
    done = status == "completed"
    cut = done and answer.cut_short
    return {
        "id": "resp_scripted",
        "object": "response",
        "created_at": 1700000000,
        "status": "incomplete" if cut else status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "model": answer.model,
        "output": _response_items(answer) if done else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": answer.input_tokens,
            "output_tokens": answer.output_tokens,
            "total_tokens": answer.input_tokens + answer.output_tokens,
        }
        if done
        else None,
    }


def responses_stream(answer: Answer) -> Iterator[bytes]:
    number = 0

    def event(kind: str, **rest: Any) -> bytes:
        nonlocal number
        number += 1
        return f"event: {kind}\n".encode() + _sse(
            {"type": kind, "sequence_number": number - 1, **rest}
        )

    yield event("response.created", response=_response(answer, "in_progress"))
    for index, item in enumerate(_response_items(answer)):
        place = {"item_id": item["id"], "output_index": index}
        empty = {"content": []} if item["type"] == "message" else {"arguments": ""}
        begun = {**item, "status": "in_progress", **empty}
        yield event("response.output_item.added", output_index=index, item=begun)
        if item["type"] == "message":
            at = {**place, "content_index": 0}
            part = item["content"][0]
            yield event("response.content_part.added", **at, part={**part, "text": ""})
            for piece in pieces(answer.text):
                yield event("response.output_text.delta", **at, delta=piece)
            yield event("response.output_text.done", **at, text=answer.text)
            yield event("response.content_part.done", **at, part=part)
        else:
            for piece in pieces(item["arguments"]):
                yield event("response.function_call_arguments.delta", **place, delta=piece)
            arguments = {"arguments": item["arguments"], "name": item["name"]}
            yield event("response.function_call_arguments.done", **place, **arguments)
        yield event("response.output_item.done", output_index=index, item=item)
    whole = _response(answer, "completed")
    yield event(f"response.{whole['status']}", response=whole)


# --- Gemini ---------------------------------------------------------------------------------------


def _gemini_chunk(
    answer: Answer, parts: list[dict[str, Any]], finish: str | None
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": answer.input_tokens,
            "candidatesTokenCount": answer.output_tokens,
            "totalTokenCount": answer.input_tokens + answer.output_tokens,
        },
        "modelVersion": answer.model,
        "responseId": "gemini-scripted",
    }


def _gemini_parts(answer: Answer, size: int) -> list[dict[str, Any]]:
    """Calls without ids, as most models make them."""
    parts: list[dict[str, Any]] = [{"text": piece} for piece in pieces(answer.text, size)]
    return parts + [
        {"functionCall": {"name": call.name, "args": call.arguments}} for call in answer.calls
    ]


def _gemini_finish(answer: Answer) -> str:
    return "MAX_TOKENS" if answer.cut_short else "STOP"


def gemini_whole(answer: Answer) -> bytes:
    parts = _gemini_parts(answer, 1 << 20)
    chunk = _gemini_chunk(answer, parts, _gemini_finish(answer))
    return json.dumps(chunk, ensure_ascii=False).encode()


def gemini_stream(answer: Answer) -> Iterator[bytes]:
    *first, last = _gemini_parts(answer, 7)
    for part in first:
        yield _sse(_gemini_chunk(answer, [part], None))
    yield _sse(_gemini_chunk(answer, [last], _gemini_finish(answer)))


def _sse(value: object) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"
