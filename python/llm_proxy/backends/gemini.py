"""`GeminiBackend`: the base class of plugins for providers that speak generateContent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llm_proxy.backends.openai import canonical_of_legacy, streaming_envelope
from llm_proxy.backends.translating import TranslatingBackend
from llm_proxy.backends.upstream import Payload, awaited
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope

GEMINI_DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
_VERSION = re.compile(r"/v\d\w*$")


def _models_url(base_url: str) -> str:
    """Where models are, of an address with or without the version of the API."""
    base = base_url.rstrip("/")
    return f"{base}/models" if _VERSION.search(base) else f"{base}/v1beta/models"


class GeminiBackend(TranslatingBackend):
    """Speaks generateContent."""

    backend_type: str = "gemini"
    _format = "gemini"
    _address = "gemini_api_base_url"
    _key_header = "x-goog-api-key"
    gemini_api_base_url = GEMINI_DEFAULT_BASE_URL

    async def get_available_models_async(self) -> list[str]:
        if not self.available_models:
            listed = await self.list_models()
            names = [str(model["name"]) for model in listed.get("models", [])]
            self.available_models = [name.removeprefix("models/") for name in names]
        return list(self.available_models)

    async def list_models(self, gemini_api_base_url: str | None = None) -> dict[str, Any]:
        return await self._listing(_models_url(gemini_api_base_url or self.gemini_api_base_url))

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest | None = None, *args: Any, **kwargs: Any
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        """The canonical call; the older form by position or keyword is taken as well."""
        if not isinstance(request, ConnectorChatCompletionsRequest):
            request = canonical_of_legacy(self.translation_service, request, args, kwargs)
        model = request.effective_model.removeprefix("models/")
        payload = await awaited(
            self._prepare_gemini_payload(request.request, request.processed_messages, model)
        )
        headers = self._get_headers(request.identity)
        base = f"{_models_url(self.gemini_api_base_url)}/{model}"
        if not request.request.stream:
            return await self._handle_non_streaming_response(
                f"{base}:generateContent", payload, headers, model
            )
        handle = await self._handle_streaming_response(
            f"{base}:streamGenerateContent?alt=sse", payload, headers, model
        )
        return streaming_envelope(handle)

    def _prepare_gemini_payload(
        self, request_data: Any, processed_messages: Sequence[Any], effective_model: str
    ) -> Payload:
        payload = self._translated(request_data, processed_messages, effective_model)
        payload.pop("model", None)  # it stands in the path
        return payload
