"""The base classes that existing plugins inherit from, and what those override."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.testing import Answer, BackendProbe
from src.connectors.anthropic import AnthropicBackend
from src.connectors.gemini import GeminiBackend
from src.connectors.openai import OpenAIConnector
from src.core.domain.responses import (
    ProcessedResponse,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)

USAGE = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
MESSAGE = {"role": "assistant", "content": "grüße"}
CHAT = {
    "id": "c",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
    "usage": USAGE,
}
CHAT_CHUNKS = [
    {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": text}}]}
    for text in ("grü", "ße")
] + [
    {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "c", "model": "m", "choices": [], "usage": USAGE},
]
CHAT_STREAM = [f"data: {json.dumps(chunk)}\n\n" for chunk in CHAT_CHUNKS] + ["data: [DONE]\n\n"]
MESSAGES = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "grüße"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 2, "output_tokens": 1},
}
MESSAGES_STREAM = [
    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
    for event in (
        {"type": "message_start", "message": {**MESSAGES, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "grü"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "ße"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    )
]


GEMINI_USAGE = {"promptTokenCount": 2, "candidatesTokenCount": 1, "totalTokenCount": 3}


def gemini(text: str, **more: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"index": 0, "content": content, **more}], "modelVersion": "m"}


GEMINI = {**gemini("grüße", finishReason="STOP"), "usageMetadata": GEMINI_USAGE}
GEMINI_STREAM = [
    f"data: {json.dumps(chunk)}\r\n\r\n"
    for chunk in (
        gemini("grü"),
        {**gemini("ße", finishReason="STOP"), "usageMetadata": GEMINI_USAGE},
    )
]


class Upstream:
    """A provider in a transport. `hang`: sends the frames and then nothing more."""

    def __init__(self, whole: Any, frames: list[str], status: int = 200) -> None:
        self.whole, self.frames, self.status = whole, frames, status
        self.requests: list[httpx.Request] = []
        self.headers: dict[str, str] = {}
        self.hang = False
        self.closed = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.status >= 400:
            error = {"error": {"message": "no k-secret", "code": "nope"}}
            return httpx.Response(self.status, headers=self.headers, json=error)
        if request.method == "GET":
            names = ("m1", "m2")
            both = {"data": [{"id": name} for name in names]}
            both["models"] = [{"name": f"models/{name}"} for name in names]
            return httpx.Response(200, json=both)
        if not self.streams:
            return httpx.Response(200, headers=self.headers, json=self.whole)
        kind = {"content-type": "text/event-stream"}
        return httpx.Response(200, headers={**kind, **self.headers}, content=self._stream())

    @property
    def body(self) -> Any:
        return json.loads(self.requests[-1].content)

    @property
    def streams(self) -> bool:
        asked = ":streamGenerateContent" in self.requests[-1].url.path
        return asked or self.body.get("stream", False)

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            for byte in "".join(self.frames).encode():
                yield bytes([byte])
            if self.hang:
                await asyncio.Event().wait()
        finally:
            self.closed.set()


KINDS: dict[str, tuple[type, Callable[[], Upstream], str]] = {
    "openai": (OpenAIConnector, lambda: Upstream(CHAT, CHAT_STREAM), "/v1/chat/completions"),
    "anthropic": (AnthropicBackend, lambda: Upstream(MESSAGES, MESSAGES_STREAM), "/v1/messages"),
    "gemini": (GeminiBackend, lambda: Upstream(GEMINI, GEMINI_STREAM), "/v1/models/m1:"),
}


def probe_of(kind: type, upstream: Upstream) -> BackendProbe:
    config = {"backends": {"b": {"api_key": "k-secret", "api_url": "http://up/v1"}}}
    client = build_backend_client(transport=httpx.MockTransport(upstream))
    return BackendProbe({"b": lambda _, app, service: kind(client, app, service)}, config)


async def ask(kind: type, upstream: Upstream, **options: Any) -> Answer:
    async with probe_of(kind, upstream) as probe:
        return await asyncio.wait_for(probe.ask("b", "Hello", **options), 5)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_each_base_class_answers(name: str, stream: bool) -> None:
    kind, make, path = KINDS[name]
    upstream = make()
    answer = await ask(kind, upstream, stream=stream, model="m1")
    assert answer.failure is None
    assert answer.text == "grüße"
    (request,) = [sent for sent in upstream.requests if sent.method == "POST"]
    assert request.url.path.startswith(path)
    assert request.headers["x-llmproxy-loop-guard"] == "1"
    keys = ("authorization", "x-api-key", "x-goog-api-key")
    assert "k-secret" in "".join(request.headers.get(key, "") for key in keys)
    assert name == "gemini" or upstream.body["model"] == "m1"
    assert upstream.streams == stream
    bodies = [json.loads(data) for data in answer.events[:-1]] if stream else [answer.body]
    assert [body["usage"]["total_tokens"] for body in bodies if body.get("usage")] == [3]


@pytest.mark.parametrize("name", KINDS)
async def test_a_stream_cut_by_the_upstream_does_not_end_well(name: str) -> None:
    kind, make, _ = KINDS[name]
    upstream = make()
    upstream.frames = upstream.frames[: {"openai": 2, "anthropic": 4, "gemini": 1}[name]]
    answer = await ask(kind, upstream, stream=True)
    assert "grü" in answer.text
    assert answer.failure is not None
    assert not answer.ended


@pytest.mark.parametrize("name", KINDS)
async def test_a_client_that_goes_closes_the_upstreams_reply(name: str) -> None:
    kind, make, _ = KINDS[name]
    upstream = make()
    upstream.frames, upstream.hang = upstream.frames[: 1 if name == "gemini" else 4], True
    async with probe_of(kind, upstream) as probe:
        answer, running = probe.start("b", "Hello", stream=True)
        await answer.changed()
        running.cancel()
        await asyncio.wait_for(upstream.closed.wait(), 0.05)
        await probe.bridge.idle()
    assert not answer.settled


STATUSES = {400: 400, 401: 401, 403: 401, 404: 404, 429: 429, 500: 500, 503: 503, 529: 529}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstreams_refusal_keeps_its_meaning(name: str, status: int, stream: bool) -> None:
    kind, make, _ = KINDS[name]
    upstream = make()
    upstream.status, upstream.headers = status, {"retry-after": "5"}
    answer = await ask(kind, upstream, stream=stream)
    assert answer.failure is not None
    assert answer.failure["status"] == STATUSES[status]
    assert answer.failure["message"] == "no ***"
    if status == 429:
        assert 4 <= answer.failure["retry_after"] <= 5


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
async def test_an_upstream_that_is_not_there_is_a_gateway_error(error: Exception) -> None:
    async def broken(request: httpx.Request) -> httpx.Response:
        raise error

    for stream in (False, True):
        upstream: Any = broken
        answer = await ask(OpenAIConnector, upstream, stream=stream)
        assert answer.failure is not None
        assert answer.failure["status"] in (502, 503)


@pytest.mark.parametrize("name", KINDS)
async def test_models_are_asked_for_once(name: str) -> None:
    kind, make, _ = KINDS[name]
    upstream = make()
    async with probe_of(kind, upstream) as probe:
        await probe.bridge.backends.acquire("b")
        assert (await probe.bridge.models())["b"] == ["m1", "m2"]
        assert (await probe.bridge.models())["b"] == ["m1", "m2"]
    assert len(upstream.requests) == 1


class SyncPayload(OpenAIConnector):
    def _prepare_payload(self, *args: Any, **kwargs: Any) -> Any:
        payload = super()._prepare_payload(*args, **kwargs)
        payload["added"] = True
        return payload


class AsyncPayload(OpenAIConnector):
    async def _prepare_payload(self, *args: Any, **kwargs: Any) -> Any:
        payload = await super()._prepare_payload(*args, **kwargs)
        payload["added"] = True
        return payload


class Keywords(OpenAIConnector):
    """The older form, as older connectors call it."""

    async def chat_completions(  # type: ignore[override]
        self, request_data: Any, processed_messages: list[Any], effective_model: str, **kwargs: Any
    ) -> Any:
        return await super().chat_completions(
            request_data=request_data.model_copy(update={"extra_body": {"added": True}}),
            processed_messages=processed_messages,
            effective_model=effective_model,
            **kwargs,
        )


class Positions(OpenAIConnector):
    async def chat_completions(  # type: ignore[override]
        self, request_data: Any, processed_messages: list[Any], effective_model: str, **kwargs: Any
    ) -> Any:
        changed = request_data.model_copy(update={"extra_body": {"added": True}})
        return await super().chat_completions(changed, processed_messages, effective_model)


@pytest.mark.parametrize("kind", [SyncPayload, AsyncPayload, Keywords, Positions])
@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_subclass_changes_reaches_the_upstream(kind: type, stream: bool) -> None:
    upstream = Upstream(CHAT, CHAT_STREAM)
    answer = await ask(kind, upstream, stream=stream)
    assert answer.text == "grüße"
    assert upstream.body["added"] is True


async def shout(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Reads and changes `chunk.content`, as the contract has it."""
    async for chunk in chunks:
        assert isinstance(chunk, ProcessedResponse)
        for choice in chunk.content["choices"]:
            if text := choice["delta"].get("content"):
                choice["delta"]["content"] = text.replace("ß", "SS")
        yield chunk


