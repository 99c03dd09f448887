"""An installed backend plugin behind the whole proxy: every frontend, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.packages import install_example
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.server import Server

SNAPSHOT = {
    "host": "127.0.0.1",
    "port": 0,
    "io_threads": 1,
    "logging": {"access_log": False},
    "default_backend": "parrot",
    "backends": [{"name": "parrot", "type": "parrot", "kind": "python", "format": "openai-chat"}],
}


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    install_example(tmp_path, "parrot_backend")
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()
    async with make_server(SNAPSHOT, app_config={"backends": {"parrot": {}}}) as running:
        yield running
    backend_discovery.reset_backend_discovery_state()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as opened:
        yield opened


def parrot(server: Server) -> Any:
    assert server._bridge is not None
    return server._bridge.backends.started()["parrot"]


SCHEMA = {"type": "object", "properties": {"said": {"type": "string"}}}


def chat(said: str, stream: bool) -> tuple[str, dict[str, Any]]:
    tool = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
    messages = [{"role": "user", "content": said}]
    return "/v1/chat/completions", {"messages": messages, "tools": [tool], "stream": stream}


def messages(said: str, stream: bool) -> tuple[str, dict[str, Any]]:
    tool = {"name": "look", "input_schema": SCHEMA}
    asked = [{"role": "user", "content": said}]
    body = {"max_tokens": 9, "messages": asked, "tools": [tool], "stream": stream}
    return "/v1/messages", body


def responses(said: str, stream: bool) -> tuple[str, dict[str, Any]]:
    tool = {"type": "function", "name": "look", "parameters": SCHEMA}
    return "/v1/responses", {"input": said, "tools": [tool], "stream": stream}


def gemini(said: str, stream: bool) -> tuple[str, dict[str, Any]]:
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    contents = [{"role": "user", "parts": [{"text": said}]}]
    tools = [{"functionDeclarations": [{"name": "look", "parameters": SCHEMA}]}]
    return f"/v1beta/models/parrot:{verb}", {"contents": contents, "tools": tools}


# Frontend → its request, its word for a tool call, the field that counts the prompt.
FRONTENDS: dict[str, tuple[Callable[[str, bool], tuple[str, dict[str, Any]]], str, str]] = {
    "chat": (chat, "tool_calls", "prompt_tokens"),
    "messages": (messages, "tool_use", "input_tokens"),
    "responses": (responses, "function_call", "input_tokens"),
    "gemini": (gemini, "functionCall", "promptTokenCount"),
}


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_each_frontend_is_answered(
    client: httpx.AsyncClient, name: str, stream: bool
) -> None:
    make, _, count = FRONTENDS[name]
    path, body = make("grüße", stream)
    reply = await client.post(path, json={"model": "parrot", **body})
    assert reply.status_code == 200
    assert "grüße" in reply.text
    assert reply.headers["content-type"].startswith(
        "text/event-stream" if stream else "application/json"
    )
    assert f'"{count}":1' in reply.text.replace(" ", "")


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_each_frontend_is_given_tool_calls(
    client: httpx.AsyncClient, name: str, stream: bool
) -> None:
    make, word, _ = FRONTENDS[name]
    path, body = make("use the tool", stream)
    reply = await client.post(path, json={"model": "parrot", **body})
    assert reply.status_code == 200
    assert word in reply.text
    assert '"look"' in reply.text


@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_each_frontend_is_told_of_a_failure_in_its_own_form(
    client: httpx.AsyncClient, name: str, stream: bool
) -> None:
    path, body = FRONTENDS[name][0]("fall off", stream)
    reply = await client.post(path, json={"model": "parrot", **body})
    assert reply.status_code == 503
    assert "fell off its perch" in json.dumps(reply.json()["error"])


async def test_a_client_that_leaves_closes_the_plugins_stream(
    client: httpx.AsyncClient, server: Server
) -> None:
    path, body = chat(" ".join(["word"] * 100), True)
    async with client.stream("POST", path, json={**body, "model": "parrot-slow"}) as reply:
        async for _ in reply.aiter_bytes():
            break
        assert parrot(server).streams_open == 1
    assert server._bridge is not None
    await asyncio.wait_for(server._bridge.idle(), 0.25)
    assert (parrot(server).streams_open, parrot(server).streams_cancelled) == (0, 1)
