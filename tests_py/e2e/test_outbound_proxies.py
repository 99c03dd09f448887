"""Providers are reached through the proxies that the environment names; the engine's own way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

import planted
from e2e.answers import TEXT
from e2e.conftest import StartProxy
from e2e.upstream import Upstream, answering

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
PROVIDER = {"OPENAI_API_KEY": planted.PROVIDER, "LLM_BACKEND": "openai"}


async def ask(port: int, **more: object) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as http:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        return await http.post(url, json={**ASK, **more})


@pytest.mark.parametrize("variable", ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"))
async def test_an_http_provider_is_asked_for_by_its_url(
    variable: str, start_proxy: StartProxy
) -> None:
    async with Upstream(answering(TEXT)) as out:
        environment = {
            **PROVIDER,
            variable: f"http://me:p%40ss@127.0.0.1:{out.port}",
            "OPENAI_API_BASE_URL": "http://api.provider.test:8080/v1",
        }
        async with start_proxy(None, "openai", **environment) as proxy:
            for _ in range(2):  # the connection to the proxy is used again
                assert (await ask(proxy.port)).status_code == 200
    assert out.connections == 1
    for request in out.requests:
        assert request.path == "http://api.provider.test:8080/v1/chat/completions"
        assert request.headers["host"] == "api.provider.test:8080"
        assert request.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


@asynccontextmanager
async def socks_to(upstream: Upstream, heard: list[bytes]) -> AsyncIterator[int]:
    """A SOCKS5 proxy that leads everybody to `upstream`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heard.append(await reader.readexactly(4))
            writer.write(b"\5\2")
            heard.append(await reader.readexactly(9))
            writer.write(b"\1\0")
            heard.append(await reader.readexactly(4 + 1 + len("api.provider.test") + 2))
            writer.write(b"\5\0\0\1\0\0\0\0\0\0")
            onward = await asyncio.open_connection("127.0.0.1", upstream.port)
            await asyncio.gather(carry(reader, onward[1]), carry(onward[0], writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.mark.parametrize("stream", (False, True), ids=("whole", "stream"))
async def test_a_provider_is_reached_through_socks(stream: bool, start_proxy: StartProxy) -> None:
    heard: list[bytes] = []
    async with Upstream(answering(TEXT)) as upstream, socks_to(upstream, heard) as port:
        environment = {
            **PROVIDER,
            "ALL_PROXY": f"socks5h://me:p%40ss@127.0.0.1:{port}",
            "OPENAI_API_BASE_URL": "http://api.provider.test/v1",
        }
        async with start_proxy(None, "openai", **environment) as proxy:
            assert (await ask(proxy.port, stream=stream)).status_code == 200
    assert heard == [b"\5\2\0\2", b"\1\2me\4p@ss", b"\5\1\0\3\x11api.provider.test\0\x50"]
    assert upstream.last.path == "/v1/chat/completions"
    assert "proxy-authorization" not in upstream.last.headers


async def test_an_https_provider_is_reached_by_a_tunnel_and_a_refusal_is_told(
    start_proxy: StartProxy,
) -> None:
    heard: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    environment = {
        **PROVIDER,
        "https_proxy": f"http://me:secret-word@127.0.0.1:{port}",
        "OPENAI_API_BASE_URL": "https://api.provider.test/v1",
        "LLM_PROXY_FAILURE_HANDLING": "false",
    }
    async with start_proxy(None, "openai", **environment) as proxy:
        reply = await ask(proxy.port)
    server.close()
    assert heard[0].startswith(b"CONNECT api.provider.test:443 HTTP/1.1\r\n")
    assert reply.status_code == 502
    assert "407" in reply.text and "secret-word" not in reply.text


async def test_no_proxy_and_loopback_are_reached_directly(start_proxy: StartProxy) -> None:
    nobody = "http://127.0.0.1:9"
    async with Upstream(answering(TEXT)) as upstream:
        async with start_proxy(upstream, "openai", HTTP_PROXY=nobody) as proxy:
            assert (await ask(proxy.port)).status_code == 200
        told = {"HTTP_PROXY": nobody, "LLM_PROXY_PROXY_LOOPBACK": "true"}
        async with start_proxy(upstream, "openai", **told, NO_PROXY="127.0.0.0/8") as proxy:
            assert (await ask(proxy.port)).status_code == 200
        told["LLM_PROXY_FAILURE_HANDLING"] = "false"
        async with start_proxy(upstream, "openai", **told) as proxy:
            assert (await ask(proxy.port)).status_code == 502
