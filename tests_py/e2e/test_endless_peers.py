"""A peer that never stops sending costs the proxy no more than a stated amount of memory.

Without these bounds one upstream, or one client, ends the process for everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import planted
from e2e.conftest import Proxy, program

MIB = 1 << 20
# What one endless reply may cost at its worst: the 64 MiB that are kept of it, once more while the
# buffer grows or the reply is written in another format, and what the allocator keeps.
REPLY_BOUND = 256 * MIB
# What an endless request may cost: the 64 MiB of limits.body_bytes, with the same allowance.
REQUEST_BOUND = 192 * MIB
# More than any bound; a proxy that has taken as much would go on.
ENOUGH = 640 * MIB

EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
PIECE = 64 * 1024


def filled(line: bytes) -> bytes:
    """As many copies of `line` as one write takes."""
    return line * max(1, PIECE // len(line))


def chunk_of(content: object) -> bytes:
    choice = {"index": 0, "delta": content, "finish_reason": None}
    body = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def calls(number: int) -> bytes:
    """One more tool call, begun and never ended."""
    function = {"name": "f", "arguments": '{"a": "' + "x" * 2000}
    return chunk_of({"tool_calls": [{"index": number, "id": f"i{number}", "function": function}]})


@dataclass(frozen=True)
class Endless:
    """What an upstream sends: an opening, then one piece again and again."""

    opening: bytes
    piece: bytes = b""
    bomb: str = ""  # a content coding of an endless run of zeros, instead of the piece

    def pieces(self) -> Iterator[bytes]:
        if self.bomb == "gzip":
            packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
            while True:
                yield packer.compress(bytes(4 * MIB))
        while True:
            yield self.piece


CHAT_ENDLESS = {
    "head lines": Endless(b"HTTP/1.1 200 OK\r\n", filled(b"x-more: and more\r\n")),
    "one head line": Endless(b"HTTP/1.1 200 OK\r\nx: ", b"y" * PIECE),
    "interim replies": Endless(b"", filled(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "a large interim reply": Endless(b"HTTP/1.1 100 Continue\r\n", filled(b"x-more: more\r\n")),
    "digits of a chunk size": Endless(CHUNKED, b"0" * PIECE),
    "a chunk extension": Endless(CHUNKED + b"5;", b"x" * PIECE),
    "a trailer": Endless(CHUNKED + b"0\r\n", filled(b"x-more: and more\r\n")),
    "comments": Endless(EVENTS, filled(b": nothing at all\n\n")),
    "comments without a blank line": Endless(EVENTS, filled(b": nothing at all\n")),
    "id lines": Endless(EVENTS, filled(b"id: 12345\n")),
    "events of an id alone": Endless(EVENTS, filled(b"id: 12345\n\n")),
    "event names": Endless(EVENTS, filled(b"event: ping\n\n")),
    "blank lines": Endless(EVENTS, b"\n" * PIECE),
    "data lines without a blank line": Endless(EVENTS, filled(b"data: {}\n")),
    "one event": Endless(EVENTS + b'data: {"x": "', b"x" * PIECE),
    "one JSON body": Endless(JSON + b'{"x": "', b"x" * PIECE),
    "one error body": Endless(JSON.replace(b"200 OK", b"500 No"), b"x" * PIECE),
    "a gzip bomb of JSON": Endless(
        JSON.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"), bomb="gzip"
    ),
    "a gzip bomb of events": Endless(
        EVENTS.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n"), bomb="gzip"
    ),
}
# Never wrong for one who reads events as they come; too much for one who wants a whole reply.
SMALL_EVENTS = {
    "small events": Endless(EVENTS, filled(chunk_of({"content": "more and more and more of it"}))),
    "large events": Endless(EVENTS, chunk_of({"content": "x" * PIECE})),
    "reasoning": Endless(EVENTS, chunk_of({"reasoning_content": "x" * PIECE})),
    "arguments": Endless(
        EVENTS + calls(0),
        chunk_of({"tool_calls": [{"index": 0, "function": {"arguments": "x" * PIECE}}]}),
    ),
    "seals": Endless(
        EVENTS,
        chunk_of(
            {
                "content": "x",
                "reasoning_details": [{"type": "reasoning.encrypted", "data": "x" * PIECE}],
            }
        ),
    ),
}
MANY_CALLS = Endless(EVENTS, b"".join(calls(number) for number in range(40_000)))


class Upstream:
    """Answers every request with `endless`, and counts what was taken of it."""

    def __init__(self, endless: Endless) -> None:
        self.endless = endless
        self.taken = 0
        self.requests = 0

    @property
    def url(self) -> str:
        port: int = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/v1"

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ),
                0,
            )
            await reader.readexactly(length)
            self.requests += 1
            self.taken = 0
            writer.write(self.endless.opening)
            for piece in self.endless.pieces():
                writer.write(piece)
                await writer.drain()
                self.taken += len(piece)
                if self.taken > ENOUGH:
                    break
        writer.close()


class Memory:
    """The resident memory of a process of ours, and how far it has gone since `reset`."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.reset()

    def reset(self) -> None:
        (self._folder / "clear_refs").write_text("5")
        self._before = self._read("VmRSS:")

    @property
    def grown(self) -> int:
        return self._read("VmHWM:") - self._before

    def _read(self, name: str) -> int:
        status = (self._folder / "status").read_text()
        return int(status.split(name)[1].split()[0]) * 1024


