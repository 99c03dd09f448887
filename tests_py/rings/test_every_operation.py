"""Ring plugins see all that leaves the proxy, whatever the client asks for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import TEXT as ANSWER
from e2e.answers import Answer, responses_whole
from e2e.test_stored_responses import Store
from e2e.upstream import Received, Reply, Upstream, answering, stream, whole
from llm_proxy import _core
from rings.test_streams import serving

BAD, WELL = "a forbidden thing", "a kind word"
PLUGIN = """
from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse

def text_of(ctx):
    return str([message.get("content") for message in ctx.body["messages"]])

async def guard(ctx):
    if ctx.request.headers.get("x-refuse"):
        return PluginResponse.block(403, "refused", "no")
    if "forbidden" in text_of(ctx):
        return PluginResponse.block(403, "guarded", "no " + ctx.metadata["_operation"])

async def mask(ctx):
    for message in ctx.body["messages"]:
        message["content"] = message["content"].replace("kind", "masked")
    ctx.body["temperature"] = 0.5

async def adds(ctx):
    ctx.body["messages"].insert(0, {"role": "system", "content": "Mind your words."})

async def hits(ctx):
    return PluginResponse.cache_hit({"choices": []})

async def reply(ctx):
    text = ctx.response.body.decode()
    if "secret" in text:
        return PluginResponse.block(403, "leaked", "no")
    ctx.response.body = text.replace("Paris", "Rome").encode()
