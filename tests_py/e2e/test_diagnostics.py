"""Diagnostics: what every backend is at, and ending its rest by hand. Keys by position only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import TEXT
from e2e.conftest import QUIET
from e2e.upstream import Upstream, answering, error
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

KEYS = ["first-key-of-the-pool", "second-key-of-the-pool"]
CHAT = {"model": "openai:m", "messages": [{"role": "user", "content": "Hello"}]}


@asynccontextmanager
async def serving(
    upstream: Upstream, tmp_path: Path, **config: Any
) -> AsyncIterator[httpx.AsyncClient]:
    file = tmp_path / "proxy.yaml"
    openai = {"api_url": upstream.url, "api_key": KEYS}
    file.write_text(json.dumps({"backends": {"openai": openai}, **config}))
    settings = load(Sources(environment=QUIET, config_file=file))
    async with (
        make_server(snapshot(settings)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as http,
    ):
        yield http


async def shown(http: httpx.AsyncClient) -> dict[str, Any]:
    got = await http.get("/v1/diagnostics")
    assert got.status_code == 200
    assert not any(key in got.text for key in KEYS)
    instance: dict[str, Any] = got.json()["instances"][0]
    return instance


async def test_a_limited_instance_says_how_long_and_comes_back_when_told(tmp_path: Path) -> None:
    limited = error(429, "rate_limit_error", "this account is too fast", ("retry-after", "60"))
    async with (
        Upstream(lambda _: limited) as upstream,
        serving(upstream, tmp_path) as http,
    ):
        before = await shown(http)
        assert (before["name"], before["connector_type"]) == ("openai", "openai")
        assert (before["availability_status"], before["is_functional"]) == ("available", True)
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 429
        after = await shown(http)
        assert (after["availability_status"], after["is_rate_limited"]) == ("rate_limited", True)
        assert 55 < after["cooldown_remaining_seconds"] <= 60
        assert [key["rests_because"] for key in after["keys"]] == ["rate_limited"] * 2
        assert (await http.get("/health")).json()["backends"] == {"configured": 1, "available": 0}

        upstream.handler = answering(TEXT)
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 429
        told = await http.post("/v1/diagnostics/backends/openai/reactivate", json={})
        assert (told.status_code, told.json()["status"]) == (200, "reactivated")
        assert (await shown(http))["availability_status"] == "available"
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
        assert (await http.get("/health")).json()["backends"]["available"] == 1


async def test_an_open_breaker_is_shown_and_closed_by_hand(tmp_path: Path) -> None:
    async with (
        Upstream(lambda _: error(500, "api_error", "down")) as upstream,
        serving(upstream, tmp_path) as http,
    ):
        for _ in range(2):
            await http.post("/v1/chat/completions", json=CHAT)
        instance = await shown(http)
        assert (instance["breaker"], instance["reason"]) == ("open", "breaker_open")
        assert instance["is_functional"] is False
        await http.post("/v1/diagnostics/backends/openai/reactivate")
        assert (await shown(http))["breaker"] == "closed"


@pytest.mark.parametrize("wanted", ["nobody", "open%61i2", "a/b"])
async def test_reactivating_nobody_is_a_404(wanted: str, tmp_path: Path) -> None:
    async with Upstream() as upstream, serving(upstream, tmp_path) as http:
        got = await http.post(f"/v1/diagnostics/backends/{wanted}/reactivate")
        assert got.status_code == 404
        assert "/v1/diagnostics" in got.json()["detail"]
        assert (await http.get("/v1/diagnostics/backends/openai/reactivate")).status_code == 405


async def test_reading_needs_a_clients_key_where_there_are_any_and_changing_an_admins(
    tmp_path: Path,
) -> None:
    keys = {"api_keys": ["client"], "admin_keys": ["boss"]}
    read, change = "/v1/diagnostics", "/v1/diagnostics/backends/openai/reactivate"
    async with Upstream() as upstream, serving(upstream, tmp_path, auth=keys) as http:
        for key, reading, changing in (
            ("", 401, 401),
            ("wrong", 401, 401),
            ("client", 200, 403),
            ("boss", 200, 200),
        ):
            headers = {"authorization": f"Bearer {key}"} if key else {}
            assert (await http.get(read, headers=headers)).status_code == reading, key
            assert (await http.post(change, headers=headers)).status_code == changing, key
        assert (await http.get("/health")).status_code == 200
        assert "openai" not in (await http.get("/health")).text


async def test_a_cooled_key_still_answers_for_other_models(tmp_path: Path) -> None:
    def reply(request: Any) -> Any:
        if request.json["model"] == "busy":
            return error(429, "rate_limit_error", "the model busy is overloaded")
        return answering(TEXT)(request)

    async with Upstream(reply) as upstream, serving(upstream, tmp_path) as http:
        busy = {**CHAT, "model": "openai:busy"}
        assert (await http.post("/v1/chat/completions", json=busy)).status_code == 429
        instance = await shown(http)
        assert [list(key["models_resting"]) for key in instance["keys"]] == [["busy"], ["busy"]]
        assert instance["availability_status"] == "available"
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
