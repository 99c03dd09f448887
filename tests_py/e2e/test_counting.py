"""Counting tokens: here, or by the provider when the user wants it exact; never at its expense."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

import planted
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Received, Reply, Upstream, error, whole

TOOL = {"type": "object", "properties": {"city": {"type": "string"}}}
TEXT = "How many tokens is this?"
ASKED: dict[str, tuple[str, dict[str, Any], str]] = {
    "messages": (
        "/v1/messages/count_tokens?beta=true",
        {
            "model": "model-a",
            "system": "s",
            "messages": [{"role": "user", "content": TEXT}],
            "tools": [{"name": "f", "input_schema": TOOL}],
        },
        "input_tokens",
    ),
    "gemini": (
        "/v1beta/models/model-a:countTokens",
        {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]},
        "totalTokens",
    ),
    "gemini, whole request": (
        "/v1beta/models/model-a:countTokens",
        {
            "generateContentRequest": {
                "model": "models/model-a",
                "contents": [{"role": "user", "parts": [{"text": TEXT}]}],
                "generationConfig": {"maxOutputTokens": 5},
            }
        },
        "totalTokens",
    ),
    "responses": (
        "/v1/responses/input_tokens",
        {"model": "model-a", "input": TEXT, "instructions": "s"},
        "input_tokens",
    ),
}
# Where each provider counts, what it takes there, and what it says.
COUNTERS: dict[str, tuple[str, set[str], bytes]] = {
    "anthropic": (
        "/v1/messages/count_tokens",
        {"model", "messages", "system", "tools", "tool_choice", "thinking"},
        b'{"input_tokens": 4711}',
    ),
    "gemini": (
        "/v1/models/model-a:countTokens",
        {"contents", "generateContentRequest"},
        b'{"totalTokens": 4711, "promptTokensDetails": []}',
    ),
    "openai-responses": (
        "/v1/responses/input_tokens",
        {"model", "input", "instructions", "tools", "tool_choice", "text", "reasoning"},
        b'{"object": "response.input_tokens", "input_tokens": 4711}',
    ),
}

every_client = pytest.mark.parametrize("client", ASKED)
every_counter = pytest.mark.parametrize("backend", COUNTERS)


async def count(proxy: Proxy, client: str) -> int:
    path, body, key = ASKED[client]
    async with httpx.AsyncClient(base_url=proxy.url) as http:
        got = await http.post(path, json=body)
    assert got.status_code == 200, got.text
    return int(got.json()[key])


def counting(backend: str) -> Callable[[Received], Reply]:
    return lambda request: whole(COUNTERS[backend][2])


@every_client
@every_counter
async def test_the_provider_counts_when_asked_to(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    path, taken, _ = COUNTERS[backend]
    async with (
        Upstream(counting(backend)) as upstream,
        start_proxy(upstream, backend, LLM_PROXY_EXACT_TOKEN_COUNTS="true") as proxy,
    ):
        assert await count(proxy, client) == 4711
    asked = upstream.last
    assert asked.path.split("?")[0] == path and asked.method == "POST"
    assert planted.PROVIDER in json.dumps(asked.headers)
    assert set(asked.json) <= taken
    assert TEXT in asked.body.decode()


@every_client
@pytest.mark.parametrize("backend", ["openai", *COUNTERS])
async def test_nobody_is_asked_otherwise(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    async with Upstream() as upstream, start_proxy(upstream, backend) as proxy:
        assert 5 <= await count(proxy, client) < 60
    assert not upstream.requests


BROKEN = {
    "refuses": error(400, "invalid_request_error", "no"),
    "is limited": error(429, "rate_limit_error", "later", ("retry-after", "60")),
    "is down": error(503, "api_error", "down"),
    "knows no such place": error(404, "not_found_error", "what?"),
    "says nonsense": whole(b'{"input_tokens": "many"}'),
    "says no JSON": whole(b"<html>"),
    "breaks off": Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
    "says nothing": Reply(raw=b""),
}


@pytest.mark.parametrize("reply", BROKEN.values(), ids=BROKEN)
async def test_a_counter_that_fails_costs_the_provider_nothing(
    reply: Reply, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(lambda request: reply) as upstream,
        start_proxy(upstream, "anthropic", LLM_PROXY_EXACT_TOKEN_COUNTS="true") as proxy,
    ):
        for _ in range(6):
            assert 5 <= await count(proxy, "messages") < 60
        async with httpx.AsyncClient(base_url=proxy.url) as http:
            (anthropic,) = (
                each
                for each in (await http.get("/v1/diagnostics")).json()["instances"]
                if each["name"] == "anthropic"
            )
    assert anthropic["availability_status"] == "available", anthropic
    assert not anthropic["is_rate_limited"]
