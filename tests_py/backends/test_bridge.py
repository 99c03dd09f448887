"""A Python backend as the engine calls it: whole, streamed, failing, cancelled, held back."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_proxy.backends.base import LLMBackend
from llm_proxy.contracts import exceptions as errors
from llm_proxy.contracts.chat import CanonicalChatResponse, CanonicalStreamChunk
from llm_proxy.contracts.processors import ProcessedResponse
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
from llm_proxy.contracts.responses import (
    ResponseEnvelope,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)
from llm_proxy.contracts.streaming import StopChunkWithUsage
from llm_proxy.contracts.usage import UsageSummary
from llm_proxy.testing import Answer, BackendProbe

MESSAGE = {"role": "assistant", "content": "hi"}
WHOLE = {
    "id": "c1",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
}
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


def chunk(text: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [choice],
        **more,
    }


def sse(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


async def stream_of(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        if isinstance(item, Exception):
            raise item
        yield item


def streamed(*items: Any) -> Any:
    return lambda request: StreamingResponseEnvelope(stream_of(*items))


def backend(reply: Any) -> type[LLMBackend]:
    """A backend whose answer is `reply`, or what the function `reply` makes of the request."""

    class Backend(LLMBackend):
        def __init__(self, client: Any, config: Any, translation: Any) -> None:
            super().__init__(config)

        async def initialize(self, **kwargs: Any) -> None:
            pass

        async def chat_completions(self, request: ConnectorChatCompletionsRequest) -> Any:
            answer = reply(request) if callable(reply) else reply
            answer = await answer if asyncio.iscoroutine(answer) else answer
            if isinstance(answer, Exception):
                raise answer
            return answer

    return Backend


async def ask(reply: Any, **options: Any) -> Answer:
    async with BackendProbe({"b": backend(reply)}) as probe:
        return await asyncio.wait_for(probe.ask("b", "Hello", **options), 5)


WHOLE_REPLIES = {
    "a dict in an envelope": lambda: ResponseEnvelope(WHOLE),
    "JSON text": lambda: ResponseEnvelope(json.dumps(WHOLE)),
    "JSON bytes": lambda: ResponseEnvelope(json.dumps(WHOLE).encode()),
    "a domain model": lambda: ResponseEnvelope(CanonicalChatResponse(**WHOLE)),
    "a domain model without envelope": lambda: CanonicalChatResponse(**WHOLE),
    "a dict without envelope": lambda: WHOLE,
    "a tuple of body and headers": lambda: (WHOLE, {"x-a": "b"}),
    "plain text": lambda: ResponseEnvelope("hi"),
    "a processed response": lambda: ProcessedResponse(WHOLE),
    "a stream nobody asked for": lambda: StreamingResponseEnvelope(
        stream_of(chunk("h"), chunk("i"), chunk(finish="stop"))
    ),
}


@pytest.mark.parametrize("shape", WHOLE_REPLIES)
async def test_a_whole_reply_may_have_any_shape(shape: str) -> None:
    answer = await ask(lambda request: WHOLE_REPLIES[shape]())
    assert (answer.status, answer.streaming, answer.text) == (200, False, "hi")
    assert answer.body["object"] == "chat.completion"
    assert answer.body["choices"][0]["finish_reason"] == "stop"


DONE = b"data: [DONE]\n\n"
STREAMS: dict[str, list[Any]] = {
    "dicts": [chunk("h"), chunk("i"), chunk(finish="stop")],
    "processed dicts": [ProcessedResponse(chunk("h")), ProcessedResponse(chunk("i", "stop"))],
    "frames as bytes": [sse(chunk("h")), sse(chunk("i", "stop")), DONE],
    "frames as text": [sse(chunk("hi", "stop")).decode() + "data: [DONE]\n\n"],
    "frames cut anywhere": [
        bytes([byte]) for byte in sse(chunk("h")) + sse(chunk("i", "stop")) + DONE
    ],
    "lines ended by CR LF": [
        sse(chunk("hi", "stop")).replace(b"\n", b"\r\n"),
        "data: [DONE]\r\n\r\n",
    ],
    "comments between": [b": ping\n\n", sse(chunk("hi", "stop")), b": ping\n\n"],
    "models": [
        CanonicalStreamChunk.model_validate(chunk("hi")),
        ProcessedResponse(CanonicalStreamChunk.model_validate(chunk(finish="stop"))),
    ],
    "plain text": ["h", ProcessedResponse("i")],
    "a guarded usage chunk": [chunk("hi"), StopChunkWithUsage(chunk(finish="stop", usage=USAGE))],
    "empty pieces": [b"", "", None, ProcessedResponse(), chunk("hi"), chunk(finish="stop")],
    "a reply nobody asked to have whole": [WHOLE],
}


@pytest.mark.parametrize("shape", STREAMS)
async def test_a_stream_may_yield_anything(shape: str) -> None:
    answer = await ask(streamed(*STREAMS[shape]), stream=True)
    assert answer.failure is None
    assert (answer.status, answer.streaming, answer.ended) == (200, True, True)
    assert answer.text == "hi"
    assert answer.events[-1] == "[DONE]"
    assert answer.events.count("[DONE]") == 1
    choices = [json.loads(data)["choices"] for data in answer.events[:-1]]
    assert [c[0]["finish_reason"] for c in choices if c and c[0]["finish_reason"]] == ["stop"]


async def test_every_chunk_of_a_stream_is_a_complete_openai_chunk() -> None:
    answer = await ask(streamed({"choices": [{"delta": {"content": "hi"}}]}), stream=True)
    for data in answer.events[:-1]:
        body = json.loads(data)
        assert body["object"] == "chat.completion.chunk"
        assert body["id"].startswith("chatcmpl-")
        assert body["model"] == "test-model"


async def test_relayed_frames_reach_the_engine_byte_for_byte() -> None:
    raw = b'data: {"choices":[{"delta":{"content":"h\\u00e9"},"new_field":1}],  "x":2}\n\n'
    last = sse(chunk(finish="stop"))
    answer = await ask(streamed(raw + last), stream=True)
    assert b"".join(answer.chunks) == raw + last + DONE


async def test_a_bare_handle_or_iterator_is_a_stream() -> None:
    for make in (lambda s: StreamingResponseHandle(s, None, {"x-up": "1"}), lambda s: s):
        answer = await ask(lambda r, m=make: m(stream_of(chunk("hi", "stop"))), stream=True)
        assert answer.text == "hi"


async def test_a_whole_reply_is_replayed_for_a_client_that_streams() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    whole = {**WHOLE, "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    answer = await ask(ResponseEnvelope(whole, usage=UsageSummary(3, 1, 4)), stream=True)
    bodies = [json.loads(data) for data in answer.events[:-1]]
    assert bodies[0]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **call}]
    assert bodies[1]["choices"][0]["finish_reason"] == "tool_calls"
    assert bodies[2]["usage"] == USAGE


async def test_tool_call_pieces_are_joined_for_a_client_that_does_not_stream() -> None:
    def call(**piece: Any) -> dict[str, Any]:
        delta = {"tool_calls": [{"index": 0, **piece}]}
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    answer = await ask(
        streamed(
            call(id="t1", type="function", function={"name": "f", "arguments": '{"a"'}),
            call(function={"arguments": ":1}"}),
            chunk(finish="tool_calls"),
            {"choices": [], "usage": USAGE},
        )
    )
    choice = answer.body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    ]
    assert answer.body["usage"] == USAGE


@pytest.mark.parametrize(
    "usage", [USAGE, UsageSummary(3, 1, 4), {"input_tokens": 3, "output_tokens": 1}]
)
async def test_the_usage_of_the_envelope_reaches_the_client(usage: Any) -> None:
    assert (await ask(ResponseEnvelope(WHOLE, usage=usage))).body["usage"] == USAGE


async def test_framing_headers_of_the_upstream_are_not_repeated() -> None:
    framing = {"Content-Length": "3", "Content-Encoding": "gzip", "Set-Cookie": "s"}
    answer = await ask(ResponseEnvelope(WHOLE, {**framing, "X-Request-Id": "7"}))
    assert answer.headers == [("x-request-id", "7")]


class HTTPException(Exception):
    """The shape of fastapi's."""

    def __init__(self, status_code: int, detail: Any, headers: Any = None) -> None:
        self.status_code, self.detail, self.headers = status_code, detail, headers


