"""Plugins written from the guide's text alone, driven through the running proxy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer
from e2e.upstream import Received, Reply, Upstream, answering
from llm_proxy.assembly import make_server
from llm_proxy.rings.context import PluginContext
from llm_proxy.server import Server
from rings.test_all_at_once import CHAT, CONFIG, until
from rings.test_all_at_once import FRONTENDS as WHOLE
from rings.test_streams import EVERYWHERE, FRONTENDS, serving, text_of, told

IMPORTS = """
import asyncio
import json
from core.plugin_engine import PluginContext
from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse
"""


def row(hook: str, symbol: str = "Plugin", **more: Any) -> dict[str, Any]:
    return {"name": "Mine", "hook": hook, "entrypoint": f"mine:{symbol}", **more}


def instance(server: Server) -> Any:
    assert server.plugins is not None
    return next(e.instance for e in server.plugins.generation.entries if e.name == "Mine")


# ---- routers

ROUTER = """
_endpoint_stats = {}

def get_endpoint_stats(endpoint_id):
    return _endpoint_stats.get(endpoint_id, {"count": 0})

async def update_endpoint_stats(endpoint_id, latency_ms, success, redis_client=None):
    row = _endpoint_stats.setdefault(endpoint_id, {"count": 0, "good": 0, "latency_ms": 0.0})
    row["count"] += 1
    row["good"] += bool(success)
    row["latency_ms"] = latency_ms

async def select_endpoint(ctx):
    rotator = ctx.metadata.get("rotator")
    pool = await rotator.store.get_pool()
    able = []
    for endpoint in pool:
        breaker = await rotator.circuit_manager.get_breaker(endpoint.id)
        if await breaker.can_execute():
            able.append(endpoint)
    chosen = min(able, key=lambda endpoint: get_endpoint_stats(endpoint.id)["count"])
    ctx.metadata["target_endpoint"] = TARGET
    ctx.metadata["_routing_strategy"] = "least_used"
"""


def two_backends(one: Upstream, other: Upstream) -> dict[str, Any]:
    http = {"type": "openai", "kind": "http", "format": "openai-chat", "keys": ["k"]}
    rows = [
        {"name": name, "base_url": at.url, "models": ["m"], **http}
        for name, at in (("one", one), ("two", other))
    ]
    return {**CONFIG, "backends": rows, "default_backend": "one"}


@pytest.mark.parametrize("target", ["chosen", "chosen.id", "{'id': chosen.id}", "chosen.url"])
async def test_the_endpoint_a_router_names_is_asked_and_its_module_hears_of_it(
    target: str, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(ROUTER.replace("TARGET", target))
    rows = [row("routing", "select_endpoint")]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    async with Upstream() as one, Upstream() as other:
        async with make_server(two_backends(one, other), plugins_dir=tmp_path) as server:
            assert server.plugins is not None
            stats = server.plugins.generation.entries[0].call.__globals__["_endpoint_stats"]
            base = f"http://127.0.0.1:{server.port}"
            async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=20) as http:
                sent = 0
                for path, body in WHOLE.values():
                    for at in (path, path):
                        answer = await http.post(at, json=body)
                        assert answer.status_code == 200, answer.text
                        sent += 1
                        await until(lambda n=sent: sum(r["count"] for r in stats.values()) == n)
        assert (len(one.requests), len(other.requests)) == (4, 4)
        assert {request.json["model"] for request in one.requests} == {"m"}
    assert {name: (row["count"], row["good"]) for name, row in stats.items()} == {
        "one": (4, 4),
        "two": (4, 4),
    }
    assert all(row["latency_ms"] > 0 for row in stats.values())


async def test_a_router_that_names_no_backend_sends_the_request_to_none(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(ROUTER.replace("TARGET", "'nowhere'"))
    rows = [row("routing", "select_endpoint")]
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    async with Upstream() as one, Upstream() as other:
        async with make_server(two_backends(one, other), plugins_dir=tmp_path) as server:
            base = f"http://127.0.0.1:{server.port}"
            async with httpx.AsyncClient(trust_env=False, base_url=base, timeout=20) as http:
                answer = await http.post("/v1/chat/completions", json=CHAT)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "plugin_error"
        assert one.requests + other.requests == []


# ---- caches

CACHE = (
    IMPORTS
    + """
