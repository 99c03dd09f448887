"""`TranslationService` as connectors use it: requests, replies, and streams cut anywhere."""

from __future__ import annotations

import contextvars
import json
from typing import Any

import pytest

from llm_proxy.backends import codecs
from llm_proxy.backends.domain_translation import Translation
from llm_proxy.backends.translation import TranslationService, begin_exchange
from llm_proxy.contracts.chat import CanonicalChatRequest, CanonicalStreamChunk, ChatMessage
from llm_proxy.contracts.exceptions import InvalidRequestError, TranslationError

SERVICE = TranslationService()


def delta(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    body = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**body, **more}, "finish_reason": finish}
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


def frames(*bodies: dict[str, Any]) -> str:
    return "".join(f"data: {json.dumps(body)}\n\n" for body in bodies)


@pytest.fixture(autouse=True)
def fresh_exchange() -> None:
    begin_exchange()


def text_of(chunk: CanonicalStreamChunk) -> str:
    return "".join(choice.delta.content or "" for choice in chunk.choices)


def test_a_request_goes_to_openai_without_what_is_unset_or_ours() -> None:
    request = CanonicalChatRequest(
        model="m",
        messages=[ChatMessage(role="user", content="x", metadata={"ours": 1})],
        temperature=0.0,
        session_id="s",
        agent="a",
        extra_body={"model": "other", "_resolved_uri_params": {}, "stream_options": {"a": 1}},
    )
    assert SERVICE.from_domain_request(request, "openai") == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.0,
        "stream_options": {"a": 1},
    }


def test_an_openai_request_comes_back_as_it_went() -> None:
    body = {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "t", "content": "r"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        ],
        "tool_choice": "auto",
        "stream": True,
        "a_new_field": {"b": 1},
    }
    domain = SERVICE.to_domain_request(body, "openai")
    assert SERVICE.from_domain_request(domain, "openai") == body


def test_a_request_that_is_none_is_refused_with_the_field_at_fault() -> None:
    with pytest.raises(InvalidRequestError, match="messages"):
        SERVICE.to_domain_request({"model": "m"}, "openai")


def test_a_reply_becomes_a_model_and_back() -> None:
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": {"a": 1}}
    reply = SERVICE.to_domain_response(body, "openai")
    assert reply.choices[0].message.content == "x"
    assert reply.usage == {"a": 1}
    assert SERVICE.from_domain_response(reply)["choices"][0]["finish_reason"] == "stop"
    assert SERVICE.to_domain_response("plain", "raw_text").choices[0].message.content == "plain"


@pytest.mark.parametrize("size", [1, 3, 10, 1000])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    whole = frames(delta("grü"), delta("ße"), delta(finish="stop")) + "data: [DONE]\n\n"
    chunks = [
        SERVICE.to_domain_stream_chunk(whole[at : at + size], "openai")
        for at in range(0, len(whole), size)
    ]
    assert "".join(map(text_of, chunks)) == "grüße"
    assert [c.finish_reason for k in chunks for c in k.choices if c.finish_reason] == ["stop"]
    assert [chunk.ends_stream for chunk in chunks].count(True) == 1


def test_several_events_read_at_once_become_one_chunk_that_says_the_same() -> None:
    call = [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]
    more = [{"index": 0, "function": {"arguments": "{}"}}]
    read = frames(delta(tool_calls=call), delta(tool_calls=more), delta(finish="tool_calls"))
    chunk = SERVICE.to_domain_stream_chunk(read, "openai").model_dump()
    assert chunk["choices"][0]["delta"]["tool_calls"] == call + more
    assert chunk["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "piece",
    [
        delta("x"),
        json.dumps(delta("x")),
        frames(delta("x")),
        frames(delta("x")).encode(),
        frames(delta("x")).strip(),
    ],
    ids=["dict", "JSON", "frame", "bytes", "line"],
)
def test_one_chunk_may_come_in_any_wrapping(piece: Any) -> None:
    assert text_of(SERVICE.to_domain_stream_chunk(piece, "openai")) == "x"


@pytest.mark.parametrize("end", ["data: [DONE]\n\n", "data: [DONE]"])
def test_the_terminator_is_an_empty_last_chunk(end: str) -> None:
    chunk = SERVICE.to_domain_stream_chunk(end, "openai")
    assert chunk.choices == []
    assert chunk.ends_stream


@pytest.mark.parametrize("garbage", ["hello", "<html>", "data: nope\n\n", "data: [1]\n\n"])
def test_garbage_raises_and_spoils_nothing(garbage: str) -> None:
    with pytest.raises(TranslationError):
        SERVICE.to_domain_stream_chunk(garbage, "openai")
    assert text_of(SERVICE.to_domain_stream_chunk(frames(delta("x")), "openai")) == "x"


