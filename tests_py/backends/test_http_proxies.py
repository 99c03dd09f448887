"""Backends that open their own connections leave the network by the engine's rules."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.test_http_transport import CERTIFICATE, KEY, Server, says
from llm_proxy._core import ProxyRules
from llm_proxy.backends.runtime import http_proxies
from llm_proxy.backends.runtime.capture.plugin_client import build_capture_aware_async_client
from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.backends.runtime.http_transport import direct_transport

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Relay:
    """A proxy on this machine that talks as `talk` says, then carries bytes to `upstream`."""

    def __init__(self, talk: Talk, upstream: Server | None) -> None:
        self._talk = talk
        self._upstream = upstream
        self.connections = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._talk(reader, writer)
            if self._upstream is None:
                return
            port = httpx.URL(self._upstream.url).port
            onward = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_carry(reader, onward[1]), _carry(onward[0], writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def relay(talk: Talk, upstream: Server | None = None) -> AsyncIterator[Relay]:
    async with Relay(talk, upstream) as running:
        yield running


def exactly(*turns: tuple[bytes, bytes]) -> Talk:
    """What is to be heard, byte for byte, and what is said then."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for heard, said in turns:
            assert await reader.readexactly(len(heard)) == heard
            writer.write(said)

    return talk


TUNNEL = b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n"
LOGIN = b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n"
SOCKS_OK = b"\5\0\0\1\0\0\0\0\0\0"


