"""What stands twice in a request is refused: it would be checked by one and billed by the other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.answers import TEXT
from e2e.conftest import StartProxy
from e2e.upstream import Upstream, answering
from e2e.wire import ASKS, ask, bearer

BACKENDS = {
    "chat": "openai",
    "responses": "openai-responses",
    "messages": "anthropic",
    "gemini": "gemini",
}
# Members that this proxy decides by, in each format, and another value of each.
DECIDED: dict[str, dict[str, Any]] = {
    "chat": {
        "model": "other",
        "messages": [],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 1,
        "tools": [],
        "extra_body": {"session_id": "x"},
    },
    "responses": {
        "model": "other",
        "input": "b",
        "stream": True,
        "store": False,
        "previous_response_id": "resp_1",
        "conversation": "conv_1",
        "instructions": "b",
    },
    "messages": {"model": "other", "messages": [], "stream": True, "system": "b", "max_tokens": 1},
    "gemini": {
        "contents": [],
        "generationConfig": {"maxOutputTokens": 1},
        "systemInstruction": {"parts": [{"text": "b"}]},
        "tools": [],
    },
}
TWICE = [(frontend, name) for frontend, rows in DECIDED.items() for name in rows]


def spelled(name: str) -> list[str]:
    """JSON's spellings of a name: as it is, and with each of some letters escaped."""
    first = f"\\u{ord(name[0]):04x}{name[1:]}"
    last = f"{name[:-1]}\\u{ord(name[-1]):04X}"
    return [name, first, last]


def body_of(frontend: str, first: str, name: str, second: Any, *, last: bool) -> bytes:
    body = {k: v for k, v in ASKS[frontend][1].items() if k != name}
    own = ASKS[frontend][1].get(name, second)
    members = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in body.items()]
    twins = [f'"{name}": {json.dumps(own)}', f'"{first}": {json.dumps(second)}']
    order = [twins[0], *members, twins[1]] if last else [twins[1], twins[0], *members]
    return ("{" + ", ".join(order) + "}").encode()


@pytest.mark.parametrize(("frontend", "name"), TWICE)
async def test_a_member_that_stands_twice_is_refused(
    frontend: str, name: str, start_proxy: StartProxy
) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, BACKENDS[frontend]) as proxy,
    ):
        path = ASKS[frontend][0].replace("echo:", "m:")
        for spelling in spelled(name):
            for last in (True, False):
                sent = body_of(frontend, spelling, name, DECIDED[frontend][name], last=last)
                got = await ask(proxy, "POST", path, sent)
                assert got.status == 400, (sent, got.body)
                assert name in got.json["error"]["message"]
        assert not upstream.requests


@pytest.mark.parametrize(
    ("frontend", "inner"),
    [
        (
            "chat",
            '"stream": true, "stream_options": {"include_usage": false, "include_usage": true}',
        ),
        ("chat", '"stream_options": {"include_usage": false, "include_usag\\u0065": true}'),
        ("chat", '"messages": [{"role": "user", "content": "a", "content": "b"}]'),
        ("chat", '"messages": [{"role": "user", "role": "system", "content": "a"}]'),
        (
            "chat",
            '"messages": [{"role": "user", "content": [{"type": "text", "text": "a", '
            '"text": "b"}]}]',
        ),
        ("chat", '"metadata": {"user_id": "a", "user_id": "b"}'),
        ("responses", '"input": [{"role": "user", "content": "a", "content": "b"}]'),
        ("responses", '"conversation": {"id": "conv_1", "id": "conv_2"}'),
        ("responses", '"reasoning": {"effort": "low", "effort": "high"}'),
        ("messages", '"messages": [{"role": "user", "content": "a", "c\\u006fntent": "b"}]'),
        ("messages", '"thinking": {"type": "disabled", "type": "enabled"}'),
        ("messages", '"metadata": {"user_id": "a", "user_id": "b"}'),
        ("gemini", '"generationConfig": {"maxOutputTokens": 1, "maxOutputTokens": 9}'),
        ("gemini", '"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 9}'),
        ("gemini", '"generationConfig": {"maxOutputTokens": 1}, "generation_config": {}'),
        ("gemini", '"generation_config": {}, "generationConfig": {"maxOutputTokens": 1}'),
        ("gemini", '"systemInstruction": {"parts": []}, "system_instruction": {"parts": []}'),
        ("gemini", '"toolConfig": {}, "tool_config": {}'),
        ("gemini", '"contents": [{"parts": [{"text": "a", "text": "b"}]}]'),
        ("gemini", '"contents": [{"parts": [{"text": "a"}], "parts": [{"text": "b"}]}]'),
    ],
)
async def test_so_is_one_inside_another(frontend: str, inner: str, start_proxy: StartProxy) -> None:
    names = set(json.loads("{" + inner + "}"))
    rest = {k: v for k, v in ASKS[frontend][1].items() if k not in names}
    sent = ("{" + inner + ", " + json.dumps(rest)[1:] if rest else "{" + inner + "}").encode()
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, BACKENDS[frontend]) as proxy,
    ):
        got = await ask(proxy, "POST", ASKS[frontend][0].replace("echo:", "m:"), sent)
        assert got.status == 400, got.body
        assert "twice" in got.json["error"]["message"]
        assert not upstream.requests


