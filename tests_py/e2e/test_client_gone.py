"""A client that leaves takes its upstream with it, in every phase, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from e2e.answers import TEXT, chat_stream
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Reply, Stall, Step, Upstream, stream

EVENTS = list(chat_stream(TEXT))
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}


async def leave_after(
    proxy: Proxy,
    upstream: Upstream,
    streamed: bool,
    heard: bytes,
    asked_for: Mapping[str, object] = BODY,
) -> float:
    """Asks, waits for `heard`, resets the connection; seconds until the upstream was closed."""
    body = json.dumps({**asked_for, "stream": streamed}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (len(body), body)
    )
    asked = await upstream.request(len(upstream.requests))
    if heard:
        await asyncio.wait_for(reader.readuntil(heard), 10)
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    left = asyncio.get_running_loop().time()
    writer.transport.abort()
    await asyncio.wait_for(asked.gone.wait(), 10)
    return asked.gone_at - left


PHASES: dict[str, tuple[Callable[[], Reply], bool, bytes]] = {
    "before the head": (lambda: Reply(silent=True), False, b""),
    "before the body": (lambda: Reply(steps=(Stall(),), streamed=True), False, b""),
    "before the first event": (lambda: stream([EVENTS[0], Stall()]), True, b""),
    "in mid-stream": (lambda: stream([*EVENTS[:4], Stall()]), True, b"data: "),
}


@pytest.mark.parametrize("phase", PHASES)
async def test_the_upstream_is_closed_at_once(phase: str, start_proxy: StartProxy) -> None:
    make, streamed, heard = PHASES[phase]
    async with Upstream(lambda _: make()) as upstream, start_proxy(upstream, "openai") as proxy:
        took = sorted([await leave_after(proxy, upstream, streamed, heard) for _ in range(5)])
    assert took[2] <= 0.020, took


async def test_nothing_is_left_after_many_clients_have_left(start_proxy: StartProxy) -> None:
    steps: list[Step] = [*EVENTS[:4], Stall()]

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async with (
        Upstream(lambda _: stream(steps)) as upstream,
        start_proxy(upstream, "openai") as proxy,
    ):
        assert proxy.server is not None
        await leave_after(proxy, upstream, True, b"data: ")
        before, threads = open_files(), len(os.listdir("/proc/self/task"))
        for _ in range(100):
            await leave_after(proxy, upstream, True, b"data: ")
        while proxy.server.stats()["active"] > 0:  # noqa: ASYNC110 -- there is no event for it
            await asyncio.sleep(0)
        assert open_files() <= before + 4
        assert len(os.listdir("/proc/self/task")) == threads


async def test_a_server_runs_twice_in_one_process(start_proxy: StartProxy) -> None:
    import httpx

    for _ in range(2):
        async with start_proxy() as proxy, httpx.AsyncClient(base_url=proxy.url) as http:
            assert (await http.post("/v1/chat/completions", json=BODY)).status_code == 200
