"""An httpx client whose traffic can be captured, for plugins that bring their own HTTP."""

from __future__ import annotations

from typing import Any

import httpx

from llm_proxy.backends.plugin_api import (
    PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION,
    PLUGIN_HTTP_CAPTURED_EXTENSION,
    PluginHttpCaptureContext,
)
from llm_proxy.backends.runtime.capture.wire_capture import (
    capture_http_inbound_response,
    capture_http_outbound_request,
)
from llm_proxy.backends.runtime.http_transport import direct_transport

__all__ = [
    "PLUGIN_HTTP_CAPTURED_EXTENSION",
    "PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION",
    "CaptureAwareAsyncClient",
    "PluginHttpCaptureContext",
    "build_capture_aware_async_client",
    "capture_http_inbound_response",
    "capture_http_outbound_request",
    "capture_http_response",
]

_ANOTHER_TRANSPORT = frozenset({"transport", "mounts", "proxy", "proxies", "http1", "app"})
_TOLD_TO_OURS = ("verify", "cert", "trust_env", "http2", "limits")


class CaptureAwareAsyncClient(httpx.AsyncClient):
    """Captures each request, and each reply that is not streamed, on behalf of its context.

    The context of a request is in its extensions, or else the client's own. Without one this is a
    plain client.
    """

    def __init__(
        self, *, capture_context: PluginHttpCaptureContext | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**{**_network_of(kwargs), **kwargs})
        self._capture_context = capture_context

    async def send(self, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        own = request.extensions.get(PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION)
        context = own if isinstance(own, PluginHttpCaptureContext) else self._capture_context
        if context is None:
            return await super().send(request, **kwargs)
        request.extensions.setdefault(PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION, context)
        await capture_http_outbound_request(request=request, **_told(context))
        response = await super().send(request, **kwargs)
        response.extensions.setdefault(PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION, context)
        if not kwargs.get("stream"):
            await _capture_once(response, context)
        return response


def _network_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Our own transport, where it does what `settings` ask for."""
    if settings.keys() & _ANOTHER_TRANSPORT:
        return {}
    told = {name: settings[name] for name in _TOLD_TO_OURS if name in settings}
    return {"transport": direct_transport(**told)}


def build_capture_aware_async_client(
    *, capture_context: PluginHttpCaptureContext | None = None, **client_kwargs: Any
) -> httpx.AsyncClient:
    return CaptureAwareAsyncClient(capture_context=capture_context, **client_kwargs)


async def capture_http_response(
    response: httpx.Response, *, capture_context: PluginHttpCaptureContext | None = None
) -> None:
    """For a streamed reply, once its body has been read to the end.

    Does nothing twice, and nothing without context.
    """
    if response.extensions.get(PLUGIN_HTTP_CAPTURED_EXTENSION):
        return
    context = _context_of(response, capture_context)
    if context is not None:
        await _capture_once(response, context)


def _context_of(
    response: httpx.Response, argument: PluginHttpCaptureContext | None
) -> PluginHttpCaptureContext | None:
    request = response._request
    for extensions in (response.extensions, request.extensions if request else {}):
        context = extensions.get(PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION)
        if isinstance(context, PluginHttpCaptureContext):
            return context
    return argument


async def _capture_once(response: httpx.Response, context: PluginHttpCaptureContext) -> None:
    await capture_http_inbound_response(response=response, **_told(context))
    response.extensions[PLUGIN_HTTP_CAPTURED_EXTENSION] = True


def _told(context: PluginHttpCaptureContext) -> dict[str, Any]:
    return {
        "backend": context.backend,
        "model": context.model,
        "key_name": context.key_name,
        "context": context.context,
    }
