"""Pages in a browser: without keys only this machine's or a listed one may ask (Fetch, CORS)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from e2e.conftest import StartProxy

LISTED, FOREIGN, LOCAL = "https://app.example", "https://evil.example", "http://localhost:3000"
CHAT: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "a"}]}
PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1beta/models/m:countTokens")
NEVER = "access-control-allow-origin"


def preflight(origin: str) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }


@pytest.mark.parametrize("stream", [False, True])
async def test_a_listed_page_may_ask_and_read(stream: bool, start_proxy: StartProxy) -> None:
    async with (
        start_proxy(CORS_ALLOW_ORIGINS=LISTED, API_KEYS="key-of-the-page") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        for path in PATHS:
            asked = await http.options(path, headers=preflight(LISTED))
            assert asked.status_code == 200, path
            assert asked.headers["access-control-allow-origin"] == LISTED
            assert "POST" in asked.headers["access-control-allow-methods"]
            assert asked.headers["access-control-allow-headers"] == "authorization, content-type"
        refused = await http.post(PATHS[0], json=CHAT, headers={"origin": LISTED})
        assert refused.status_code == 401
        assert refused.headers[NEVER] == LISTED  # the page may read why

        headers = {"origin": LISTED, "authorization": "Bearer key-of-the-page"}
        got = await http.post(PATHS[0], json={**CHAT, "stream": stream}, headers=headers)
        assert got.status_code == 200
        assert got.headers[NEVER] == LISTED
        assert got.headers["vary"] == "origin"


@pytest.mark.parametrize("configured", ["", LISTED])
async def test_any_other_page_gets_nothing(configured: str, start_proxy: StartProxy) -> None:
    async with (
        start_proxy(CORS_ALLOW_ORIGINS=configured) as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        for method in ("OPTIONS", "POST"):
            got = await http.request(method, PATHS[0], json=CHAT, headers=preflight(FOREIGN))
            assert got.status_code == 403
            assert "cors.allow_origins" in got.json()["error"]["message"]
            assert NEVER not in got.headers
        local = await http.post(PATHS[0], json=CHAT, headers={"origin": LOCAL})
        assert local.status_code == 200
        assert NEVER not in local.headers


async def test_a_star_lists_every_page(start_proxy: StartProxy) -> None:
    async with (
        start_proxy(CORS_ALLOW_ORIGINS="*") as proxy,
        httpx.AsyncClient(base_url=proxy.url) as http,
    ):
        got = await http.post(PATHS[0], json=CHAT, headers={"origin": FOREIGN})
        assert (got.status_code, got.headers[NEVER]) == (200, FOREIGN)
        change = {"name": "pii-masker", "enabled": False}
        admin = await http.post("/api/v1/plugins/toggle", json=change, headers={"origin": FOREIGN})
        assert admin.status_code == 403  # what changes the proxy is for this machine's pages alone
