"""The HTTP that backends are handed, held against httpx's own transport on the same servers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.backends.runtime.http_transport import BackendTransport
from src.core.plugin_api import build_capture_aware_async_client

LIMITS = httpx.Limits(max_connections=2, max_keepalive_connections=1)

# For localhost and 127.0.0.1, until 2120; trusted by nobody but these tests.
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgCVkPv4WhcftaBdxL
71otg5COncSfbw3IiqRnJDWcSvihRANCAARutt81TmVFmHDs9s9FXNq2TeFloXpY
a4YdV6hnICfWiQwiNUWTlSaUcXd0eugiwB3RM3uzow4rJKiE9i2ocJLW
-----END PRIVATE KEY-----
"""
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBZjCCAQ2gAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABG623zVOZUWYcOz2
z0Vc2rZN4WWhelhrhh1XqGcgJ9aJDCI1RZOVJpRxd3R66CLAHdEze7OjDiskqIT2
LahwktajTjBMMA8GA1UdEwEB/wQFMAMBAf8wGgYDVR0RBBMwEYIJbG9jYWxob3N0
hwR/AAABMB0GA1UdDgQWBBSHFiIikZ8DYW/Jw9+cdcwCK//NizAKBggqhkjOPQQD
AgNHADBEAiAtOPLFpeW/Qd+nF0FxHHg2fnUo5ucD0WxycuSy786tfwIgGrBrF4Pp
WxNWZPrl5tSUKc9VzumvTnTtwV8QuA8PnEM=
-----END CERTIFICATE-----
"""


def ours(**changes: Any) -> BackendTransport:
    def not_needed() -> httpx.AsyncBaseTransport:
        raise AssertionError("plain HTTP/1.1 was left to the other transport")

    return BackendTransport(
        not_needed, **{"limits": LIMITS, "tls": ssl.create_default_context, **changes}
    )


def theirs() -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(limits=LIMITS, trust_env=False)


class Server:
    """Does with each connection what `script` says, and counts."""

    def __init__(self, script: Callable[..., Awaitable[None]], tls: ssl.SSLContext | None) -> None:
        self.script = script
        self.tls = tls
        self.connections = self.open = self.most = 0
        self.heads: list[bytes] = []
        self.gone = asyncio.Event()  # a client has left
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        port = self.server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self.tls else ''}://127.0.0.1:{port}/v1/chat?x=1"
        return self

    async def __aexit__(self, *error: object) -> None:
        self.server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.most = max(self.most, self.open)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(self, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone.set()
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()

    async def request(self, reader: asyncio.StreamReader) -> bytes:
        """The next request's body."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            body = b""
            while size := int(await reader.readline(), 16):
                body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
            return body
        length = lowered.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return await reader.readexactly(int(length or 0))


