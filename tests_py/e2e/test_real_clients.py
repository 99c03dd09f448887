"""What coding agents do that proxies miss: a test for each of the fourteen points.

Points 7 (broken streams) and 14 (wandering cache markers) have files of their own too:
test_broken_upstreams.py and test_long_sessions.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from e2e.answers import ALL_SCRIPTS, TEXT, Answer, Call, chat_stream
from e2e.conftest import StartProxy
from e2e.upstream import Upstream, answering, error, stream, whole

Json = dict[str, Any]
HELLO: Json = {"role": "user", "content": "Hello"}
MESSAGES: Json = {"model": "m", "max_tokens": 100, "messages": [HELLO]}
CHAT: Json = {"model": "m", "messages": [HELLO]}
RESPONSES: Json = {"model": "m", "input": "Hello", "store": False}
SCHEMA = {"type": "object", "properties": {"cmd": {"type": "string"}}}


class Pair:
    """A proxy, its upstream and a client of both."""

    def __init__(self, upstream: Upstream, http: httpx.AsyncClient) -> None:
        self.upstream, self.http = upstream, http

    async def post(self, path: str, body: Json, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, json=body, headers=named)

    @property
    def sent(self) -> Json:
        body: Json = self.upstream.last.json
        return body


@pytest.fixture
async def chat(start_proxy: StartProxy) -> AsyncIterator[Pair]:
    """The provider speaks Chat Completions."""
    async with (
        Upstream() as upstream,
        start_proxy(upstream, "openai") as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
    ):
        yield Pair(upstream, http)


async def test_1_a_websocket_probe_is_answered_426_at_once(chat: Pair) -> None:
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    got = await chat.http.get("/v1/responses", headers=headers)
    assert got.status_code == 426 and not chat.upstream.requests


async def test_2_a_compressed_body_is_read_and_sent_on_plain(chat: Pair) -> None:
    body = gzip.compress(json.dumps(CHAT).encode())
    headers = {"content-encoding": "gzip", "content-type": "application/json"}
    got = await chat.http.post("/v1/chat/completions", content=body, headers=headers)
    assert got.status_code == 200 and chat.sent["messages"] == [HELLO]
    assert "content-encoding" not in chat.upstream.last.headers


async def test_3_tools_in_items_namespaces_and_free_text_come_back_as_they_went(chat: Pair) -> None:
    tools = [
        {"type": "custom", "name": "exec", "format": {"type": "text"}},
        {
            "type": "namespace",
            "name": "fs",
            "tools": [{"type": "function", "name": "read", "parameters": SCHEMA}],
        },
    ]
    item = {"type": "additional_tools", "role": "developer", "tools": tools}
    body = {**RESPONSES, "input": [item, HELLO]}
    await chat.post("/v1/responses", body)
    run, read = (tool["function"]["name"] for tool in chat.sent["tools"])
    calls = Call("c1", run, {"input": "ls\n-l"}), Call("c2", read, {"cmd": "a"})
    chat.upstream.handler = answering(Answer("", calls))
    output = (await chat.post("/v1/responses", body)).json()["output"]
    assert [(o["type"], o["name"], o["call_id"]) for o in output] == [
        ("custom_tool_call", "exec", "c1"),
        ("function_call", "read", "c2"),
    ]
    assert output[0]["input"] == "ls\n-l" and output[1]["namespace"] == "fs"


async def test_3_web_search_beside_the_clients_own_tools_stays_behind(chat: Pair) -> None:
    own = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}
    tools = [own, {"type": "web_search", "external_web_access": True}]
    assert (await chat.post("/v1/responses", {**RESPONSES, "tools": tools})).status_code == 200
    assert [tool["function"]["name"] for tool in chat.sent["tools"]] == ["look"]
    alone = await chat.post("/v1/responses", {**RESPONSES, "tools": tools[1:]})
    assert alone.status_code == 400 and len(chat.upstream.requests) == 1


async def test_4_system_text_in_the_middle_and_loaded_tools_keep_their_place(chat: Pair) -> None:
    reference = {"type": "tool_reference", "tool_name": "later"}
    body = {
        **MESSAGES,
        "messages": [
            HELLO,
            {"role": "system", "content": "Mind this.", "output_config": {"effort": "low"}},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [reference]}],
            },
        ],
        "tools": [
            {"name": "ToolSearch", "input_schema": SCHEMA},
            {"name": "later", "input_schema": SCHEMA, "defer_loading": True},
            {"name": "DeferredToolPlaceholder", "input_schema": SCHEMA, "defer_loading": True},
        ],
    }
    assert (await chat.post("/v1/messages", body)).status_code == 200
    roles = [message["role"] for message in chat.sent["messages"]]
    assert roles[:4] == ["user", "developer", "assistant", "tool"]
    assert "later" in json.dumps(chat.sent["messages"][3:])
    assert [tool["function"]["name"] for tool in chat.sent["tools"]] == ["ToolSearch", "later"]


async def test_5_header_query_and_unknown_keys_pass_to_the_own_format(
    start_proxy: StartProxy,
) -> None:
    body = {**RESPONSES, "client_metadata": {"b": "1", "a": "2"}, "of_tomorrow": [1.0]}
    async with (
        Upstream(lambda _: whole(b'{"object":"response","status":"completed","output":[]}')) as up,
        start_proxy(up, "openai-responses") as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
    ):
        headers = {"x-codex-window-id": "w:0", "session-id": "s", "originator": "codex"}
        assert (await http.post("/v1/responses?x=1", json=body, headers=headers)).status_code == 200
        assert headers.items() <= up.last.headers.items() and up.last.path.endswith("?x=1")
        assert up.last.json == body and list(up.last.json) == list(body)


async def test_6_two_calls_of_one_name_without_ids_stay_two(chat: Pair) -> None:
    call = {"functionCall": {"name": "look", "args": {"cmd": "x"}}}
    results = [
        {"functionResponse": {"name": "look", "response": {"output": text}}} for text in "ab"
    ]
    contents = [
        {"role": "user", "parts": [{"text": "q"}]},
        {"role": "model", "parts": [call, call]},
        {"role": "user", "parts": results},
    ]
    await chat.post("/v1beta/models/m:generateContent", {"contents": contents})
    _, asked, first, second = chat.sent["messages"]
    ids = [made["id"] for made in asked["tool_calls"]]
    assert len(set(ids)) == 2 and all(0 < len(made) <= 64 for made in ids)
    assert [(m["tool_call_id"], m["content"]) for m in (first, second)] == list(
        zip(ids, "ab", strict=True)
    )


async def test_6_ids_of_the_client_s_own_making_come_back_unchanged(chat: Pair) -> None:
    made = "look_1700000000000_0"
    call = {"functionCall": {"name": "look", "args": {}, "id": made}}
    answer = {"functionResponse": {"name": "look", "id": made, "response": {"output": "x"}}}
    contents = [
        {"role": "user", "parts": [{"text": "q"}]},
        {"role": "model", "parts": [call]},
        {"role": "user", "parts": [answer]},
    ]
    await chat.post("/v1beta/models/m:generateContent", {"contents": contents})
    assert chat.sent["messages"][1]["tool_calls"][0]["id"] == made
    assert chat.sent["messages"][2]["tool_call_id"] == made


STREAMS = [
    ("/v1/chat/completions", {**CHAT, "stream": True}, "[DONE]", '"error"'),
    ("/v1/responses", {**RESPONSES, "stream": True}, "response.completed", "response.failed"),
    ("/v1/messages", {**MESSAGES, "stream": True}, "message_stop", "event: error"),
    (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
        "finishReason",
        '"error"',
    ),
]


@pytest.mark.parametrize(("path", "body", "end", "failure"), STREAMS)
async def test_7_a_broken_stream_never_looks_finished(
    path: str, body: Json, end: str, failure: str, chat: Pair
) -> None:
    got = await chat.post(path, body)
    assert end in got.text and failure not in got.text
    # In order, but without finish or terminator.
    chat.upstream.handler = lambda _: stream(list(chat_stream(TEXT))[:4])
    told = ""
    with contextlib.suppress(httpx.RemoteProtocolError):
        async with chat.http.stream("POST", path, json=body) as reply:
            async for text in reply.aiter_text():
                told += text
    # All of it in one piece is an error before anything was said.
    assert (failure in told or reply.status_code == 502) and end not in told, told


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", CHAT, 503),
        ("/v1/responses", RESPONSES, 503),
        ("/v1/messages", MESSAGES, 503),
    ],
)
async def test_8_overload_stays_overload_with_its_retry_after(
    path: str, body: Json, status: int, start_proxy: StartProxy
) -> None:
    busy = error(503, "overloaded_error", "busy", ("retry-after", "9"))
    async with (
        Upstream(lambda _: busy) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_FAILURE_HANDLING="false") as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
    ):
        got = await http.post(path, json=body)
    assert got.status_code in (status, 529) and got.headers["retry-after"] == "9"


async def test_9_results_stay_readable_text(chat: Pair) -> None:
    contents = [
        {"role": "user", "parts": [{"text": "q"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}, "id": "i"}}]},
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "name": "f",
                        "id": "i",
                        "response": {"output": ALL_SCRIPTS},
                    }
                }
            ],
        },
    ]
    await chat.post("/v1beta/models/m:generateContent", {"contents": contents})
    assert chat.sent["messages"][-1]["content"] == ALL_SCRIPTS
    assert ALL_SCRIPTS.encode() in chat.upstream.last.body


async def test_9_results_reach_gemini_as_readable_text(start_proxy: StartProxy) -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": ALL_SCRIPTS}
    turns = [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    async with (
        Upstream() as upstream,
        start_proxy(upstream, "gemini") as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
    ):
        got = await http.post("/v1/messages", json={**MESSAGES, "messages": [HELLO, *turns]})
        assert got.status_code == 200, got.text
    answer = upstream.last.json["contents"][-1]["parts"][0]["functionResponse"]
    assert answer["response"] == {"output": ALL_SCRIPTS}
    assert ALL_SCRIPTS.encode() in upstream.last.body


async def test_10_every_side_question_has_an_answer_in_its_format(chat: Pair) -> None:
    assert (await chat.http.head("/api/hello")).status_code == 200
    counting = [chat.post("/v1/messages/count_tokens?beta=true", MESSAGES) for _ in range(25)]
    for got in await asyncio.gather(*counting):
        assert got.json()["input_tokens"] > 0
    models = await chat.http.get("/v1/models?client_version=0.169.0")
    assert models.json()["object"] == "list"
    asked = {
        "contents": [{"role": "user", "parts": [{"text": "q"}]}],
        "generationConfig": {
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "OBJECT", "properties": {"m": {"type": "STRING"}}},
        },
    }
    got = await chat.post("/v1beta/models/m:generateContent", asked)
    assert got.json()["candidates"][0]["finishReason"] == "STOP"
    assert chat.sent["response_format"]["type"] == "json_schema"


async def test_11_a_model_nobody_named_goes_to_the_default_provider(chat: Pair) -> None:
    for model in ("gemini-3.5-flash-lite", "claude-haiku-4-5", "team/model:latest"):
        assert (await chat.post("/v1/messages", {**MESSAGES, "model": model})).status_code == 200


async def test_12_a_first_turn_of_megabytes_is_taken(chat: Pair) -> None:
    text = "zażółć " * 600_000
    body = {**MESSAGES, "messages": [{"role": "user", "content": text}]}
    assert (await chat.post("/v1/messages", body)).status_code == 200
    assert chat.sent["messages"][0]["content"] == text


async def test_13_a_long_user_id_and_settings_of_one_request_fit(chat: Pair) -> None:
    who = json.dumps({"device_id": "d" * 64, "account_uuid": "", "session_id": "s" * 36})
    body = {**MESSAGES, "metadata": {"user_id": who}, "max_tokens": 128_000}
    assert (await chat.post("/v1/messages", body)).status_code == 200
    assert len(chat.sent.get("user", "")) <= 64
    assert "tool_choice" not in chat.sent and "parallel_tool_calls" not in chat.sent


@pytest.mark.parametrize("backend", ["openai", "openai-responses", "gemini"])
async def test_14_a_wandering_marker_changes_no_byte_upstream(
    backend: str, start_proxy: StartProxy
) -> None:
    """The marker moves every turn, and a message is an array here and a string there."""
    marked = {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}}
    said = {"role": "assistant", "content": "Yes."}
    turns: list[list[Json]] = [
        [{"role": "user", "content": [marked]}],
        [{"role": "user", "content": "One."}, said, {"role": "user", "content": [marked]}],
    ]
    async with (
        Upstream() as upstream,
        start_proxy(upstream, backend) as proxy,
        httpx.AsyncClient(base_url=proxy.url, timeout=20) as http,
    ):
        sent = []
        for messages in turns:
            got = await http.post("/v1/messages", json={**MESSAGES, "messages": messages})
            assert got.status_code == 200, got.text
            sent.append(upstream.last.body)
    first = sent[0][: sent[0].index(b"One.") + len(b"One.")]
    assert sent[1].startswith(first)
    assert b"cache_control" not in sent[0] + sent[1]