"""


@dataclass
class Ask:
    method: str = "POST"
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    backend: str = "openai"


def asks(text: str) -> dict[str, list[Ask]]:
    """Requests of every operation, each with the text where a client may put one."""
    messages = [{"role": "user", "content": text}]
    contents = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    gemini = "/v1beta/models/m"
    return {
        "generate": [
            Ask(path="/v1/chat/completions", body={"model": "m", "messages": messages}),
            Ask(path="/v1/messages", body={"model": "m", "max_tokens": 9, "messages": messages}),
            Ask(path="/v1/responses", body={"model": "m", "input": text}),
            Ask(path=f"{gemini}:generateContent", body=contents),
        ],
        "count_tokens": [
            Ask(
                path="/v1/messages/count_tokens",
                body={"model": "m", "messages": messages},
                backend="anthropic",
            ),
            Ask(path=f"{gemini}:countTokens", body=contents, backend="gemini"),
            Ask(
                path=f"{gemini}:countTokens",
                body={"generateContentRequest": {"model": "models/m", **contents}},
                backend="gemini",
            ),
            Ask(
                path="/v1/responses/input_tokens",
                body={"model": "m", "input": text},
                backend="openai-responses",
            ),
        ],
        "embeddings": [
            Ask(path="/v1/embeddings", body={"model": "m", "input": text}),
            Ask(path="/v1/embeddings", body={"model": "m", "input": ["x", text]}),
            Ask(path="/v1/embeddings", body={"model": "m", "messages": messages}),
        ],
        "completions": [
            Ask(path="/v1/completions", body={"model": "m", "prompt": text}),
            Ask(path="/v1/completions", body={"model": "m", "prompt": [text, "x"]}),
            Ask(path="/v1/completions", body={"model": "m", "prompt": "x", "suffix": text}),
        ],
        "stored": [],  # below: there has to be something stored
        "conversation": [
            Ask(
                path="/v1/conversations",
                body={"items": [{"type": "message", "role": "user", "content": text}]},
                backend="openai-responses",
            )
        ],
        "models": [Ask("GET", "/v1/models?x=forbidden")],
        "model": [Ask("GET", "/v1/models/forbidden")],
        "health": [Ask("GET", "/health?forbidden")],
        "ready": [Ask("GET", "/readyz?forbidden")],
        "diagnostics": [Ask("GET", "/v1/diagnostics?forbidden")],
        "reactivate": [Ask("POST", "/v1/diagnostics/backends/forbidden/reactivate")],
        "metrics": [Ask("GET", "/metrics?forbidden")],
        "hello": [Ask("GET", "/api/hello?forbidden")],
        "admin": [Ask("GET", "/api/v1/forbidden")],
        "preflight": [Ask("OPTIONS", "/v1/chat/completions?forbidden")],
        "websocket": [Ask("GET", "/v1/responses?forbidden")],
        "wrong_method": [Ask("DELETE", "/v1/chat/completions", {"messages": messages})],
        "none": [Ask("POST", "/v1/forbidden", {"messages": messages})],
    }


def provider(request: Received) -> Reply:
    path = request.path.split("?")[0]
    if path.endswith("/embeddings"):
        return whole(b'{"object": "list", "data": [{"embedding": [0.5]}], "model": "m"}')
    if path.endswith("/chat/completions") or path.rpartition("/")[2] == "messages":
        return answering(ANSWER)(request)
    if path.endswith("/completions"):
        said = b'{"id": "c", "choices": [{"text": "Paris", "index": 0, "finish_reason": "stop"}]}'
        if request.json.get("stream"):
            return stream([b"data: " + said + b"\n\n", b"data: [DONE]\n\n"])
        return whole(said)
    if "ount" in path or path.endswith("input_tokens"):
        return whole(b'{"input_tokens": 4711, "totalTokens": 4711}')
    return answering(Answer("Hello."))(request)


def row(symbol: str, hook: str = "pre_flight", policy: str = "closed") -> dict[str, Any]:
    return {"name": symbol, "hook": hook, "entrypoint": f"mine:{symbol}", "fail_policy": policy}


@asynccontextmanager
async def guarded(
    folder: Path, backend: str, *rows: dict[str, Any], handler: Any = provider, **more: str
) -> AsyncIterator[tuple[Upstream, httpx.AsyncClient]]:
    settings = {"LLM_PROXY_EXACT_TOKEN_COUNTS": "true", "LLM_PROXY_MODEL_DISCOVERY": "false"}
    async with (
        Upstream(handler) as upstream,
        serving(
            upstream, backend, folder, PLUGIN, rows=list(rows), settings={**settings, **more}
        ) as (_, http),
    ):
        yield upstream, http


async def send(http: httpx.AsyncClient, ask: Ask, **headers: str) -> httpx.Response:
    return await http.request(ask.method, ask.path, json=ask.body or None, headers=headers)


def heard(upstream: Upstream) -> str:
    return " ".join(r.path + r.body.decode() for r in upstream.requests)


def test_every_operation_is_looked_at_here() -> None:
    assert set(asks("")) == set(_core.ring_views())


@pytest.mark.parametrize("operation", asks(""))
async def test_nothing_leaves_that_the_rings_have_not_let_pass(
    operation: str, tmp_path: Path
) -> None:
    view = _core.ring_views()[operation]
    for bad, well in zip(asks(BAD)[operation], asks(WELL)[operation], strict=True):
        async with guarded(tmp_path, bad.backend, row("guard")) as (upstream, http):
            answer = await send(http, bad)
            assert "forbidden" not in heard(upstream), bad
            if view == "nothing":
                assert upstream.requests == [], bad
                continue
            assert answer.status_code == 403, (bad, answer.text)
            assert f"no {operation}" in answer.text
            assert upstream.requests == [], bad
            answer = await send(http, well)
            assert answer.status_code == 200, (well, answer.text)
            assert WELL in heard(upstream), well


@pytest.mark.parametrize("operation", ["count_tokens", "embeddings", "completions"])
async def test_what_plugins_change_is_what_leaves(operation: str, tmp_path: Path) -> None:
    for ask in asks(WELL)[operation]:
        async with guarded(tmp_path, ask.backend, row("mask")) as (upstream, http):
            answer = await send(http, ask)
            assert answer.status_code == 200, (ask, answer.text)
            (asked,) = upstream.requests
            assert "a masked word" in asked.body.decode(), ask
            assert WELL not in asked.body.decode()
            if operation != "count_tokens":
                assert asked.json["temperature"] == 0.5
                wanted = json.loads(json.dumps(ask.body).replace("kind", "masked"))
                assert asked.json == {**wanted, "temperature": 0.5}


@pytest.mark.parametrize("operation", ["embeddings", "completions"])
async def test_a_message_that_has_no_place_is_not_dropped(operation: str, tmp_path: Path) -> None:
    async with guarded(tmp_path, "openai", row("adds")) as (upstream, http):
        answer = await send(http, asks(WELL)[operation][0])
        assert answer.status_code == 400
        assert "no place" in answer.text
        assert upstream.requests == []


TOKENS = [
    Ask(path="/v1/embeddings", body={"model": "m", "input": [1, 2, 3]}),
    Ask(path="/v1/embeddings", body={"model": "m", "input": ["x", [1, 2]]}),
    Ask(path="/v1/embeddings", body={"model": "m", "input": [{"image": "x"}]}),
    Ask(path="/v1/completions", body={"model": "m", "prompt": [[1, 2], [3]]}),
]


@pytest.mark.parametrize(
    ("policy", "unreadable", "passes"),
    [("closed", "refuse", False), ("closed", "pass", True), ("open", "refuse", True)],
)
async def test_what_plugins_cannot_read_is_refused_while_one_guards_or_as_the_operator_says(
    policy: str, unreadable: str, passes: bool, tmp_path: Path
) -> None:
    rows = [row("guard", policy=policy), row("reply", "post_flight", policy)]
    streamed = Ask(path="/v1/completions", body={"model": "m", "prompt": "x", "stream": True})
    async with guarded(tmp_path, "openai", *rows, LLM_PROXY_PLUGINS_UNREADABLE=unreadable) as (
        upstream,
        http,
    ):
        for ask in [*TOKENS, streamed]:
            before = len(upstream.requests)
            answer = await send(http, ask)
            assert answer.status_code == (200 if passes else 400), (ask, answer.text)
            assert len(upstream.requests) - before == (1 if passes else 0)
            if not passes:
                assert answer.json()["error"]["code"] == "unreadable_by_plugins"
                assert "plugins.unreadable" in answer.json()["error"]["message"]


async def test_the_reply_ring_reads_and_edits_legacy_completions(tmp_path: Path) -> None:
    ask = Ask(path="/v1/completions", body={"model": "m", "prompt": "x"})

    def leaks(request: Received) -> Reply:
        return whole(b'{"choices": [{"text": "the secret", "index": 0}]}')

    async with guarded(tmp_path, "openai", row("reply", "post_flight")) as (_, http):
        answer = (await send(http, ask)).json()
        assert answer == {
            "id": "c",
            "choices": [{"text": "Rome", "index": 0, "finish_reason": "stop"}],
        }
    async with guarded(tmp_path, "openai", row("reply", "post_flight"), handler=leaks) as (_, http):
        assert (await send(http, ask)).status_code == 403


async def test_a_plugin_s_answer_is_given_to_nobody_who_asked_for_something_else(
    tmp_path: Path,
) -> None:
    for operation, status in (("embeddings", 500), ("completions", 500), ("count_tokens", 200)):
        ask = asks(WELL)[operation][0]
        async with guarded(tmp_path, ask.backend, row("hits")) as (upstream, http):
            answer = await send(http, ask)
            assert answer.status_code == status, answer.text
            assert "choices" not in answer.text
            assert upstream.requests == []


STORED = [("GET", ""), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", "")]


@pytest.mark.parametrize(("method", "below"), STORED)
async def test_a_stored_response_is_asked_for_upstream_when_the_rings_allow_it(
    method: str, below: str, tmp_path: Path
) -> None:
    rows = [row("guard"), row("reply", "post_flight", "open")]
    async with guarded(tmp_path, "openai-responses", *rows, handler=Store()) as (upstream, http):
        body = {"model": "m", "input": WELL}
        name = (await http.post("/v1/responses", json=body)).json()["id"]
        asked = len(upstream.requests)
        ask = Ask(method, f"/v1/responses/{name}{below}")
        assert (await send(http, ask, **{"x-refuse": "1"})).status_code == 403
        assert len(upstream.requests) == asked
        answer = await send(http, ask)
        assert answer.status_code == 200, answer.text
        if below != "/input_items":  # of no use to the reply ring: told from what is kept here
            assert upstream.last.method == method


async def test_the_reply_ring_sees_what_a_provider_tells_of_a_stored_response(
    tmp_path: Path,
) -> None:
    def keeps(request: Received) -> Reply:
        said = b"Nothing." if request.method == "POST" else b"the secret"
        made = responses_whole(Answer(said.decode()))
        return whole(made.replace(b'"resp_scripted"', b'"resp_scripted", "store": true'))

    rows = [row("reply", "post_flight")]
    async with guarded(tmp_path, "openai-responses", *rows, handler=keeps) as (upstream, http):
        made = await http.post("/v1/responses", json={"model": "m", "input": WELL})
        assert made.status_code == 200, made.text
        answer = await http.get(f"/v1/responses/{made.json()['id']}")
        assert upstream.last.method == "GET"
        assert answer.status_code == 403, answer.text
