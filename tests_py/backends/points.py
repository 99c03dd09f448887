"""Backends as real packages have them, one for each way in which they break elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from src.connectors.base import LLMBackend
from src.connectors.contracts import ConnectorChatCompletionsRequest
from src.connectors.openai import OpenAIConnector
from src.core.domain.responses import (
    ResponseEnvelope,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)
from src.core.interfaces.response_processor_interface import ProcessedResponse
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility

USAGE = {"prompt_tokens": 4101, "completion_tokens": 1702, "total_tokens": 5803}


def chunks() -> list[dict[str, Any]]:
    """As some providers send them: `tool_calls` is there and null, usage comes last."""
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[tuple[dict[str, Any], str | None]] = [
        ({"role": "assistant", "content": "grü", "tool_calls": None}, None),
        ({"content": "ße", "tool_calls": None}, None),
        ({}, "stop"),
    ]
    made: list[dict[str, Any]] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        for delta, finish in deltas
    ]
    return [*made, {**head, "choices": [], "usage": USAGE}]


class Plain(LLMBackend):
    backend_type = "plain"

    def __init__(self, client: Any, config: Any, translation_service: Any = None) -> None:
        super().__init__(config)

    async def initialize(self, **kwargs: Any) -> None:
        pass

    def get_available_models(self) -> list[str]:
        return ["m"]

    async def chat_completions(self, request: ConnectorChatCompletionsRequest) -> Any:
        if request.request.stream:
            return StreamingResponseEnvelope(content=self.stream())
        message = {"role": "assistant", "content": "grüße", "tool_calls": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return ResponseEnvelope({"id": "c", "model": "m", "choices": [choice], "usage": USAGE})

    async def stream(self) -> AsyncIterator[ProcessedResponse]:
        for chunk in chunks():
            yield ProcessedResponse(content=chunk)


class Handle(Plain):
    """Returns what the guide prints: the handle itself."""

    async def chat_completions(self, request: ConnectorChatCompletionsRequest) -> Any:
        async def nothing() -> None:
            pass

        return StreamingResponseHandle(iterator=self.stream(), cancel_callback=nothing)


class Relaying(OpenAIConnector):
    backend_type = "relaying"


def definition(name: str, factory: Any) -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name=name,
        factory=factory,
        plugin_name=name,
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )


def plain() -> BackendPluginDefinition:
    return definition("plain", Plain)


def handle() -> BackendPluginDefinition:
    return definition("handle", Handle)


def relaying() -> BackendPluginDefinition:
    return definition("relaying", Relaying)
