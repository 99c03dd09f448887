"""Lent keys when the configuration changes under them, when they end, and when they do not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.packages import install_example
from e2e.test_native_backend import Provider, chat
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.server import Server
from llm_proxy.testing import Received, ScriptedUpstream

FIRST_BYTE = 30.0


class Account:
    """A provider with its own logins: what it is sent is kept by the key it was sent with."""

    def __init__(self) -> None:
        self.provider = Provider()
        self.upstream = ScriptedUpstream(self.provider)

    @property
    def settings(self) -> dict[str, Any]:
        """What `app_config` says of it."""
        told = {"token_url": f"{self.upstream.url}/token", "refresh_token": self.upstream.url}
        return {"backends": {"native": {"api_url": f"{self.upstream.url}/v1", "extra": told}}}

    @property
    def asked(self) -> list[Received]:
        return [each for each in self.upstream.requests if each.target != "/token"]

    @property
    def logins(self) -> set[bytes]:
        return {each.body for each in self.upstream.requests if each.target == "/token"}


@pytest.fixture
async def accounts() -> AsyncIterator[tuple[Account, Account]]:
    old, new = Account(), Account()
    async with old.upstream, new.upstream:
        yield old, new


Start = Callable[..., AbstractAsyncContextManager[tuple[Server, httpx.AsyncClient]]]


def snapshot(first_byte: float = FIRST_BYTE) -> dict[str, Any]:
    row = {"name": "native", "type": "native", "kind": "python", "format": "openai-chat"}
    return {
        "port": 0,
        "io_threads": 1,
        "logging": {"access_log": False},
        "default_backend": "native",
        "backends": [row],
        "failure_handling": {"max_attempts": 1},
        "timeouts": {"first_byte": first_byte},
    }


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    install_example(tmp_path, "native_backend")
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()

    @asynccontextmanager
    async def started(
        account: Account, first_byte: float = FIRST_BYTE
    ) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
        async with (
            make_server(snapshot(first_byte), app_config=account.settings) as server,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client,
        ):
            yield server, client
        backend_discovery.reset_backend_discovery_state()

    return started


async def ask(client: httpx.AsyncClient, stream: bool = False) -> int:
    return (await client.post("/v1/chat/completions", json=chat(stream))).status_code


async def test_a_reload_with_another_login_leaves_nothing_of_the_old_one(
    start: Start, accounts: tuple[Account, Account]
) -> None:
    old, new = accounts
    async with start(old) as (server, client):
        assert await ask(client) == 200
        server.reload(snapshot(), new.settings)
        assert [await ask(client, stream) for stream in (False, True)] == [200, 200]
    assert (len(old.asked), len(new.asked)) == (1, 2)
    assert (old.provider.tokens, new.provider.tokens) == (1, 1)
    assert not old.logins & new.logins


async def test_a_reload_that_changes_nothing_of_it_asks_for_no_new_key(
    start: Start, accounts: tuple[Account, Account]
) -> None:
    account, _ = accounts
    async with start(account) as (server, client):
        for _ in range(3):
            assert await ask(client) == 200
            server.reload(snapshot(), account.settings)
    assert account.provider.tokens == 1


async def test_a_request_that_waits_for_its_key_over_a_reload_ends_where_it_began(
    start: Start, accounts: tuple[Account, Account]
) -> None:
    old, new = accounts
    old.provider.answers.clear()
    async with start(old) as (server, client):
        waits = asyncio.create_task(ask(client))
        await old.provider.asked.wait()
        server.reload(snapshot(), new.settings)
        assert await ask(client) == 200
        old.provider.answers.set()
        assert await waits == 200
        assert await ask(client, stream=True) == 200
    assert (len(old.asked), len(new.asked)) == (1, 2)
    assert (old.provider.tokens, new.provider.tokens) == (1, 1)


async def test_a_key_refused_over_a_reload_is_renewed_by_whoever_lent_it(
    start: Start, accounts: tuple[Account, Account]
) -> None:
    """The old request renews its own key; the new configuration is not given that one."""
    old, new = accounts
    async with start(old) as (server, client):
        assert await ask(client) == 200
        old.provider.bad.add("token-1")
        old.provider.asked.clear()
        old.provider.answers.clear()
        waits = asyncio.create_task(ask(client))  # refused, and asks for another
        await old.provider.asked.wait()
        server.reload(snapshot(), new.settings)
        old.provider.answers.set()
        assert await waits == 200
        new.provider.bad.add("token-2")  # the old account's, had it come along
        assert await ask(client) == 200
    assert [len(old.asked), len(new.asked)] == [3, 1]
    assert (old.provider.tokens, new.provider.tokens) == (2, 1)


async def test_a_key_that_does_not_come_is_a_timeout_and_the_next_request_is_served(
    start: Start, accounts: tuple[Account, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    account, _ = accounts
    account.provider.answers.clear()
    async with start(account, first_byte=0.1) as (server, client):
        reply = await client.post("/v1/chat/completions", json=chat())
        assert reply.status_code == 504
        assert "did not lend its key in time" in reply.json()["error"]["message"]
        account.provider.answers.set()
        server.reload(snapshot(), account.settings)  # patient again
        assert await ask(client) == 200
    assert account.provider.tokens == 1


async def test_whoever_leaves_before_the_key_comes_is_forgotten(
    start: Start, accounts: tuple[Account, Account]
) -> None:
    account, _ = accounts
    account.provider.answers.clear()
    async with start(account) as (server, client):
        leaving = [asyncio.create_task(ask(client)) for _ in range(5)]
        await account.provider.asked.wait()
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        while server.stats()["active"]:  # noqa: ASYNC110 -- there is no event for it
            await asyncio.sleep(0)
        account.provider.answers.set()
        assert await ask(client) == 200
    assert len(account.asked) == 1


async def test_a_key_that_ends_during_a_stream_does_not_end_the_stream(
    start: Start, accounts: tuple[Account, Account]
) -> None:
    account, _ = accounts
    account.provider.seconds = 5  # sooner than the margin: for one request only
    async with start(account) as (server, client):
        path = "/v1/chat/completions"
        async with client.stream("POST", path, json=chat(True)) as reply:
            assert await ask(client) == 200  # with a key of its own
            server.reload(snapshot(), account.settings)
            heard = b"".join([piece async for piece in reply.aiter_bytes()])
        assert heard.rstrip().endswith(b"data: [DONE]")
    assert account.provider.tokens == 2