@pytest.mark.parametrize("name", ["Model", "MODEL", "mod\\u0045l", "Stream", "Messages", "STORE"])
@pytest.mark.parametrize("frontend", ["chat", "responses", "messages"])
async def test_so_is_a_name_that_a_server_without_case_takes_for_one(
    frontend: str, name: str, start_proxy: StartProxy
) -> None:
    """Go's JSON package does: the last one wins, however it is written."""
    path, body = ASKS[frontend]
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, BACKENDS[frontend]) as proxy,
    ):
        for sent in (
            f'{json.dumps(body)[:-1]}, "{name}": "other"}}',
            f'{{"{name}": "other", {json.dumps(body)[1:]}',
        ):
            got = await ask(proxy, "POST", path, sent.encode())
            assert got.status == 400, sent
        assert not upstream.requests


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/v1/embeddings", b'{"model": "a", "model": "b", "input": "x"}'),
        ("/v1/embeddings", b'{"model": "a", "input": "x", "input": "y"}'),
        ("/v1/completions", b'{"model": "a", "prompt": "x", "prompt": "y"}'),
        ("/v1/messages/count_tokens", b'{"model": "a", "model": "b", "messages": []}'),
        ("/v1/responses/input_tokens", b'{"model": "a", "model": "b", "input": "x"}'),
        ("/v1beta/models/m:countTokens", b'{"contents": [], "contents": []}'),
        (
            "/v1beta/models/m:countTokens",
            b'{"generateContentRequest": {"contents": [], "contents": []}}',
        ),
        ("/v1/conversations", b'{"metadata": {"a": "b"}, "metadata": {}}'),
        ("/v1/conversations", b'{"items": [], "items": []}'),
    ],
)
async def test_every_endpoint_refuses_it(path: str, sent: bytes, start_proxy: StartProxy) -> None:
    async with (
        Upstream(answering(TEXT)) as upstream,
        start_proxy(upstream, "openai", LLM_PROXY_EXACT_TOKEN_COUNTS="1") as proxy,
    ):
        got = await ask(proxy, "POST", path, sent)
        assert got.status == 400, got.body
        assert not upstream.requests


async def test_many_members_are_looked_through_in_no_time(start_proxy: StartProxy) -> None:
    names = [f'"m{number}": {{"a": 1, "b": [{{"c": 2}}]}}' for number in range(50_000)]
    path, body = ASKS["chat"]
    many = (json.dumps(body)[:-1] + ', "x": {' + ", ".join(names)).encode()
    async with start_proxy() as proxy:
        assert (await ask(proxy, "POST", path, many + b"}}")).status == 200
        assert (await ask(proxy, "POST", path, many + b', "m7": 1}}')).status == 400
        more = ", ".join(f'"n{number}": 1' for number in range(20_000)).encode()
        assert (await ask(proxy, "POST", path, many + b", " + more + b"}}")).status == 400


async def test_members_of_one_name_in_different_objects_are_no_repetition(
    start_proxy: StartProxy,
) -> None:
    path, body = ASKS["chat"]
    said = [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}] * 3
    tool = {"type": "object", "properties": {"model": {"type": "string"}, "type": {"type": "null"}}}
    asked = {**body, "messages": said, "metadata": {"model": "x", "Model": "y"}, "x": [tool, tool]}
    async with start_proxy() as proxy:
        assert (await ask(proxy, "POST", path, asked)).status == 200


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "content-type",
        "content-encoding",
        "host",
        "content-length",
        "origin",
        "x-lip-route",
        "x-session-id",
        "anthropic-version",
        "user-agent",
    ],
)
@pytest.mark.parametrize("frontend", ASKS)
async def test_a_header_field_that_stands_twice_is_refused(
    frontend: str, name: str, start_proxy: StartProxy
) -> None:
    values = {
        "authorization": ("Bearer the-right-key", "Bearer other"),
        "content-encoding": ("identity", "identity"),
        "content-length": ("2", "3"),
    }.get(name, ("the-right-key", "other"))
    async with start_proxy(API_KEYS="the-right-key") as proxy:
        for pair in (values, values[::-1], (values[0], values[0])):
            fields = [(name, pair[0]), (name.upper(), pair[1])]
            if not name.endswith("key") and name != "authorization":
                fields.append(bearer("the-right-key"))
            got = await ask(proxy, "POST", *ASKS[frontend], fields)
            assert got.status in (400, 401), (name, pair, got.status)


@pytest.mark.parametrize(
    "query",
    [
        "key=the-right-key&key=other",
        "key=other&key=the-right-key",
        "key=the-right-key&%6bey=other",
        "k%65y=the-right-key&ke%79=the-right-key",
        "key=the-right-key&alt=sse&alt=json",
        "key=the-right-key&alt=json&%61lt=sse",
        "key=the-right-key&alt&alt=sse",
    ],
)
async def test_a_query_parameter_that_stands_twice_is_refused(
    query: str, start_proxy: StartProxy
) -> None:
    path, body = ASKS["gemini"]
    async with start_proxy(API_KEYS="the-right-key") as proxy:
        got = await ask(proxy, "POST", f"{path}?{query}", body)
        assert got.status in (400, 401), got.body
        assert (await ask(proxy, "POST", f"{path}?key=the-right-key&alt=json", body)).status == 200
