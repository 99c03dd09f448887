"""A wrapper that captures what connectors send through a client they share, streams as well."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx

from llm_proxy.backends.runtime.capture import wire_capture as backend_capture
from llm_proxy.contracts.requests import ConnectorRequestContext

# What of a streamed reply is kept for the capture: past it a capture says how much is missing.
STREAM_LIMIT = 1 << 20


@dataclass(frozen=True)
class HttpxBoundaryCaptureContext:
    """On whose behalf one exchange is captured."""

    backend: str
    model: str
    key_name: str | None = None
    context: ConnectorRequestContext | None = None


class CaptureAwareAsyncClient:
    """`send` of the client inside, its request and its reply captured. Owns nothing."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def send(
        self,
        request: httpx.Request,
        *,
        stream: bool = False,
        capture: HttpxBoundaryCaptureContext | None = None,
        **kwargs: Any,
    ) -> httpx.Response:
        """A streamed reply is captured when its body has ended, or was given up."""
        if capture is None:
            return await self._client.send(request, stream=stream, **kwargs)
        told: dict[str, Any] = {
            "backend": capture.backend,
            "model": capture.model,
            "key_name": capture.key_name,
            "context": capture.context,
        }
        await backend_capture.capture_http_outbound_request(request=request, **told)
        response = await self._client.send(request, stream=stream, **kwargs)
        if not stream:
            await backend_capture.capture_http_inbound_response(response=response, **told)
        elif backend_capture.is_wanted(capture.context):
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Tee(response, response.stream, told)
        return response


class _Tee(httpx.AsyncByteStream):
    """The bytes of a body as they come, kept up to a limit for one capture at its end."""

    def __init__(
        self, response: httpx.Response, inner: httpx.AsyncByteStream, told: dict[str, Any]
    ) -> None:
        self._response = response
        self._inner = inner
        self._told = told
        self._kept = bytearray()
        self._done = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._inner:
            self._kept += part[: STREAM_LIMIT - len(self._kept)]
            yield part

    async def aclose(self) -> None:
        await self._inner.aclose()
        if self._done:
            return
        self._done = True
        await backend_capture.capture_http_inbound_response(
            response=self._response, body=bytes(self._kept), **self._told
        )
