"""The code that the two guides for backend authors print, run as printed."""

from __future__ import annotations

import functools
import json
import sys
import types
import unittest.mock
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import src.core.plugin_api
import src.core.plugin_http_client
from conformance.seed_code import cut, restored
from llm_proxy.backends.runtime import discovery
from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.testing import BackendProbe
from src.connectors.base import LLMBackend
from src.core.common.exceptions import AuthenticationError, BackendError, ServiceUnavailableError
from src.core.domain.chat import ChatRequest
from src.core.domain.responses import ProcessedResponse, StreamingResponseHandle
from src.core.services.backend_registry import BackendRegistry

PLUGIN_API = "This guide describes the supported plugin contract for external backend packages."
ADDING = "This guide covers how to add new backend connectors to the LLM Interactive Proxy"


@pytest.fixture(scope="session")
def guides(shared: Path) -> dict[str, str]:
    texts = [path.read_text(encoding="utf-8") for path in sorted((shared / "seeds").glob("*.txt"))]
    return {
        start: next(text for text in texts if text.startswith(start))
        for start in (PLUGIN_API, ADDING)
    }


@pytest.fixture
def plugin_api(guides: dict[str, str]) -> str:
    return guides[PLUGIN_API]


@pytest.fixture
def adding(guides: dict[str, str]) -> str:
    return guides[ADDING]


def run(source: str, **names: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "guide", "Any": Any, "httpx": httpx, **names}
    exec(compile(source, "<guide>", "exec"), namespace)
    return namespace


def as_function(source: str) -> str:
    return "async def printed(self=None):\n" + "".join(
        f"    {line}\n" for line in source.splitlines()
    )


def test_every_exported_name_of_the_guide_exists(plugin_api: str) -> None:
    listed = cut(plugin_api, "BACKEND_PLUGIN_ENTRY_POINT_GROUP", "BackendPluginDefinition must")
    for name in (
        "BACKEND_PLUGIN_ENTRY_POINT_GROUP",
        "PluginCompatibility",
        "BackendPluginDefinition",
        "BackendPluginProvider",
        "PluginPostBuildHook",
        "PluginHttpCaptureContext",
        "PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION",
        "build_capture_aware_async_client",
        "capture_http_response",
    ):
        assert name in listed
        assert hasattr(src.core.plugin_api, name)
    assert src.core.plugin_api.BACKEND_PLUGIN_ENTRY_POINT_GROUP in plugin_api


