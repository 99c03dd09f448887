"""The official SDKs on every pair of client format and upstream format, whole and streamed.

What the model says arrives through each SDK's own accumulator; a picture, a tool, its call and its
result reach the provider as the client meant them.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from google import genai
from google.genai import types
from openai import AsyncOpenAI
from openai.lib.streaming.chat import ChatCompletionStreamState

from e2e.answers import ALL_SCRIPTS, ANSWERS, ONE_TOOL, TEXT, Call
from e2e.conftest import Proxy, StartProxy
from e2e.test_sdks import CHAT_STOPS, MESSAGES_STOPS, PICTURE, Heard, facts
from e2e.upstream import Received, Upstream, answering

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
RESULT = "słońce ☀, 21°"
DATA_URL = f"data:image/png;base64,{PICTURE}"
QUESTION = f"What is this? {ALL_SCRIPTS}"

# What an SDK heard, and the conversation with the answer put in as the SDK gives it back.
Told = tuple[Heard, list[Any]]
Ask = Callable[[Proxy, bool, list[Any]], Awaitable[Told]]


def heard(text: str, calls: list[tuple[str, str, Any]], stop: Any, usage: tuple[int, int]) -> Heard:
    ids = {call_id for call_id, _, _ in calls}
    return Heard(
        text,
        tuple((name, arguments) for _, name, arguments in calls),
        len(ids) == len(calls) and "" not in ids,
        str(stop),
        *usage,
    )


async def ask_chat(proxy: Proxy, streamed: bool, history: list[Any]) -> Told:
    function = {"name": "get_weather", "parameters": SCHEMA, "strict": True}
    ask: dict[str, Any] = {
        "model": "model-a",
        "messages": history,
        "tools": [{"type": "function", "function": function}],
    }
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="client", max_retries=0) as client:
        if streamed:
            ask["stream_options"] = {"include_usage": True}
            state = ChatCompletionStreamState()
            async for chunk in await client.chat.completions.create(**ask, stream=True):
                state.handle_chunk(chunk)
            whole: Any = state.current_completion_snapshot
        else:
            whole = await client.chat.completions.create(**ask)
    choice, usage = whole.choices[0], whole.usage
    calls = [
        (call.id, call.function.name, json.loads(call.function.arguments))
        for call in choice.message.tool_calls or []
    ]
    message = choice.message.to_dict(exclude_none=True)
    for call in message.get("tool_calls", []):
        call["function"].pop("parsed_arguments", None)
    return (
        heard(
            choice.message.content or "",
            calls,
            choice.finish_reason,
            (usage.prompt_tokens, usage.completion_tokens),
        ),
        [*history, message],
    )


async def ask_responses(proxy: Proxy, streamed: bool, history: list[Any]) -> Told:
    tool = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
    ask: dict[str, Any] = {"model": "model-a", "input": history, "tools": [tool], "store": False}
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="client", max_retries=0) as client:
        if streamed:
            async with client.responses.stream(**ask) as events:
                response: Any = [event async for event in events][-1].response
        else:
            response = await client.responses.create(**ask)
    calls = [
        (item.call_id, item.name, json.loads(item.arguments))
        for item in response.output
        if item.type == "function_call"
    ]
    reason = response.incomplete_details and response.incomplete_details.reason
    items = [item.to_dict(exclude_none=True) for item in response.output]
    for item in items:
        item.pop("parsed_arguments", None)
        for part in item.get("content", []):
            part.pop("parsed", None)
    return (
        heard(
            response.output_text,
            calls,
            reason or response.status,
            (response.usage.input_tokens, response.usage.output_tokens),
        ),
        [*history, *items],
    )


async def ask_messages(proxy: Proxy, streamed: bool, history: list[Any]) -> Told:
    ask: dict[str, Any] = {
        "model": "model-a",
        "max_tokens": 1000,
        "messages": history,
        "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
    }
    async with AsyncAnthropic(base_url=proxy.url, api_key="client", max_retries=0) as client:
        if streamed:
            async with client.messages.stream(**ask) as events:
                message: Any = await events.get_final_message()
        else:
            message = await client.messages.create(**ask)
    calls = [
        (block.id, block.name, block.input) for block in message.content if block.type == "tool_use"
    ]
    content = [
        {
            key: value
            for key, value in block.to_dict(exclude_none=True).items()
            if key not in ("parsed_output", "caller")
        }
        for block in message.content
    ]
    return (
        heard(
            "".join(block.text for block in message.content if block.type == "text"),
            calls,
            message.stop_reason,
            (message.usage.input_tokens, message.usage.output_tokens),
        ),
        [*history, {"role": "assistant", "content": content}],
    )


async def ask_google(proxy: Proxy, streamed: bool, history: list[Any]) -> Told:
    declared = types.FunctionDeclaration(name="get_weather", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    ask: dict[str, Any] = {"model": "model-a", "contents": history, "config": config}
    options = types.HttpOptions(base_url=proxy.url)
    models = genai.Client(api_key="client", http_options=options).aio.models
    if streamed:
        replies = [reply async for reply in await models.generate_content_stream(**ask)]
    else:
        replies = [await models.generate_content(**ask)]
    parts = [
        part
        for reply in replies
        for candidate in reply.candidates or []
        for part in (candidate.content and candidate.content.parts) or []
    ]
    calls = [
        (call.id or f"#{at}", call.name or "", dict(call.args or {}))
        for at, call in enumerate(part.function_call for part in parts if part.function_call)
    ]
    candidates, usage = replies[-1].candidates, replies[-1].usage_metadata
    assert candidates and candidates[0].finish_reason and usage
    return (
        heard(
            "".join(part.text or "" for part in parts),
            calls,
            candidates[0].finish_reason.value,
            (usage.prompt_token_count or 0, usage.candidates_token_count or 0),
        ),
        [*history, types.Content(role="model", parts=parts)],
    )


@dataclass(frozen=True)
class Client:
    ask: Ask
    stops: dict[str, str]
    question: Any  # with a picture
    result: Callable[[Any], Any]  # the turn that answers the last turn's call


def chat_result(turn: Any) -> Any:
    return {"role": "tool", "tool_call_id": turn["tool_calls"][0]["id"], "content": RESULT}


def responses_result(turn: Any) -> Any:
    return {"type": "function_call_output", "call_id": turn["call_id"], "output": RESULT}


def messages_result(turn: Any) -> Any:
    use = next(block for block in turn["content"] if block["type"] == "tool_use")
    result = {"type": "tool_result", "tool_use_id": use["id"], "content": RESULT}
    return {"role": "user", "content": [result]}


def google_result(turn: Any) -> Any:
    call = next(part.function_call for part in turn.parts if part.function_call)
    result = types.FunctionResponse(id=call.id, name=call.name, response={"output": RESULT})
    return types.Content(role="user", parts=[types.Part(function_response=result)])


CLIENTS = {
    "chat": Client(
        ask_chat,
        CHAT_STOPS,
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION},
                {"type": "image_url", "image_url": {"url": DATA_URL}},
            ],
        },
        chat_result,
    ),
    "responses": Client(
        ask_responses,
        {"calls": "completed", "cut": "max_output_tokens", "done": "completed"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": QUESTION},
                {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
            ],
        },
        responses_result,
    ),
    "messages": Client(
        ask_messages,
        MESSAGES_STOPS,
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
                },
            ],
        },
        messages_result,
    ),
    "google": Client(
        ask_google,
        {"calls": "STOP", "cut": "MAX_TOKENS", "done": "STOP"},
        types.Content(
            role="user",
            parts=[
                types.Part(text=QUESTION),
                types.Part(inline_data=types.Blob(mime_type="image/png", data=b64decode(PICTURE))),
            ],
        ),
        google_result,
    ),
}


# --- what a provider was told, read without our codecs --------------------------------------------


@dataclass
class Asked:
    tools: list[tuple[str, Any]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    linked: bool = True  # each result names its call


def read_chat(body: Any) -> Asked:
    out, ids = Asked(), []
    out.tools = [(t["function"]["name"], t["function"]["parameters"]) for t in body["tools"]]
    for message in body["messages"]:
        content = message.get("content") or []
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for call in message.get("tool_calls", []):
            ids.append(call["id"])
            out.calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
        for part in parts:
            if part["type"] == "image_url":
                out.pictures.append(part["image_url"]["url"])
            elif message["role"] == "tool":
                out.results.append(part["text"])
                out.linked = out.linked and message["tool_call_id"] in ids
            else:
                out.texts.append(part["text"])
    return out


def read_responses(body: Any) -> Asked:
    out, ids = Asked(), []
    out.tools = [(tool["name"], tool["parameters"]) for tool in body["tools"]]
    for item in body["input"]:
        kind = item.get("type", "message")
        if kind == "function_call":
            ids.append(item["call_id"])
            out.calls.append((item["name"], json.loads(item["arguments"])))
        elif kind == "function_call_output":
            out.results.append(item["output"])
            out.linked = out.linked and item["call_id"] in ids
        else:
            content = item["content"]
            if isinstance(content, str):
                out.texts.append(content)
                continue
            out.texts += [part["text"] for part in content if "text" in part]
            out.pictures += [part["image_url"] for part in content if "image_url" in part]
    return out


def read_messages(body: Any) -> Asked:
    out, ids = Asked(), []
    out.tools = [(tool["name"], tool["input_schema"]) for tool in body["tools"]]
    for message in body["messages"]:
        content = message["content"]
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for block in blocks:
            if block["type"] == "text":
                out.texts.append(block["text"])
            elif block["type"] == "image":
                source = block["source"]
                out.pictures.append(f"data:{source['media_type']};base64,{source['data']}")
            elif block["type"] == "tool_use":
                ids.append(block["id"])
                out.calls.append((block["name"], block["input"]))
            elif block["type"] == "tool_result":
                out.linked = out.linked and block["tool_use_id"] in ids
                said = block["content"]
                out.results += [said] if isinstance(said, str) else [part["text"] for part in said]
    return out


def read_gemini(body: Any) -> Asked:
    out, calls = Asked(), []
    out.tools = [
        (tool["name"], tool.get("parametersJsonSchema") or tool["parameters_json_schema"])
        for group in body["tools"]
        for tool in group["functionDeclarations"]
    ]
    for content in body["contents"]:
        for part in content["parts"]:
            if "text" in part:
                out.texts.append(part["text"])
            elif "inlineData" in part:
                blob = part["inlineData"]
                kind = blob.get("mimeType") or blob["mime_type"]
                # Either alphabet is right here: Google's library writes the one of URLs.
                out.pictures.append(f"data:{kind};base64,{blob['data'].replace('-', '+')}")
            elif "functionCall" in part:
                calls.append((part["functionCall"].get("id"), part["functionCall"]["name"]))
                out.calls.append((part["functionCall"]["name"], part["functionCall"]["args"]))
            elif "functionResponse" in part:
                result = part["functionResponse"]
                out.linked = out.linked and (result.get("id"), result["name"]) in calls
                (said,) = result["response"].values()
                out.results.append(said)
    return out


READERS: dict[str, tuple[str, Callable[[Any], Asked]]] = {
    "openai": ("/v1/chat/completions", read_chat),
    "openai-responses": ("/v1/responses", read_responses),
    "anthropic": ("/v1/messages", read_messages),
    "gemini": ("/v1/models/model-a:", read_gemini),
}

every_client = pytest.mark.parametrize("client", CLIENTS)
every_upstream = pytest.mark.parametrize("backend", READERS)
both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def asked(backend: str, request: Received) -> Asked:
    path, read = READERS[backend]
    assert request.path.startswith(path)
    return read(request.json)


@every_client
@every_upstream
@both_ways
async def test_a_tool_is_called_and_its_result_answered(
    client: str, backend: str, streamed: bool, start_proxy: StartProxy
) -> None:
    sdk = CLIENTS[client]
    async with Upstream() as upstream, start_proxy(upstream, backend) as proxy:
        # Whatever the model says, the SDK hears it.
        for answer in ANSWERS.values():
            upstream.handler = answering(answer)
            told, _ = await sdk.ask(proxy, streamed, [sdk.question])
            assert told == facts(answer, sdk.stops)

        # A call goes back as the SDK keeps it, and its result with it.
        once = replace(ONE_TOOL, calls=(Call("call_one", "get_weather", {"city": "Łódź", "d": 2}),))
        upstream.handler = answering(once)
        _, history = await sdk.ask(proxy, streamed, [sdk.question])
        upstream.handler = answering(TEXT)
        history.append(sdk.result(history[-1]))
        told, _ = await sdk.ask(proxy, streamed, history)
        assert told == facts(TEXT, sdk.stops)

        got = asked(backend, upstream.last)
        assert got.tools == [("get_weather", SCHEMA)]
        assert "".join(got.texts) == QUESTION + once.text
        assert got.pictures == [DATA_URL]
        assert got.calls == [("get_weather", {"city": "Łódź", "d": 2})]
        assert got.results == [RESULT]
        assert got.linked