class OwnHandler(OpenAIConnector):
    async def _handle_streaming_response(self, *args: Any, **kwargs: Any) -> Any:
        handle = await super()._handle_streaming_response(*args, **kwargs)
        wrapped = shout(handle.iterator)
        return StreamingResponseHandle(wrapped, handle.cancel_callback, handle.headers)


class OwnEnvelope(OpenAIConnector):
    async def _handle_streaming_response(self, *args: Any, **kwargs: Any) -> Any:
        handle = await super()._handle_streaming_response(*args, **kwargs)
        return StreamingResponseEnvelope(shout(handle.iterator))


class OwnStream(OpenAIConnector):
    async def stream_completion(self, request: Any) -> AsyncIterator[Any]:
        async for chunk in shout(super().stream_completion(request)):
            yield chunk


def build_whole_frames(size: int) -> Upstream:
    """An upstream whose reads have so many bytes."""

    class Framed(Upstream):
        async def _stream(self) -> AsyncIterator[bytes]:
            whole = "".join(self.frames).encode()
            for at in range(0, len(whole), size):
                yield whole[at : at + size]

    return Framed(CHAT, CHAT_STREAM)


@pytest.mark.parametrize("kind", [OwnHandler, OwnEnvelope, OwnStream])
@pytest.mark.parametrize("size", [7, 100_000])
async def test_an_overridden_stream_is_the_one_that_is_used(kind: type, size: int) -> None:
    answer = await ask(kind, build_whole_frames(size), stream=True)
    assert answer.failure is None
    assert answer.text == "grüSSe"


