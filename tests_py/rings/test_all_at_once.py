"""A request through every built-in plugin at once, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.rings.runtime.manifest import built_in
from llm_proxy.server import Server

ECHO = {"name": "echo", "type": "echo", "kind": "echo", "format": "openai-chat"}
CONFIG: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 0,
    "io_threads": 1,
    "backends": [ECHO],
    "default_backend": "echo",
    "logging": {"access_log": False},
    "timeouts": {"drain": 5},
}
TEXT = "Hello there, dear world"
CHAT = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": TEXT}]}]}
FRONTENDS = {
    "chat": ("/v1/chat/completions", CHAT),
    "messages": ("/v1/messages", {**CHAT, "max_tokens": 99}),
    "responses": ("/v1/responses", {"model": "m", "input": TEXT}),
    "gemini": ("/v1beta/models/m:generateContent", GEMINI),
}


async def ask(server: Server, path: str, body: Any, **headers: str) -> httpx.Response:
    base = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=20) as http:
        return await http.post(path, json=body, headers=headers)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_every_plugin_at_once_serves_every_frontend(frontend: str, stream: bool) -> None:
    path, body = FRONTENDS[frontend]
    if stream and frontend == "gemini":
        path = path.replace("generateContent", "streamGenerateContent?alt=sse")
    elif stream:
        body = {**body, "stream": True}
    async with make_server(CONFIG, plugins=["all"]) as server:
        response = await ask(server, path, body)
        plugins = server.plugins
        assert plugins is not None

        def counts() -> set[int]:
            stats = plugins.get_plugin_stats()
            return {row["invocations"] for name, row in stats.items() if ":" not in name}

        await until(lambda: counts() == {1})
        stats = plugins.get_plugin_stats()
        listed = plugins.list_plugins()
    assert response.status_code == 200, response.text
    assert "dear" in response.text
    assert [meta for meta in listed if not meta["loaded"]] == []
    assert len(listed) == len(built_in())
    failing = {name: row for name, row in stats.items() if row["errors"] or row["blocks"]}
    assert failing == {}


async def test_a_fresh_server_lists_nothing_and_runs_no_python() -> None:
    async with make_server(CONFIG) as server:
        assert server.plugins is None


async def test_the_stock_set_runs_and_the_rest_is_listed_as_disabled(tmp_path: Path) -> None:
    async with make_server(CONFIG, plugins=["stock"]) as server:
        assert server.plugins is not None
        loaded = {meta["name"] for meta in server.plugins.list_plugins() if meta["loaded"]}
        problems = {meta["problem"] for meta in server.plugins.list_plugins() if not meta["loaded"]}
    assert loaded == {name for name, row in built_in().items() if row["enabled"]}
    assert len(loaded) == 11
    assert problems == {"disabled"}


async def test_a_directorys_row_without_an_entrypoint_configures_the_built_in(
    tmp_path: Path,
) -> None:
    rows = [{"name": "Topic Blocklist", "config": {"topics": ["dear world"]}}]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        response = await ask(server, "/v1/chat/completions", CHAT)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "topic_blocked"


async def test_personal_data_leaves_as_a_token_and_comes_back_to_its_owner() -> None:
    secret = "write to ann@example.org please"
    body = {"model": "m", "messages": [{"role": "user", "content": secret}]}
    async with make_server(CONFIG, plugins=["PII Neural Masker"]) as server:
        whole = await ask(server, "/v1/chat/completions", body)
        streamed = await ask(server, "/v1/chat/completions", {**body, "stream": True})
    for answer in (whole, streamed):
        assert "ann@example.org" in answer.text
        assert "PII_EMAIL_" not in answer.text


async def test_the_cache_serves_the_second_request_of_the_same_tenant_only() -> None:
    config = {**CONFIG, "auth": {"api_keys": ["key-a", "key-b"]}}
    async with make_server(config, plugins=["WAF-Aware Cache Lookup"]) as server:
        seen = []
        for key, more in (("key-a", {}), ("key-a", {}), ("key-b", {}), ("key-a", {"stream": True})):
            response = await ask(
                server, "/v1/chat/completions", {**CHAT, **more}, authorization=f"Bearer {key}"
            )
            assert "dear" in response.text
            seen.append(response.headers.get("x-llmproxy-cache"))
        assert server.plugins is not None
        cache = server.plugins.state.cache.stats()
    assert seen[:3] == [None, "HIT", None]
    assert cache["hits"] == 2


async def test_shadow_traffic_really_asks_the_second_model(tmp_path: Path) -> None:
    rows = [{"name": "Shadow Traffic", "config": {"shadow_model": "other", "sample_rate": 1.0}}]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    async with make_server(CONFIG, plugins_dir=tmp_path) as server:
        await ask(server, "/v1/chat/completions", CHAT)
        assert server.plugins is not None
        (entry,) = server.plugins.generation.entries
        await until(lambda: entry.instance.get_stats()["sent"] == 1)
        record = await server.plugins.state.extra["store"].get_state("shadow:1")
    assert record["shadow_model"] == "other"
    assert "dear" in record["response"][0]


async def until(ready: Any) -> None:
    for _ in range(500):
        if ready():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")
