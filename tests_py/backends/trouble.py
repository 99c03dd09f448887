"""A backend that does what it is told: well, badly, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar

from src.connectors.base import LLMBackend
from src.connectors.contracts import ConnectorChatCompletionsRequest
from src.core.domain.responses import StreamingResponseEnvelope
from src.core.interfaces.response_processor_interface import ProcessedResponse
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility

WORD = "word "
BIG = "x" * 16_000


def chunk(text: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


async def hang() -> Any:
    await asyncio.Event().wait()


async def swallow() -> Any:
    try:
        await hang()
    except asyncio.CancelledError:
        return chunk("nobody asked for this")


async def fail() -> Any:
    raise RuntimeError("something in the plugin broke")


class Trouble(LLMBackend):
    backend_type = "trouble"
    open = 0  # streams that have begun and not been closed
    yielded = 0  # characters

    # What the last message says → what comes in place of a reply, or after two chunks of one.
    AT_ONCE: ClassVar[dict[str, Callable[[], Any]]] = {
        "hangs": hang,
        "swallows its cancellation": swallow,
        "raises": fail,
    }
    LATER: ClassVar[dict[str, Callable[[], Any]]] = {
        f"{told} later": do for told, do in AT_ONCE.items()
    }
    GARBAGE: ClassVar[dict[str, Any]] = {
        "an object": object(),
        "no chunk": {"a": 1},
        "half an event": b'data: {"choi',
        "no JSON": b"data: <html>\n\n",
    }

    def __init__(self, client: Any, config: Any, translation_service: Any = None) -> None:
        super().__init__(config)
        self.client = client

    async def initialize(self, api_base_url: str = "", **kwargs: Any) -> None:
        self.url = api_base_url

    def get_available_models(self) -> list[str]:
        return ["m"]

    async def chat_completions(self, request: ConnectorChatCompletionsRequest) -> Any:
        told = str(request.request.messages[-1].content)
        if told in self.AT_ONCE:
            return await self.AT_ONCE[told]()
        if told == "returns garbage":
            return object()
        return StreamingResponseEnvelope(content=self.stream(told))

    async def stream(self, told: str) -> AsyncIterator[ProcessedResponse]:
        kind = type(self)
        kind.open += 1
        try:
            async for content in self.contents(told):
                yield ProcessedResponse(content=content)
        finally:
            kind.open -= 1

    async def contents(self, told: str) -> AsyncIterator[Any]:
        if told == "relays":
            async for content in self.relayed():
                yield content
            return
        yield chunk(WORD)
        yield chunk(WORD)
        if told in self.LATER:
            yield await self.LATER[told]()
        elif told in self.GARBAGE:
            yield self.GARBAGE[told]
        elif told == "never ends":
            while True:
                await asyncio.sleep(0)
                yield chunk(WORD)
        elif told.startswith("yields "):
            for _ in range(int(told.split()[1])):
                type(self).yielded += len(BIG)
                yield chunk(BIG)
        yield chunk("", "stop")

    async def relayed(self) -> AsyncIterator[Any]:
        body = {"model": "m", "stream": True, "messages": []}
        async with self.client.stream("POST", f"{self.url}/chat/completions", json=body) as reply:
            async for line in reply.aiter_lines():
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield json.loads(line[6:])


def provider() -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name="trouble",
        factory=Trouble,
        plugin_name="trouble",
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )
