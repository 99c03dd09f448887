"""A provider that fails ends in an error of the client's format, never in a finished answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import planted
from e2e.answers import TEXT, chat_stream, chat_whole
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Close, Reply, Reset, Stall, Upstream, answering, error, stream, whole

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello"}],
}
both_clients = pytest.mark.parametrize("client", PATHS)


async def post(proxy: Proxy, client: str, **more: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20) as http:
        return await http.post(proxy.url + PATHS[client], json={**ASK, **more})


def message_of(client: str, reply: httpx.Response) -> str:
    """The error's text, if the body is an error of the client's format and nothing else."""
    body = reply.json()
    if client == "anthropic":
        assert set(body) >= {"type", "error"} and body["type"] == "error", body
    assert set(body["error"]) >= {"message", "type"}, body
    message: str = body["error"]["message"]
    assert message
    return message


FAILURES: dict[str, tuple[Reply, set[int]]] = {
    "no HTTP at all": (Reply(raw=b"SSH-2.0-OpenSSH_9.2\r\n"), {502}),
    "closed before a byte": (Reply(raw=b""), {502}),
    "an endless head": (Reply(raw=b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000), {502}),
    "a body cut short": (
        Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n" + chat_whole(TEXT)[:40]),
        {502},
    ),
    "a body that is no JSON": (whole(b"<html>gateway</html>"), {502}),
    "bad chunks": (
        Reply(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
        {502},
    ),
    "an error page": (
        Reply(503, (("content-type", "text/html"),), (b"<html>down</html>",)),
        {503},
    ),
    "overloaded": (error(503, "overloaded", "busy"), {503, 529}),
    "a bad request": (error(400, "invalid_request_error", "no such parameter: x"), {400}),
}


@both_clients
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_before_any_output_is_a_whole_error(
    client: str, failure: str, start_proxy: StartProxy
) -> None:
    reply, statuses = FAILURES[failure]
    async with Upstream(lambda _: reply) as upstream, start_proxy(upstream, "openai") as proxy:
        got = await post(proxy, client)
        assert got.status_code in statuses
        message_of(client, got)
        upstream.handler = answering(TEXT)
        assert (await post(proxy, client)).status_code == 200


@both_clients
async def test_nobody_at_the_address_is_a_502(client: str, start_proxy: StartProxy) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        async with start_proxy(
            None, "openai", OPENAI_API_KEY="k", OPENAI_API_BASE_URL=url
        ) as proxy:
            got = await post(proxy, client)
    assert got.status_code in (502, 503)
    message_of(client, got)


@both_clients
async def test_a_limit_of_the_provider_stays_a_429_with_its_retry_after(
    client: str, start_proxy: StartProxy
) -> None:
    limited = error(429, "rate_limit_error", "slow down", ("retry-after", "7"))
    async with Upstream(lambda _: limited) as upstream, start_proxy(upstream, "openai") as proxy:
        got = await post(proxy, client)
    assert got.status_code == 429
    assert got.headers["retry-after"] == "7"
    assert "slow down" in message_of(client, got)


@both_clients
async def test_a_provider_that_repeats_the_key_does_not_give_it_away(
    client: str, start_proxy: StartProxy
) -> None:
    telling = error(401, "authentication_error", f"Incorrect API key: {planted.PROVIDER}")
    async with Upstream(lambda _: telling) as upstream, start_proxy(upstream, "openai") as proxy:
        got = await post(proxy, client)
    assert got.status_code == 401
    assert planted.PROVIDER not in got.text


EVENTS = list(chat_stream(TEXT))
CUTS: dict[str, Callable[[], Reply]] = {
    "reset in mid-stream": lambda: stream([*EVENTS[:5], Reset()]),
    "closed in mid-stream": lambda: stream([*EVENTS[:5], Close()]),
    "ended in order without its terminator": lambda: stream(EVENTS[:5]),
    "cut inside an event": lambda: stream([*EVENTS[:5], EVENTS[5][:20], Close()]),
}


@both_clients
@pytest.mark.parametrize("cut", CUTS)
async def test_a_cut_stream_never_looks_finished(
    client: str, cut: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(lambda _: CUTS[cut]()) as upstream,
        start_proxy(upstream, "openai") as proxy,
    ):
        heard, clean = b"", True
        async with (
            httpx.AsyncClient(timeout=20) as http,
            http.stream("POST", proxy.url + PATHS[client], json={**ASK, "stream": True}) as reply,
        ):
            try:
                async for piece in reply.aiter_raw():
                    heard += piece
            except httpx.RemoteProtocolError:
                clean = False
    if reply.status_code != 502:  # the cut came together with the first output: told as a whole
        assert reply.status_code == 200
        assert TEXT.text[:7] in heard.decode()
        assert not clean, "the framing must not say that this was all"
    for word in (b"[DONE]", b"message_stop", b'"finish_reason":"stop"', b"end_turn"):
        assert word not in heard
    assert b'"error"' in heard


@both_clients
async def test_an_error_inside_a_200_before_any_output_is_an_error_with_its_status(
    client: str, start_proxy: StartProxy
) -> None:
    said = {"error": {"message": "out of memory", "type": "server_error", "code": 500}}
    events = [f"data: {json.dumps(said)}\n\n".encode()]
    async with (
        Upstream(lambda _: stream(events)) as upstream,
        start_proxy(upstream, "openai") as proxy,
    ):
        got = await post(proxy, client, stream=True)
    assert got.status_code >= 500
    assert "out of memory" in message_of(client, got)


async def test_a_silent_provider_is_a_504(start_proxy: StartProxy) -> None:
    """The one wait on the real clock here, and a short one."""
    async with (
        Upstream(lambda _: Reply(silent=True)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_TIMEOUT_FIRST_BYTE="0.2") as proxy,
    ):
        got = await post(proxy, "openai")
    assert got.status_code == 504
    message_of("openai", got)


FAILED = b'data: {"error":{"message":"no more","type":"server_error","code":null}}\n\n'


@pytest.mark.parametrize("said", [0, 5], ids=["before any output", "after some output"])
async def test_an_upstream_that_reports_an_error_and_speaks_on_is_closed(
    said: int, start_proxy: StartProxy
) -> None:
    steps = [*EVENTS[:said], FAILED, Stall()]
    async with (
        Upstream(lambda _: stream(steps)) as upstream,
        start_proxy(upstream, "openai") as proxy,
    ):
        with contextlib.suppress(httpx.RemoteProtocolError):
            await post(proxy, "anthropic", stream=True)
        await asyncio.wait_for(upstream.last.gone.wait(), 5)
