"""A proxy that is told to stop lets requests finish for a while; then they end with an error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import pytest

from e2e.answers import (
    TEXT,
    Answer,
    chat_stream,
    gemini_stream,
    messages_stream,
    responses_stream,
)
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Reply, Stall, Upstream, stream

STREAMS: dict[str, Callable[[Answer], Iterable[bytes]]] = {
    "openai": chat_stream,
    "openai-responses": responses_stream,
    "anthropic": messages_stream,
    "gemini": gemini_stream,
}
CHAT = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hello"}]}
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", CHAT),
    "openai-responses": ("/v1/responses", {"model": "m", "stream": True, "input": "Hello"}),
    "anthropic": ("/v1/messages", {**CHAT, "max_tokens": 100}),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    ),
}


def stalling(backend: str) -> Reply:
    """An answer that has begun and never ends."""
    events = list(STREAMS[backend](TEXT))
    return stream([*events[: max(2, len(events) // 2)], Stall()])


async def read_until_it_ends(reply: httpx.Response, begun: asyncio.Event) -> tuple[bytes, bool]:
    """All bytes, and whether the body ended in order. `begun`: some have come."""
    got = b""
    try:
        async for part in reply.aiter_raw():
            got += part
            begun.set()
    except httpx.RemoteProtocolError:
        return got, False
    return got, True


async def cut(proxy: Proxy, client: str) -> tuple[str, bool]:
    """The text of a stream that the end of the proxy cuts, and whether it ended in order."""
    path, body = ASKS[client]
    async with (
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
        http.stream("POST", path, json=body) as reply,
    ):
        assert reply.status_code == 200
        begun = asyncio.Event()
        reading = asyncio.create_task(read_until_it_ends(reply, begun))
        await asyncio.wait_for(begun.wait(), 20)
        assert proxy.server is not None
        await proxy.server.stop()
        got, in_order = await asyncio.wait_for(reading, 20)
    return got.decode(), in_order


def last_event(text: str) -> tuple[str, Any]:
    """The name and the data of the last event."""
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if "data:" in block]
    lines = dict(line.split(": ", 1) for line in blocks[-1].splitlines() if line)
    return lines.get("event", ""), json.loads(lines["data"])


@pytest.mark.parametrize("backend", STREAMS)
@pytest.mark.parametrize("client", ASKS)
async def test_a_stream_that_a_stop_cuts_ends_with_its_formats_error(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(lambda _: stalling(backend)) as upstream,
        start_proxy(upstream, backend, LLM_PROXY_TIMEOUT_DRAIN="0.2") as proxy,
    ):
        text, in_order = await cut(proxy, client)
    name, data = last_event(text)
    assert "stopping" in json.dumps(data)
    if client == "openai":
        assert "[DONE]" not in text
        assert data["error"]["message"]
    elif client == "openai-responses":
        assert name in ("error", "response.failed")
        assert data["type"] == name
    elif client == "anthropic":
        assert name == "error"
        assert data["type"] == "error"
    else:
        assert data["error"]["code"] == 503
    assert not in_order, "no client may take the cut for an end"


@pytest.mark.parametrize("client", ASKS)
async def test_a_request_without_an_answer_yet_gets_a_whole_error(
    client: str, start_proxy: StartProxy
) -> None:
    path, body = ASKS[client]
    async with (
        Upstream(lambda _: Reply(silent=True)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_TIMEOUT_DRAIN="0.2") as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
    ):
        asking = asyncio.create_task(http.post(path, json=body))
        await upstream.request(0)
        assert proxy.server is not None
        await proxy.server.stop()
        reply = await asking
    assert reply.status_code == 503
    assert "stopping" in reply.text


async def test_a_client_that_does_not_read_does_not_hold_up_the_end(
    start_proxy: StartProxy,
) -> None:
    """What waits in the proxy for such a client is given up soon after the drain."""
    delta = {"index": 0, "delta": {"content": "x" * 60_000}, "finish_reason": None}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    event = f"data: {json.dumps({**chunk, 'choices': [delta]})}\n\n".encode()
    events = [event] * 400 + [Stall()]
    async with (
        Upstream(lambda _: stream(events)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_TIMEOUT_DRAIN="0.2") as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port, limit=1024)
        body = json.dumps(CHAT).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 200")
        assert proxy.server is not None
        await asyncio.wait_for(proxy.server.stop(), 20)
        writer.close()


def test_the_drain_takes_ten_seconds_unless_told_otherwise() -> None:
    from llm_proxy.config.load import Sources, load

    assert load(Sources()).seconds("timeouts.drain") == 10
