"""A client that guesses keys has to wait; one that repeats a wrong key, or is trusted, does not."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from e2e.conftest import StartProxy

ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"model": "echo", "messages": [{"role": "user", "content": "a"}]},
    ),
    "responses": ("/v1/responses", {"model": "echo", "input": "a"}),
    "messages": (
        "/v1/messages",
        {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]},
    ),
    "gemini": ("/v1beta/models/echo:generateContent", {"contents": [{"parts": [{"text": "a"}]}]}),
}


def key(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}"}


@pytest.mark.parametrize("frontend", ASKS)
async def test_who_guesses_waits_and_is_told_how_long(
    frontend: str, start_proxy: StartProxy
) -> None:
    path, body = ASKS[frontend]
    async with (
        start_proxy(API_KEYS="the-right-key") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        for guess in range(5):
            assert (await http.post(path, json=body, headers=key(str(guess)))).status_code == 401
        got = await http.post(path, json=body, headers=key("again"))
        assert got.status_code == 429
        assert 0 < int(got.headers["retry-after"]) <= 30
        assert "too many wrong keys" in got.json()["error"]["message"]
        # Others share the address, behind a reverse proxy for instance.
        assert (await http.post(path, json=body, headers=key("the-right-key"))).status_code == 200
        assert (await http.get("/health")).status_code == 200


async def test_a_client_set_up_wrong_locks_nobody_out(start_proxy: StartProxy) -> None:
    path, body = ASKS["chat"]
    async with (
        start_proxy(API_KEYS="the-right-key") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        for _ in range(20):
            assert (await http.post(path, json=body, headers=key("typo"))).status_code == 401
            assert (await http.post(path, json=body)).status_code == 401
        right = await http.post(path, json=body, headers=key("the-right-key"))
        assert right.status_code == 200


async def test_guessing_an_admin_key_counts_too(start_proxy: StartProxy) -> None:
    async with (
        start_proxy(API_KEYS="the-right-key", LLM_PROXY_ADMIN_KEYS="the-admin-key") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        asked = [await http.get("/api/v1/plugins", headers=key(str(guess))) for guess in range(6)]
        assert [got.status_code for got in asked] == [401] * 5 + [429]


@pytest.mark.parametrize(
    ("settings", "statuses"),
    [
        ({"BRUTE_FORCE_PROTECTION_ENABLED": "false"}, [401] * 9),
        ({"BRUTE_FORCE_MAX_FAILED_ATTEMPTS": "2"}, [401] * 2 + [429] * 7),
        ({"TRUSTED_IPS": "10.0.0.1,127.0.0.0/8"}, [200] * 9),
        ({"TRUSTED_IPS": "10.0.0.1"}, [401] * 5 + [429] * 4),
    ],
)
async def test_the_settings_decide(
    settings: dict[str, str], statuses: list[int], start_proxy: StartProxy
) -> None:
    path, body = ASKS["chat"]
    async with (
        start_proxy(API_KEYS="the-right-key", **settings) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        asked = [await http.post(path, json=body, headers=key(str(guess))) for guess in range(9)]
        assert [got.status_code for got in asked] == statuses


async def test_a_trusted_network_needs_no_key_but_is_no_administrator(
    start_proxy: StartProxy,
) -> None:
    path, body = ASKS["chat"]
    async with (
        start_proxy(
            API_KEYS="the-right-key", LLM_PROXY_ADMIN_KEYS="the-admin-key", TRUSTED_IPS="127.0.0.1"
        ) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        assert (await http.post(path, json=body)).status_code == 200
        swapped = await http.post("/api/v1/plugins/hot-swap", json={})
        assert swapped.status_code in (401, 403)


async def test_a_guesser_is_not_heard_for_ever_while_it_is_blocked(start_proxy: StartProxy) -> None:
    """Beyond its tries a block compares no key that the address has not proved before."""
    path, body = ASKS["chat"]
    async with (
        start_proxy(API_KEYS="used-before,never-used") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        assert (await http.post(path, json=body, headers=key("used-before"))).status_code == 200
        guesses = [
            (await http.post(path, json=body, headers=key(str(guess)))).status_code
            for guess in range(5 + 64)
        ]
        assert guesses == [401] * 5 + [429] * 64
        assert (await http.post(path, json=body, headers=key("never-used"))).status_code == 429
        assert (await http.post(path, json=body, headers=key("used-before"))).status_code == 200


async def test_a_right_key_is_served_however_much_others_guess(start_proxy: StartProxy) -> None:
    """The whole office comes from one address, and so does whoever guesses there."""
    right = "b3f8c1d29e4a5f60718293a4b5c6d7e8"
    path, body = ASKS["chat"]
    async with (
        start_proxy(API_KEYS=right) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        for guess in range(200):
            wrong = await http.post(path, json=body, headers=key(f"{guess:032x}"))
            assert wrong.status_code == (401 if guess < 5 else 429)
        for frontend in ASKS.values():
            served = await http.post(frontend[0], json=frontend[1], headers=key(right))
            assert served.status_code == 200
        assert (await http.post(path, json=body, headers=key("again"))).status_code == 429
        assert (await http.post(path, json=body)).status_code in (401, 429)