from fastapi.responses import JSONResponse

class Plugin(BasePlugin):
    name = "my_cache"
    hook = PluginHook.PRE_FLIGHT
    timeout_ms = 50

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        cache = ctx.state.cache
        tenant = ctx.metadata.get("api_key", ctx.session_id)
        found = await cache.get(ctx.body, tenant_id=tenant)
        if found is None:
            ctx.metadata["_cache_key"] = cache.make_key(ctx.body, tenant)
            ctx.metadata["_cache_status"] = "MISS"
            return PluginResponse.passthrough()
        ctx.metadata["_cache_status"] = "HIT"
        ctx.metadata["_cached_response_data"] = found
        return PluginResponse.cache_hit(JSONResponse(found, headers={"X-Mine": "HIT"}))
"""
)


@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_a_cache_that_names_its_key_gets_the_reply_under_it(
    frontend: str, backend: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer("kept text"))) as upstream,
        serving(upstream, backend, tmp_path, CACHE, rows=[row("pre_flight")]) as (server, http),
    ):
        first = await told(http, frontend)
        assert server.plugins is not None
        cache = server.plugins.state.cache
        await until(lambda: cache.stats()["bytes"] > 0)
        second = await told(http, frontend)
        assert len(upstream.requests) == 1
    assert (first[0], second[0]) == (200, 200)
    assert text_of(frontend, second[1]) == text_of(frontend, first[1]) == "kept text"


@pytest.mark.parametrize("frontend", WHOLE)
async def test_a_whole_reply_is_kept_too_and_not_where_the_cache_is_bypassed(
    frontend: str, tmp_path: Path
) -> None:
    path, body = WHOLE[frontend]
    bypass = "ctx.metadata['_cache_bypass'] = ctx.body.get('user') == 'u'"
    source = CACHE.replace('ctx.metadata["_cache_status"] = "MISS"', bypass)
    bypassed = {**body, "user": "u"} if "messages" in body else None
    async with (
        Upstream(answering(Answer("kept text"))) as upstream,
        serving(upstream, "openai", tmp_path, source, rows=[row("pre_flight")]) as (server, http),
    ):
        assert server.plugins is not None
        cache = server.plugins.state.cache
        if frontend == "chat":
            for _ in range(2):
                await http.post(path, json=bypassed)
            assert len(upstream.requests) == 2
        before = len(upstream.requests)
        await http.post(path, json=body)
        await until(lambda: cache.stats()["bytes"] > 0)
        hit = await http.post(path, json=body)
        assert len(upstream.requests) == before + 1
    assert hit.headers["x-mine"] == "HIT"
    assert "kept text" in hit.text


# ---- an author's own attributes

OWN_ATTRIBUTES = (
    IMPORTS
    + """
class Plugin(BasePlugin):
    name = "own"
    hook = PluginHook.PRE_FLIGHT

    def __init__(self, config=None):
        super().__init__(config)
        self.state = {"open": 0}
        self._stats = {"mine": 0}
        self.problem = {"not": "a text"}
        self.also = {"x": 1}
        self._state = self._shared = "mine"

    def _record(self, what):
        self._stats["mine"] += 1
        self.state["open"] += 1

    def _attach(self, what):
        raise AssertionError("the host has no business here")

    _share = share = attach = _attach

    async def execute(self, ctx):
        self._record(ctx.session_id)
        if "forbidden" in str(ctx.body["messages"]):
            return PluginResponse.block(403, "mine", "it is forbidden")
        return PluginResponse.passthrough()
