"""`AnthropicBackend`: the base class of plugins for providers that speak Messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_proxy.backends.base import LLMBackend
from llm_proxy.backends.loop_guard import ensure_loop_guard_header
from llm_proxy.backends.openai import canonical_of_legacy, streaming_envelope
from llm_proxy.backends.translation import TranslationService
from llm_proxy.backends.upstream import Payload, awaited, open_stream, post
from llm_proxy.contracts.chat import CanonicalStreamChunk
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
from llm_proxy.contracts.responses import (
    ResponseEnvelope,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)

if TYPE_CHECKING:
    import httpx

    from llm_proxy.contracts.app_config import AppConfig
    from llm_proxy.contracts.identity import IAppIdentityConfig

ANTHROPIC_DEFAULT_BASE_URL = "https://api.anthropic.com/v1"
ANTHROPIC_VERSION_HEADER = "2023-06-01"
# Messages demands a limit; this is what is asked for when the client names none.
_DEFAULT_MAX_TOKENS = 8192


class AnthropicBackend(LLMBackend):
    """Speaks Messages over httpx; the engine's codecs translate both ways."""

    backend_type: str = "anthropic"

    def __init__(
        self,
        client: httpx.AsyncClient,
        config: AppConfig,
        translation_service: TranslationService | None = None,
    ) -> None:
        super().__init__(config)
        self.client = client
        self.translation_service = translation_service or TranslationService()
        self.api_key: str | None = None
        self.key_name: str | None = None
        self.anthropic_api_base_url = ANTHROPIC_DEFAULT_BASE_URL
        self.available_models: list[str] = []
        self.name = self.backend_type

    async def initialize(self, **kwargs: Any) -> None:
        self.api_key = kwargs.get("api_key")
        self.key_name = kwargs.get("key_name") or self.backend_type
        address = kwargs.get("anthropic_api_base_url") or kwargs.get("api_base_url")
        if address:
            self.anthropic_api_base_url = str(address).rstrip("/")
        self.available_models = list(kwargs.get("models") or self.available_models)

    def get_available_models(self) -> list[str]:
        return list(self.available_models)

    async def get_available_models_async(self) -> list[str]:
        if not self.available_models:
            self.available_models = [model["id"] for model in await self.list_models()]
        return list(self.available_models)

    async def list_models(self, base_url: str | None = None) -> list[dict[str, Any]]:
        address = f"{(base_url or self.anthropic_api_base_url).rstrip('/')}/models"
        response = await self.client.get(address, headers=self._get_headers())
        response.raise_for_status()
        models: list[dict[str, Any]] = response.json().get("data", [])
        return models

    def _get_headers(self, identity: IAppIdentityConfig | None = None) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "anthropic-version": ANTHROPIC_VERSION_HEADER,
        }
        if self.api_key:
            headers["x-api-key"] = self.api_key
        if identity is not None:
            headers.update(identity.get_resolved_headers(None))
        return ensure_loop_guard_header(headers)

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
        domain = self.translation_service.to_domain_request(request_data, "openai")
        changed: dict[str, Any] = {"model": effective_model}
        if processed_messages:
            changed["messages"] = list(processed_messages)
        if domain.max_tokens is None and domain.max_completion_tokens is None:
            changed["max_tokens"] = _DEFAULT_MAX_TOKENS
        asked = domain.model_copy(update=changed)
        return Payload(self.translation_service.from_domain_request(asked, "anthropic"))

    async def _handle_non_streaming_response(
        self, url: str, payload: Any, headers: Any, model: str = "", *args: Any, **kwargs: Any
    ) -> ResponseEnvelope:
        body, response = await post(self.client, url, payload, headers, self.name)
        self.update_quota_headers(response.headers)
        reply = self.translation_service.to_domain_response(body, "anthropic")
        return ResponseEnvelope(
            reply.model_dump(), dict(response.headers), response.status_code, usage=reply.usage
        )

    async def _handle_streaming_response(
        self, url: str, payload: Any, headers: Any, model: str = "", *args: Any, **kwargs: Any
    ) -> StreamingResponseHandle:
        def translate(piece: bytes) -> CanonicalStreamChunk:
            chunk = self.translation_service.to_domain_stream_chunk(piece, "anthropic")
            return CanonicalStreamChunk.model_validate(chunk)

        return await open_stream(
            self.client,
            url,
            payload,
            headers,
            self.name,
            translate,
            lambda response: self.update_quota_headers(response.headers),
        )
