"""The httpx client that backends are handed."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import httpx

from llm_proxy.contracts.sse import SseReader

_TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=60.0, pool=60.0)
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)


class _WholeEvents(httpx.AsyncByteStream):
    """A body that arrives one server-sent event at a time, however the network cut it."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = SseReader()
        async for chunk in self._stream:
            for frame in reader.frames(chunk):
                yield frame
        if rest := reader.rest():
            yield rest

    async def aclose(self) -> None:
        await self._stream.aclose()


class BackendHttpClient(httpx.AsyncClient):
    """Reads event streams at event boundaries, so that `aiter_text` gives whole events."""

    async def send(self, request: httpx.Request, *args: Any, **kwargs: Any) -> httpx.Response:
        response = await super().send(request, *args, **kwargs)
        if (
            kwargs.get("stream")
            and response.headers.get("content-type", "").startswith("text/event-stream")
            and "content-encoding" not in response.headers
            and isinstance(response.stream, httpx.AsyncByteStream)
        ):
            response.stream = _WholeEvents(response.stream)
        return response


def build_backend_client(**overrides: Any) -> httpx.AsyncClient:
    """HTTP/2 where the `h2` package is there; nothing of the environment's proxy settings."""
    settings: dict[str, Any] = {
        "timeout": _TIMEOUT,
        "limits": _LIMITS,
        "http2": importlib.util.find_spec("h2") is not None,
        "trust_env": False,
    }
    return BackendHttpClient(**{**settings, **overrides})
