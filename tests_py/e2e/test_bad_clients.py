"""What a client may send wrongly: a clear error in its format, and the next connection works."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from e2e.conftest import Proxy, StartProxy

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
BODY = b'{"model":"echo","messages":[{"role":"user","content":"Hello"}]}'
LENGTH = b"content-length: %d\r\n" % len(BODY)

RAW: dict[str, tuple[bytes, int]] = {
    "both framings": (HEAD + LENGTH + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (HEAD + LENGTH + b"content-length: 3\r\n\r\n" + BODY, 400),
    "a list of lengths": (HEAD + b"content-length: 3, 3\r\n\r\nabc", 400),
    "a coding nobody knows": (HEAD + b"transfer-encoding: gzip\r\n\r\nabc", 400),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /health HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
    "a folded line": (b"GET /health HTTP/1.1\r\nhost: a\r\nx: y\r\n z\r\n\r\n", 400),
    "a head that never ends": (b"GET /health HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 40_000, 431),
    "a chunk that lies": (HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\nabc\r\n", 400),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


async def raw(proxy: Proxy, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(sent)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.read(65536), 10)
    finally:
        writer.close()


async def works(proxy: Proxy) -> bool:
    async with httpx.AsyncClient(base_url=proxy.url) as http:
        return (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200


@pytest.mark.parametrize("case", RAW)
async def test_a_head_that_could_mean_two_things_is_refused(
    case: str, start_proxy: StartProxy
) -> None:
    sent, status = RAW[case]
    async with start_proxy() as proxy:
        said = await raw(proxy, sent)
        assert said.startswith(b"HTTP/1.1 %d " % status), said[:200]
        assert await works(proxy)


SLOW: dict[str, bytes] = {
    "half a line": b"PO",
    "half a head": HEAD,
    "a head in many pieces": HEAD + b"".join(b"x-%d: %s\r\n" % (i, b"y" * 90) for i in range(99)),
    "half a body": HEAD + LENGTH + b"\r\n" + BODY[:9],
}


@pytest.mark.parametrize("case", SLOW)
async def test_a_client_that_falls_silent_is_told_so(case: str, start_proxy: StartProxy) -> None:
    """On a connection that was used before: nothing of the request before is left in the answer."""
    limits = {f"LLM_PROXY_TIMEOUT_CLIENT_{part}": "0.2" for part in ("HEAD", "BODY")}
    async with start_proxy(None, "echo", **limits) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"HEAD /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for at in range(0, len(SLOW[case]), 500):
            writer.write(SLOW[case][at : at + 500])
            await writer.drain()
        said = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert said.startswith(b"HTTP/1.1 408 "), said
        assert b"the request did not arrive in time" in said
        assert await works(proxy)


BODIES: dict[str, tuple[bytes, int]] = {
    "no JSON": (b"{", 400),
    "nothing": (b"", 400),
    "no object": (b"[]", 400),
    "not a number": (b'{"model":"echo","messages":[],"temperature":NaN}', 400),
    "broken UTF-8": (b'{"model":"echo","messages":[{"role":"user","content":"\xff\xfe"}]}', 400),
    "messages of a wrong type": (b'{"model":"echo","max_tokens":5,"messages":"Hello"}', 400),
    "a model of a wrong type": (b'{"model":7,"messages":[]}', 400),
    "no messages": (b'{"model":"echo","max_tokens":5}', 400),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("case", BODIES)
async def test_a_bad_body_is_a_400_in_the_clients_format(
    case: str, path: str, start_proxy: StartProxy
) -> None:
    sent, status = BODIES[case]
    async with start_proxy() as proxy, httpx.AsyncClient(base_url=proxy.url) as http:
        got = await http.post(path, content=sent, headers={"content-type": "application/json"})
        assert got.status_code == status, got.text
        body = got.json()
        assert body["error"]["type"] and body["error"]["message"]
        assert (body.get("type") == "error") == (path == "/v1/messages")
        assert await works(proxy)


async def test_a_body_past_the_limit_is_a_413(start_proxy: StartProxy) -> None:
    async with (
        start_proxy(LLM_PROXY_MAX_BODY_BYTES="2000") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        long = {**CHAT, "messages": [{"role": "user", "content": "x" * 5000}]}
        got = await http.post("/v1/chat/completions", json=long)
        assert got.status_code == 413
        assert got.json()["error"]["message"]
        assert await works(proxy)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405)],
)
async def test_a_wrong_path_or_method_says_so(
    method: str, path: str, status: int, start_proxy: StartProxy
) -> None:
    async with start_proxy() as proxy, httpx.AsyncClient(base_url=proxy.url) as http:
        got = await http.request(method, path)
        assert got.status_code == status
        assert got.json()["error"]["message"]


KEYS: list[dict[str, Any]] = [
    {"headers": {"authorization": "Bearer client-secret"}},
    {"headers": {"x-api-key": "client-secret"}},
    {"headers": {"x-goog-api-key": "client-secret"}},
    {"params": {"key": "client-secret"}},
]


@pytest.mark.parametrize("given", KEYS, ids=["bearer", "x-api-key", "x-goog-api-key", "query"])
async def test_a_client_key_is_taken_wherever_clients_put_it(
    given: dict[str, Any], start_proxy: StartProxy
) -> None:
    async with (
        start_proxy(API_KEYS="other-secret,client-secret") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        assert (await http.post("/v1/chat/completions", json=CHAT, **given)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}])
async def test_without_a_good_key_nobody_is_asked(
    headers: dict[str, str], path: str, start_proxy: StartProxy
) -> None:
    async with (
        start_proxy(API_KEYS="client-secret") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        got = await http.post(path, json={**CHAT, "max_tokens": 5}, headers=headers)
        assert got.status_code == 401
        assert got.json()["error"]["type"] == "authentication_error" or path != "/v1/messages"
        assert "client-secret" not in got.text
