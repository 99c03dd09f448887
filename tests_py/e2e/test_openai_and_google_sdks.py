"""OpenAI's Responses client and Google's: what the model said arrives, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google import genai
from google.genai import types
from openai import AsyncOpenAI

from e2e.answers import ALL_SCRIPTS, ANSWERS, Answer
from e2e.conftest import Proxy, StartProxy
from e2e.test_sdks import SCHEMA, Heard, facts
from e2e.upstream import Upstream, answering


async def ask_responses(proxy: Proxy, streamed: bool) -> Heard:
    tool = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}
    ask: dict[str, Any] = {"model": "gpt-test", "input": ALL_SCRIPTS, "tools": [tool]}
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="client", max_retries=0) as client:
        if streamed:
            async with client.responses.stream(**ask) as stream:
                events = [event async for event in stream]
            # The last one holds it all, whether it says completed or incomplete.
            response = events[-1].response
            said = "".join(event.delta for event in events if event.type.endswith("text.delta"))
            assert said == response.output_text
        else:
            response = await client.responses.create(**ask)
    calls = [item for item in response.output if item.type == "function_call"]
    assert response.usage is not None
    reason = response.incomplete_details and response.incomplete_details.reason
    return Heard(
        response.output_text,
        tuple((call.name, json.loads(call.arguments)) for call in calls),
        len({call.call_id for call in calls}) == len(calls),
        str(reason or response.status),
        response.usage.input_tokens,
        response.usage.output_tokens,
    )


async def ask_google(proxy: Proxy, streamed: bool) -> Heard:
    options = types.HttpOptions(base_url=proxy.url)
    declared = types.FunctionDeclaration(name="get_weather", parameters_json_schema=SCHEMA)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    ask: dict[str, Any] = {"model": "gemini-test", "contents": ALL_SCRIPTS, "config": config}
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
    calls = [part.function_call for part in parts if part.function_call]
    candidates, usage = replies[-1].candidates, replies[-1].usage_metadata
    assert candidates and candidates[0].finish_reason and usage
    return Heard(
        "".join(part.text or "" for part in parts),
        tuple((call.name or "", dict(call.args or {})) for call in calls),
        len({call.id for call in calls}) == len(calls),
        candidates[0].finish_reason.value,
        usage.prompt_token_count or 0,
        usage.candidates_token_count or 0,
    )


CLIENTS = {
    "responses": (
        ask_responses,
        {"calls": "completed", "cut": "max_output_tokens", "done": "completed"},
    ),
    "google": (ask_google, {"calls": "STOP", "cut": "MAX_TOKENS", "done": "STOP"}),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("backend", ["openai", "anthropic"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_what_the_model_says_reaches_the_sdk(
    client: str, backend: str, streamed: bool, answer: Answer, start_proxy: StartProxy
) -> None:
    ask, stops = CLIENTS[client]
    async with Upstream(answering(answer)) as upstream, start_proxy(upstream, backend) as proxy:
        assert await ask(proxy, streamed) == facts(answer, stops)
        assert "client" not in upstream.last.headers.values()