FAILURES = {
    "authentication": (errors.AuthenticationError("no key", code="missing"), 401, "missing", None),
    "rate limit": (errors.RateLimitExceededError(details={"retry_after": 7}), 429, "", 7.0),
    "backend": (errors.BackendError("x", code="c", status_code=529), 529, "c", None),
    "unavailable": (errors.ServiceUnavailableError(), 503, "", None),
    "routing": (errors.RoutingError("x", {"code": "unknown_model"}), 404, "unknown_model", None),
    "foreign 429": (HTTPException(429, "slow", {"Retry-After": "3"}), 429, "", 3.0),
    "foreign 418": (HTTPException(418, {"error": {"message": "tea", "code": "t"}}), 418, "t", None),
    "foreign status that is none": (HTTPException(7, "x"), 502, "", None),
    "timeout": (TimeoutError(), 504, "timeout", None),
    "bug": (KeyError("x"), 500, "backend_bug", None),
    "missing import": (ModuleNotFoundError("no x", name="x"), 500, "backend_bug", None),
    "refused connection": (ConnectionRefusedError(), 502, "unreachable", None),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_exception_becomes_status_code_and_retry_after(name: str, stream: bool) -> None:
    error, status, code, retry_after = FAILURES[name]
    answer = await ask(error, stream=stream)
    assert answer.failure is not None
    assert not answer.chunks
    assert (answer.failure["status"], answer.failure["code"]) == (status, code)
    assert answer.failure["retry_after"] == retry_after


async def test_an_error_before_the_first_chunk_may_still_fail_over() -> None:
    answer = await ask(streamed(errors.ServiceUnavailableError("down")), stream=True)
    assert answer.status == 0
    assert answer.failure is not None
    assert answer.failure["status"] == 503


CUT_STREAMS = {
    "raises": [chunk("h"), errors.BackendError("gone")],
    "ends in the middle of a frame": [sse(chunk("h")), b'data: {"choi'],
    "relays a stream that ends early": [sse(chunk("h"))],
    "relays garbage": [sse(chunk("h")), b"data: <html>\n\n"],
    "yields an object": [chunk("h"), object()],
    "yields a dict that is no chunk": [chunk("h"), {"a": 1}],
}


@pytest.mark.parametrize("how", CUT_STREAMS)
async def test_a_stream_that_breaks_never_ends_well(how: str) -> None:
    answer = await ask(streamed(*CUT_STREAMS[how]), stream=True)
    assert answer.text == "h"
    assert answer.failure is not None
    assert not answer.ended
    assert "[DONE]" not in answer.events


@pytest.mark.parametrize("reply", [None, 7, ResponseEnvelope(None)])
async def test_what_is_no_reply_is_the_backends_own_mistake(
    reply: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(lambda request: reply)
    assert answer.failure is not None
    assert (answer.failure["status"], answer.failure["code"]) == (500, "backend_bug")
    for word in ("int", "None"):
        assert word not in answer.failure["message"]
    assert "not a chat completion" in caplog.text or "returned nothing" in caplog.text


async def test_a_reply_without_choices_is_a_bad_gateway() -> None:
    answer = await ask(lambda request: ResponseEnvelope({"a": 1}))
    assert answer.failure is not None
    assert answer.failure["status"] == 502


def fails_deep_inside(request: Any) -> Any:
    return {}["a-secret-of-the-author"]


async def test_a_mistake_is_told_in_full_once_and_never_to_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with BackendProbe({"mine": backend(fails_deep_inside)}) as probe:
        answers = [await probe.ask("mine", "x", stream=stream) for stream in (False, True, False)]
    for answer in answers:
        assert answer.failure is not None
        assert "a-secret" not in json.dumps(answer.failure)
        assert "KeyError" not in json.dumps(answer.failure)
    told = [record.getMessage() for record in caplog.records if "a-secret" in record.getMessage()]
    assert len(told) == 3
    assert [text.count("Traceback") for text in told] == [1, 0, 0]
    for text in told:
        assert re.search(r"has failed in .*test_bridge\.py, line \d+: KeyError", text)


async def test_an_error_envelope_is_an_error() -> None:
    content = {"error": {"message": "too long", "type": "invalid_request_error", "code": "ctx"}}
    told = {"error_message": "too long", "error_type": "invalid_request_error", "error_code": "ctx"}
    headers = {"Retry-After": "9"}
    for reply in (
        ResponseEnvelope(content, headers, 400),
        StreamingResponseEnvelope(None, headers=headers, status_code=400, metadata=told),
    ):
        assert (await ask(reply)).failure == {
            "status": 400,
            "type": "invalid_request_error",
            "code": "ctx",
            "message": "too long",
            "retry_after": 9.0,
        }


async def test_a_key_never_reaches_the_client_in_an_error() -> None:
    config = {"backends": {"b": {"api_key": "my-own-key", "extra": {"oauth_token": "tok-secret"}}}}
    echo = errors.BackendError("refused my-own-key and tok-secret and Bearer abcdefghijkl")
    async with BackendProbe({"b": backend(echo)}, config) as probe:
        answer = await probe.ask("b", "Hello")
    assert answer.failure is not None
    assert answer.failure["message"] == "refused *** and *** and Bearer ***"


async def test_a_request_that_is_no_chat_request_is_the_clients_fault() -> None:
    async with BackendProbe({"b": backend(WHOLE)}) as probe:
        for messages in ([], [{"role": "user", "content": 7}]):
            answer = await probe.ask("b", {"messages": messages})
            assert answer.failure is not None
            assert answer.failure["status"] == 400


async def test_the_backend_is_told_who_asks_and_what() -> None:
    seen: list[ConnectorChatCompletionsRequest] = []

    def keep(request: ConnectorChatCompletionsRequest) -> Any:
        seen.append(request)
        return WHOLE

    body = {
        "messages": [{"role": "user", "content": "Hello"}],
        "temperature": 0.5,
        "stream_options": {"include_usage": True},
    }
    async with BackendProbe({"b": backend(keep)}) as probe:
        await probe.ask("b", body, model="m", session_id="s", headers=[("user-agent", "me")])
    (request,) = seen
    assert request.effective_model == "m"
    assert request.request.temperature == 0.5
    assert request.request.extra_body == {"model": "m", "stream_options": {"include_usage": True}}
    assert [message.content for message in request.processed_messages] == ["Hello"]
    assert request.options == {"incoming_headers": {"user-agent": "me"}, "session_id": "s"}
    assert request.context is not None
    assert request.context.session_id == "s"
    assert request.identity is not None
    assert request.identity.get_resolved_headers(None)["X-Title"] == "llm-interactive-proxy"


class Endless:
    """A stream that never ends by itself and says when it was closed."""

    def __init__(self, pause: bool = True) -> None:
        self.sent = 0
        self.closed = asyncio.Event()
        self.called_back = asyncio.Event()
        self.pause = pause

    def reply(self, request: Any) -> StreamingResponseEnvelope:
        async def called_back() -> None:
            self.called_back.set()

        return StreamingResponseEnvelope(self._items(), cancel_callback=called_back)

    async def _items(self) -> AsyncIterator[Any]:
        try:
            while True:
                if self.pause:
                    await asyncio.sleep(0)
                self.sent += 1
                yield chunk("x" * 1000)
        finally:
            self.closed.set()


async def test_a_client_that_goes_closes_the_stream_at_once() -> None:
    endless = Endless()
    async with BackendProbe({"b": backend(endless.reply)}) as probe:
        answer, running = probe.start("b", "Hello", stream=True)
        await answer.changed()
        running.cancel()
        await asyncio.wait_for(probe.bridge.idle(), 0.05)
    assert endless.closed.is_set()
    assert endless.called_back.is_set()
    assert not answer.settled


async def test_a_client_that_goes_before_the_first_byte_cancels_what_the_backend_awaits() -> None:
    cancelled = asyncio.Event()
    entered = asyncio.Event()

    async def hang() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with BackendProbe({"b": backend(lambda request: hang())}) as probe:
        answer, running = probe.start("b", "Hello")
        await entered.wait()
        running.cancel()
        await asyncio.wait_for(cancelled.wait(), 0.05)
    assert not answer.settled


async def test_a_cancelled_turn_is_known_to_the_coordinator_while_it_unwinds() -> None:
    told: list[bool] = []
    cancelled: list[str] = []
    entered = asyncio.Event()

    class Child:
        async def cancel(self) -> None:
            cancelled.append("child")

    async def hang(request: ConnectorChatCompletionsRequest) -> None:
        coordinator, key = request.cancellation_coordinator, request.cancellation_token
        assert coordinator is not None
        assert key is not None
        coordinator.register_cancellable(key, Child())
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append(coordinator.is_cancelled(key))

    async with BackendProbe({"b": backend(hang)}) as probe:
        _, running = probe.start("b", "Hello")
        await entered.wait()
        running.cancel()
        await probe.bridge.idle()
        assert probe.bridge.coordinator.turns == 0
    assert told == [True]
    assert cancelled == ["child"]


async def test_a_backend_that_swallows_its_cancellation_says_nothing_more_to_the_client() -> None:
    entered = asyncio.Event()

    async def stubborn(request: Any) -> Any:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return WHOLE

    async with BackendProbe({"b": backend(stubborn)}) as probe:
        answer, running = probe.start("b", "Hello")
        await entered.wait()
        running.cancel()
        await probe.bridge.idle()
    assert not answer.settled
    assert not answer.chunks


@pytest.mark.parametrize("pause", [True, False])
async def test_a_slow_client_makes_the_backend_wait(pause: bool) -> None:
    endless = Endless(pause)
    async with BackendProbe({"b": backend(endless.reply)}) as probe:
        sink = Answer(reads=False, window=8_000)
        _, running = probe.start("b", "Hello", stream=True, sink=sink)
        while sink.size <= sink.window:
            await sink.changed()
        held = endless.sent
        for _ in range(100):
            await asyncio.sleep(0)
        assert endless.sent == held
        sink.chunks.clear()
        running.resume()
        while sink.size <= sink.window:
            await sink.changed()
        assert endless.sent > held
        running.cancel()
        await asyncio.wait_for(probe.bridge.idle(), 0.5)
    assert endless.closed.is_set()


async def test_a_backend_that_never_suspends_leaves_the_loop_to_others() -> None:
    endless = Endless(pause=False)
    turns_taken = 0
    async with BackendProbe({"b": backend(endless.reply)}) as probe:
        _, running = probe.start("b", "Hello", stream=True)
        while endless.sent < 1000:
            turns_taken += 1
            await asyncio.sleep(0)
        running.cancel()
    assert turns_taken > 10


async def test_the_end_of_a_stream_does_not_call_its_cancel_callback() -> None:
    called: list[str] = []

    async def called_back() -> None:
        called.append("cancel")

    items = stream_of(chunk("hi", "stop"))
    reply = StreamingResponseEnvelope(items, cancel_callback=called_back)
    assert (await ask(reply, stream=True)).ended
    assert called == []
