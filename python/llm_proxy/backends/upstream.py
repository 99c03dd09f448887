"""What every httpx connector does with its upstream: send, read a stream, understand a refusal."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

import httpx

from llm_proxy._core import SseReader
from llm_proxy.contracts.exceptions import (
    APITimeoutError,
    AuthenticationError,
    BackendError,
    InvalidRequestError,
    LLMProxyError,
    RateLimitExceededError,
    ServiceUnavailableError,
)
from llm_proxy.contracts.processors import ProcessedResponse
from llm_proxy.contracts.responses import StreamingResponseHandle

if TYPE_CHECKING:
    from llm_proxy.backends.translation import TranslationService

_MAX_ERROR_BYTES = 64 * 1024


class Payload(dict[str, Any]):
    """A request body that may be awaited: its maker is overridden both with and without `async`."""

    def __await__(self) -> Generator[Any, None, Payload]:
        return self
        yield


async def awaited(value: Any) -> Any:
    """`value`, or what it gives when it is awaited."""
    return await value if isinstance(value, Awaitable) else value


def refusal(status: int, headers: Mapping[str, str], body: Any, who: str) -> LLMProxyError:
    """The exception for an upstream's error reply."""
    error = body.get("error") if isinstance(body, Mapping) else None
    told: Mapping[str, Any] = error if isinstance(error, Mapping) else {"message": error or body}
    message = str(told.get("message") or f"{who} answered {status}.")
    code = told.get("code") or told.get("type")
    more: dict[str, Any] = {"code": None if code is None else str(code)}
    if status in (401, 403):
        return AuthenticationError(message, **more)
    if status == 429:
        wait = seconds(headers.get("retry-after"))
        reset_at = None if wait is None else time.time() + wait
        return RateLimitExceededError(message, reset_at=reset_at, backend_name=who, **more)
    if status < 500:
        return InvalidRequestError(message, status_code=status, **more)
    return BackendError(message, who, status_code=status, **more)


async def _refused(response: httpx.Response, who: str) -> LLMProxyError:
    raw = b""
    async for part in response.aiter_bytes():
        raw += part
        if len(raw) > _MAX_ERROR_BYTES:
            break
    await response.aclose()
    try:
        body: Any = httpx.Response(200, content=raw).json()
    except ValueError:
        body = raw[:_MAX_ERROR_BYTES].decode("utf-8", "replace")
    return refusal(response.status_code, response.headers, body, who)


def unreachable(error: httpx.HTTPError, who: str) -> LLMProxyError:
    if isinstance(error, httpx.TimeoutException):
        return APITimeoutError(f"{who} did not answer in time.")
    return ServiceUnavailableError(f"Could not connect to {who}: {error}")


async def post(
    client: httpx.AsyncClient, url: str, payload: Any, headers: Mapping[str, str], who: str
) -> tuple[Any, httpx.Response]:
    """The JSON of a whole reply. Raises what `refusal` and `unreachable` make of anything else."""
    try:
        response = await client.post(url, json=payload, headers=dict(headers))
    except httpx.HTTPError as error:
        raise unreachable(error, who) from error
    if response.status_code >= 400:
        raise await _refused(response, who)
    try:
        return response.json(), response
    except ValueError as error:
        raise BackendError(f"{who} did not answer with JSON.", who) from error


Chunks = Callable[[AsyncIterator[bytes], str], AsyncIterator[ProcessedResponse]]


async def open_stream(
    client: httpx.AsyncClient,
    url: str,
    payload: Any,
    headers: Mapping[str, str],
    who: str,
    chunks_of: Chunks,
    on_open: Callable[[httpx.Response], None],
) -> StreamingResponseHandle:
    """A stream whose head has arrived and is no error; its body follows as it comes.

    The iterator yields `ProcessedResponse`, whose content is the dict of an OpenAI chunk. It raises
    BackendError where the stream ends before its end.
    """
    request = client.build_request("POST", url, json=payload, headers=dict(headers))
    try:
        response = await client.send(request, stream=True)
    except httpx.HTTPError as error:
        raise unreachable(error, who) from error
    if response.status_code >= 400:
        raise await _refused(response, who)
    on_open(response)

    async def chunks() -> AsyncIterator[ProcessedResponse]:
        try:
            async for chunk in chunks_of(response.aiter_bytes(), who):
                yield chunk
        except httpx.HTTPError as error:
            raise unreachable(error, who) from error
        finally:
            await response.aclose()

    return StreamingResponseHandle(chunks(), response.aclose, dict(response.headers))


async def chat_chunks(body: AsyncIterator[bytes], who: str) -> AsyncIterator[ProcessedResponse]:
    """The chunks of a stream that is OpenAI chat already."""
    reader, over, finished = SseReader(), False, False
    async for piece in _with_rest(body, reader):
        for frame, data in piece:
            if over:
                continue
            if data.strip() == "[DONE]":
                over = True  # the body is read to its end, so that the connection can be kept
                continue
            chunk = RelayedChunk(frame, _object(data, who))
            finished = finished or chunk.finishes
            yield chunk
    if not (over or finished):
        raise cut(who)


def translated_chunks(service: TranslationService, source: str) -> Chunks:
    """The chunks of a stream of another format."""

    async def chunks(body: AsyncIterator[bytes], who: str) -> AsyncIterator[ProcessedResponse]:
        finished = False
        async for piece in body:
            chunk = service.to_domain_stream_chunk(piece, source)
            told = chunk if isinstance(chunk, dict) else chunk.model_dump()
            if told["choices"] or told.get("usage"):
                finished = finished or _finishes(told)
                yield ProcessedResponse(told, usage=told.get("usage"))
        for told in service.end_of_stream(source):
            finished = finished or _finishes(told)
            yield ProcessedResponse(told, usage=told.get("usage"))
        if not finished:
            raise cut(who)

    return chunks


class RelayedChunk(ProcessedResponse):
    """A chunk as the upstream wrote it: nobody who has not looked at it can have changed it."""

    def __init__(self, frame: bytes, body: dict[str, Any]) -> None:
        self.frame = frame
        self.body = body
        self.untouched = True
        self.usage = body.get("usage")
        self.metadata = {}

    @property
    def finishes(self) -> bool:
        return _finishes(self.body) or "error" in self.body

    @property
    def content(self) -> Any:
        self.untouched = False
        return self.body

    @content.setter
    def content(self, value: Any) -> None:
        self.untouched = False
        self.body = value


async def _with_rest(
    body: AsyncIterator[bytes], reader: SseReader
) -> AsyncIterator[list[tuple[bytes, str]]]:
    async for piece in body:
        yield reader.frames(piece)
    yield reader.rest_frames()


def _object(data: str, who: str) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise BackendError(f"The stream of {who} holds what is no chunk.", code="garbled_reply")
    return parsed


def _finishes(chunk: Mapping[str, Any]) -> bool:
    choices = chunk.get("choices")
    return isinstance(choices, list) and any(
        isinstance(choice, Mapping) and choice.get("finish_reason") for choice in choices
    )


def cut(who: str) -> BackendError:
    return BackendError(f"The stream of {who} ended before its end.", code="stream_cut")


def seconds(value: Any) -> float | None:
    """A waiting time as a number, never below 0; None for what is no number."""
    try:
        return None if value is None else max(0.0, float(value))
    except (TypeError, ValueError):
        return None
