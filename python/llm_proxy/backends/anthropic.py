"""`AnthropicBackend`: the base class of plugins for providers that speak Messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from llm_proxy.backends.openai import canonical_of_legacy, streaming_envelope
from llm_proxy.backends.translating import TranslatingBackend
from llm_proxy.backends.upstream import Payload, awaited
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope

ANTHROPIC_DEFAULT_BASE_URL = "https://api.anthropic.com/v1"
ANTHROPIC_VERSION_HEADER = "2023-06-01"
# Messages demands a limit; this is what is asked for when the client names none.
_DEFAULT_MAX_TOKENS = 8192


class AnthropicBackend(TranslatingBackend):
    """Speaks Messages."""

    backend_type: str = "anthropic"
    _format = "anthropic"
    _address = "anthropic_api_base_url"
    _key_header = "x-api-key"
    _headers: ClassVar[Mapping[str, str]] = {
        **TranslatingBackend._headers,
        "anthropic-version": ANTHROPIC_VERSION_HEADER,
    }
    anthropic_api_base_url = ANTHROPIC_DEFAULT_BASE_URL

    async def get_available_models_async(self) -> list[str]:
        if not self.available_models:
            self.available_models = [model["id"] for model in await self.list_models()]
        return list(self.available_models)

    async def list_models(self, base_url: str | None = None) -> list[dict[str, Any]]:
        address = (base_url or self.anthropic_api_base_url).rstrip("/")
        models: list[dict[str, Any]] = (await self._listing(f"{address}/models")).get("data", [])
        return models

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest | None = None, *args: Any, **kwargs: Any
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        """The canonical call; the older form by position or keyword is taken as well."""
        if not isinstance(request, ConnectorChatCompletionsRequest):
            request = canonical_of_legacy(self.translation_service, request, args, kwargs)
        payload = await awaited(
            self._prepare_anthropic_payload(
                request.request, request.processed_messages, request.effective_model
            )
        )
        payload["stream"] = bool(request.request.stream)
        url = f"{self.anthropic_api_base_url}/messages"
        headers = self._get_headers(request.identity)
        if not payload["stream"]:
            return await self._handle_non_streaming_response(
                url, payload, headers, request.effective_model
            )
        handle = await self._handle_streaming_response(
            url, payload, headers, request.effective_model
        )
        return streaming_envelope(handle)

    def _prepare_anthropic_payload(
        self,
        request_data: Any,
        processed_messages: Sequence[Any],
        effective_model: str,
        *args: Any,
        **kwargs: Any,
    ) -> Payload:
        return self._translated(
            request_data, processed_messages, effective_model, _DEFAULT_MAX_TOKENS
        )