"""
)


async def test_what_a_plugin_calls_its_own_stays_its_own(tmp_path: Path) -> None:
    forbidden = {"model": "m", "messages": [{"role": "user", "content": "a forbidden word"}]}
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, OWN_ATTRIBUTES, rows=[row("pre_flight")]) as (
            server,
            http,
        ),
    ):
        codes = [
            (await http.post("/v1/chat/completions", json=body)).status_code
            for body in (CHAT, forbidden)
        ]
        assert server.plugins is not None
        await server.plugins.hot_swap()
        codes.append((await http.post("/v1/chat/completions", json=forbidden)).status_code)
        plugin, meta = instance(server), server.plugins.get_plugin("Mine")
        told_stats = plugin.stats
    assert codes == [200, 403, 403]
    assert plugin._stats == {"mine": 2}  # the swap's health check, and the last request
    assert plugin.state == {"open": 2}
    assert told_stats["invocations"] == 3
    assert told_stats["blocks"] == 2
    assert meta is not None
    assert meta["warning"] is None


async def test_a_plugin_may_read_what_all_share_before_its_first_request(tmp_path: Path) -> None:
    source = IMPORTS + (
        "class Plugin(BasePlugin):\n"
        "    async def on_load(self):\n"
        "        await self.state.extra['store'].set_state('loaded', True)\n"
    )
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, source, rows=[row("pre_flight")]) as (server, _),
    ):
        assert server.plugins is not None
        assert await server.plugins.state.extra["store"].get_state("loaded") is True


# ---- who is who without a client key

TENANT = (
    IMPORTS
    + """
class Plugin(BasePlugin):
    hook = PluginHook.PRE_FLIGHT
    def __init__(self, config=None):
        super().__init__(config)
        self.seen = []
    async def execute(self, ctx):
        self.seen.append((ctx.metadata.get("api_key", ctx.session_id), ctx.session_id))
        return PluginResponse.passthrough()
"""
)


@pytest.mark.parametrize("frontend", WHOLE)
async def test_sessions_without_a_key_are_told_apart(frontend: str, tmp_path: Path) -> None:
    path, body = WHOLE[frontend]
    async with (
        Upstream() as upstream,
        serving(upstream, "openai", tmp_path, TENANT, rows=[row("pre_flight")]) as (server, http),
    ):
        for session in ("a", "b"):
            await http.post(path, json=body, headers={"x-session-id": session})
        seen = instance(server).seen
    assert seen == [("a", "a"), ("b", "b")]


# ---- usage, streams, bodies

BACKGROUND = (
    IMPORTS
    + """
class Plugin(BasePlugin):
    hook = PluginHook.BACKGROUND
    def __init__(self, config=None):
        super().__init__(config)
        self.seen = []
    async def execute(self, ctx):
        self.seen.append(json.loads(ctx.response.body).get("usage"))
        return PluginResponse.passthrough()
"""
)


@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_background_sees_the_usage_the_client_did_not_ask_for(
    frontend: str, backend: str, tmp_path: Path
) -> None:
    async with (
        Upstream(answering(Answer("some text"))) as upstream,
        serving(upstream, backend, tmp_path, BACKGROUND, rows=[row("background")]) as (
            server,
            http,
        ),
    ):
        status, raw = await told(http, frontend)
        await until(lambda: instance(server).seen)
        (usage,) = instance(server).seen
    assert status == 200
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (11, 7)
    if frontend == "chat":
        assert "usage" not in raw


NEW_BODY = (
    IMPORTS
    + """
class Plugin(BasePlugin):
    hook = PluginHook.PRE_FLIGHT
    async def execute(self, ctx):
        body = {"model": ctx.body["model"], "messages": ctx.body["messages"], "temperature": 0.5}
        if ctx.body["messages"][-1]["content"] == "whole please":
            body["stream"] = False
        HOW
