"""The httpx client that backends are handed."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import httpx

from llm_proxy.backends.runtime.http_transport import direct_transport
from llm_proxy.contracts.sse import SseReader

_TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=60.0, pool=60.0)
_LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=20)


class _WholeEvents(httpx.AsyncByteStream):
    """A body that arrives in whole server-sent events, however the network cut it."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader = SseReader()
        async for chunk in self._stream:
            if whole := reader.whole(chunk):
                yield whole
        if rest := reader.rest():
            yield rest

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _lines_of(response: httpx.Response) -> AsyncIterator[str]:
    """What `aiter_lines` gives, without the four layers that look for cut lines and characters."""
    if hasattr(response, "_content") or response.charset_encoding not in (None, "utf-8"):
        async for line in httpx.Response.aiter_lines(response):
            yield line
        return
    async for whole_events in response.aiter_raw():
        for line in whole_events.decode("utf-8", "replace").splitlines():
            yield line


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
            response.aiter_lines = functools.partial(  # type: ignore[method-assign]
                _lines_of, response
            )
        return response


def build_backend_client(**overrides: Any) -> httpx.AsyncClient:
    """HTTP/2 where the `h2` package is there; nothing of the environment's proxy settings."""
    http2 = importlib.util.find_spec("h2") is not None
    settings: dict[str, Any] = {"timeout": _TIMEOUT, "trust_env": False}
    if "transport" not in overrides:
        settings["transport"] = direct_transport(limits=_LIMITS, http2=http2, trust_env=False)
    return BackendHttpClient(**{**settings, **overrides})
