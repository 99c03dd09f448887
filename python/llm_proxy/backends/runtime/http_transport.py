"""HTTP/1.1 for backends: an httpx transport on asyncio's own sockets, with replies read in C++.

httpx's default transport spends several generators, a parser in Python and a timer on each read;
an event stream is many small reads. What this one does not speak it leaves to the default one.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
import select
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpcore
import httpx

from llm_proxy._core import HttpReply, ProxyHop, ProxyRules
from llm_proxy.backends.runtime.http_proxies import (
    DIRECT,
    httpx_proxy,
    open_through,
    rules_in_force,
)

_SCRATCH_BYTES = 64 * 1024
# Of a body, unread: above it the socket waits.
_MOST_UNREAD = 64 * 1024
_CLOSING_TURNS = 16

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NOT_IN_VALUES = re.compile(rb"[\x00\r\n]")
_NOT_IN_TARGETS = re.compile(rb"[\x00-\x20\x7f]")


# What wraps httpx to see its requests, as tracing does, wraps one of these methods.
_SENDERS: tuple[Any, ...] = (httpx.AsyncHTTPTransport, httpcore.AsyncConnectionPool)
_UNWRAPPED = [kind.handle_async_request for kind in _SENDERS]


def direct_transport(
    *,
    verify: ssl.SSLContext | str | bool = True,
    cert: Any = None,
    trust_env: bool = True,
    http2: bool = False,
    limits: httpx.Limits | None = None,
    proxies: ProxyRules | None = None,
) -> BackendTransport:
    """What an `httpx.AsyncClient` with these settings would send its requests by.

    `proxies` leads out of this network; without it `trust_env` asks for the rules of this process.
    Where something has wrapped httpx's own way to send by now, the transport sends all requests
    that way, so that the wrapper sees them. This is decided here, once.
    """
    limits = limits or httpx.Limits(max_connections=100, max_keepalive_connections=20)
    trust: dict[str, Any] = {"verify": verify, "cert": cert, "trust_env": trust_env}
    if proxies is None:
        proxies = rules_in_force() if trust_env else DIRECT
    return BackendTransport(
        functools.partial(httpx.AsyncHTTPTransport, http2=http2, limits=limits, **trust),
        limits=limits,
        tls=functools.partial(httpx.create_ssl_context, **trust),
        http2=http2,
        proxies=proxies,
        direct=[kind.handle_async_request for kind in _SENDERS] == _UNWRAPPED,
    )


class Origin(NamedTuple):
    """Whom a connection leads to."""

    secure: bool
    host: str
    port: int
    server_name: str


class BackendTransport(httpx.AsyncBaseTransport):
    """A pool of HTTP/1.1 connections, with the limits, timeouts and errors of httpx's own.

    `otherwise` makes the transport for what is not HTTP/1.1 without frills: other schemes, upgrades
    and tunnels, requests that want to be traced, with `http2` whatever TLS may negotiate, and
    without `direct` every request. It is told the `proxy` where `proxies` names one for a request,
    and is made once for each of them.
    """

    def __init__(
        self,
        otherwise: Callable[..., httpx.AsyncBaseTransport],
        *,
        limits: httpx.Limits,
        tls: Callable[[], ssl.SSLContext],
        http2: bool = False,
        proxies: ProxyRules = DIRECT,
        direct: bool = True,
    ) -> None:
        self._direct = direct
        self.scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._make_other = otherwise
        self._others: dict[tuple[str, int] | None, httpx.AsyncBaseTransport] = {}
        self._proxies = proxies
        self._make_tls = tls
        self._tls: ssl.SSLContext | None = None
        self._http2 = http2
        self._limits = limits
        self._connecting = 0
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []  # the one that was used last is at the end
        self._waiting: deque[asyncio.Future[None]] = deque()  # for room

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not self._speaks(request):
            return await self._other_for(request).handle_async_request(request)
        timeouts: dict[str, float | None] = request.extensions.get("timeout") or {}
        connection = await self._connection_to(_origin_of(request), timeouts)
        try:
            reply = await connection.exchange(request, timeouts)
            return httpx.Response(
                reply.status,
                headers=reply.headers,
                stream=_Body(connection, timeouts.get("read")),
                extensions={
                    "http_version": reply.version,
                    "reason_phrase": reply.reason,
                    "network_stream": connection,
                },
            )
        except BaseException:
            connection.abort()
            raise

    async def aclose(self) -> None:
        for connection in list(self._open):
            connection.abort()
        # A socket is closed with the loop's next turn.
        for _ in range(_CLOSING_TURNS):
            if all(connection.closed for connection in self._open):
                break
            await asyncio.sleep(0)
        for other in self._others.values():
            await other.aclose()

    # Called by connections.

    def on_free(self, connection: _Connection) -> None:
        """Its exchange has ended well."""
        self._drop_expired()
        most = self._limits.max_keepalive_connections
        connection.expires = (
            None
            if self._limits.keepalive_expiry is None
            else time.monotonic() + self._limits.keepalive_expiry
        )
        self._idle.append(connection)
        if most is not None and len(self._idle) > most and not self._waiting:
            self._idle[0].abort()
        self._tell_one()

    def on_closed(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._tell_one()

    def _hop_to(self, origin: Origin) -> ProxyHop | None:
        return self._proxies.hop_to(origin.secure, origin.host, origin.port)

    def _other_for(self, request: httpx.Request) -> httpx.AsyncBaseTransport:
        web = request.url.scheme in ("http", "https")
        hop = self._hop_to(_origin_of(request)) if web else None
        place = (hop.host, hop.port) if hop else None
        if place not in self._others:
            self._others[place] = (
                self._make_other(proxy=httpx_proxy(hop)) if hop else self._make_other()
            )
        return self._others[place]

    def _speaks(self, request: httpx.Request) -> bool:
        scheme = request.url.scheme
        return (
            self._direct
            and (scheme == "http" or (scheme == "https" and not self._http2))
            and request.method != "CONNECT"
            and "upgrade" not in request.headers
            and "trace" not in request.extensions
            and isinstance(request.stream, httpx.AsyncByteStream)
        )

    async def _connection_to(
        self, origin: Origin, timeouts: dict[str, float | None]
    ) -> _Connection:
        while True:
            if (held := self._reusable(origin)) is not None:
                return held
            most = self._limits.max_connections
            if most is None or len(self._open) + self._connecting < most or self._drop_idle():
                return await self._connect(origin, timeouts.get("connect"))
            await self._room(timeouts.get("pool"))

    def _reusable(self, origin: Origin) -> _Connection | None:
        self._drop_expired()
        for at in range(len(self._idle) - 1, -1, -1):
            connection = self._idle[at]
            if connection.origin == origin:
                del self._idle[at]
                if not connection.has_news():
                    return connection
                connection.abort()
        return None

    def _drop_expired(self) -> None:
        if not self._idle:
            return
        now = time.monotonic()
        for connection in list(self._idle):
            if connection.expires is not None and connection.expires <= now:
                connection.abort()

    def _drop_idle(self) -> bool:
        if not self._idle:
            return False
        self._idle[0].abort()
        return True

    async def _connect(self, origin: Origin, timeout: float | None) -> _Connection:
        loop = asyncio.get_running_loop()
        hop = self._hop_to(origin)
        by_url = hop is not None and not hop.socks and not origin.secure
        connection = _Connection(self, origin, loop, hop if by_url else None)
        self._connecting += 1
        try:
            await asyncio.wait_for(self._dial(connection, origin, hop), timeout)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        else:
            self._open.add(connection)
            return connection
        finally:
            self._connecting -= 1
            if connection not in self._open:
                connection.abort()
                self._tell_one()

    async def _dial(self, connection: _Connection, origin: Origin, hop: ProxyHop | None) -> None:
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if origin.secure:
            options = {"ssl": self._tls_context(), "server_hostname": origin.server_name}
        if hop is not None:
            opened = await open_through(hop, origin.secure, origin.host, origin.port)
            try:
                await loop.create_connection(lambda: connection, sock=opened, **options)
            except BaseException:
                opened.close()
                raise
            return
        if isinstance(loop, asyncio.BaseEventLoop):
            options["happy_eyeballs_delay"] = 0.25
        await loop.create_connection(lambda: connection, origin.host, origin.port, **options)

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = self._make_tls()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    async def _room(self, timeout: float | None) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        try:
            await asyncio.wait_for(told, timeout)
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise httpx.PoolTimeout("no connection has become free") from error
        except asyncio.CancelledError:
            if told.done() and not told.cancelled():
                self._tell_one()  # it was meant for somebody who wants it
            raise
        finally:
            if told in self._waiting:
                self._waiting.remove(told)

    def _tell_one(self) -> None:
        while self._waiting:
            told = self._waiting.popleft()
            if not told.done():
                told.set_result(None)
                return


class _Connection(asyncio.BufferedProtocol):
    """One connection of the pool. Idle, or with one exchange under way.

    Whoever waits, waits for one thing at a time: bytes, or room to write.
    """

    def __init__(
        self,
        pool: BackendTransport,
        origin: Origin,
        loop: asyncio.AbstractEventLoop,
        by_url: ProxyHop | None = None,
    ) -> None:
        """`by_url`: the peer is this HTTP proxy, which is asked for whole URLs."""
        self.origin = origin
        self._by_url = by_url
        self.expires: float | None = None
        self.closed = True  # until it is made
        self._pool = pool
        self._loop = loop
        self._transport: Any = None
        self._reply: HttpReply | None = None
        self._arrived: list[bytes] = []
        self._unread = 0
        self._reads = self._writes = True
        self._sent_all = False
        self._failure: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._too_late: type[httpx.TimeoutException] = httpx.ReadTimeout

    # Called by the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.closed = False

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._pool.scratch  # of all: what arrives is used up at once

    def buffer_updated(self, nbytes: int) -> None:
        if self._reply is None:
            self.abort()  # nobody has asked: no later reply may begin with it
            return
        try:
            piece = self._reply.feed(self._pool.scratch[:nbytes])
        except ValueError as error:
            self._fail(httpx.RemoteProtocolError(str(error)))
            return
        if piece:
            self._arrived.append(piece)
            self._unread += len(piece)
            if self._unread > _MOST_UNREAD and self._reads:
                self._reads = False
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        return None

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._failure is None and self._reply is not None and not self._reply.done:
            try:
                if error is not None:
                    self._failure = httpx.ReadError(str(error))
                else:
                    self._reply.on_end()
            except ValueError as cut:
                self._failure = httpx.RemoteProtocolError(str(cut))
        self._pool.on_closed(self)
        self._wake()

    def pause_writing(self) -> None:
        self._writes = False

    def resume_writing(self) -> None:
        self._writes = True
        self._wake()

    # Called by the transport.

    async def exchange(
        self, request: httpx.Request, timeouts: dict[str, float | None]
    ) -> HttpReply:
        """Sends the request and reads the reply's head; the body is for `piece`."""
        reply = self._reply = HttpReply(request.method == "HEAD")
        await self._send(request, reply, timeouts.get("write"))
        while not reply.has_head:
            if self._failure is not None:
                raise self._failure
            await self._wait(timeouts.get("read"), httpx.ReadTimeout)
        return reply

    async def piece(self, timeout: float | None) -> bytes:
        """What has arrived of the body; empty at its end."""
        while not self._arrived:
            if self._reply is None or self._reply.done:
                return b""
            if self._failure is not None:
                raise self._failure
            await self._wait(timeout, httpx.ReadTimeout)
        piece = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
        self._arrived.clear()
        self._unread = 0
        self._read_on()
        return piece

    def release(self) -> None:
        """The exchange has ended, or nobody wants the rest of it."""
        reply, self._reply = self._reply, None
        if reply is None:
            return
        self._arrived.clear()
        self._unread = 0
        if reply.reusable and self._sent_all and not self.closed and self._failure is None:
            self._read_on()
            self._pool.on_free(self)
        else:
            self.abort()

    def abort(self) -> None:
        self._reply = None
        self._pool.on_closed(self)
        if not self.closed:
            self._transport.abort()

    def has_news(self) -> bool:
        """An idle connection has none, but that its server has closed it."""
        if self.closed or self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # httpcore's names, for whoever asks a reply for its `network_stream`.

    def get_extra_info(self, info: str) -> Any:
        name = {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        return self._transport.get_extra_info(name)

    async def _send(self, request: httpx.Request, reply: HttpReply, timeout: float | None) -> None:
        head, framing = _head_of(request, self._by_url)
        sent = 0
        self._sent_all = False
        async for chunk in request.stream:  # type: ignore[union-attr]
            if not chunk:
                continue
            sent += len(chunk)
            if framing is None:
                chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
            elif sent > framing:
                raise httpx.LocalProtocolError("Too much data for declared Content-Length")
            self._transport.write(head + chunk)
            head = b""
            while not (self._writes or self.closed or reply.has_head):
                await self._wait(timeout, httpx.WriteTimeout)
            if self.closed or not self._writes:
                return  # it has not taken all, but may have answered
        if framing is None:
            head += b"0\r\n\r\n"
        elif sent < framing:
            raise httpx.LocalProtocolError("Too little data for declared Content-Length")
        if head:
            self._transport.write(head)
        self._sent_all = True

    async def _wait(self, timeout: float | None, too_late: type[httpx.TimeoutException]) -> None:
        """Until something has happened."""
        self._waiter = self._loop.create_future()
        self._too_late = too_late
        self._deadline = self._loop.time() + timeout if timeout is not None else math.inf
        # One timer for many waits: it looks at the deadline when it comes.
        if timeout is not None and (self._timer is None or self._timer.when() > self._deadline):
            self._arm(self._deadline)
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline:
            self._arm(self._deadline)
        else:
            self._waiter.set_exception(self._too_late(""))

    def _read_on(self) -> None:
        if not self._reads:
            self._reads = True
            self._transport.resume_reading()

    def _fail(self, failure: httpx.TransportError) -> None:
        self._failure = failure
        self._transport.abort()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class _Body(httpx.AsyncByteStream):
    """The body of a reply, in the pieces that arrived."""

    def __init__(self, connection: _Connection, timeout: float | None) -> None:
        self._connection: _Connection | None = connection
        self._timeout = timeout

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while self._connection is not None and (
                piece := await self._connection.piece(self._timeout)
            ):
                yield piece
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()


def _origin_of(request: httpx.Request) -> Origin:
    url = request.url
    secure = url.scheme == "https"
    host = url.raw_host.decode("ascii")
    name = request.extensions.get("sni_hostname") or host
    return Origin(secure, host, url.port or (443 if secure else 80), name if secure else "")


def _head_of(request: httpx.Request, by_url: ProxyHop | None) -> tuple[bytes, int | None]:
    """The head as bytes, and the length of the body; None when it is sent in chunks."""
    target: bytes = request.extensions.get("target") or request.url.raw_path
    method = request.method.encode("ascii", "replace")
    if not _NAME.fullmatch(method) or _NOT_IN_TARGETS.search(target):
        raise httpx.LocalProtocolError("Illegal method or target")
    if by_url is not None:
        target = b"http://%b%b" % (request.url.netloc, target)
    lines = [b"%b %b HTTP/1.1" % (method, target)]
    if by_url is not None and by_url.authorization:
        lines.append(b"Proxy-Authorization: " + by_url.authorization.encode("ascii"))
    length: int | None = 0
    for name, value in request.headers.raw:
        if not _NAME.fullmatch(name) or _NOT_IN_VALUES.search(value):
            raise httpx.LocalProtocolError(f"Illegal header {name!r}")
        lines.append(b"%b: %b" % (name, value))
        lowered = name.lower()
        if lowered == b"content-length" and length is not None:
            length = int(value)
        elif lowered == b"transfer-encoding":
            length = None
    lines.append(b"\r\n")
    return b"\r\n".join(lines), length
