"""Backends written from the guide, behind the whole proxy: wrapped streams, and mistakes."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.answers import Answer
from e2e.test_python_backend import FRONTENDS
from e2e.upstream import Upstream, answering
from llm_proxy.assembly import make_server
from llm_proxy.backends.registry import backend_registry
from llm_proxy.backends.runtime.discovery import discover_backends
from src.connectors.anthropic import AnthropicBackend
from src.connectors.base import LLMBackend
from src.connectors.contracts import ConnectorChatCompletionsRequest
from src.connectors.openai import OpenAIConnector
from src.core.domain.responses import ProcessedResponse, StreamingResponseHandle

Client = httpx.AsyncClient


@asynccontextmanager
async def serving(
    factory: Callable[..., Any], log: Path | None = None, **config: Any
) -> AsyncIterator[Client]:
    """A proxy whose only backend is what `factory` makes."""
    discover_backends()
    assert backend_registry.register_backend("mine", factory)
    row = {"name": "mine", "type": "mine", "kind": "python", "format": "openai-chat"}
    snapshot = {
        "host": "127.0.0.1",
        "port": 0,
        "io_threads": 1,
        "logging": {
            "access_log": log is not None,
            **({"access_log_file": str(log)} if log else {}),
        },
        "default_backend": "mine",
        "backends": [row],
    }
    try:
        async with (
            make_server(snapshot, app_config={"backends": {"mine": config}}) as server,
            Client(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http,
        ):
            yield http
    finally:
        backend_registry.unregister_backend("mine")


async def louder(chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for chunk in chunks:
        content = chunk.content
        for choice in content.get("choices", []):
            text = choice.get("delta", {}).get("content")
            if text:
                choice["delta"]["content"] = text.upper()
        yield ProcessedResponse(content=content, usage=chunk.usage, metadata=chunk.metadata)


class Wrapping:
    """Takes `super()`'s iterator and reads what the chunks hold."""

    async def _handle_streaming_response(self, *args: Any, **kwargs: Any) -> Any:
        handle = await super()._handle_streaming_response(*args, **kwargs)  # type: ignore[misc]
        return StreamingResponseHandle(
            louder(handle.iterator), handle.cancel_callback, handle.headers
        )


class LouderOpenAI(Wrapping, OpenAIConnector):
    pass


class LouderAnthropic(Wrapping, AnthropicBackend):
    pass


@pytest.mark.parametrize("kind", [LouderOpenAI, LouderAnthropic])
@pytest.mark.parametrize("name", FRONTENDS)
async def test_a_stream_wrapped_by_a_subclass_reaches_every_frontend(name: str, kind: type) -> None:
    make, _, count = FRONTENDS[name]
    async with Upstream(answering(Answer("hello world"), every=9)) as upstream:
        config = {"api_key": "k", "api_url": upstream.url}
        async with serving(kind, **config) as http:
            path, body = make("hi", True)
            reply = await http.post(path, json={"model": "m", **body})
            whole_path, whole_body = make("hi", False)
            whole = await http.post(whole_path, json={"model": "m", **whole_body})
    assert reply.status_code == 200, reply.text
    assert "HELLO W" in reply.text
    assert "hello" not in reply.text
    if name != "chat":  # a chat client hears of usage when it asks
        assert f'"{count}":11' in reply.text.replace(" ", "")
    assert "hello world" in whole.text  # whole replies are not its business


class Buggy(LLMBackend):
    """Has a mistake before its first chunk, after it, or in what it returns."""

    backend_type = "mine"
    calls = 0
    where = "call"

    def __init__(self, client: Any, config: Any, translation_service: Any) -> None:
        super().__init__(config)

    async def initialize(self, **kwargs: Any) -> None:
        if Buggy.where == "start":
            raise KeyError("a-name-of-the-author")

    def get_available_models(self) -> list[str]:
        return ["m"]

    async def chat_completions(self, request: ConnectorChatCompletionsRequest) -> Any:
        Buggy.calls += 1
        if Buggy.where == "call":
            return {}["a-name-of-the-author"]
        if Buggy.where == "return":
            return 7
        return StreamingResponseHandle(self._chunks())

    async def _chunks(self) -> AsyncIterator[Any]:
        if Buggy.where == "late":
            delta = {"content": "so far"}
            yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        raise AttributeError("a-name-of-the-author")


@pytest.mark.parametrize("where", ["start", "call", "return", "stream", "late"])
@pytest.mark.parametrize("name", FRONTENDS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_mistake_in_a_backend_is_nobody_elses(
    name: str, stream: bool, where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Buggy.calls, Buggy.where = 0, where
    log = tmp_path / "access.log"
    caplog.set_level(logging.INFO)
    async with serving(Buggy, log) as http:
        path, body = FRONTENDS[name][0]("hi", stream)
        try:
            reply = await http.post(path, json={"model": "m", **body})
            text, status = reply.text, reply.status_code
        except httpx.RemoteProtocolError:  # a stream that ends uncleanly
            text, status = "", 200
    begun = where == "late" and stream
    assert status == (200 if begun else 500)
    assert Buggy.calls == (0 if where == "start" else 1)
    for word in ("a-name-of-the-author", "KeyError", "AttributeError", "Traceback", "int"):
        assert word not in json.dumps(text).replace("internal", "")
    line = log.read_text()
    assert "upstream_garbled" not in line
    told = [r.getMessage() for r in caplog.records if "has failed in" in r.getMessage()]
    assert len(told) == 1
    assert where == "return" or ("test_backends_by_the_guide.py, line " in told[0])
    assert told[0].count("Traceback (most recent call last)") == 1
