"""A provider that speaks Chat Completions, asked with httpx.

Nothing of the proxy is inherited but the interface. For a provider with a format of its own,
`translation_service` turns the request into it and its replies back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from src.connectors.base import LLMBackend
from src.connectors.contracts import ConnectorChatCompletionsRequest
from src.core.common.exceptions import (
    AuthenticationError,
    BackendError,
    RateLimitExceededError,
    ServiceUnavailableError,
)
from src.core.config.app_config import AppConfig
from src.core.domain.responses import (
    ProcessedResponse,
    ResponseEnvelope,
    StreamingResponseEnvelope,
)
from src.core.security.loop_prevention import ensure_loop_guard_header
from src.core.services.translation_service import TranslationService

DEFAULT_URL = "https://api.example.com/v1"


class MyProvider(LLMBackend):
    backend_type: str = "my-provider"

    def __init__(
        self,
        client: httpx.AsyncClient,
        config: AppConfig,
        translation_service: TranslationService,
    ) -> None:
        super().__init__(config)
        self.client = client  # shared with the other backends: not ours to close
        self.translation_service = translation_service
        self.api_key = ""
        self.url = DEFAULT_URL

    async def initialize(self, **kwargs: Any) -> None:
        self.api_key = kwargs.get("api_key") or ""
        self.url = (kwargs.get("api_base_url") or DEFAULT_URL).rstrip("/")

    def get_available_models(self) -> list[str]:
        return ["my-model"]

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        body = self.translation_service.from_domain_request(request.request, "openai")
        body["model"] = request.effective_model
        body["stream"] = bool(request.request.stream)
        headers = {"Authorization": f"Bearer {self.api_key}"}
        if request.identity is not None:
            headers.update(request.identity.get_resolved_headers(None))
        sent = self.client.build_request(
            "POST",
            f"{self.url}/chat/completions",
            json=body,
            headers=ensure_loop_guard_header(headers),
        )
        try:
            response = await self.client.send(sent, stream=True)
        except httpx.HTTPError as error:
            raise ServiceUnavailableError(f"my-provider cannot be reached: {error}") from error
        if response.status_code != 200:
            raise await _refusal(response)
        if body["stream"]:
            return StreamingResponseEnvelope(
                content=_events(response), cancel_callback=response.aclose
            )
        await response.aread()
        content = response.json()
        return ResponseEnvelope(content=content, usage=content.get("usage"))


async def _events(response: httpx.Response) -> AsyncIterator[ProcessedResponse]:
    """The provider's events as they come: the proxy's client cuts at their edges."""
    try:
        async for event in response.aiter_text():
            yield ProcessedResponse(content=event)
    finally:
        await response.aclose()


async def _refusal(response: httpx.Response) -> Exception:
    """The proxy tells every client in its own format, and knows what may be tried again."""
    text = (await response.aread()).decode("utf-8", "replace")[:500]
    if response.status_code in (401, 403):
        return AuthenticationError(text)
    if response.status_code == 429:
        return RateLimitExceededError(text)
    return BackendError(text, "my-provider", status_code=response.status_code)
