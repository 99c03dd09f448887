"""What one client sends takes plugins away from nobody: not from others, and not from itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_proxy.assembly import make_server
from llm_proxy.server import Server
from rings.test_all_at_once import CONFIG, TEXT

MINE, THEIRS, THIRD = "key-of-mine", "key-of-theirs", "key-of-a-third"
PLUGINS = """
from core.plugin_sdk import BasePlugin, PluginResponse

def text_of(ctx):
    return str([message.get("content") for message in ctx.body["messages"]])

async def guard(ctx):
    if "raise" in text_of(ctx):
        raise ValueError("the client's doing")
    if "forbidden" in text_of(ctx):
        return PluginResponse.block(403, "guarded", "no")

class Saying(BasePlugin):
    fail_policy = "closed"
    async def execute(self, ctx):
        raise ValueError("of its own accord")

async def wordy(ctx):
    return PluginResponse.block(403, "k" * 100_000, "ä" * 1_000_000)
"""


@asynccontextmanager
async def guarded(
    folder: Path, rows: list[dict[str, Any]], **config: Any
) -> AsyncIterator[tuple[Server, httpx.AsyncClient]]:
    (folder / "mine.py").write_text(PLUGINS)
    (folder / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
    keyed = {**CONFIG, "auth": {"api_keys": [MINE, THEIRS, THIRD]}, **config}
    async with (
        make_server(keyed, plugins_dir=folder) as server,
        httpx.AsyncClient(
            trust_env=False, base_url=f"http://127.0.0.1:{server.port}", timeout=30
        ) as http,
    ):
        yield server, http


def guard(policy: str = "closed", entrypoint: str = "mine:guard") -> dict[str, Any]:
    return {
        "name": "Guard",
        "hook": "pre_flight",
        "entrypoint": entrypoint,
        "fail_policy": policy,
    }


async def chat(http: httpx.AsyncClient, key: str, text: str = TEXT, **more: Any) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
    return await raw(http, key, json.dumps(body))


async def raw(
    http: httpx.AsyncClient, key: str, body: str, path: str = "/v1/chat/completions"
) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    return await http.post(path, content=body, headers=headers)


def chat_body(message: str = '{"role": "user", "content": "forbidden"}', rest: str = "") -> str:
    return f'{{"model": "m", "messages": [{message}]{rest}}}'


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


# Bodies that no provider takes, and what is said of each.
UNFIT = {
    "a seed of 5000 digits": (chat_body(rest=f', "seed": {"9" * 5000}'), "64-bit float"),
    "a number beyond all": (chat_body(rest=', "temperature": 1e999'), "64-bit float"),
    "one in an unknown member": (chat_body(rest=', "x": {"y": [-1e999]}'), "64-bit float"),
    "role an object": (chat_body('{"role": {}, "content": "forbidden"}'), "messages[0].role"),
    "no role": (chat_body('{"content": "forbidden"}'), "has no role"),
    "content a number": (chat_body('{"role": "user", "content": 5}'), "messages[0].content"),
    "content an object": (chat_body('{"role": "user", "content": {}}'), "messages[0].content"),
    "a part that is a text": (chat_body('{"role": "user", "content": ["forbidden"]}'), "object"),
    "a text that is a number": (
        chat_body('{"role": "user", "content": [{"type": "text", "text": 5}]}'),
        "messages[0].content[0].text",
    ),
    "a message that is a text": (chat_body('"forbidden"'), "messages[0]"),
    "a message that is null": (chat_body("null"), "messages[0]"),
    "messages an object": ('{"model": "m", "messages": {"0": "forbidden"}}', "messages"),
    "messages null": ('{"model": "m", "messages": null}', "messages"),
    "no messages": ('{"model": "m", "prompt": "forbidden"}', "messages"),
    "a key spelled otherwise": (chat_body('{"r\\u006fle": 5, "content": "x"}'), "role"),
    "tools a text": (chat_body(rest=', "tools": "x"'), "tools"),
    "a tool that is a number": (chat_body(rest=', "tools": [5]'), "tools[0]"),
    "a function that is a list": (
        chat_body(rest=', "tools": [{"type": "function", "function": []}]'),
        "function",
    ),
    "a tool's name an object": (
        chat_body(rest=', "tools": [{"type": "function", "function": {"name": {}}}]'),
        "name",
    ),
    "tool calls an object": (chat_body('{"role": "assistant", "tool_calls": {}}'), "tool_calls"),
    "arguments an object": (
        chat_body('{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}]}'),
        "arguments",
    ),
    "max_tokens a text": (chat_body(rest=', "max_tokens": "5"'), "max_tokens"),
    "metadata a list": (chat_body(rest=', "metadata": []'), "metadata"),
    "half a character": (chat_body('{"role": "user", "content": "\\ud800"}'), "surrogate"),
    "half a character in a key": (chat_body(rest=', "\\udc00": 1'), "surrogate"),
    "too deep": (chat_body(rest=f', "x": {deep(200)}'), "nested too deeply"),
}


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_a_body_that_no_plugin_could_be_shown_is_its_clients_400_before_any_runs(
    tmp_path: Path, policy: str
) -> None:
    async with guarded(tmp_path, [guard(policy)]) as (server, http):
        assert server.plugins is not None
        for what, (body, said) in UNFIT.items():
            for _ in range(12):
                answer = await raw(http, MINE, body)
                assert answer.status_code == 400, (what, answer.text)
                assert said in answer.json()["error"]["message"], (what, answer.text)
                assert answer.json()["error"]["type"] == "invalid_request_error"
        assert server.plugins.get_plugin_stats("Guard")["invocations"] == 0
        assert (await chat(http, THEIRS, "forbidden")).status_code == 403
        assert (await chat(http, THEIRS)).status_code == 200


# The same in the other formats: each client hears of it in its own.
ELSEWHERE = {
    "/v1/messages": chat_body('{"role": "user", "content": "x"}', ', "max_tokens": 9')[:-1],
    "/v1/responses": '{"model": "m", "input": "x"',
    "/v1beta/models/m:generateContent": '{"contents": [{"role": "user", "parts": [{"text": "x"}]}]',
}


@pytest.mark.parametrize("path", ELSEWHERE)
async def test_the_limits_are_the_same_in_every_format(tmp_path: Path, path: str) -> None:
    worst = [f'"seed": {"9" * 5000}', '"x": 1e999', f'"x": {deep(200)}', '"x": "\\ud83d"']
    async with guarded(tmp_path, [guard()]) as (server, http):
        assert server.plugins is not None
        for member in worst:
            answer = await raw(http, MINE, ELSEWHERE[path] + f", {member}}}", path)
            assert answer.status_code == 400, (member, answer.text)
        assert server.plugins.get_plugin_stats("Guard")["invocations"] == 0
        assert (await raw(http, MINE, ELSEWHERE[path] + "}", path)).status_code == 200


async def test_without_plugins_a_number_that_nobody_can_hold_is_refused_as_well() -> None:
    async with (
        make_server(CONFIG) as server,
        httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{server.port}") as http,
    ):
        for path, body in {**ELSEWHERE, "/v1/chat/completions": chat_body()[:-1]}.items():
            answer = await raw(http, MINE, body + ', "x": 1e999}', path)
            assert answer.status_code == 400, (path, answer.text)


FIT = [
    '{"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", '
    '"function": {"name": "f", "arguments": "{}"}}]}',
    '{"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]}',
    '{"role": "user", "name": null, "content": [{"type": "image_url", "image_url": {"url": "x"}}]}',
    '{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}, "text": null}]}',
    '{"role": "assistant", "refusal": null, "audio": {"id": "x"}, "content": "\\ud83d\\ude00"}',
    '{"role": "user", "content": "", "unknown": [[[[{}]]]]}',
]
FIT_MEMBERS = [
    '"seed": -9223372036854775808',
    '"seed": 123456789012345678901234567890',
    '"temperature": 1e-400',
    '"stop": ["a", "b"]',
    '"tool_choice": "auto"',
    '"tools": [{"type": "custom", "custom": {"name": "x"}}]',
    '"max_tokens": null, "stream": null, "tools": null, "user": null',
    f'"x": {deep(100)}',
]


async def test_what_providers_take_passes(tmp_path: Path) -> None:
    async with guarded(tmp_path, [guard()]) as (_, http):
        for message in FIT:
            answer = await raw(http, MINE, chat_body(message))
            assert answer.status_code == 200, (message, answer.text)
        for member in FIT_MEMBERS:
            answer = await raw(
                http, MINE, chat_body('{"role": "user", "content": "x"}', f", {member}")
            )
            assert answer.status_code == 200, (member, answer.text)


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_failures_that_one_client_causes_leave_the_plugin_on_for_all(
    tmp_path: Path, policy: str
) -> None:
    async with guarded(tmp_path, [guard(policy)]) as (server, http):
        assert server.plugins is not None
        for _ in range(30):
            answer = await chat(http, MINE, "raise, forbidden")
            assert answer.status_code == (500 if policy == "closed" else 200), answer.text
        assert server.plugins.get_plugin_stats("Guard")["consecutive_errors"] == 30
        for key in (THEIRS, MINE):
            assert (await chat(http, key, "forbidden")).status_code == 403
            assert (await chat(http, key)).status_code == 200


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 503)])
async def test_what_fails_for_several_clients_rests_and_a_guard_refuses_meanwhile(
    tmp_path: Path, policy: str, status: int
) -> None:
    async with guarded(tmp_path, [guard(policy)]) as (server, http):
        assert server.plugins is not None
        for n in range(10):
            await chat(http, (MINE, THEIRS, THIRD)[n % 3], "raise")
        assert server.plugins.get_plugin_stats("Guard")["quarantined"]
        assert (await chat(http, MINE, "forbidden")).status_code == status


async def test_a_plugin_may_say_itself_that_it_fails_closed(tmp_path: Path) -> None:
    row = {
        key: value for key, value in guard(entrypoint="mine:Saying").items() if key != "fail_policy"
    }
    async with guarded(tmp_path, [row]) as (server, http):
        assert server.plugins is not None
        assert (await chat(http, MINE)).status_code == 500
        meta = server.plugins.get_plugin("Guard")
        assert meta is not None and meta["fail_policy"] == "closed"


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 413)])
async def test_a_body_beyond_the_bound_is_not_shown_to_guards_but_refused(
    tmp_path: Path, policy: str, status: int
) -> None:
    async with guarded(tmp_path, [guard(policy)], plugins={"guarded_body_bytes": 4096}) as (
        server,
        http,
    ):
        assert server.plugins is not None
        answer = await chat(http, MINE, "x" * 5000)
        assert answer.status_code == status, answer.text
        assert (await chat(http, MINE, "x" * 3000)).status_code == 200


async def test_the_words_of_a_block_are_bounded(tmp_path: Path) -> None:
    async with guarded(tmp_path, [guard(entrypoint="mine:wordy")]) as (_, http):
        answer = await chat(http, MINE)
        assert answer.status_code == 403
        error = answer.json()["error"]
        assert len(error["message"].encode()) <= 4096 + 3
        assert set(error["message"][:-1]) == {"ä"}
        assert len(error["code"].encode()) <= 128 + 3