def test_the_rest_of_one_exchange_is_not_read_by_the_next() -> None:
    SERVICE.to_domain_stream_chunk('data: {"choices"', "openai")
    begin_exchange()
    assert text_of(SERVICE.to_domain_stream_chunk(frames(delta("x")), "openai")) == "x"


@pytest.mark.parametrize(
    "call",
    [
        lambda: SERVICE.to_domain_request({}, "nope"),
        lambda: SERVICE.from_domain_request({}, "code_assist"),
        lambda: SERVICE.to_domain_response({}, "openrouter"),
        lambda: SERVICE.from_domain_response({}, "raw_text"),
        lambda: SERVICE.to_domain_stream_chunk({}, "nope"),
        lambda: SERVICE.from_domain_stream_chunk({}, "responses"),
    ],
)
def test_an_unknown_format_is_named(call: Any) -> None:
    with pytest.raises(NotImplementedError, match="known: "):
        call()


class FakeCodecs:
    """Stands where the engine's codecs are: says what it was asked."""

    def translate_request(self, body: bytes, source: str, target: str) -> bytes:
        return json.dumps({**json.loads(body), "model": f"{source}>{target}"}).encode()

    def translate_reply(self, body: bytes, source: str, target: str) -> bytes:
        return self.translate_request(body, source, target)

    def stream_translator(self, source: str, target: str) -> Any:
        class Translator:
            def event(self, name: str, data: bytes) -> bytes:
                told = delta(f"{source}>{target}:{name}:")
                return f"data: {json.dumps(told)}\n\n".encode()

        return Translator()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codecs, "engine_codecs", FakeCodecs)


FORMATS = {
    "anthropic": "anthropic-messages",
    "gemini": "gemini-generate",
    "responses": "openai-responses",
    "openai-responses": "openai-responses",
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.usefixtures("engine")
def test_every_other_format_is_translated_by_the_engine(name: str) -> None:
    message = {"role": "user", "content": "x"}
    there, back = f"openai-chat>{FORMATS[name]}", f"{FORMATS[name]}>openai-chat"
    body = {"messages": [message], "choices": []}
    assert SERVICE.to_domain_request(body, name).model == back
    request = CanonicalChatRequest(model="m", messages=[message])
    assert SERVICE.from_domain_request(request, name)["model"] == there
    assert SERVICE.to_domain_response(body, name).model == back
    assert SERVICE.from_domain_response(body, name)["model"] == there


@pytest.mark.usefixtures("engine")
def test_code_assist_is_gemini_in_a_wrapper() -> None:
    wrapped = {"response": {"choices": []}}
    assert SERVICE.to_domain_response(wrapped, "code_assist").model == "gemini-generate>openai-chat"


@pytest.mark.usefixtures("engine")
def test_anthropic_chunks_are_plain_dicts_and_the_others_models() -> None:
    event = 'event: ping\ndata: {"type": "ping"}\n\n'
    chunk = SERVICE.to_domain_stream_chunk(event, "anthropic")
    assert isinstance(chunk, dict)
    assert chunk["choices"][0]["delta"]["content"] == "anthropic-messages>openai-chat:ping:"
    assert isinstance(SERVICE.to_domain_stream_chunk({"x": 1}, "gemini"), CanonicalStreamChunk)
    assert SERVICE.from_domain_stream_chunk(delta("x"), "openai") == delta("x")
    for name in ("anthropic", "gemini"):
        event = SERVICE.from_domain_stream_chunk(delta("x"), name)
        assert isinstance(event, dict)
        assert f"openai-chat>{FORMATS[name]}" in json.dumps(event)


ANTHROPIC_DELTAS = [
    ({"type": "text_delta", "text": "x"}, {"content": "x"}),
    ({"type": "thinking_delta", "thinking": "x"}, {"reasoning_content": "x"}),
    (
        {"type": "input_json_delta", "partial_json": "{"},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
    ),
]


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize(("said", "heard"), ANTHROPIC_DELTAS)
def test_an_anthropic_event_translates_without_the_ones_before_it(
    said: dict[str, Any], heard: dict[str, Any], outside: bool
) -> None:
    def delta_of(index: int) -> Any:
        event = {"type": "content_block_delta", "index": index, "delta": said}
        return service.to_domain_stream_chunk(event, "anthropic")["choices"][0]["delta"]

    def told() -> None:
        assert delta_of(3) == heard
        assert delta_of(3) == heard
        stop = service.to_domain_stream_chunk({"type": "message_stop"}, "anthropic")
        assert stop["choices"][0]["finish_reason"]

    service = TranslationService()
    contextvars.Context().run(told) if outside else told()


def test_a_whole_anthropic_stream_translates_event_by_event_outside_of_any_exchange() -> None:
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}
    text = {"type": "text", "text": ""}
    ending = {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": text},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "b"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", **ending},
        {"type": "message_stop"},
    ]

    def heard() -> list[Any]:
        return [SERVICE.to_domain_stream_chunk(event, "anthropic") for event in events]

    choices = [choice for chunk in contextvars.Context().run(heard) for choice in chunk["choices"]]
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "ab"
    assert choices[-1]["finish_reason"] == "stop"


