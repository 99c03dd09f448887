"""A provider that does what the test says, on raw sockets: exact bytes, cuts, stalls and resets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from e2e.answers import (
    Answer,
    chat_stream,
    chat_whole,
    gemini_stream,
    gemini_whole,
    messages_stream,
    messages_whole,
    responses_stream,
    responses_whole,
)


@dataclass
class Received:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # the proxy closed the connection
    gone_at: float = 0.0
    repeated: frozenset[str] = frozenset()  # headers that came more than once

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def left(self) -> None:
        self.gone_at = asyncio.get_running_loop().time()
        self.gone.set()


class Stall:
    """Say nothing more until the proxy goes away."""


class Reset:
    """Cut the connection hard."""


class Close:
    """Close the connection in order, in the middle of whatever was promised."""


@dataclass(frozen=True)
class Wait:
    """Go on when the test sets the event."""

    event: asyncio.Event


Step = bytes | Stall | Reset | Close | Wait


@dataclass(frozen=True)
class Reply:
    """A head and the steps of its body. A streamed body is chunked, one chunk a step."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    steps: Sequence[Step] = ()
    streamed: bool = False
    raw: bytes | None = None  # instead of all that: these bytes, then close
    silent: bool = False  # instead of all that: nothing, until the proxy goes away


def whole(body: bytes, status: int = 200, *headers: tuple[str, str]) -> Reply:
    return Reply(status, (("content-type", "application/json"), *headers), (body,))


def stream(events: Iterable[Step]) -> Reply:
    return Reply(
        headers=(("content-type", "text/event-stream"),), steps=tuple(events), streamed=True
    )


def error(status: int, kind: str, message: str, *headers: tuple[str, str]) -> Reply:
    body = {"type": "error", "error": {"type": kind, "message": message, "code": None}}
    return whole(json.dumps(body).encode(), status, *headers)


FORMATS: dict[str, tuple[Callable[[Answer], bytes], Callable[[Answer], Iterator[bytes]]]] = {
    "/chat/completions": (chat_whole, chat_stream),
    "/responses": (responses_whole, responses_stream),
    ":generateContent": (gemini_whole, gemini_stream),
    ":streamGenerateContent": (gemini_whole, gemini_stream),
    "": (messages_whole, messages_stream),
}


def answering(answer: Answer, every: int | None = None) -> Callable[[Received], Reply]:
    """Answers in the format it was asked in; streams in pieces of `every` bytes if given."""

    def reply(request: Received) -> Reply:
        path = request.path.split("?")[0]
        wholes, streams = next(FORMATS[end] for end in FORMATS if path.endswith(end))
        if not request.json.get("stream") and not path.endswith(":streamGenerateContent"):
            return whole(wholes(answer))
        chat = path.endswith("/chat/completions")
        usage = bool((request.json.get("stream_options") or {}).get("include_usage"))
        events = list(chat_stream(answer, usage) if chat else streams(answer))
        if every is None:
            return stream(events)
        text = b"".join(events)
        return stream(text[i : i + every] for i in range(0, len(text), every))

    return reply


class Upstream:
    """Listens on a free port of this machine; answers each request with what `handler` returns."""

    def __init__(self, handler: Callable[[Received], Reply] | None = None) -> None:
        self.handler = handler or answering(Answer("Hello."))
        self.requests: list[Received] = []
        self.connections = 0
        self.arrived = asyncio.Condition()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def last(self) -> Received:
        return self.requests[-1]

    async def request(self, number: int) -> Received:
        """The number-th request (from 0), as soon as it is there."""
        async with self.arrived:
            await asyncio.wait_for(self.arrived.wait_for(lambda: len(self.requests) > number), 10)
        return self.requests[number]

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=1 << 26)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ahead = bytearray()
        try:
            while await self._one(reader, writer, ahead):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ahead: bytearray
    ) -> bool:
        head = (bytes(ahead) + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        ahead.clear()
        line, *fields = head.rstrip("\r\n").split("\r\n")
        method, path, _ = line.split(" ")
        pairs = [(name.lower(), value.strip()) for name, value in (f.split(":", 1) for f in fields)]
        headers = dict(pairs)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        repeated = frozenset(name for name in headers if sum(name == n for n, _ in pairs) > 1)
        received = Received(method, path, headers, body, repeated=repeated)
        async with self.arrived:
            self.requests.append(received)
            self.arrived.notify_all()
        watch = asyncio.create_task(_watch(reader, received, ahead))
        try:
            return await self._say(self.handler(received), received, writer)
        except ConnectionError:  # a write saw it before the watch did
            received.left()
            raise
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _say(self, reply: Reply, received: Received, writer: asyncio.StreamWriter) -> bool:
        if reply.silent:
            await received.gone.wait()
            return False
        if reply.raw is not None:
            writer.write(reply.raw)
            await writer.drain()
            return False
        length = sum(len(step) for step in reply.steps if isinstance(step, bytes))
        framing = (
            ("transfer-encoding", "chunked") if reply.streamed else ("content-length", str(length))
        )
        fields = "".join(f"{name}: {value}\r\n" for name, value in (*reply.headers, framing))
        writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{fields}\r\n".encode("latin-1"))
        for step in reply.steps:
            if isinstance(step, bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(step), step) if reply.streamed else step)
                await writer.drain()
                await asyncio.sleep(0)  # one write a step, not all at once
            elif isinstance(step, Wait):
                await step.event.wait()
            elif isinstance(step, Stall):
                await received.gone.wait()
                return False
            elif isinstance(step, Reset):
                raw: socket.socket = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return False
            else:
                return False
        if reply.streamed:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _watch(reader: asyncio.StreamReader, received: Received, ahead: bytearray) -> None:
    """Sees the proxy go while the answer is under way; a byte of its next request is kept."""
    with contextlib.suppress(ConnectionError):
        ahead += await reader.read(1)
    if not ahead:
        received.left()