"""
)


@pytest.mark.parametrize(
    "how",
    [
        "return PluginResponse.modify(body=body)",
        "ctx.body = body",
        "ctx.body.pop('stream', None); ctx.body['temperature'] = 0.5",
    ],
)
@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_a_new_body_does_not_change_whether_the_client_is_streamed_to(
    frontend: str, backend: str, how: str, tmp_path: Path
) -> None:
    source = NEW_BODY.replace("HOW", how)
    async with (
        Upstream(answering(Answer("some text"))) as upstream,
        serving(upstream, backend, tmp_path, source, rows=[row("pre_flight")]) as (_, http),
    ):
        plain_path, plain = FRONTENDS[frontend]("Hi")
        async with http.stream("POST", plain_path, json=plain) as response:
            content_type = response.headers["content-type"]
            raw = (await response.aread()).decode()
        (received,) = upstream.requests
    wanted = "application/json" if frontend == "gemini array" else "text/event-stream"
    assert content_type.startswith(wanted)
    assert text_of(frontend, raw) == "some text"
    assert received.json["stream"] is True
    assert received.json["temperature"] == 0.5


async def test_a_plugin_that_says_stream_false_gets_a_whole_answer(tmp_path: Path) -> None:
    source = NEW_BODY.replace("HOW", "return PluginResponse.modify(body=body)")
    async with (
        Upstream(answering(Answer("some text"))) as upstream,
        serving(upstream, "openai", tmp_path, source, rows=[row("pre_flight")]) as (_, http),
    ):
        path, body = FRONTENDS["chat"]("whole please")
        await http.post(path, json=body)
        (received,) = upstream.requests
    assert received.json["stream"] is False


# ---- maskers

MASKERS = {
    "function": """
async def mask(ctx):
    security = ctx.metadata["rotator"].security
    for message in ctx.body.get("messages", []):
        if isinstance(message.get("content"), str) and message["content"]:
            message["content"] = security.mask_pii(message["content"])
    ctx.metadata["pii_masked"] = True
""",
    "vault": """
async def mask(ctx):
    vault = ctx.metadata["rotator"].security.pii_vault
    for message in ctx.body.get("messages", []):
        if "ann@example.org" in str(message.get("content")):
            vault["[PRIVATE_PERSON_1]"] = "ann@example.org"
            text = message["content"].replace("ann@example.org", "[PRIVATE_PERSON_1]")
            message["content"] = text
""",
}
SECRET = "write to ann@example.org please"


def echoing(request: Received) -> Reply:
    """What the model was told comes back, one character at a time."""
    messages = request.json["messages"]
    content = messages[-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    return answering(Answer(text), every=1)(request)


@pytest.mark.parametrize("kind", MASKERS)
@pytest.mark.parametrize(("frontend", "backend"), EVERYWHERE)
async def test_what_a_masker_hides_through_the_host_comes_back(
    frontend: str, backend: str, kind: str, tmp_path: Path
) -> None:
    rows = [row("pre_flight", "mask")]
    async with (
        Upstream(echoing) as upstream,
        serving(upstream, backend, tmp_path, MASKERS[kind], rows=rows) as (_, http),
    ):
        status, raw = await told(http, frontend, SECRET)
        path, body = FRONTENDS[frontend](SECRET)
        body.pop("stream", None)
        path = path.replace("streamGenerateContent", "generateContent").partition("?")[0]
        whole = await http.post(path, json=body)
        for request in upstream.requests:
            assert b"ann@example.org" not in request.body
    assert (status, whole.status_code) == (200, 200)
    assert text_of(frontend, raw) == SECRET
    assert SECRET in whole.text


def test_a_context_without_the_engine_has_no_placeholders() -> None:
    ctx = PluginContext(body={"model": "m"})
    assert not hasattr(ctx, "placeholders")
    assert ctx.metadata == {}
