"""What every httpx connector does with its upstream: send, read a stream, understand a refusal."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from typing import Any

import httpx

from llm_proxy.contracts.exceptions import (
    APITimeoutError,
    AuthenticationError,
    BackendError,
    InvalidRequestError,
    LLMProxyError,
    RateLimitExceededError,
    ServiceUnavailableError,
)
from llm_proxy.contracts.responses import StreamingResponseHandle
from llm_proxy.plugins.backend_failure import seconds

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


async def open_stream(
    client: httpx.AsyncClient,
    url: str,
    payload: Any,
    headers: Mapping[str, str],
    who: str,
    translate: Callable[[bytes], Any],
    on_open: Callable[[httpx.Response], None],
) -> StreamingResponseHandle:
    """A stream whose head has arrived and is no error; its body follows as it comes."""
    request = client.build_request("POST", url, json=payload, headers=dict(headers))
    try:
        response = await client.send(request, stream=True)
    except httpx.HTTPError as error:
        raise unreachable(error, who) from error
    if response.status_code >= 400:
        raise await _refused(response, who)
    on_open(response)

    async def chunks() -> AsyncIterator[Any]:
        try:
            async for piece in response.aiter_bytes():
                yield translate(piece)
        except httpx.HTTPError as error:
            raise unreachable(error, who) from error
        finally:
            await response.aclose()

    return StreamingResponseHandle(chunks(), response.aclose, dict(response.headers))
