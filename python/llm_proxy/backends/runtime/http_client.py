"""The httpx client that backends are handed."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import httpx

from llm_proxy._core import ProxyRules, SseReader
from llm_proxy.backends.runtime.http_proxies import DIRECT
from llm_proxy.backends.runtime.http_transport import direct_transport

_TIMEOUT = httpx.Timeout(connect=10.0, read=60.0, write=60.0, pool=60.0)
MAX_REPLY_BYTES = 64 * 1024 * 1024  # of a reply that is read whole, decoded
# What a thousandfold compressed reply is decoded by; one of them gives a megabyte at most.
_CODED_PIECE = 1024
# No br and no zstd: a piece of theirs can give any amount at once.
_CODINGS = "gzip, deflate"
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
        if rest := reader.rest_whole():
            yield rest

    async def aclose(self) -> None:
        await self._stream.aclose()


class _SmallPieces(httpx.AsyncByteStream):
    """A compressed body in pieces small enough to be decoded one by one."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._stream:
            for at in range(0, len(chunk), _CODED_PIECE):
                yield chunk[at : at + _CODED_PIECE]

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _read_bounded(response: httpx.Response) -> bytes:
    """What `aread` gives, up to MAX_REPLY_BYTES."""
    if not hasattr(response, "_content"):
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > MAX_REPLY_BYTES:
                raise httpx.ReadError(
                    f"the reply is larger than {MAX_REPLY_BYTES >> 20} MiB",
                    request=response.request,
                )
            parts.append(part)
        response._content = b"".join(parts)
    return response._content


def _refuse_unasked_coding(response: httpx.Response) -> None:
    asked = response.request.headers.get("accept-encoding", "").lower()
    for coding in response.headers.get("content-encoding", "").lower().split(","):
        coding = coding.strip()
        if coding in ("br", "zstd") and coding not in asked:
            raise httpx.DecodingError(
                f"the reply is coded with {coding}, which was not asked for",
                request=response.request,
            )


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
    """Reads event streams at event boundaries, so that `aiter_text` gives whole events.

    A reply that is read whole is an httpx.ReadError beyond MAX_REPLY_BYTES.
    """

    async def send(
        self, request: httpx.Request, *args: Any, stream: bool = False, **kwargs: Any
    ) -> httpx.Response:
        response = await super().send(request, *args, stream=True, **kwargs)
        try:
            self._bound(response)
            if not stream:
                await response.aread()
        except BaseException:
            await response.aclose()
            raise
        return response

    @staticmethod
    def _bound(response: httpx.Response) -> None:
        _refuse_unasked_coding(response)
        response.aread = functools.partial(  # type: ignore[method-assign]
            _read_bounded, response
        )
        if not isinstance(response.stream, httpx.AsyncByteStream):
            return
        if "content-encoding" in response.headers:
            response.stream = _SmallPieces(response.stream)
        elif response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _WholeEvents(response.stream)
            response.aiter_lines = functools.partial(  # type: ignore[method-assign]
                _lines_of, response
            )


def build_backend_client(*, proxies: ProxyRules = DIRECT, **overrides: Any) -> httpx.AsyncClient:
    """HTTP/2 where the `h2` package is there; `proxies` and no variable says how to get out."""
    http2 = importlib.util.find_spec("h2") is not None
    settings: dict[str, Any] = {
        "timeout": _TIMEOUT,
        "trust_env": False,
        "headers": {"accept-encoding": _CODINGS},
    }
    if "transport" not in overrides:
        settings["transport"] = direct_transport(
            limits=_LIMITS, http2=http2, trust_env=False, proxies=proxies
        )
    return BackendHttpClient(**{**settings, **overrides})
