"""The official SDKs against every kind of backend: what the model said arrives, nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

import planted
from e2e.answers import ALL_SCRIPTS, ANSWERS, ONE_TOOL, TEXT, Answer
from e2e.conftest import Proxy, StartProxy
from e2e.upstream import Upstream, answering

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@dataclass(frozen=True)
class Heard:
    """What an SDK says the model said."""

    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    ids_differ: bool
    stop: str
    input_tokens: int
    output_tokens: int


def facts(answer: Answer, stops: dict[str, str]) -> Heard:
    kind = "calls" if answer.calls else "cut" if answer.cut_short else "done"
    return Heard(
        answer.text,
        tuple((call.name, call.arguments) for call in answer.calls),
        True,
        stops[kind],
        answer.input_tokens,
        answer.output_tokens,
    )


CHAT_STOPS = {"calls": "tool_calls", "cut": "length", "done": "stop"}
MESSAGES_STOPS = {"calls": "tool_use", "cut": "max_tokens", "done": "end_turn"}


async def ask_openai(proxy: Proxy, streamed: bool, **request: Any) -> Heard:
    ask: dict[str, Any] = {
        "model": "gpt-test",
        "messages": [{"role": "user", "content": ALL_SCRIPTS}],
        **request,
    }
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="client", max_retries=0) as client:
        if not streamed:
            whole = await client.chat.completions.create(**ask)
            choice, usage = whole.choices[0], whole.usage
            text = choice.message.content or ""
            calls = [
                (call.id, call.function.name, call.function.arguments)
                for call in choice.message.tool_calls or []
            ]
            stop = choice.finish_reason
        else:
            text, stop, usage = "", "", None
            by_index: dict[int, list[str]] = {}
            stream = await client.chat.completions.create(
                **ask, stream=True, stream_options={"include_usage": True}
            )
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    stop = choice.finish_reason or stop
                    for call in choice.delta.tool_calls or []:
                        parts = by_index.setdefault(call.index, ["", "", ""])
                        parts[0] = call.id or parts[0]
                        parts[1] += (call.function and call.function.name) or ""
                        parts[2] += (call.function and call.function.arguments) or ""
            calls = [(parts[0], parts[1], parts[2]) for _, parts in sorted(by_index.items())]
    assert usage is not None
    return Heard(
        text,
        tuple((name, json.loads(arguments)) for _, name, arguments in calls),
        len({call_id for call_id, _, _ in calls}) == len(calls),
        str(stop),
        usage.prompt_tokens,
        usage.completion_tokens,
    )


async def ask_anthropic(proxy: Proxy, streamed: bool, **request: Any) -> Heard:
    ask: dict[str, Any] = {
        "model": "claude-test",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": ALL_SCRIPTS}],
        **request,
    }
    async with AsyncAnthropic(base_url=proxy.url, api_key="client", max_retries=0) as client:
        if streamed:
            async with client.messages.stream(**ask) as stream:
                message = await stream.get_final_message()
        else:
            message = await client.messages.create(**ask)
    calls = [block for block in message.content if block.type == "tool_use"]
    return Heard(
        "".join(block.text for block in message.content if block.type == "text"),
        tuple((call.name, dict(call.input)) for call in calls),
        len({call.id for call in calls}) == len(calls),
        str(message.stop_reason),
        message.usage.input_tokens,
        message.usage.output_tokens,
    )


CLIENTS = {"openai": (ask_openai, CHAT_STOPS), "anthropic": (ask_anthropic, MESSAGES_STOPS)}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "openai": [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}],
    "anthropic": [{"name": "get_weather", "input_schema": SCHEMA}],
}

both_clients = pytest.mark.parametrize("client", CLIENTS)
both_upstreams = pytest.mark.parametrize("backend", ["openai", "anthropic"])
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@both_clients
@both_upstreams
@both_ways
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_what_the_model_says_reaches_the_sdk(
    client: str, backend: str, streamed: bool, answer: Answer, start_proxy: StartProxy
) -> None:
    ask, stops = CLIENTS[client]
    async with Upstream(answering(answer)) as upstream, start_proxy(upstream, backend) as proxy:
        heard = await ask(proxy, streamed, tools=TOOLS[client])
        assert heard == facts(answer, stops)
        assert upstream.last.headers.get("authorization", "").removeprefix("Bearer ") in (
            planted.PROVIDER,
            "",
        )
        assert "client" not in upstream.last.headers.values()


@both_clients
@both_upstreams
async def test_a_text_cut_at_every_byte_comes_out_whole(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    ask, stops = CLIENTS[client]
    async with (
        Upstream(answering(TEXT, every=1)) as upstream,
        start_proxy(upstream, backend) as proxy,
    ):
        assert await ask(proxy, True) == facts(TEXT, stops)


IMAGE: dict[str, dict[str, Any]] = {
    "openai": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
    "anthropic": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
    },
}


@both_clients
@both_upstreams
async def test_an_image_reaches_the_provider_in_its_own_format(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    ask, stops = CLIENTS[client]
    content = [{"type": "text", "text": "What is this?"}, IMAGE[client]]
    async with Upstream(answering(TEXT)) as upstream, start_proxy(upstream, backend) as proxy:
        heard = await ask(proxy, False, messages=[{"role": "user", "content": content}])
        assert heard == facts(TEXT, stops)
        assert IMAGE[backend] in upstream.last.json["messages"][-1]["content"]


HISTORY: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"role": "user", "content": "Weather in Łódź?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_one",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Łódź"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_one", "content": "słońce ☀"},
    ],
    "anthropic": [
        {"role": "user", "content": "Weather in Łódź?"},
        {
            "role": "assistant",
            "content": [
                {
                    "type": "tool_use",
                    "id": "call_one",
                    "name": "get_weather",
                    "input": {"city": "Łódź"},
                }
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "call_one", "content": "słońce ☀"}],
        },
    ],
}


@both_clients
@both_upstreams
async def test_a_tool_result_reaches_the_provider_beside_its_call(
    client: str, backend: str, start_proxy: StartProxy
) -> None:
    ask, stops = CLIENTS[client]
    async with Upstream(answering(TEXT)) as upstream, start_proxy(upstream, backend) as proxy:
        heard = await ask(proxy, False, messages=HISTORY[client], tools=TOOLS[client])
        assert heard == facts(TEXT, stops)
        _, call, result = upstream.last.json["messages"]
        if backend == "openai":
            (made,) = call["tool_calls"]
            assert (made["id"], made["function"]["name"]) == ("call_one", "get_weather")
            assert json.loads(made["function"]["arguments"]) == {"city": "Łódź"}
            assert (result["role"], result["tool_call_id"]) == ("tool", "call_one")
            assert result["content"] == "słońce ☀"
        else:
            (use,) = call["content"]
            assert (use["id"], use["input"]) == ("call_one", {"city": "Łódź"})
            (block,) = result["content"]
            assert block["tool_use_id"] == "call_one"
            assert "słońce ☀" in json.dumps(block["content"], ensure_ascii=False)


async def test_the_raw_path_changes_nothing_but_what_it_must(start_proxy: StartProxy) -> None:
    """Unknown fields, their order and their spelling go on; so does every byte of the answer."""
    import httpx

    body = (
        b'{"x_unknown": {"b":1,"a":[1.50,1e3]} , "model":"gpt-test","messages":'
        b'[{"role":"user","content":"\\u00e9 \xc3\xa9","x":null}],"temperature":0.70}'
    )
    async with Upstream(answering(ONE_TOOL)) as upstream, start_proxy(upstream, "openai") as proxy:
        async with httpx.AsyncClient() as client:
            got = await client.post(
                f"{proxy.url}/v1/chat/completions",
                content=body,
                headers={"content-type": "application/json", "x-mine": "kept"},
            )
        assert upstream.last.body == body
        assert upstream.last.path == "/v1/chat/completions"
        assert upstream.last.headers["authorization"] == f"Bearer {planted.PROVIDER}"
        from e2e.answers import chat_whole

        assert got.content == chat_whole(ONE_TOOL)


@both_clients
@both_ways
async def test_the_built_in_answerer_serves_both_sdks(
    client: str, streamed: bool, start_proxy: StartProxy
) -> None:
    ask, stops = CLIENTS[client]
    async with start_proxy() as proxy:
        heard = await ask(proxy, streamed)
    assert ALL_SCRIPTS in heard.text
    assert heard.stop == stops["done"]
