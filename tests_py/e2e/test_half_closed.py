"""A client that says nothing more and waits gets its answer; one that has gone costs no tokens.

Both begin with the same packet, a FIN. How the proxy tells them apart is in docs/architecture.md.
"""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from e2e.answers import TEXT, chat_stream
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Reply, Stall, Upstream, Wait, answering, stream, whole

EVENTS = list(chat_stream(TEXT))
COMPLETION = b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,\
"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
HEALTH = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"


def request(streamed: bool, version: str = "1.1") -> bytes:
    body = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": streamed}
    ).encode()
    head = f"POST /v1/chat/completions HTTP/{version}\r\nhost: a\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


async def ask_and_finish(
    proxy: Proxy, asked: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(asked)
    writer.write_eof()
    return reader, writer


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the end was seen"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_it_gets_its_whole_answer(
    streamed: bool, late: bool, version: str, start_proxy: StartProxy
) -> None:
    go = asyncio.Event()
    if not late:
        go.set()

    def reply(_: object) -> Reply:
        if not streamed:
            return Reply(steps=(Wait(go), COMPLETION), streamed=True)
        return stream([Wait(go), *EVENTS[:2], Wait(go), *EVENTS[2:]])

    async with Upstream(reply) as upstream, start_proxy(upstream, "openai") as proxy:
        reader, writer = await ask_and_finish(proxy, request(streamed, version))
        asked = await upstream.request(0)
        if late:
            # The proxy has looked for its client once when it serves another one's request.
            other, closing = await ask_and_finish(proxy, HEALTH)
            assert (await other.read()).startswith(b"HTTP/1.1 200 ")
            closing.close()
            go.set()
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert said.startswith(b"HTTP/1.1 200 "), said
    if streamed:
        assert b"data: [DONE]" in said
        assert said.endswith(b"0\r\n\r\n" if version == "1.1" else b"[DONE]\n\n")
    else:
        assert said.endswith(COMPLETION)
    assert asked.json["model"] == "m"


async def test_pipelined_requests_before_the_end_are_all_answered(start_proxy: StartProxy) -> None:
    async with (
        Upstream(lambda _: whole(COMPLETION)) as upstream,
        start_proxy(upstream, "openai") as proxy,
    ):
        reader, writer = await ask_and_finish(proxy, request(False) + HEALTH + request(False))
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
    assert said.count(b"HTTP/1.1 200 ") == 3
    assert said.endswith(COMPLETION)


async def test_half_a_request_ends_with_the_client(start_proxy: StartProxy) -> None:
    async with start_proxy() as proxy:
        for part in (b"POST /v1/chat", request(False)[:-5]):
            reader, writer = await ask_and_finish(proxy, HEALTH + part)
            said = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            assert said.count(b"HTTP/1.1 ") == 1


PHASES: dict[str, tuple[Reply, bool, bytes]] = {
    "before the head": (Reply(silent=True), False, b""),
    "before the first event": (stream([EVENTS[0], Stall()]), True, b""),
    "in mid-stream": (stream([*EVENTS[:4], Stall()]), True, b"data: "),
}


@pytest.mark.parametrize("finishes_first", [False, True], ids=["closes", "finishes, then closes"])
@pytest.mark.parametrize("phase", PHASES)
async def test_one_that_closes_its_socket_closes_the_upstream(
    phase: str, finishes_first: bool, start_proxy: StartProxy
) -> None:
    """By an orderly close(), as SDKs abort. Nothing is left unread, so no reset tells of it."""
    made, streamed, heard = PHASES[phase]
    async with Upstream(lambda _: made) as upstream, start_proxy(upstream, "openai") as proxy:
        loop = asyncio.get_running_loop()
        client = socket.create_connection(("127.0.0.1", proxy.port))
        client.setblocking(False)
        await loop.sock_sendall(client, request(streamed))
        asked = await upstream.request(0)
        said = b""
        while heard and heard not in said:
            said += await asyncio.wait_for(loop.sock_recv(client, 65536), 10)
        if finishes_first:
            client.shutdown(socket.SHUT_WR)
            other, closing = await ask_and_finish(proxy, HEALTH)
            await other.read()
            closing.close()
            assert not asked.gone.is_set()
        client.close()
        await asyncio.wait_for(asked.gone.wait(), 10)


async def test_the_default_answering_upstream_serves_it_too(start_proxy: StartProxy) -> None:
    async with Upstream(answering(TEXT)) as upstream, start_proxy(upstream, "anthropic") as proxy:
        reader, writer = await ask_and_finish(proxy, request(True))
        assert b"[DONE]" in await asyncio.wait_for(reader.read(), 10)
        writer.close()
