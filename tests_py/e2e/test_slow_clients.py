"""A client that drips, or drinks in drops, ends by a deadline and not when it likes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from e2e.conftest import StartProxy
from e2e.test_half_closed import COMPLETION, request
from e2e.upstream import Upstream, stream, whole

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"
EVENT = (
    b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":\
[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
    % (b"x" * 4000)
)

DRIPS = {
    "a length": (HEAD + b"content-length: 100000\r\n\r\n", b"x"),
    "chunks": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
}


@pytest.mark.parametrize("framing", DRIPS)
async def test_a_body_that_drips_is_a_408(framing: str, start_proxy: StartProxy) -> None:
    head, drip = DRIPS[framing]
    async with start_proxy(LLM_PROXY_TIMEOUT_CLIENT_BODY="0.3") as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(head)
        answer = asyncio.create_task(reader.read())
        drips = 0
        while not answer.done():
            assert drips < 500, "it is never told"
            writer.write(drip)
            drips += 1
            await asyncio.wait([answer], timeout=0.02)
        assert answer.result().startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_a_slow_body_that_keeps_the_pace_is_taken(start_proxy: StartProxy) -> None:
    body = request(False).split(b"\r\n\r\n")[1].ljust(6000)
    async with (
        Upstream(lambda _: whole(COMPLETION)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_TIMEOUT_CLIENT_BODY="0.2") as proxy,
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 500):  # far more than 500 bytes a second, over five windows
            writer.write(body[at : at + 500])
            await asyncio.sleep(0.05)
        assert (await asyncio.wait_for(reader.read(), 10)).endswith(COMPLETION)
        writer.close()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_reader_of_one_byte_at_a_time_is_cut(
    streamed: bool, start_proxy: StartProxy
) -> None:
    large = COMPLETION.replace(b'"hi"', b'"%b"' % (b"x" * (16 << 20)))
    reply = stream([EVENT] * 4000) if streamed else whole(large)
    async with (
        Upstream(lambda _: reply) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_TIMEOUT_CLIENT_WRITE="0.3") as proxy,
    ):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", proxy.port))
        await loop.sock_sendall(client, request(streamed))
        asked = await upstream.request(0)
        with pytest.raises(ConnectionResetError):
            for _ in range(1000):
                await asyncio.wait_for(loop.sock_recv(client, 1), 10)
                assert proxy.server is not None
                if proxy.server.stats()["active"] == 0:
                    raise ConnectionResetError
                await asyncio.sleep(0.02)
        if streamed:
            await asyncio.wait_for(asked.gone.wait(), 10)
        client.close()