def outside(*events: Any, source: str) -> list[dict[str, Any]]:
    """The chunks of events that a script translates, as it would see them."""
    service = TranslationService()

    def told() -> list[Any]:
        return [service.to_domain_stream_chunk(event, source) for event in events]

    chunks = contextvars.Context().run(told)
    return [chunk if isinstance(chunk, dict) else chunk.model_dump() for chunk in chunks]


TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
TOOL_EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "c",
            "content": [],
            "usage": {"input_tokens": 9, "output_tokens": 0},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": TOOL_USE},
    *(
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "input_json_delta", "partial_json": piece},
        }
        for piece in ('{"at":', '"home"}')
    ),
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
    {"type": "message_stop"},
]


@pytest.mark.parametrize("streams", [1, 2])
def test_a_tool_call_and_its_usage_are_right_outside_of_an_exchange(streams: int) -> None:
    chunks = outside(*TOOL_EVENTS * streams, source="anthropic")[-len(TOOL_EVENTS) :]
    calls = [
        call
        for chunk in chunks
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls") or ()
    ]
    assert [call["index"] for call in calls] == [0, 0, 0]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("toolu_1", "look")
    assert "".join(call["function"]["arguments"] for call in calls) == '{"at":"home"}'
    ending = chunks[-2]  # of message_delta
    assert ending["choices"][0]["finish_reason"] == "tool_calls"
    usage = ending["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (9, 5)
    assert chunks[-1]["choices"] == []


def test_an_event_that_stands_alone_is_right_whatever_came_before() -> None:
    ending, start = TOOL_EVENTS[5], TOOL_EVENTS[1]
    ended, started = outside(ending, start, source="anthropic")
    assert ended["choices"][0]["finish_reason"] == "tool_calls"
    assert ended["usage"]["completion_tokens"] == 5
    (call,) = started["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["id"], call["function"]["name"]) == (0, "toolu_1", "look")


def gemini(text: str, **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"index": 0, "content": content, **more}]}


@pytest.mark.parametrize("as_text", [False, True])
def test_geminis_finish_and_usage_are_right_outside_of_an_exchange(as_text: bool) -> None:
    counts = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    last = {**gemini("b", finishReason="STOP"), "usageMetadata": counts}
    events = [gemini("a"), last, gemini("c")]
    given = [frames(event) if as_text else event for event in events]
    first, second, third = outside(*given, source="gemini")
    assert first["choices"][0]["delta"]["content"] == "a"
    assert first["choices"][0]["finish_reason"] is None
    assert second["choices"][0]["delta"]["content"] == "b"
    assert second["choices"][0]["finish_reason"] == "stop"
    assert (second["usage"]["prompt_tokens"], second["usage"]["completion_tokens"]) == (3, 2)
    assert third["choices"][0]["delta"]["content"] == "c"


@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_a_chunk_that_ends_is_one_event_of_the_other_format(name: str) -> None:
    def told() -> list[Any]:
        service = TranslationService()
        return [
            service.from_domain_stream_chunk(delta(*said), name)
            for said in (("x", None), (None, "stop"))
        ]

    text, end = contextvars.Context().run(told)
    if name == "anthropic":
        assert text["delta"]["text"] == "x"
        assert (end["type"], end["delta"]["stop_reason"]) == ("message_delta", "end_turn")
    else:
        assert text["candidates"][0]["content"]["parts"][0]["text"] == "x"
        assert end["candidates"][0]["finishReason"] == "STOP"


def test_arguments_of_a_call_translate_without_the_call_before_them() -> None:
    event = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "{"}
    chunk = contextvars.Context().run(SERVICE.to_domain_stream_chunk, event, "responses")
    assert chunk.choices[0].delta.tool_calls[0].function.arguments == "{"


def test_json_is_checked_against_the_schema_that_was_asked_for() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"a": {"type": "array", "items": {"type": "integer"}}, "b": {"enum": [1, 2]}},
    }
    assert SERVICE.validate_json_against_schema({"a": [1], "b": 2}, schema) == (True, None)
    for data, path in (({}, "'a'"), ({"a": [1, "x"]}, r"$.a[1]"), ({"a": [], "b": 3}, "$.b")):
        valid, breach = SERVICE.validate_json_against_schema(data, schema)
        assert not valid
        assert breach is not None
        assert path in breach


def test_each_translation_has_a_static_name_as_well() -> None:
    body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
    request = Translation.gemini_to_domain_request({"model": "m", **body})
    assert request.messages[0].content == "Hello"
    sent = Translation.from_domain_to_anthropic_request(request)
    assert sent["messages"][0]["role"] == "user"
    assert hasattr(Translation, "responses_to_domain_stream_chunk")
