"""The backend. Says back what the user said, word by word when streamed.

Models: `parrot`, and `parrot-slow`, which thinks between words. When the request offers tools
and the user says "use the tool", the first tool is called with what the user said. When the
user says "fall off", it fails.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx

from src.connectors.base import LLMBackend
from src.core.common.exceptions import BackendError
from src.core.config.app_config import AppConfig
from src.core.domain.responses import (
    ProcessedResponse,
    ResponseEnvelope,
    StreamingResponseEnvelope,
)
from src.core.interfaces.configuration_interface import IAppIdentityConfig
from src.core.interfaces.model_bases import DomainModel, InternalDTO
from src.core.services.translation_service import TranslationService

_PAUSE_SECONDS = 0.05


class ParrotBackend(LLMBackend):
    backend_type: str = "parrot"

    def __init__(
        self,
        client: httpx.AsyncClient,
        config: AppConfig,
        translation_service: TranslationService,
    ) -> None:
        super().__init__(config)
        self.greeting = ""
        self.streams_open = 0
        self.streams_cancelled = 0

    async def initialize(self, **kwargs: Any) -> None:
        # Every key of the backend's `extra` section arrives here.
        self.greeting = kwargs.get("greeting", "")

    def get_available_models(self) -> list[str]:
        return ["parrot", "parrot-slow"]

    async def chat_completions(
        self,
        request_data: DomainModel | InternalDTO | dict[str, Any],
        processed_messages: list,
        effective_model: str,
        identity: IAppIdentityConfig | None = None,
        **kwargs: Any,
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        said = _last_user_text(processed_messages)
        if "fall off" in said:
            raise BackendError("The parrot fell off its perch.", code="fell_off", status_code=503)
        reply = self._reply(request_data, said)
        usage = {
            "prompt_tokens": len(said.split()),
            "completion_tokens": len(reply["text"].split()),
        }
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        if not request_data.stream:
            return ResponseEnvelope(content=_whole(reply, effective_model), usage=usage)

        async def cancelled() -> None:
            self.streams_cancelled += 1

        pause = _PAUSE_SECONDS if effective_model == "parrot-slow" else 0.0
        return StreamingResponseEnvelope(
            content=self._speak(reply, effective_model, usage, pause), cancel_callback=cancelled
        )

    def _reply(self, request_data: Any, said: str) -> dict[str, Any]:
        tools = request_data.tools or []
        if tools and "use the tool" in said:
            call = {
                "id": "call_parrot_1",
                "type": "function",
                "function": {
                    "name": tools[0]["function"]["name"],
                    "arguments": json.dumps({"said": said}),
                },
            }
            return {"text": "", "tool_calls": [call], "finish_reason": "tool_calls"}
        return {"text": f"{self.greeting}{said}", "tool_calls": [], "finish_reason": "stop"}

    async def _speak(
        self, reply: dict[str, Any], model: str, usage: dict[str, int], pause: float
    ) -> AsyncIterator[ProcessedResponse]:
        self.streams_open += 1
        try:
            yield _chunk(model, {"role": "assistant"})
            for word in re.findall(r"\s*\S+", reply["text"]):
                await asyncio.sleep(pause)
                yield _chunk(model, {"content": word})
            for index, call in enumerate(reply["tool_calls"]):
                yield _chunk(model, {"tool_calls": [{"index": index, **call}]})
            yield _chunk(model, {}, reply["finish_reason"])
            yield ProcessedResponse(content={"model": model, "choices": [], "usage": usage})
        finally:
            self.streams_open -= 1


def _last_user_text(messages: list[Any]) -> str:
    for message in reversed(messages):
        if message.role != "user":
            continue
        if isinstance(message.content, str):
            return message.content
        return " ".join(part.text for part in message.content or [] if hasattr(part, "text"))
    return ""


def _whole(reply: dict[str, Any], model: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply["text"] or None}
    if reply["tool_calls"]:
        message["tool_calls"] = reply["tool_calls"]
    choice = {"index": 0, "message": message, "finish_reason": reply["finish_reason"]}
    return {"id": "chatcmpl-parrot", "created": 1, "model": model, "choices": [choice]}


def _chunk(
    model: str, delta: dict[str, Any], finish_reason: str | None = None
) -> ProcessedResponse:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return ProcessedResponse(content={"id": "chatcmpl-parrot", "model": model, "choices": [choice]})
