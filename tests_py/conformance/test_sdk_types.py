"""What we make of recorded traffic is what the official SDKs' types describe.

Every recorded request, translated for each other format, validates against the request types of
that format's SDK, unknown keys refused; every recorded answer, translated, parses into its answer
types, whole and event by event. A sample is taken; LLM_PROXY_CORPUS_SAMPLE=0 takes everything.
"""

from __future__ import annotations

import functools
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message, MessageCreateParams, RawMessageStreamEvent
from google.genai import types as google
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParams
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParams
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from llm_proxy import _core

# Read before the environment is cleaned for each test. Records a format; 0: all.
SAMPLE = int(os.environ.get("LLM_PROXY_CORPUS_SAMPLE") or 60)

FORMATS = ("openai-chat", "openai-responses", "anthropic-messages", "gemini-generate")
every_pair = pytest.mark.parametrize(
    ("source", "target"), [(a, b) for a in FORMATS for b in FORMATS if a != b]
)


class GeminiRequest(BaseModel):
    """The body of :generateContent, for which Google's library has only the parts' types."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)

    contents: list[google.Content]
    system_instruction: google.Content | None = None
    tools: list[google.Tool] | None = None
    tool_config: google.ToolConfig | None = None
    generation_config: google.GenerationConfig | None = None
    safety_settings: list[google.SafetySetting] | None = None


STRICT = ConfigDict(extra="forbid")
REQUESTS: dict[str, TypeAdapter[Any]] = {
    "openai-chat": TypeAdapter(CompletionCreateParams, config=STRICT),
    "openai-responses": TypeAdapter(ResponseCreateParams, config=STRICT),
    "anthropic-messages": TypeAdapter(MessageCreateParams, config=STRICT),
    "gemini-generate": TypeAdapter(GeminiRequest),
}
WHOLES: dict[str, TypeAdapter[Any]] = {
    "openai-chat": TypeAdapter(ChatCompletion),
    "openai-responses": TypeAdapter(Response),
    "anthropic-messages": TypeAdapter(Message),
    "gemini-generate": TypeAdapter(google.GenerateContentResponse),
}
EVENTS: dict[str, TypeAdapter[Any]] = {
    "openai-chat": TypeAdapter(ChatCompletionChunk),
    "openai-responses": TypeAdapter(ResponseStreamEvent),
    "anthropic-messages": TypeAdapter(RawMessageStreamEvent),
    "gemini-generate": TypeAdapter(google.GenerateContentResponse),
}


def records(shared: Path, name: str) -> Iterator[dict[str, Any]]:
    """The same ones every time, drawn from the whole folder."""
    paths = sorted(
        (shared / "corpus" / name).glob("*.json"), key=lambda p: zlib.crc32(p.name.encode())
    )
    for path in paths[: SAMPLE or None]:
        yield json.loads(path.read_text())


def exhausted(value: Any) -> None:
    """Lists that the types call Iterable are only looked at when they are read."""
    if isinstance(value, dict):
        for each in value.values():
            exhausted(each)
    elif isinstance(value, Iterable) and not isinstance(value, (str, bytes, BaseModel)):
        for each in value:
            exhausted(each)


def problem(adapter: TypeAdapter[Any], value: Any) -> str:
    try:
        exhausted(adapter.validate_python(value))
    except ValidationError as error:
        return "; ".join(
            f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}"
            for each in error.errors(include_url=False, include_context=False)[:3]
        )
    return ""


def events(text: str) -> Iterator[tuple[str, str]]:
    for block in re.split(r"\r?\n\r?\n", text):
        lines = [line for line in block.splitlines() if not line.startswith(":")]
        data = [line[5:].strip() for line in lines if line.startswith("data:")]
        named = [line[6:].strip() for line in lines if line.startswith("event:")]
        if data:
            yield (named or [""])[-1], "\n".join(data)


def typed(target: str, request: dict[str, Any]) -> dict[str, Any]:
    """The request without what providers take and their newest types do not say."""
    if target == "anthropic-messages":
        # Older models want them; the types of today have dropped them.
        return {
            key: request[key] for key in request if key not in ("temperature", "top_p", "top_k")
        }
    if target == "openai-responses":
        # What a model said elsewhere has no id here, nor annotations.
        for item in request["input"]:
            if item.get("role") == "assistant" and isinstance(item["content"], list):
                item.update(
                    {"type": "message", "id": item.get("id", "msg_"), "status": "completed"}
                )
                for part in item["content"]:
                    if part["type"] == "output_text":
                        part.setdefault("annotations", [])
    return request


def is_error(event: str) -> bool:
    """The recorded answer broke off with an error: so does ours."""
    parsed = json.loads(event)
    return bool(parsed.get("error")) or parsed.get("type") == "error"


def tell(problems: Counter[str], done: int, refused: int) -> None:
    assert done > refused, f"{refused} of {done + refused} were refused"
    assert not problems, "\n".join(f"{count} x {text}" for text, count in problems.most_common(12))


@every_pair
def test_what_goes_to_a_provider_is_a_request_of_its_sdk(
    source: str, target: str, shared: Path
) -> None:
    problems: Counter[str] = Counter()
    done = refused = 0
    for record in records(shared, source):
        request = record["request"]
        if not request or not isinstance(request.get("body"), dict):
            continue
        if record["response"]["status"] >= 400:
            continue  # what its own provider refused need not be anybody's request
        path = request["path"] or ""
        model = (re.search(r"models/([^:/?]+)", path) or ["", "model"])[1]
        body = json.dumps(request["body"]).encode()
        try:
            made = _core.translate_request(body, source, target, model, "stream" in path)
        except ValueError:
            refused += 1
            continue
        done += 1
        if found := problem(REQUESTS[target], typed(target, json.loads(made))):
            problems[f"{found} ({record['id']})"] += 1
    tell(problems, done, refused)


@every_pair
def test_what_a_client_gets_is_an_answer_of_its_sdk(source: str, target: str, shared: Path) -> None:
    problems: Counter[str] = Counter()
    done = refused = 0
    for record in records(shared, source):
        response = record["response"]
        if response["status"] >= 300:
            continue
        found: list[str] = []
        try:
            if "sse" in response:
                translator = _core.stream_translator(source, target)
                made = b"".join(
                    translator.event(name, data.encode())
                    for name, data in events("".join(response["sse"]))
                )
                made += translator.end()
                adapter = EVENTS[target]
                texts: Iterable[str | bytes] = (
                    data
                    for _, data in events(made.decode())
                    if data != "[DONE]" and not is_error(data)
                )
            elif isinstance(response.get("body"), dict):
                body = json.dumps(response["body"]).encode()
                texts = [_core.translate_reply(body, source, target)]
                adapter = WHOLES[target]
            else:
                continue
            check = functools.partial(problem, adapter)
            found = [text for text in map(check, map(json.loads, texts)) if text]
        except ValueError:
            refused += 1
            continue
        done += 1
        if found:
            problems[f"{found[0]} ({record['id']})"] += 1
    tell(problems, done, refused)


@pytest.mark.parametrize(
    ("target", "wrong"),
    [
        ("openai-chat", {"model": "m", "messages": [{"role": "user", "content": "a", "made": 1}]}),
        ("openai-chat", {"model": "m", "messages": [{"role": "nobody", "content": "a"}]}),
        ("openai-responses", {"model": "m", "input": "a", "made_up": 1}),
        (
            "openai-responses",
            {"model": "m", "input": [{"role": "user", "content": [{"type": "x"}]}]},
        ),
        ("anthropic-messages", {"model": "m", "messages": []}),
        ("gemini-generate", {"contents": [{"role": "user", "parts": [{"made": 1}]}]}),
    ],
)
def test_the_types_see_what_is_wrong(target: str, wrong: dict[str, Any]) -> None:
    assert problem(REQUESTS[target], wrong)