def test_the_printed_provider_registers(plugin_api: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = cut(
        plugin_api, "from src.core.plugin_api import (\nBackendPluginDefinition", "- Backends are"
    )
    build = lambda client, config, translation: (client, config, translation)  # noqa: E731
    provider = run(restored(block), _build_backend=build)["my_backend"]
    declared = cut(plugin_api, "my-backend = ", "\n")
    name = declared.split(" = ")[0]
    entry = types.SimpleNamespace(name=name, value="my_plugin.providers", load=lambda: provider)
    monkeypatch.setattr(discovery, "_load_entry_points", lambda group: [entry])
    registry = BackendRegistry()
    assert discovery.discover_plugin_backends(registry=registry) == ["my-backend"]
    assert registry.get_backend_factory("my-backend")(1, 2, 3) == (1, 2, 3)


async def test_the_printed_capture_client_captures_both_sides_once(
    plugin_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = cut(
        plugin_api, "from src.core.plugin_api import (\nPLUGIN_HTTP", "- The helper captures"
    )
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": []}))
    build = src.core.plugin_api.build_capture_aware_async_client
    monkeypatch.setattr(
        src.core.plugin_api,
        "build_capture_aware_async_client",
        functools.partial(build, transport=transport),
    )
    captured: list[tuple[str, Any]] = []

    async def keep(**told: Any) -> None:
        captured.append(("request" if "request" in told else "response", told["key_name"]))

    for name in ("capture_http_outbound_request", "capture_http_inbound_response"):
        monkeypatch.setattr(src.core.plugin_http_client, name, keep)
    await run(as_function(restored(block)))["printed"]()
    assert captured == [("request", "my-key"), ("response", "my-key")]


@pytest.fixture
def my_provider(adding: str) -> type[LLMBackend]:
    """The connector of the guide, its parts put together; what the guide calls but does not
    print is added."""
    parts = [
        restored(cut(adding, "from __future__ import annotations", "Convert the proxy's internal")),
        restored(
            cut(adding, "def _prepare_payload(", "Convert provider responses back"),
            {"return payload": 2},
            level=1,
        ),
        restored(
            cut(adding, "async def _handle_non_streaming(", "For streaming responses"), level=1
        ),
        restored(
            cut(adding, "async def _handle_streaming(", "Register your backend in"),
            {"return StreamingResponseHandle(": 2},
            level=1,
        ),
        restored(cut(adding, "def _get_headers(", "For OAuth-based backends"), level=1),
    ]
    names = run(
        "".join(parts),
        ServiceUnavailableError=ServiceUnavailableError,
        BackendError=BackendError,
        ProcessedResponse=ProcessedResponse,
        StreamingResponseHandle=StreamingResponseHandle,
        ChatRequest=ChatRequest,
    )
    backend: Any = names["MyProviderBackend"]
    backend._normalize_messages = lambda self, messages: [m.to_dict() for m in messages]
    return backend


class Upstream:
    """An OpenAI-compatible server in a transport, which cuts its stream wherever it is told to."""

    def __init__(self, cuts: int = 0) -> None:
        self.requests: list[httpx.Request] = []
        self.cuts = cuts
        self.status = 200

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.status != 200:
            return httpx.Response(self.status, json={"error": {"message": "no"}})
        if not json.loads(request.content)["stream"]:
            message = {"role": "assistant", "content": "grüße"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3}
            body = {"id": "c", "created": 1, "model": "m", "choices": [choice], "usage": usage}
            return httpx.Response(200, json=body)
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, content=self._stream()
        )

    async def _stream(self) -> AsyncIterator[bytes]:
        whole = b""
        for delta, finish in (({"content": "grü"}, None), ({"content": "ße"}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            chunk = {"id": "c", "model": "m", "choices": [choice]}
            whole += f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()
        whole += b"data: [DONE]\n\n"
        size = self.cuts or len(whole)
        for start in range(0, len(whole), size):
            yield whole[start : start + size]


def probe_of(backend: Any, upstream: Upstream) -> BackendProbe:
    config = {"backends": {"my-provider": {"api_key": "k-123456", "api_url": "http://up/v1"}}}
    client = build_backend_client(transport=httpx.MockTransport(upstream))
    build = lambda _, config, translation: backend(client, config, translation)  # noqa: E731
    return BackendProbe({"my-provider": build}, config)


async def test_the_printed_connector_answers_whole(my_provider: type[LLMBackend]) -> None:
    upstream = Upstream()
    async with probe_of(my_provider, upstream) as probe:
        answer = await probe.ask("my-provider", "Hello", model="m1")
    assert answer.text == "grüße"
    assert answer.body["usage"]["total_tokens"] == 3
    (request,) = upstream.requests
    assert str(request.url) == "http://up/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer k-123456"
    assert request.headers["x-llmproxy-loop-guard"] == "1"
    assert json.loads(request.content) == {
        "model": "m1",
        "stream": False,
        "messages": [{"role": "user", "content": "Hello"}],
    }


@pytest.mark.parametrize("cuts", [0, 1, 7, 64])
async def test_the_printed_connector_streams_however_the_network_cuts(
    my_provider: type[LLMBackend], cuts: int
) -> None:
    async with probe_of(my_provider, Upstream(cuts)) as probe:
        answer = await probe.ask("my-provider", "Hello", stream=True)
    assert answer.failure is None
    assert answer.text == "grüße"
    assert answer.events[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_error_of_the_printed_connector_is_an_error(
    my_provider: type[LLMBackend], stream: bool
) -> None:
    upstream = Upstream()
    upstream.status = 503
    async with probe_of(my_provider, upstream) as probe:
        answer = await probe.ask("my-provider", "Hello", stream=stream)
    assert answer.failure is not None
    assert answer.failure["status"] in (502, 503)


def test_the_printed_registration_registers(
    adding: str, my_provider: type[LLMBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.SimpleNamespace(MyProviderBackend=my_provider)
    monkeypatch.setitem(sys.modules, "src.connectors.my_provider", module)
    block = cut(
        adding, "from src.connectors.my_provider import", "The proxy uses TranslationService"
    )
    registry = BackendRegistry()
    run(restored(block), backend_registry=registry)
    assert registry.get_backend_factory("my-provider") is my_provider


async def test_the_printed_unit_test_passes(
    adding: str, my_provider: type[LLMBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.SimpleNamespace(MyProviderBackend=my_provider)
    monkeypatch.setitem(sys.modules, "src.connectors.my_provider", module)
    # The printed mocks are subscripted and iterated by the printed connector, which a plain
    # Mock cannot be.
    monkeypatch.setattr(unittest.mock, "Mock", unittest.mock.MagicMock)
    block = cut(adding, "import pytest", "Test against the actual")
    await run(restored(block))["test_chat_completions_non_streaming"]()


async def test_the_printed_oauth_refresh_runs(adding: str, tmp_path: Path) -> None:
    block = cut(
        adding, "async def initialize(", "Use the proxy's exception", after="For OAuth-based"
    )
    source = "class OAuth:\n" + restored(block, level=1)
    backend: Any = run(source, json=json)["OAuth"]()
    refreshed: list[dict[str, Any]] = []

    async def refresh() -> None:
        refreshed.append(backend.oauth_creds)

    backend._is_token_expired = lambda: True
    backend._refresh_token = refresh
    path = tmp_path / "creds.json"
    path.write_text('{"access_token": "a"}')
    await backend.initialize(oauth_creds_path=str(path))
    assert refreshed == [{"access_token": "a"}]


PRINTED_ERRORS: dict[str, tuple[Any, Any, type[Exception], int, str | None]] = {
    "no key": (None, None, AuthenticationError, 401, "missing_api_key"),
    "no network": ("k", httpx.ConnectError("refused"), ServiceUnavailableError, 503, None),
    "provider error": ("k", httpx.Response(418, text="tea"), BackendError, 418, "provider_error"),
}


@pytest.mark.parametrize("name", PRINTED_ERRORS)
async def test_the_printed_error_handling_raises_what_it_says(adding: str, name: str) -> None:
    key, outcome, kind, status, code = PRINTED_ERRORS[name]
    block = cut(adding, "from src.core.common.exceptions import (", "Create unit tests in")
    client = unittest.mock.AsyncMock()
    client.post.side_effect = [outcome]
    self = types.SimpleNamespace(api_key=key, client=client)
    with pytest.raises(kind) as raised:
        await run(as_function(restored(block)), url="http://up", payload={})["printed"](self)
    error: Any = raised.value
    assert (error.status_code, getattr(error, "code", None)) == (status, code)
