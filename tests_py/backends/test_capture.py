"""What backend plugins send and get, in the capture: whole, attributed, and without credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_proxy.backends.app_config import LoggingConfig
from llm_proxy.backends.plugin_api import PluginHttpCaptureContext
from llm_proxy.backends.runtime.capture.boundary_client import (
    STREAM_LIMIT,
    CaptureAwareAsyncClient,
    HttpxBoundaryCaptureContext,
)
from llm_proxy.backends.runtime.capture.capture_file import CaptureFile, open_capture
from llm_proxy.backends.runtime.capture.plugin_client import (
    build_capture_aware_async_client,
    capture_http_response,
)
from llm_proxy.contracts.requests import ConnectorRequestContext

CONTEXT = ConnectorRequestContext(
    "request-1", "session-1", "127.0.0.1", {"wire_capture_account_id": "account-9"}
)
SECRETS = ("sk-very-secret", "refresh-me", "query-key")


def upstream(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/token":
        return httpx.Response(200, json={"access_token": "sk-very-secret", "expires_in": 60})
    return httpx.Response(
        429, headers={"retry-after": "7", "set-cookie": "sk-very-secret"}, content=b"data: a\n\n"
    )


class Capture:
    def __init__(self, path: Path, **settings: Any) -> None:
        made = open_capture(LoggingConfig(capture_file=str(path), **settings))
        assert made is not None
        self.file: CaptureFile = made
        self.path = path

    def lines(self) -> list[dict[str, Any]]:
        self.file.close()
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@pytest.fixture
def capture(tmp_path: Path) -> Capture:
    return Capture(tmp_path / "capture.jsonl")


def asked_for(context: ConnectorRequestContext | None = CONTEXT) -> PluginHttpCaptureContext:
    return PluginHttpCaptureContext("mine", "model-1", key_name="MINE_API_KEY", context=context)


async def test_both_sides_of_an_exchange_are_captured_with_who_it_was_for(capture: Capture) -> None:
    transport = httpx.MockTransport(upstream)
    async with build_capture_aware_async_client(
        capture_context=asked_for(), transport=transport
    ) as http:
        await http.post(
            "http://upstream.test/v1/chat?key=query-key&x=1",
            headers={"authorization": "Bearer sk-very-secret"},
            json={"model": "model-1"},
        )
    out, back = capture.lines()
    assert (out["direction"], back["direction"]) == ("outbound", "inbound")
    for line in (out, back):
        assert (line["backend"], line["model"], line["key_name"]) == (
            "mine",
            "model-1",
            "MINE_API_KEY",
        )
        assert (line["request_id"], line["session_id"]) == ("request-1", "session-1")
        assert line["metadata"]["account_id"] == "account-9"
        assert line["metadata"]["transport"] == "http"
    assert out["payload"].startswith("POST /v1/chat?key=***&x=1 HTTP/1.1\r\n")
    assert out["payload"].endswith('\r\n\r\n{"model":"model-1"}')
    assert back["payload"].startswith("HTTP/1.1 429 Too Many Requests\r\n")
    assert back["payload"].endswith("\r\n\r\ndata: a\n\n")
    assert back["metadata"]["retry_after_seconds"] == 7
    assert back["metadata"]["protocol_event"] == "response"


async def test_no_credential_reaches_the_capture(capture: Capture) -> None:
    transport = httpx.MockTransport(upstream)
    async with build_capture_aware_async_client(
        capture_context=asked_for(), transport=transport
    ) as http:
        await http.post(
            "http://upstream.test/token",
            data={"grant_type": "refresh_token", "refresh_token": "refresh-me"},
            headers={"x-api-key": "sk-very-secret", "cookie": "sk-very-secret"},
        )
        await http.get("http://upstream.test/other?key=query-key")
    capture.file.close()
    text = capture.path.read_text()
    assert text.count('"direction"') == 4
    assert [secret for secret in SECRETS if secret in text] == []
    assert '\\"access_token\\":\\"***\\"' in text.replace('": "', '":"')
    assert capture.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "context", [None, ConnectorRequestContext(None, "s", None), ConnectorRequestContext("", "", "")]
)
async def test_an_exchange_nobody_asked_for_is_not_captured(
    capture: Capture, context: ConnectorRequestContext | None
) -> None:
    async with build_capture_aware_async_client(
        capture_context=asked_for(context), transport=httpx.MockTransport(upstream)
    ) as http:
        await http.get("http://upstream.test/")
    assert capture.lines() == []


async def test_a_streamed_reply_is_captured_once_when_the_plugin_says_it_was_read(
    capture: Capture,
) -> None:
    async with (
        build_capture_aware_async_client(
            capture_context=asked_for(), transport=httpx.MockTransport(upstream)
        ) as http,
        http.stream("GET", "http://upstream.test/") as response,
    ):
        await response.aread()
        await capture_http_response(response)
        await capture_http_response(response)
    assert [line["direction"] for line in capture.lines()] == ["outbound", "inbound"]


@pytest.mark.parametrize("size", [10, STREAM_LIMIT + 10])
async def test_the_shared_client_captures_a_stream_as_it_is_read(
    capture: Capture, size: int
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x" * size

    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body()))
    told = HttpxBoundaryCaptureContext("mine", "model-1", None, CONTEXT)
    async with httpx.AsyncClient(transport=transport) as inner:
        http = CaptureAwareAsyncClient(inner)
        request = http.build_request("GET", "http://upstream.test/")
        response = await http.send(request, stream=True, capture=told)
        read = b"".join([part async for part in response.aiter_raw()])
        await response.aclose()
        await response.aclose()
    assert len(read) == size
    _, back = capture.lines()
    assert len(back["payload"].partition("\r\n\r\n")[2]) == min(size, STREAM_LIMIT)


async def test_a_large_message_is_cut_and_a_large_file_is_rotated(tmp_path: Path) -> None:
    capture = Capture(
        tmp_path / "capture.jsonl",
        capture_truncate_bytes=50,
        capture_max_bytes=2000,
        capture_max_files=2,
    )
    async with build_capture_aware_async_client(
        capture_context=asked_for(), transport=httpx.MockTransport(upstream)
    ) as http:
        for _ in range(20):
            await http.post("http://upstream.test/", content=b"\xff" * 500)
    lines = capture.lines()
    assert lines[-1]["truncated_bytes"] > 0
    kept = sorted(path.name for path in tmp_path.iterdir())  # noqa: ASYNC240
    assert kept == ["capture.jsonl", "capture.jsonl.1", "capture.jsonl.2"]
