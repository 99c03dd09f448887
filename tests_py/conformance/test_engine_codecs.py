"""`TranslationService` on the engine's own codecs: every format a connector may speak."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_proxy.backends.translation import TranslationService, begin_exchange
from llm_proxy.contracts.chat import CanonicalChatRequest
from llm_proxy.contracts.exceptions import TranslationError

SERVICE = TranslationService()
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
REQUEST = {
    "model": "m",
    "max_tokens": 5,
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "r"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
        }
    ],
}
FORMATS = ["anthropic", "gemini", "responses"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_request_goes_to_each_format_and_back(name: str) -> None:
    there = SERVICE.from_domain_request(CanonicalChatRequest.model_validate(REQUEST), name)
    back = SERVICE.to_domain_request({"model": "m", **there}, name)
    assert [message.role for message in back.messages] == ["system", "user", "assistant", "tool"]
    assert back.messages[1].content == "hi"
    (call,) = back.messages[2].tool_calls or []
    assert call.function.name == "f"
    assert json.loads(call.function.arguments or "") == {"a": 1}
    assert (back.tools or [])[0]["function"]["name"] == "f"


MESSAGE = {"role": "assistant", "content": "hello", "tool_calls": [CALL]}
REPLY = {
    "id": "c",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_whole_reply_goes_to_each_format_and_back(name: str) -> None:
    there = SERVICE.from_domain_response(REPLY, name)
    back = SERVICE.to_domain_response(there, name)
    (choice,) = back.choices
    assert choice.message.content == "hello"
    assert choice.finish_reason == "tool_calls"
    assert [call.function.name for call in choice.message.tool_calls or []] == ["f"]
    assert (back.usage or {})["total_tokens"] == 5


ANTHROPIC_STREAM: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 3, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "grü"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ße"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]


@pytest.mark.parametrize("size", [5, 100, 10_000])
def test_an_anthropic_stream_becomes_openai_chunks_however_it_is_cut(size: int) -> None:
    begin_exchange()
    raw = "".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in ANTHROPIC_STREAM
    )
    chunks = [
        SERVICE.to_domain_stream_chunk(raw[at : at + size], "anthropic")
        for at in range(0, len(raw), size)
    ]
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content") or "" for choice in choices) == "grüße"
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"]
    usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
    assert (usage[-1]["prompt_tokens"], usage[-1]["completion_tokens"]) == (3, 2)


def test_openai_chunks_become_anthropic_events() -> None:
    begin_exchange()
    events = []
    for delta, finish in (({"role": "assistant", "content": "hi"}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = SERVICE.from_domain_stream_chunk(
            {"id": "c", "model": "m", "choices": [choice]}, "anthropic"
        )
        events.append(event)
    assert events[0]["type"] == "content_block_delta"
    assert events[0]["delta"] == {"type": "text_delta", "text": "hi"}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_message_of_the_format_is_said_in_the_codecs_words(name: str) -> None:
    with pytest.raises(TranslationError):
        SERVICE.to_domain_response({"nothing": 1}, name)
