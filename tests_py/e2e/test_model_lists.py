"""Lists of models: what providers say, in the client's own form; nobody waits for a dead one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import TEXT
from e2e.conftest import QUIET
from e2e.upstream import Received, Reply, Upstream, answering, error, whole
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

OPENAI = {"object": "list", "data": [{"id": "gpt-a", "object": "model"}, {"id": "gpt-b"}]}
ANTHROPIC = {"data": [{"type": "model", "id": "claude-a"}], "has_more": False}
GEMINI = {
    "models": [
        {"name": "models/gemini-a", "supportedGenerationMethods": ["generateContent"]},
        {"name": "models/embedder", "supportedGenerationMethods": ["embedContent"]},
    ]
}


def listing(*answers: Any) -> Callable[[Received], Reply]:
    """Each call gets the next answer; the last one stays."""
    left = list(answers)

    def reply(request: Received) -> Reply:
        assert request.method == "GET" and not request.body
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Reply):
            return answer
        return whole(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    return reply


@asynccontextmanager
async def serving(tmp_path: Path, **config: Any) -> AsyncIterator[httpx.AsyncClient]:
    file = tmp_path / "proxy.yaml"
    file.write_text(json.dumps(config))
    settings = load(Sources(environment=QUIET, config_file=file))
    async with (
        make_server(snapshot(settings)) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as http,
    ):
        yield http


def section(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"api_url": upstream.url, "api_key": "key-of-the-list", **more}


async def ids(http: httpx.AsyncClient) -> list[str]:
    got = await http.get("/v1/models")
    assert got.status_code == 200
    return [entry["id"] for entry in got.json()["data"]]


async def test_the_built_in_answerer_is_listed_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as http:
        assert await ids(http) == ["echo"]
        assert (await http.get("/v1/models/echo")).status_code == 200


async def test_every_format_is_listed_from_every_format(tmp_path: Path) -> None:
    async with (
        Upstream(listing(OPENAI)) as chat,
        Upstream(listing(ANTHROPIC)) as messages,
        Upstream(listing(GEMINI)) as gemini,
        serving(
            tmp_path,
            default_backend="openai",
            backends={
                "openai": section(chat),
                "anthropic": section(messages),
                "gemini": section(gemini, api_url=f"http://127.0.0.1:{gemini.port}/v1beta"),
                "minimax": {"api_key": "k"},
            },
            model_aliases={"fast": "openai:gpt-a"},
        ) as http,
    ):
        expected = ["MiniMax-M2", "gpt-a", "gpt-b", "anthropic:claude-a", "gemini:gemini-a", "fast"]
        assert sorted(await ids(http)) == sorted(expected)
        anthropic = (await http.get("/v1/models", headers={"anthropic-version": "x"})).json()
        assert sorted(entry["id"] for entry in anthropic["data"]) == sorted(expected)
        assert anthropic["has_more"] is False
        google = (await http.get("/v1beta/models")).json()
        assert {entry["name"] for entry in google["models"]} == {f"models/{i}" for i in expected}
        one = await http.get("/v1/models/gpt-b")
        assert (one.status_code, one.json()["owned_by"]) == (200, "openai")
        assert (chat.last.path, chat.last.headers["authorization"]) == (
            "/v1/models",
            "Bearer key-of-the-list",
        )
        assert messages.last.path == "/v1/models?limit=1000"
        assert messages.last.headers["x-api-key"] == "key-of-the-list"
        assert messages.last.headers["anthropic-version"] == "2023-06-01"
        assert gemini.last.path == "/v1beta/models?pageSize=1000"
        assert gemini.last.headers["x-goog-api-key"] == "key-of-the-list"
        assert [len(u.requests) for u in (chat, messages, gemini)] == [1, 1, 1], "kept"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b'[{"id": "a"}, {"id": "b"}]', ["a", "b"]),
        (b'["a", "b"]', ["a", "b"]),
        (b')]}\'\n{"data": [{"id": "a"}]}', ["a"]),
        (b'{"models": [{"name": "llama3:8b"}]}', ["llama3:8b"]),
        (b'{"data": []}', []),
        (b"<html>", []),
        (b'{"detail": "no"}', []),
        (b'{"data": [{"id": "a"}', []),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
async def test_lists_are_read_as_servers_write_them(
    body: bytes, names: list[str], tmp_path: Path
) -> None:
    async with (
        Upstream(listing(body)) as upstream,
        serving(tmp_path, backends={"openai": section(upstream)}) as http,
    ):
        assert await ids(http) == names


async def test_a_dead_provider_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with (
        Upstream(listing(OPENAI)) as alive,
        Upstream(lambda _: Reply(silent=True)) as silent,
        Upstream(listing(error(500, "api_error", "down"))) as broken,
        serving(
            tmp_path,
            default_backend="openai",
            backends={
                "openai": section(alive),
                "silent": section(silent, type="openai-compatible"),
                "broken": section(broken, type="openai-compatible"),
                "gone": {"type": "openai-compatible", "api_url": "http://127.0.0.1:9"},
            },
        ) as http,
    ):
        began = time.monotonic()
        assert await ids(http) == ["gpt-a", "gpt-b"]
        assert time.monotonic() - began < 5
        shown = (await http.get("/v1/diagnostics")).json()["catalog_discovery"]
        status = {entry["instance_name"]: entry["status"] for entry in shown}
        assert status == {
            "openai": "ok",
            "silent": "pending",
            "broken": "failed",
            "gone": "failed",
        }


async def test_what_a_provider_said_outlives_its_failure(tmp_path: Path) -> None:
    async with (
        Upstream(listing(OPENAI, error(503, "api_error", "down"))) as upstream,
        serving(
            tmp_path, models={"cache_seconds": 1}, backends={"openai": section(upstream)}
        ) as http,
    ):
        assert await ids(http) == ["gpt-a", "gpt-b"]
        while len(upstream.requests) < 2:  # the list has aged and is asked for in the background
            assert await ids(http) == ["gpt-a", "gpt-b"]
            await asyncio.sleep(0.05)
        assert await ids(http) == ["gpt-a", "gpt-b"]


async def test_who_asks_at_once_asks_the_provider_once(tmp_path: Path) -> None:
    async with (
        Upstream(listing(OPENAI)) as upstream,
        serving(tmp_path, backends={"openai": section(upstream)}) as http,
    ):
        assert len({tuple(i) for i in await asyncio.gather(*(ids(http) for _ in range(20)))}) == 1
        assert len(upstream.requests) == 1


async def test_the_configured_models_count_and_discovery_can_be_switched_off(
    tmp_path: Path,
) -> None:
    async with Upstream(listing(OPENAI)) as upstream:
        async with serving(
            tmp_path, backends={"openai": section(upstream, models=["only-this"])}
        ) as http:
            assert await ids(http) == ["only-this"]
        async with serving(
            tmp_path, models={"discovery": False}, backends={"openai": section(upstream)}
        ) as http:
            assert await ids(http) == []
        assert not upstream.requests


async def test_a_list_may_stand_elsewhere(tmp_path: Path) -> None:
    async with (
        Upstream(listing(OPENAI)) as upstream,
        serving(
            tmp_path, backends={"openai": section(upstream, models_path="/api/tags?all=1")}
        ) as http,
    ):
        assert await ids(http) == ["gpt-a", "gpt-b"]
        assert upstream.last.path == "/api/tags?all=1"


async def test_a_model_alone_goes_to_who_says_it_has_it(tmp_path: Path) -> None:
    def having(*names: str) -> Callable[[Received], Reply]:
        def reply(request: Received) -> Reply:
            if request.method == "GET":
                return whole(json.dumps({"data": [{"id": name} for name in names]}).encode())
            return answering(TEXT)(request)

        return reply

    async with (
        Upstream(having("gpt-a", "both")) as chat,
        Upstream(having("claude-a", "both")) as messages,
        Upstream(lambda _: Reply(silent=True)) as silent,
        serving(
            tmp_path,
            default_backend="openai",
            backends={
                "openai": section(chat),
                "anthropic": section(messages),
                "silent": section(silent, type="openai-compatible"),
            },
        ) as http,
    ):

        async def asked(model: str) -> str:
            body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return answer.headers["x-proxy-backend"]

        began = time.monotonic()
        assert await asked("claude-a") == "anthropic"
        assert time.monotonic() - began < 5, "a silent provider keeps the first one waiting, a bit"
        began = time.monotonic()
        for model, backend in {
            "claude-a": "anthropic",
            "gpt-a": "openai",
            "both": "openai",
            "unheard-of": "openai",
            "anthropic/claude-x": "anthropic",
            "openai/gpt-x": "openai",
        }.items():
            assert await asked(model) == backend, model
        assert time.monotonic() - began < 1, "and nobody ever after"
        lists = [r for u in (chat, messages) for r in u.requests if r.method == "GET"]
        assert len(lists) == 2
        assert messages.last.json["model"] == "claude-x"


async def test_what_ollama_passes_on_to_its_cloud_is_listed_too(tmp_path: Path) -> None:
    local = {"data": [{"id": "llama3:8b"}]}
    cloud = {"models": [{"name": "gpt-oss:120b"}, {"name": "glm-4.6"}]}
    async with (
        Upstream(listing(local)) as here,
        Upstream(listing(cloud)) as there,
        serving(
            tmp_path,
            backends={
                "ollama": {
                    "api_url": here.url,
                    "api_key": "key-of-ollama",
                    "cloud_models_url": f"http://127.0.0.1:{there.port}/api/tags",
                }
            },
        ) as http,
    ):
        for _ in range(2):
            assert await ids(http) == ["llama3:8b", "gpt-oss:120b-cloud", "glm-4.6:cloud"]
        assert [request.path for request in there.requests] == ["/api/tags"]
        assert "authorization" not in there.last.headers, "nobody's key goes there"
    async with (
        Upstream(listing(local)) as here,
        serving(
            tmp_path, backends={"ollama": {"api_url": here.url, "cloud_models_url": "none"}}
        ) as http,
    ):
        assert await ids(http) == ["llama3:8b"]