@asynccontextmanager
async def serving(
    script: Callable[..., Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    async with Server(script, tls) as server:
        yield server


def says(reply: bytes, then_close: bool = True) -> Callable[..., Awaitable[None]]:
    """One reply, in one piece, to each request of a connection."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.request(reader)
            writer.write(reply)
            await writer.drain()
            if then_close:
                return

    return script


async def outcome(transport: httpx.AsyncBaseTransport, url: str, method: str = "POST") -> Any:
    """What a caller sees: status, headers and body, or the kind of the error and when it came."""
    at = "head"
    async with httpx.AsyncClient(transport=transport, timeout=5) as client:
        try:
            async with client.stream(method, url, json={"a": 1}) as reply:
                at = "body"
                assert reply.extensions["network_stream"].get_extra_info("server_addr")
                version = reply.extensions["http_version"], reply.reason_phrase
                body = b"".join([piece async for piece in reply.aiter_raw()])
                return reply.status_code, version, reply.headers.raw, body
        except httpx.HTTPError as error:
            assert error.request is not None
            return type(error), at


OK = b"HTTP/1.1 200 OK\r\n"
REPLIES = {
    "a length": OK + b"X-A: 1\r\nx-a:  2 \r\nContent-Length: 5\r\n\r\nhello",
    "an empty body": OK + b"content-length: 0\r\n\r\n",
    "chunks": OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
    "chunks and a trailer": OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: y\r\n\r\n",
    "until it closes": OK + b"connection: close\r\n\r\nall of it",
    "HTTP/1.0": b"HTTP/1.0 200 Fine\r\n\r\nold",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
    "no reason": b"HTTP/1.1 200 \r\ncontent-length: 1\r\n\r\na",
    "an interim reply": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 1\r\n\r\na",
    "two of them": b"HTTP/1.1 102 P\r\nx: 1\r\n\r\nHTTP/1.1 103 E\r\n\r\n"
    + OK
    + b"content-length: 1\r\n\r\na",
    "an error": b"HTTP/1.1 503 No\r\nretry-after: 3\r\ncontent-length: 2\r\n\r\n{}",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nconte",
    "a cut body": OK + b"content-length: 10\r\n\r\nhello",
    "cut chunks": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
    "chunks without end": OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no chunk size": OK + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    "a length that is none": OK + b"content-length: five\r\n\r\nhello",
}


@pytest.mark.parametrize("name", REPLIES)
async def test_a_caller_sees_what_it_sees_of_httpx(name: str) -> None:
    async with serving(says(REPLIES[name])) as server:
        seen = await outcome(ours(), server.url)
        assert seen == await outcome(theirs(), server.url)
        assert server.heads[0] == server.heads[1]
        head = await outcome(ours(), server.url, "HEAD")
        assert head == await outcome(theirs(), server.url, "HEAD")


@pytest.mark.parametrize("name", ["chunks and a trailer", "an interim reply", "a length"])
async def test_a_caller_sees_the_same_for_every_cut_of_the_network(name: str) -> None:
    cut = 0

    async def in_two(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.request(reader)
            writer.write(REPLIES[name][:cut])
            for _ in range(4):  # of one loop for both: the first part is read before the rest comes
                await asyncio.sleep(0)
            writer.write(REPLIES[name][cut:])

    async with serving(in_two) as server, httpx.AsyncClient(transport=ours()) as client:
        for cut in range(len(REPLIES[name])):
            reply = await client.get(server.url)
            assert reply.status_code == 200
            assert reply.content == {"a length": b"hello"}.get(name, b"a"), cut
        assert server.connections == 1


async def test_a_connection_is_used_again_only_if_nothing_is_left_on_it() -> None:
    whole = OK + b"content-length: 2\r\n\r\nok"
    for reply, connections in (
        (whole, 1),
        (OK + b"content-length: 2\r\nconnection: close\r\n\r\nok", 3),
        (whole + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", 3),
    ):
        async with (
            serving(says(reply, then_close=False)) as server,
            httpx.AsyncClient(transport=ours()) as client,
        ):
            for _ in range(3):
                assert (await client.post(server.url, json={})).text == "ok"
            assert server.connections == connections, reply


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with (
        serving(says(OK + b"content-length: 2\r\n\r\nok")) as server,
        httpx.AsyncClient(transport=ours()) as client,
    ):
        for _ in range(3):
            assert (await client.get(server.url)).text == "ok"
        assert server.connections == 3


async def test_an_idle_connection_expires() -> None:
    limits = httpx.Limits(keepalive_expiry=0)
    async with (
        serving(says(OK + b"content-length: 2\r\n\r\nok", then_close=False)) as server,
        httpx.AsyncClient(transport=ours(limits=limits)) as client,
    ):
        for _ in range(2):
            assert (await client.get(server.url)).text == "ok"
        assert server.connections == 2


@pytest.mark.parametrize("make", [ours, theirs])
async def test_no_more_connections_than_the_limit_and_whoever_waits_too_long_is_told(
    make: Callable[[], httpx.AsyncBaseTransport],
) -> None:
    go_on = asyncio.Event()

    async def slow(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.request(reader)
            await go_on.wait()
            writer.write(OK + b"content-length: 2\r\n\r\nok")

    async with serving(slow) as server, httpx.AsyncClient(transport=make()) as client:
        first = [asyncio.create_task(client.get(server.url)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(httpx.PoolTimeout):
            await client.get(server.url, timeout=httpx.Timeout(5, pool=0.01))
        rest = [asyncio.create_task(client.get(server.url)) for _ in range(6)]
        for _ in range(8):
            await asyncio.sleep(0)
        rest.pop().cancel()
        go_on.set()
        assert [reply.text for reply in await asyncio.gather(*first, *rest)] == ["ok"] * 7
        assert server.most == 2


async def test_silence_is_a_timeout_before_the_head_and_in_the_body() -> None:
    for begun in (b"", OK + b"content-length: 9\r\n\r\nhello"):

        async def silent(
            server: Server,
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            begun: bytes = begun,
        ) -> None:
            await server.request(reader)
            writer.write(begun)
            if not await reader.read(1):
                server.gone.set()

        async with serving(silent) as server, httpx.AsyncClient(transport=ours()) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(server.url, timeout=httpx.Timeout(5, read=0.02))
            await asyncio.wait_for(server.gone.wait(), 1)


async def test_nobody_listening_is_a_connect_error() -> None:
    async with serving(says(b"")) as server:
        url = server.url
    async with httpx.AsyncClient(transport=ours()) as client:
        for _ in range(3):  # more than the limit: a failed one takes no room
            with pytest.raises(httpx.ConnectError):
                await client.get(url)
        with pytest.raises(httpx.ConnectError):
            await client.get("http://no-such-host.invalid/")


@pytest.mark.parametrize("make", [ours, theirs])
async def test_bodies_of_every_kind_arrive_whole(
    make: Callable[[], httpx.AsyncBaseTransport],
) -> None:
    bodies: list[bytes] = []

    async def keeps(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            bodies.append(await server.request(reader))
            writer.write(OK + b"content-length: 0\r\n\r\n")

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"", b"two"):
            yield piece

    big = bytes(range(256)) * 20_000
    async with serving(keeps) as server, httpx.AsyncClient(transport=make()) as client:
        await client.post(server.url, content=pieces())
        await client.post(server.url, content=big)
        await client.post(server.url, files={"file": ("name", b"content")})
        await client.get(server.url)
        assert bodies[:2] == [b"onetwo", big]
        assert b"content" in bodies[2]
        assert bodies[3] == b""
        assert server.connections == 1


async def test_what_would_smuggle_is_not_sent() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"12345"

    async with (
        serving(says(OK + b"content-length: 0\r\n\r\n")) as server,
        httpx.AsyncClient(transport=ours()) as client,
    ):
        for headers in ({"x": "a\r\nb: c"}, {"x": "a\nb"}, {"a b": "c"}, {"content-length": "3"}):
            with pytest.raises(httpx.LocalProtocolError):
                await client.post(server.url, headers=headers, content=pieces())
        assert not any(b"b: c" in head for head in server.heads)


async def test_a_reply_that_nobody_reads_waits_at_the_server() -> None:
    sent = 0

    async def endless(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        await server.request(reader)
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            sent += 0x4000
            await writer.drain()

    async with serving(endless) as server, httpx.AsyncClient(transport=ours()) as client:
        async with client.stream("GET", server.url) as reply:
            before = -1
            while sent != before:  # until the sockets' own buffers are full
                before = sent
                for _ in range(50):
                    await asyncio.sleep(0)
            assert reply.extensions["network_stream"]._unread < 3 * 64 * 1024
            got = 0
            async for piece in reply.aiter_raw():
                got += len(piece)
                if got > before + 64 * 1024:
                    break  # it goes on
        await asyncio.wait_for(server.gone.wait(), 1)


async def test_whoever_is_cancelled_closes_the_connection_at_once() -> None:
    async def stuck(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(OK + b"content-length: 9\r\n\r\nhello")
        if not await reader.read(1):
            server.gone.set()

    async with serving(stuck) as server, httpx.AsyncClient(transport=ours()) as client:
        begun = asyncio.Event()

        async def read() -> None:
            async with client.stream("GET", server.url) as reply:
                async for _ in reply.aiter_raw():
                    begun.set()

        task = asyncio.create_task(read())
        await begun.wait()
        started = asyncio.get_running_loop().time()
        task.cancel()
        await asyncio.wait_for(server.gone.wait(), 1)
        assert asyncio.get_running_loop().time() - started < 0.05
        await asyncio.gather(task, return_exceptions=True)


async def test_tls_is_verified_and_told_the_name(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    (tmp_path / "certificate").write_text(CERTIFICATE)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    names: list[str | None] = []
    tls.sni_callback = lambda _socket, name, _context: names.append(name)

    def trusting() -> ssl.SSLContext:
        return ssl.create_default_context(cadata=CERTIFICATE)

    async with serving(says(REPLIES["chunks"], then_close=False), tls) as server:
        async with httpx.AsyncClient(transport=ours(tls=trusting)) as client:
            for _ in range(3):
                assert (await client.post(server.url, json={})).text == "abcde"
            assert server.connections == 1
            url = server.url.replace("127.0.0.1", "localhost")
            assert (await client.get(url)).text == "abcde"
            assert names == [None, "localhost"]
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get(server.url, extensions={"sni_hostname": "elsewhere.example"})
        async with httpx.AsyncClient(transport=ours()) as client:
            with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
                await client.get(server.url)


async def test_what_is_no_plain_http_1_1_goes_the_other_way() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        return httpx.Response(200)

    transport = BackendTransport(
        lambda: httpx.MockTransport(answer),
        limits=LIMITS,
        tls=ssl.create_default_context,
        http2=True,
    )
    async with httpx.AsyncClient(transport=transport) as client:
        await client.get("https://x/")  # may become HTTP/2
        await client.get("http://x/", headers={"upgrade": "websocket"})
        await client.request("CONNECT", "http://x/")
        await client.get("http://x/", extensions={"trace": answer})
        await client.get("unix://x/")
    assert len(seen) == 5


async def test_closing_the_client_closes_its_sockets() -> None:
    left = asyncio.Event()

    async def notices(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(OK + b"content-length: 0\r\n\r\n")
        await reader.read(1)
        left.set()

    async with serving(notices) as server:
        async with httpx.AsyncClient(transport=ours()) as client:
            await client.get(server.url)
        await asyncio.wait_for(left.wait(), 1)


@pytest.mark.parametrize("place", [httpx.AsyncHTTPTransport, httpcore.AsyncConnectionPool])
@pytest.mark.parametrize("make", [build_backend_client, build_capture_aware_async_client])
async def test_what_has_wrapped_httpx_sees_the_requests_of_clients_made_after_it(
    place: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tracing wraps httpx's transport, and the tests of a plugin put a stand-in there."""

    async def stands_in(self: Any, request: Any) -> Any:
        raise httpcore.ReadError("stood in")

    monkeypatch.setattr(place, "handle_async_request", stands_in)
    async with make() as client:
        with pytest.raises((httpx.ReadError, httpcore.ReadError), match="stood in"):
            await client.get("http://127.0.0.1:1/")
        monkeypatch.undo()
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")


async def test_how_a_client_sends_is_decided_when_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stands_in(self: Any, request: Any) -> Any:
        raise httpcore.ReadError("stood in")

    async with build_backend_client() as client:
        monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", stands_in)
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1/")


def test_a_plugins_own_settings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def transport_of(**settings: Any) -> type:
        return type(build_capture_aware_async_client(**settings)._transport)

    assert transport_of(timeout=3, verify=False, limits=LIMITS) is BackendTransport
    assert transport_of(proxy="http://127.0.0.1:1") is httpx.AsyncHTTPTransport
    assert transport_of(transport=httpx.MockTransport(print)) is httpx.MockTransport
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert transport_of() is BackendTransport
    assert transport_of(trust_env=False) is BackendTransport
