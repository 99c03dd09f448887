"""The second port: Anthropic's API alone, at its root."""

from __future__ import annotations

import httpx
import pytest
from anthropic import AsyncAnthropic

from e2e.answers import TEXT
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Upstream, answering


def second(proxy: Proxy) -> str:
    assert proxy.server is not None and proxy.server.anthropic_port
    return f"http://127.0.0.1:{proxy.server.anthropic_port}"


async def test_it_serves_the_sdk_and_the_first_port_goes_on(start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", ANTHROPIC_PORT="0") as proxy,
        AsyncAnthropic(base_url=second(proxy), api_key="any", max_retries=0) as client,
    ):
        async with client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}]
        ) as stream:
            assert await stream.get_final_text() == TEXT.text
        async with httpx.AsyncClient(base_url=proxy.url) as http:
            assert (await http.get("/v1/models")).json()["object"] == "list"


async def test_all_it_says_is_in_anthropic_s_shape(start_proxy: StartProxy) -> None:
    async with (
        start_proxy(ANTHROPIC_PORT="0", API_KEYS="key", MODEL_ALIASES='{"nice": "echo"}') as proxy,
        httpx.AsyncClient(base_url=second(proxy), headers={"x-api-key": "key"}) as http,
    ):
        models = (await http.get("/v1/models")).json()
        assert {"data", "has_more", "first_id", "last_id"} <= set(models)
        one = await http.get(f"/v1/models/{models['data'][0]['id']}")
        assert one.json()["type"] == "model"
        assert (await http.get("/health")).status_code == 200
        for method, path, status in (
            ("POST", "/v1/chat/completions", 404),
            ("POST", "/v1/responses", 404),
            ("POST", "/v1beta/models/m:generateContent", 404),
            ("GET", "/v1/diagnostics", 404),
            ("GET", "/api/v1/plugins", 404),
            ("GET", "/nothing", 404),
            ("GET", "/v1/messages", 405),
        ):
            got = await http.request(method, path, json={})
            assert (got.status_code, got.json()["type"]) == (status, "error"), path
        bare = await http.post("/v1/messages", json={}, headers={"x-api-key": "wrong"})
        assert bare.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize("port", ["-1", None])
async def test_there_is_none_unless_asked_for(port: str | None, start_proxy: StartProxy) -> None:
    async with start_proxy(**({"ANTHROPIC_PORT": port} if port else {})) as proxy:
        assert proxy.server is not None and proxy.server.anthropic_port == 0
