"""`GeminiBackend`: the base class of plugins for providers that speak generateContent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm_proxy.backends.base import LLMBackend
from llm_proxy.backends.loop_guard import ensure_loop_guard_header
from llm_proxy.backends.openai import canonical_of_legacy, streaming_envelope
from llm_proxy.backends.translation import TranslationService
from llm_proxy.backends.upstream import Payload, awaited, open_stream, post
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

GEMINI_DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
_VERSION = re.compile(r"/v\d\w*$")


def _models_url(base_url: str) -> str:
    """Where models are, of an address with or without the version of the API."""
    base = base_url.rstrip("/")
    return f"{base}/models" if _VERSION.search(base) else f"{base}/v1beta/models"


class GeminiBackend(LLMBackend):
    """Speaks generateContent over httpx; the engine's codecs translate both ways."""

    backend_type: str = "gemini"

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
        self.gemini_api_base_url = GEMINI_DEFAULT_BASE_URL
        self.available_models: list[str] = []
        self.name = self.backend_type

    async def initialize(self, **kwargs: Any) -> None:
        self.api_key = kwargs.get("api_key")
        self.key_name = kwargs.get("key_name") or self.backend_type
        address = kwargs.get("gemini_api_base_url") or kwargs.get("api_base_url")
        if address:
            self.gemini_api_base_url = str(address).rstrip("/")
        self.available_models = list(kwargs.get("models") or self.available_models)

    def get_available_models(self) -> list[str]:
        return list(self.available_models)

    async def get_available_models_async(self) -> list[str]:
        if not self.available_models:
            listed = await self.list_models()
            names = [str(model["name"]) for model in listed.get("models", [])]
            self.available_models = [name.removeprefix("models/") for name in names]
        return list(self.available_models)

    async def list_models(self, gemini_api_base_url: str | None = None) -> dict[str, Any]:
        address = _models_url(gemini_api_base_url or self.gemini_api_base_url)
        response = await self.client.get(address, headers=self._get_headers())
        response.raise_for_status()
        listing: dict[str, Any] = response.json()
        return listing

    def _get_headers(self, identity: IAppIdentityConfig | None = None) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["x-goog-api-key"] = self.api_key
        if identity is not None:
            headers.update(identity.get_resolved_headers(None))
        return ensure_loop_guard_header(headers)

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
        domain = self.translation_service.to_domain_request(request_data, "openai")
        changed: dict[str, Any] = {"model": effective_model}
        if processed_messages:
            changed["messages"] = list(processed_messages)
        asked = domain.model_copy(update=changed)
        payload = Payload(self.translation_service.from_domain_request(asked, "gemini"))
        payload.pop("model", None)  # it stands in the path
        return payload

    async def _handle_non_streaming_response(
        self, url: str, payload: Any, headers: Any, model: str = "", *args: Any, **kwargs: Any
    ) -> ResponseEnvelope:
        body, response = await post(self.client, url, payload, headers, self.name)
        self.update_quota_headers(response.headers)
        reply = self.translation_service.to_domain_response(body, "gemini")
        return ResponseEnvelope(
            reply.model_dump(), dict(response.headers), response.status_code, usage=reply.usage
        )

    async def _handle_streaming_response(
        self, url: str, payload: Any, headers: Any, model: str = "", *args: Any, **kwargs: Any
    ) -> StreamingResponseHandle:
        return await open_stream(
            self.client,
            url,
            payload,
            headers,
            self.name,
            lambda piece: self.translation_service.to_domain_stream_chunk(piece, "gemini"),
            lambda response: self.update_quota_headers(response.headers),
        )
