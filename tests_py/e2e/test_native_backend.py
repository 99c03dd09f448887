"""A backend that the engine drives with a key a plugin lends: every frontend, renewal, refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.packages import install_example
from backends.test_base_classes import CHAT, CHAT_STREAM, MESSAGES, MESSAGES_STREAM
from e2e.test_python_backend import FRONTENDS
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.testing import Received, Reply, ScriptedUpstream, running_proxy


class Provider:
    """Hands out token-1, token-2, …; accepts what is in `good`, or anything but `bad`."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 3600.0
        self.bad: set[str] = set()
        self.all_bad = False
        self.locked_out = False
        self.answers = asyncio.Event()
        self.answers.set()
        self.asked = asyncio.Event()

    async def __call__(self, request: Received) -> Reply:
        if request.target == "/token":
            self.tokens += 1
            token = f"token-{self.tokens}"
            self.asked.set()
            await self.answers.wait()
            if self.locked_out:
                return Reply({"error": "invalid_grant"}, status=400)
            return Reply({"access_token": token, "expires_in": self.seconds})
        sent = request.headers.get("authorization") or request.headers.get("x-api-key", "")
        if self.all_bad or sent.removeprefix("Bearer ") in self.bad:
            message = f"wrong key {sent}"
            return Reply({"error": {"type": "authentication_error", "message": message}}, 401)
        stream = request.json().get("stream")
        if request.target.endswith("/messages"):
            return Reply([*MESSAGES_STREAM] if stream else MESSAGES)
        return Reply([*CHAT_STREAM] if stream else CHAT)


Start = Callable[..., AbstractAsyncContextManager[tuple[httpx.AsyncClient, ScriptedUpstream]]]


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Start:
    install_example(tmp_path, "native_backend")
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()

    @asynccontextmanager
    async def started(
        **extra: Any,
    ) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedUpstream]]:
        async with ScriptedUpstream(provider) as upstream:
            told = {"token_url": f"{upstream.url}/token", "refresh_token": "r", **extra}
            native = {"api_url": f"{upstream.url}/v1", "extra": told}
            config = {"default_backend": "native", "backends": {"native": native}}
            workers = {"LLM_PROXY_IO_THREADS": "2"}
            async with (
                running_proxy(config, workers) as url,
                httpx.AsyncClient(base_url=url, timeout=30) as client,
            ):
                yield client, upstream
        backend_discovery.reset_backend_discovery_state()

    return started


def chat(stream: bool = False) -> dict[str, Any]:
    return {"model": "m1", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}


@pytest.mark.parametrize("wire_format", ["openai-chat", "anthropic-messages"])
async def test_every_frontend_is_served_with_one_key(
    start: Start, provider: Provider, wire_format: str
) -> None:
    async with start(wire_format=wire_format) as (client, upstream):
        for make, _, _ in FRONTENDS.values():
            for stream in (False, True):
                path, body = make("Hello", stream)
                path = path.replace("models/parrot", "models/m1")
                reply = await client.post(path, json={"model": "m1", **body})
                assert reply.status_code == 200, reply.text
                assert "gr" in reply.text
    asked = [request for request in upstream.requests if request.target != "/token"]
    assert len(asked) == 2 * len(FRONTENDS)
    name = "authorization" if wire_format == "openai-chat" else "x-api-key"
    assert {request.headers[name].removeprefix("Bearer ") for request in asked} == {"token-1"}
    assert provider.tokens == 1


async def test_many_first_requests_wait_for_one_key(start: Start, provider: Provider) -> None:
    provider.answers.clear()
    async with start() as (client, _):
        asked = [
            asyncio.create_task(client.post("/v1/chat/completions", json=chat(number % 2 == 0)))
            for number in range(20)
        ]
        await provider.asked.wait()
        provider.answers.set()
        replies = await asyncio.gather(*asked)
    assert [reply.status_code for reply in replies] == [200] * 20
    assert provider.tokens == 1


async def test_a_refused_key_is_renewed_once_and_no_client_notices(
    start: Start, provider: Provider
) -> None:
    async with start() as (client, _):
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
        provider.bad.add("token-1")
        asked = [client.post("/v1/chat/completions", json=chat(True)) for _ in range(8)]
        replies = await asyncio.gather(*asked)
        assert [reply.status_code for reply in replies] == [200] * 8
    assert provider.tokens == 2


async def test_a_key_that_ends_at_once_is_renewed_for_the_next_request(
    start: Start, provider: Provider
) -> None:
    provider.seconds = 5
    async with start() as (client, _):
        for number in (1, 2, 3):
            assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
            assert provider.tokens == number


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_provider_that_refuses_every_key_is_reported_without_the_key(
    start: Start, provider: Provider, name: str, stream: bool
) -> None:
    provider.all_bad = True
    path, body = FRONTENDS[name][0]("Hello", stream)
    path = path.replace("models/parrot", "models/m1")
    async with start() as (client, upstream):
        reply = await client.post(path, json={"model": "m1", **body})
    assert reply.status_code == 401
    assert "token-" not in reply.text
    assert "wrong key" in json.dumps(reply.json()["error"])
    assert provider.tokens == 2
    assert len(upstream.requests) == 4


async def test_a_login_that_fails_is_the_clients_error_and_is_tried_again(
    start: Start, provider: Provider
) -> None:
    provider.locked_out = True
    async with start() as (client, _):
        reply = await client.post("/v1/chat/completions", json=chat())
        assert (reply.status_code, "log in again" in reply.text) == (401, True)
        provider.locked_out = False
        assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200


async def test_a_client_that_leaves_while_the_key_is_fetched_disturbs_nobody(
    start: Start, provider: Provider
) -> None:
    provider.answers.clear()
    async with start() as (client, _):
        gone = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        await provider.asked.wait()
        gone.cancel()
        await asyncio.wait([gone])
        stays = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
        provider.answers.set()
        assert (await stays).status_code == 200
    assert provider.tokens == 1
