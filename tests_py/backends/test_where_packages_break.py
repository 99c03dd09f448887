"""Where real packages break in the proxy they were written for: section 6 of the contract."""

from __future__ import annotations

import asyncio
import importlib
import re
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import pytest
from packaging.requirements import Requirement

from backends.packages import install
from backends.points import USAGE
from backends.test_base_classes import (
    CHAT,
    CHAT_STREAM,
    Keywords,
    OwnEnvelope,
    OwnHandler,
    OwnStream,
    ask,
)
from backends.test_base_classes import Upstream as Provider
from backends.test_http_transport import Server as RawServer
from e2e.answers import TEXT, chat_stream
from e2e.conftest import Proxy
from e2e.test_client_gone import leave_after
from e2e.test_python_backend import FRONTENDS
from e2e.upstream import Received, Reply, Stall, Upstream, stream, whole
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.backends.translation import TranslationService, begin_exchange
from llm_proxy.server import Server
from repo import ROOT

NAMES = ("plain", "handle", "relaying")
Start = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    install(tmp_path, "points", {name: f"backends.points:{name}" for name in NAMES})
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()

    @asynccontextmanager
    async def started(backend: str, url: str = "http://127.0.0.1:1/v1") -> AsyncIterator[Server]:
        rows = [
            {"name": name, "type": name, "kind": "python", "format": "openai-chat"}
            for name in NAMES
        ]
        snapshot = {
            "port": 0,
            "io_threads": 1,
            "logging": {"access_log": False},
            "default_backend": backend,
            "backends": rows,
        }
        own = {name: {"api_key": "k", "api_url": url} for name in NAMES}
        async with make_server(snapshot, app_config={"backends": own}) as server:
            yield server
        backend_discovery.reset_backend_discovery_state()

    return started


async def on_every_frontend(server: Server) -> AsyncIterator[tuple[str, bool, str]]:
    """Frontend, streamed, the whole reply without the spaces between its tokens."""
    url = f"http://127.0.0.1:{server.port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
        for frontend, (make, _, _) in FRONTENDS.items():
            for streamed in (False, True):
                path, body = make("Hello", streamed)
                reply = await client.post(path, json={"model": "m", **body})
                assert reply.status_code == 200, (frontend, streamed, reply.text)
                yield frontend, streamed, re.sub(r'": ', '":', reply.text)


async def test_6_1_a_streaming_handle_is_a_reply_on_every_frontend(start: Start) -> None:
    async with start("handle") as server:
        async for frontend, streamed, reply in on_every_frontend(server):
            assert "grü" in reply, (frontend, streamed, reply)
            assert "ße" in reply, (frontend, streamed, reply)


@pytest.mark.parametrize("size", [1, 5, 60, 100_000])
async def test_6_2_the_guides_loop_reads_events_however_they_arrive(size: int) -> None:
    service = TranslationService()
    whole = "".join(CHAT_STREAM).encode()

    async def cut(
        server: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.request(reader)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"content-length: %d\r\n\r\n" % len(whole)
        )
        for at in range(0, len(whole), size):
            writer.write(whole[at : at + size])
            await asyncio.sleep(0)

    begin_exchange()
    text, last = "", None
    async with RawServer(cut, None) as server, build_backend_client() as client:
        async with client.stream("POST", server.url, json={}) as response:
            async for read in response.aiter_text():
                chunk = last = service.to_domain_stream_chunk(read, "openai")
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        assert (text, last is not None and last.ends_stream) == ("grüße", True)
        with pytest.raises(Exception, match="chunk"):
            service.to_domain_stream_chunk("<html>garbage</html>", "openai")


@pytest.mark.parametrize("kind", [OwnHandler, OwnEnvelope, OwnStream])
async def test_6_3_an_override_of_the_stream_that_exists_is_used(kind: type) -> None:
    answer = await ask(kind, Provider(CHAT, CHAT_STREAM), stream=True)
    assert answer.text == "grüSSe"


def test_6_4_counting_tokens_needs_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from src.core.utils.token_count import count_tokens

    def no_network(*args: object) -> Any:
        raise AssertionError("a vocabulary was asked for")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert 2 <= count_tokens("Hello world, how are you?", "gpt-4o-of-tomorrow") <= 12
    assert "tiktoken" not in sys.modules