class WrappedAnthropic(AnthropicBackend):
    async def _handle_streaming_response(self, *args: Any, **kwargs: Any) -> Any:
        handle = await super()._handle_streaming_response(*args, **kwargs)
        wrapped = shout(handle.iterator)
        return StreamingResponseHandle(wrapped, handle.cancel_callback, handle.headers)


async def test_a_wrapped_anthropic_stream_has_chat_chunks_in_it() -> None:
    answer = await ask(WrappedAnthropic, Upstream(MESSAGES, MESSAGES_STREAM), stream=True)
    assert answer.failure is None
    assert answer.text == "grüSSe"


@pytest.mark.parametrize("kind", [OpenAIConnector, OwnHandler, AnthropicBackend, WrappedAnthropic])
async def test_a_stream_that_is_cut_ends_with_an_error_wrapped_or_not(kind: type) -> None:
    chat = kind in (OpenAIConnector, OwnHandler)
    whole, stream = (CHAT, CHAT_STREAM[:2]) if chat else (MESSAGES, MESSAGES_STREAM[:-2])
    upstream = Upstream(whole, stream)
    answer = await ask(kind, upstream, stream=True)
    assert answer.failure is not None
    assert answer.failure["code"] == "stream_cut"


class OwnAnthropic(AnthropicBackend):
    def _prepare_anthropic_payload(self, *args: Any, **kwargs: Any) -> Any:
        payload = super()._prepare_anthropic_payload(*args, **kwargs)
        payload["system"] = "be brief"
        return payload

    def _get_headers(self, identity: Any = None) -> dict[str, str]:
        return {**super()._get_headers(identity), "x-own": "1"}


@pytest.mark.parametrize("stream", [False, True])
async def test_an_anthropic_subclass_is_asked_too(stream: bool) -> None:
    upstream = Upstream(MESSAGES, MESSAGES_STREAM)
    answer = await ask(OwnAnthropic, upstream, stream=stream)
    assert answer.text == "grüße"
    assert upstream.body["system"] == "be brief"
    assert upstream.body["max_tokens"] > 0
    assert upstream.requests[0].headers["x-own"] == "1"


async def test_a_turn_over_the_responses_api_comes_back_as_a_completion() -> None:
    item = {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "hi", "annotations": []}],
    }
    reply = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "completed",
        "output": [item],
        "usage": {"input_tokens": 2, "output_tokens": 1, "total_tokens": 3},
    }

    class OverResponses(OpenAIConnector):
        async def chat_completions(self, request: Any) -> Any:  # type: ignore[override]
            return await self.responses(request)

    OverResponses.chat_completions.__annotations__["request"] = "ConnectorChatCompletionsRequest"
    upstream = Upstream(reply, [])
    answer = await ask(OverResponses, upstream)
    assert answer.text == "hi"
    assert upstream.requests[-1].url.path == "/v1/responses"
    assert upstream.body["input"]