async def test_an_https_upstream_is_reached_by_a_tunnel(tmp_path: Path) -> None:
    served, trusted = contexts(tmp_path)
    async with Server(says(OK), served) as upstream:
        talk = exactly((TUNNEL + LOGIN + b"\r\n", b"HTTP/1.1 200 Fine\r\nVia: x\r\n\r\n"))
        async with relay(talk, upstream) as proxy:
            rules = ProxyRules(
                https_proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}", proxy_loopback=True
            )
            async with client_of(rules, trusted) as client:
                reply = await client.get("https://localhost/v1/models")
            assert (reply.status_code, reply.text) == (200, "hi")
    assert upstream.heads[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert b"proxy-authorization" not in upstream.heads[0].lower()


async def test_an_http_upstream_is_asked_for_by_its_url() -> None:
    async with Server(says(OK), None) as proxy:
        port = httpx.URL(proxy.url).port
        rules = ProxyRules(all_proxy=f"me:p%40ss@127.0.0.1:{port}")
        async with build_backend_client(proxies=rules) as client:
            reply = await client.get("http://api.test:8080/v1?x=1")
        assert reply.text == "hi"
    head = proxy.heads[0]
    assert head.startswith(b"GET http://api.test:8080/v1?x=1 HTTP/1.1\r\n")
    assert LOGIN in head and b"\r\nHost: api.test:8080\r\n" in head


@pytest.mark.parametrize(
    "scheme, address",
    (("socks5h", b"\3\x08api.test"), ("socks5", b"\1\x7f\0\0\1")),
    ids=("name", "address"),
)
async def test_a_socks_proxy_is_told_where_to_go(
    scheme: str, address: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    known = loop.getaddrinfo

    async def getaddrinfo(host: str, *rest: Any, **named: Any) -> Any:
        return await known("127.0.0.1" if host == "api.test" else host, *rest, **named)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    turns = (
        (b"\5\2\0\2", b"\5\2"),
        (b"\1\2me\4p@ss", b"\1\0"),
        (b"\5\1\0" + address + b"\0\x50", SOCKS_OK),
    )
    async with Server(says(OK), None) as upstream, relay(exactly(*turns), upstream) as proxy:
        rules = ProxyRules(all_proxy=f"{scheme}://me:p%40ss@127.0.0.1:{proxy.port}")
        async with build_backend_client(proxies=rules) as client:
            reply = await client.get("http://api.test/v1")
        assert reply.text == "hi"
    assert upstream.heads[0].startswith(b"GET /v1 HTTP/1.1\r\n")


async def test_an_https_upstream_is_reached_through_socks(tmp_path: Path) -> None:
    served, trusted = contexts(tmp_path)
    turns = ((b"\5\1\0", b"\5\0"), (b"\5\1\0\3\x09localhost\x01\xbb", SOCKS_OK))
    async with Server(says(OK), served) as upstream, relay(exactly(*turns), upstream) as proxy:
        rules = ProxyRules(https_proxy=f"socks5h://127.0.0.1:{proxy.port}", proxy_loopback=True)
        async with client_of(rules, trusted) as client:
            assert (await client.get("https://localhost/v1")).text == "hi"


@pytest.mark.parametrize(
    "scheme, heard, said, words",
    (
        ("http", TUNNEL + b"\r\n", b"HTTP/1.1 407 No\r\n\r\n", "status 407"),
        ("http", TUNNEL + b"\r\n", b"SSH-2.0\r\n\r\n", "malformed"),
        ("http", TUNNEL + b"\r\n", b"HTTP/1.1 200 " + b"x" * 9000, "too long"),
        ("http", TUNNEL + b"\r\n", b"", "closed the connection"),
        ("socks5h", b"\5\1\0", b"\5\xff", "wants a user and a password"),
        ("socks5h", b"\5\1\0", b"HT", "does not speak SOCKS5"),
        ("socks5h", b"\5\1\0", b"", "closed the connection"),
    ),
)
async def test_what_a_proxy_refuses_is_said(
    scheme: str, heard: bytes, said: bytes, words: str
) -> None:
    async with relay(exactly((heard, said))) as proxy:
        rules = ProxyRules(https_proxy=f"{scheme}://127.0.0.1:{proxy.port}", proxy_loopback=True)
        async with build_backend_client(proxies=rules) as client:
            with pytest.raises(httpx.ProxyError, match=words):
                await client.get("https://localhost/v1")


async def test_no_proxy_and_loopback_are_reached_directly() -> None:
    async with Server(says(OK), None) as upstream, relay(exactly()) as proxy:
        rules = ProxyRules(all_proxy=f"http://127.0.0.1:{proxy.port}")
        async with build_backend_client(proxies=rules) as client:
            assert (await client.get(upstream.url)).text == "hi"
        told = ProxyRules(
            all_proxy=f"http://127.0.0.1:{proxy.port}",
            no_proxy="127.0.0.0/8",
            proxy_loopback=True,
        )
        async with build_backend_client(proxies=told) as client:
            assert (await client.get(upstream.url)).text == "hi"
        assert proxy.connections == 0


async def test_plugins_own_clients_follow_the_running_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Server(says(OK), None) as proxy:
        port = httpx.URL(proxy.url).port
        rules = ProxyRules(all_proxy=f"http://127.0.0.1:{port}")
        monkeypatch.setattr(http_proxies, "_in_force", rules)
        async with build_capture_aware_async_client() as client:
            assert (await client.get("http://api.test/v1")).text == "hi"
        assert proxy.heads[0].startswith(b"GET http://api.test/v1 ")


def test_the_environment_counts_in_both_cases_and_small_letters_win() -> None:
    rules = http_proxies.rules_of_environment(
        {"HTTPS_PROXY": "http://large:1", "https_proxy": "http://small:2", "NO_PROXY": "x.test"}
    )
    hop = rules.hop_to(True, "api.test", 443)
    assert hop is not None and (hop.host, hop.port) == ("small", 2)
    assert rules.hop_to(True, "a.x.test", 443) is None
    assert rules.hop_to(False, "api.test", 80) is None


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's at localhost, and a client's that trusts it."""
    (folder / "key").write_text(KEY)
    (folder / "certificate").write_text(CERTIFICATE)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "certificate", folder / "key")
    return server, ssl.create_default_context(cadata=CERTIFICATE)


def client_of(rules: ProxyRules, trusted: ssl.SSLContext) -> httpx.AsyncClient:
    return build_backend_client(transport=direct_transport(verify=trusted, proxies=rules))