@asynccontextmanager
async def running(
    upstream: Upstream | None = None, backend: str = "openai", **more: str
) -> AsyncIterator[tuple[Proxy, Memory]]:
    environment = {
        "LLM_PROXY_IO_THREADS": "1",
        "LLM_PROXY_ACCESS_LOG": "false",
        "LLM_PROXY_MODEL_DISCOVERY": "false",
        **more,
    }
    if upstream is not None:
        environment |= {
            f"{backend.upper()}_API_KEY": planted.PROVIDER,
            f"{backend.upper()}_API_BASE_URL": upstream.url,
            "LLM_BACKEND": backend,
        }
    else:
        environment |= {"LLM_BACKEND": "echo"}
    async with program(environment=environment) as proxy:
        assert proxy.process is not None
        yield proxy, Memory(proxy.process.pid)


PATHS = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "gemini": "/v1beta/models/m:generateContent",
}


def body_of(client: str, stream: bool) -> tuple[str, dict[str, object]]:
    path = PATHS[client]
    if client == "gemini":
        contents = [{"role": "user", "parts": [{"text": "Hello"}]}]
        if stream:
            path = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
        return path, {"contents": contents}
    asked = (
        {"input": "Hello"}
        if client == "responses"
        else {
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 100,
        }
    )
    return path, {"model": "m", "stream": stream, **asked}


async def ask(proxy: Proxy, client: str, stream: bool) -> tuple[int, bool, bytes]:
    """The status, whether an error was told inside the stream, and the last bytes."""
    path, body = body_of(client, stream)
    tail = b""
    told = False
    async with (
        httpx.AsyncClient(timeout=120) as http,
        http.stream("POST", proxy.url + path, json=body) as reply,
    ):
        with contextlib.suppress(httpx.RemoteProtocolError):
            async for piece in reply.aiter_bytes():
                tail = tail[-4096:] + piece
                told = told or b'"error"' in tail or b"response.failed" in tail
        return reply.status_code, told, tail[-4096:]


async def still_serves(proxy: Proxy) -> None:
    async with httpx.AsyncClient(timeout=20) as http:
        assert (await http.get(proxy.url + "/health")).status_code == 200


@pytest.mark.parametrize("client", ("openai", "anthropic"))
@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
async def test_an_endless_upstream_fails_and_fills_no_memory(client: str, stream: bool) -> None:
    """Every kind of endless reply in turn: the client hears of it, and others are served."""
    async with Upstream(CHAT_ENDLESS["comments"]) as upstream, running(upstream) as (proxy, memory):
        for name, endless in CHAT_ENDLESS.items():
            upstream.endless = endless
            upstream.requests = 0
            memory.reset()
            status, told, tail = await ask(proxy, client, stream)
            assert status >= 500 or (stream and told), (name, status, tail[-300:])
            assert upstream.taken < ENOUGH, name
            assert memory.grown < REPLY_BOUND, (name, memory.grown / MIB)
            await still_serves(proxy)


@pytest.mark.parametrize("client", ("anthropic", "responses", "gemini"))
async def test_an_endless_stream_is_not_put_together_for_a_client_that_wants_it_whole(
    client: str,
) -> None:
    async with (
        Upstream(SMALL_EVENTS["small events"]) as upstream,
        running(upstream) as (
            proxy,
            memory,
        ),
    ):
        for name, endless in SMALL_EVENTS.items():
            upstream.endless = endless
            memory.reset()
            status, _, tail = await ask(proxy, client, stream=False)
            assert status == 502, (name, status, tail[-300:])
            assert b"larger than 64 MiB" in tail, (name, tail)
            assert upstream.requests >= 1
            assert memory.grown < REPLY_BOUND, (name, memory.grown / MIB)
            upstream.requests = 0


@pytest.mark.parametrize("client", ("anthropic", "responses", "gemini"))
async def test_a_translated_stream_keeps_a_bounded_past(client: str) -> None:
    """What the client's format repeats at the end, or cannot say yet, is kept up to a bound."""
    async with Upstream(MANY_CALLS) as upstream, running(upstream) as (proxy, memory):
        for name, endless in {"calls that never end": MANY_CALLS, **SMALL_EVENTS}.items():
            if name == "small events":
                continue  # two million of them: seen by the test above
            upstream.endless = endless
            memory.reset()
            status, told, tail = await ask(proxy, client, stream=True)
            assert status >= 500 or told, (name, status, tail[-300:])
            assert memory.grown < REPLY_BOUND, (name, memory.grown / MIB)


