"""Hands the HTTP traffic of plugins to the wire capture, when one is running."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Protocol

from llm_proxy.contracts.requests import (
    WIRE_CAPTURE_ACCOUNT_ID_KEY,
    WIRE_CAPTURE_IS_RETRY_KEY,
    WIRE_CAPTURE_RETRY_ATTEMPT_KEY,
    ConnectorRequestContext,
)

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

# Header values that never reach a capture.
_SECRET_HEADER = re.compile(r"authorization|api-?key|token|cookie|secret|credential", re.IGNORECASE)
_SECRET_QUERY = re.compile(r"([?&](?:key|api_key|access_token|token)=)[^&\s]*", re.IGNORECASE)
_SECRET_NAMES = rb"access_token|refresh_token|id_token|client_secret|api_key|apiKey|password"
_SECRET_MEMBER = re.compile(rb'("(?:' + _SECRET_NAMES + rb')"\s*:\s*")[^"]*')
_SECRET_FIELD = re.compile(rb"((?:^|&)(?:" + _SECRET_NAMES + rb"|code|code_verifier)=)[^&\s]*")
_HIDDEN = "***"


class IWireCapture(Protocol):
    """Receives one side of one HTTP exchange as the bytes that were on the wire, credentials
    hidden."""

    def enabled(self) -> bool: ...

    async def capture_boundary(
        self,
        *,
        direction: str,
        payload: bytes,
        backend: str,
        model: str,
        key_name: str | None,
        session_id: str | None,
        request_id: str,
        metadata: dict[str, Any],
    ) -> None: ...


class _Sink:
    capture: IWireCapture | None = None


def set_wire_capture(capture: IWireCapture | None) -> None:
    """The capture of this process; None: plugin traffic is not captured."""
    _Sink.capture = capture


async def capture_http_outbound_request(
    *,
    request: httpx.Request,
    backend: str,
    model: str,
    key_name: str | None = None,
    context: ConnectorRequestContext | None = None,
) -> None:
    if not is_wanted(context):
        return
    try:
        target = _hidden_query(request.url.raw_path.decode("ascii", "replace"))
        head = f"{request.method} {target} HTTP/1.1"
        payload = _http_text(head, request.headers.multi_items(), await request.aread())
        metadata = {"protocol_event": "request", **_request_facts(request)}
        await _hand_over("outbound", payload, backend, model, key_name, context, metadata)
    except Exception as error:
        logger.debug("capturing a plugin's request failed: %r", error)


async def capture_http_inbound_response(
    *,
    response: httpx.Response,
    backend: str,
    model: str,
    key_name: str | None = None,
    context: ConnectorRequestContext | None = None,
    body: bytes | None = None,
) -> None:
    """`body`: what was read of a reply whose content is not kept, as of a stream."""
    if not is_wanted(context):
        return
    try:
        head = f"HTTP/1.1 {response.status_code} {response.reason_phrase}"
        payload = _http_text(head, response.headers.multi_items(), _content(response, body))
        metadata = {
            "protocol_event": "response",
            **_request_facts(response.request),
            "status_code": response.status_code,
            "http_status_code": response.status_code,
            "http_reason_phrase": response.reason_phrase,
            "http_version": response.http_version,
            "retry_after_seconds": _seconds(response.headers.get("retry-after")),
        }
        await _hand_over("inbound", payload, backend, model, key_name, context, metadata)
    except Exception as error:
        logger.debug("capturing a plugin's reply failed: %r", error)


def _content(response: httpx.Response, body: bytes | None) -> bytes:
    return response.content if body is None else body


def is_wanted(context: Any) -> bool:
    """Whether a capture is running and knows whose exchange this is."""
    return (
        _Sink.capture is not None
        and isinstance(context, ConnectorRequestContext)
        and bool(context.request_id)
        and _Sink.capture.enabled()
    )


async def _hand_over(
    direction: str,
    payload: bytes,
    backend: str,
    model: str,
    key_name: str | None,
    context: ConnectorRequestContext | None,
    metadata: dict[str, Any],
) -> None:
    if _Sink.capture is None or context is None or context.request_id is None:
        return
    told = {
        "account_id": context.extensions.get(WIRE_CAPTURE_ACCOUNT_ID_KEY),
        "retry_attempt": context.extensions.get(WIRE_CAPTURE_RETRY_ATTEMPT_KEY),
        "is_retry": context.extensions.get(WIRE_CAPTURE_IS_RETRY_KEY),
    }
    await _Sink.capture.capture_boundary(
        direction=direction,
        payload=payload,
        backend=backend,
        model=model,
        key_name=key_name,
        session_id=context.session_id,
        request_id=context.request_id,
        metadata={
            "transport": "http",
            **metadata,
            **{name: value for name, value in told.items() if value is not None},
        },
    )


def _request_facts(request: httpx.Request) -> dict[str, Any]:
    return {"http_method": request.method, "url": _hidden_query(str(request.url))}


def _http_text(head: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    lines = [head, *(f"{name}: {_shown(name, value)}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("utf-8", "replace") + _hidden_body(body)


def _shown(name: str, value: str) -> str:
    return _HIDDEN if _SECRET_HEADER.search(name) else value


def _hidden_query(url: str) -> str:
    return _SECRET_QUERY.sub(rf"\g<1>{_HIDDEN}", url)


def _hidden_body(body: bytes) -> bytes:
    """A body without the tokens of a login: forms and JSON of OAuth carry them."""
    body = _SECRET_MEMBER.sub(rb"\g<1>***", body)
    return _SECRET_FIELD.sub(rb"\g<1>***", body)


def _seconds(retry_after: str | None) -> float | None:
    try:
        return None if retry_after is None else float(retry_after)
    except ValueError:
        return None