async def test_6_5_every_frontend_is_told_the_upstreams_words_and_usage(start: Start) -> None:
    async with start("plain") as server:
        async for frontend, streamed, reply in on_every_frontend(server):
            seen = (frontend, streamed, reply)
            assert "grü" in reply and "ße" in reply, seen
            assert str(USAGE["prompt_tokens"]) in reply, seen
            assert str(USAGE["completion_tokens"]) in reply, seen
            # Nothing invented where `tool_calls` is null, and no frame of another format.
            assert "functionCall" not in reply and "tool_use" not in reply, seen
            assert frontend == "chat" or "chat.completion" not in reply, seen


@pytest.mark.parametrize("streamed", [False, True])
async def test_6_6_the_older_call_of_the_base_class_works(streamed: bool) -> None:
    upstream = Provider(CHAT, CHAT_STREAM)
    answer = await ask(Keywords, upstream, stream=streamed)
    assert (answer.failure, answer.text) == (None, "grüße")
    assert upstream.body["added"] is True


async def test_6_7_a_client_that_leaves_closes_the_base_classes_upstream(start: Start) -> None:
    events = list(chat_stream(TEXT))[:4]

    def reply(request: Received) -> Reply:
        return whole(b"{}") if request.method == "GET" else stream([*events, Stall()])

    async with (
        Upstream(reply) as upstream,
        start("relaying", upstream.url) as server,
    ):
        body = {"model": "relaying:m", "messages": [{"role": "user", "content": "Hello"}]}
        proxy = Proxy(server.port, server)
        async with httpx.AsyncClient(base_url=proxy.url, trust_env=False) as http:
            asked = {**body, "stream": True}  # the backend starts, and asks for models
            async with http.stream("POST", "/v1/chat/completions", json=asked) as first:
                assert first.status_code == 200
        took = [await leave_after(proxy, upstream, True, b"data: ", body) for _ in range(7)]
    assert sorted(took)[3] <= 0.050, took


NAMED = {
    "src.core.services.connector_invoker": "ConnectorInvoker",
    "src.core.services.backend_plugin_discovery": "_load_entry_points _resolve_core_version",
    "src.core.domain.chat": "MessageContentPartText MessageContentPartImage MessageContentPartAudio"
    " MessageContentPart StreamingChatCompletionChoice",
    "src.core.domain.translation": "Translation",
    "src.core.security.loop_prevention": "LOOP_GUARD_HEADER LOOP_GUARD_VALUE",
    "src.connectors.contracts.wire_capture_context": "WIRE_CAPTURE_ACCOUNT_ID_KEY"
    " WIRE_CAPTURE_RETRY_ATTEMPT_KEY WIRE_CAPTURE_IS_RETRY_KEY",
    "src.core.ports.streaming_contracts": "StreamingErrorMapper handle_streaming_error",
    "src.connectors.anthropic": "ANTHROPIC_VERSION_HEADER",
    "src.core.domain.streaming.contracts": "StreamingChunk StreamingErrorInfo StreamingMetadata"
    " StreamingPayload StreamingUsage",
    "src.core.domain.usage_summary": "UsagePayload",
}


@pytest.mark.parametrize("module", NAMED)
def test_6_8_names_that_packages_and_their_tests_reach_for_are_there(module: str) -> None:
    imported = importlib.import_module(module)
    assert [name for name in NAMED[module].split() if not hasattr(imported, name)] == []


def test_6_9_a_fresh_install_brings_the_versions_of_today() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = [
        Requirement(spec) for spec in re.findall(r'^    "([a-zA-Z][^:/\n]*)",$', text, re.MULTILINE)
    ]
    named = {"pydantic": "2.14.0", "fastapi": "0.165.0", "httpx": "0.28.1", "pytest": "9.0.0"}
    for requirement in wanted:
        name = requirement.name.lower()
        if name in named:
            assert named.pop(name) in requirement.specifier, requirement
            assert metadata.version(name) in requirement.specifier