async def test_arguments_that_claim_to_be_long_lists_are_not_made_as_long() -> None:
    """Gemini's streamed arguments name places: a hundred bytes can ask for millions of them."""
    piece = {"jsonPath": "$" + "[9999]" * 60, "stringValue": "x"}
    call = {"functionCall": {"name": "f", "willContinue": True, "partialArgs": [piece]}}
    body = {"candidates": [{"content": {"role": "model", "parts": [call]}}]}
    endless = Endless(EVENTS, b"data: " + json.dumps(body).encode() + b"\n\n")
    async with Upstream(endless) as upstream, running(upstream, "gemini") as (proxy, memory):
        status, _, tail = await ask(proxy, "openai", stream=False)
        assert status == 502, tail
        assert memory.grown < REPLY_BOUND, memory.grown / MIB


async def test_an_endless_stream_in_the_clients_own_format_passes_through() -> None:
    """Nothing is kept of it: the client decides how much it wants."""
    async with (
        Upstream(SMALL_EVENTS["small events"]) as upstream,
        running(upstream) as (
            proxy,
            memory,
        ),
    ):
        path, body = body_of("openai", stream=True)
        got = 0
        async with (
            httpx.AsyncClient(timeout=60) as http,
            http.stream("POST", proxy.url + path, json=body) as reply,
        ):
            assert reply.status_code == 200
            async for piece in reply.aiter_bytes():
                got += len(piece)
                if got > 100 * MIB:
                    break
        assert memory.grown < 16 * MIB, memory.grown / MIB


async def test_a_list_of_models_without_end_is_given_up() -> None:
    """Else the list is asked for and never answered again."""
    endless = Endless(JSON + b'{"data": [', filled(b'{"id": "m"},'))
    async with (
        Upstream(endless) as upstream,
        running(upstream, LLM_PROXY_MODEL_DISCOVERY="true") as (proxy, memory),
        httpx.AsyncClient(timeout=60) as http,
    ):
        assert (await http.get(proxy.url + "/v1/models")).status_code == 200
        listings: list[dict[str, str]] = []
        while not listings or listings[0]["status"] == "pending":
            shown = (await http.get(proxy.url + "/v1/diagnostics")).json()
            listings = shown["catalog_discovery"]
        assert listings[0]["status"] == "failed", listings
        assert listings[0]["error_code"] == "upstream_too_large"
        assert memory.grown < 64 * MIB, memory.grown / MIB


POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
CLIENT_ENDLESS = {
    "head lines": (b"GET /health HTTP/1.1\r\nhost: x\r\n", filled(b"x-more: and more\r\n")),
    "one head line": (b"GET /health HTTP/1.1\r\nhost: x\r\nx: ", b"y" * PIECE),
    "a request line": (b"GET /", b"x" * PIECE),
    "digits of a chunk size": (POST + b"transfer-encoding: chunked\r\n\r\n", b"0" * PIECE),
    "a chunk extension": (POST + b"transfer-encoding: chunked\r\n\r\n5;", b"x" * PIECE),
    "a trailer": (POST + b"transfer-encoding: chunked\r\n\r\n0\r\n", filled(b"x-a: b\r\n")),
    "a chunked body": (
        POST + b"transfer-encoding: chunked\r\n\r\n",
        b"%x\r\n%b\r\n" % (PIECE, b"x" * PIECE),
    ),
    "a body with a length": (POST + b"content-length: 99999999999\r\n\r\n", b"x" * PIECE),
    "requests behind requests": (b"", filled(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")),
    "bytes of a protocol we refuse": (
        b"GET /v1/responses HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
        b"\x81\xfe" + b"x" * PIECE,
    ),
}


async def test_an_endless_client_is_cut_off_and_fills_no_memory() -> None:
    async with running() as (proxy, memory):
        for name, (opening, piece) in CLIENT_ENDLESS.items():
            memory.reset()
            _reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            sent = 0
            with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
                writer.write(opening)
                while sent < ENOUGH:
                    writer.write(piece)
                    await asyncio.wait_for(writer.drain(), 3)  # it may stop reading: that ends it
                    sent += len(piece)
            writer.close()
            assert sent < ENOUGH, name
            assert memory.grown < REQUEST_BOUND, (name, memory.grown / MIB)
            await still_serves(proxy)


async def test_a_compressed_request_without_end_is_a_413() -> None:
    body = gzip.compress(bytes(200 * MIB))
    async with running() as (proxy, memory), httpx.AsyncClient(timeout=60) as http:
        reply = await http.post(
            proxy.url + "/v1/chat/completions", content=body, headers={"content-encoding": "gzip"}
        )
        assert reply.status_code == 413, reply.text
        assert memory.grown < REQUEST_BOUND, memory.grown / MIB
        await still_serves(proxy)
