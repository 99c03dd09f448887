"""What the base classes have in common whose provider does not speak OpenAI chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from llm_proxy.backends.base import LLMBackend
from llm_proxy.backends.loop_guard import ensure_loop_guard_header
from llm_proxy.backends.translation import TranslationService
from llm_proxy.backends.upstream import Payload, open_stream, post, translated_chunks
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseHandle

if TYPE_CHECKING:
    import httpx

    from llm_proxy.backends.app_config import AppConfig
    from llm_proxy.contracts.identity import IAppIdentityConfig


class TranslatingBackend(LLMBackend):
    """Speaks one format over httpx; the engine's codecs translate both ways."""

    _format: ClassVar[str]  # as the translation service names it
    _address: ClassVar[str]  # the attribute that holds the base URL, and the setting that gives it
    _key_header: ClassVar[str]
    _headers: ClassVar[Mapping[str, str]] = {"Content-Type": "application/json"}

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
        self.available_models: list[str] = []
        self.name = self.backend_type

    async def initialize(self, **kwargs: Any) -> None:
        self.api_key = kwargs.get("api_key")
        self.key_name = kwargs.get("key_name") or self.backend_type
        address = kwargs.get(self._address) or kwargs.get("api_base_url")
        if address:
            setattr(self, self._address, str(address).rstrip("/"))
        self.available_models = list(kwargs.get("models") or self.available_models)

    def get_available_models(self) -> list[str]:
        return list(self.available_models)

    async def _listing(self, url: str) -> dict[str, Any]:
        response = await self.client.get(url, headers=self._get_headers())
        response.raise_for_status()
        listing: dict[str, Any] = response.json()
        return listing

    def _get_headers(self, identity: IAppIdentityConfig | None = None) -> dict[str, str]:
        headers = dict(self._headers)
        if self.api_key:
            headers[self._key_header] = self.api_key
        if identity is not None:
            headers.update(identity.get_resolved_headers(None))
        return ensure_loop_guard_header(headers)

    def _translated(
        self, request: Any, messages: Sequence[Any], model: str, max_tokens: int | None = None
    ) -> Payload:
        """`max_tokens` is asked for where the client has named no limit."""
        domain = self.translation_service.to_domain_request(request, "openai")
        changed: dict[str, Any] = {"model": model}
        if messages:
            changed["messages"] = list(messages)
        if domain.max_tokens is None and domain.max_completion_tokens is None:
            changed["max_tokens"] = max_tokens
        asked = domain.model_copy(update=changed)
        return Payload(self.translation_service.from_domain_request(asked, self._format))

    async def _handle_non_streaming_response(
        self, url: str, payload: Any, headers: Any, model: str = "", *args: Any, **kwargs: Any
    ) -> ResponseEnvelope:
        body, response = await post(self.client, url, payload, headers, self.name)
        self.update_quota_headers(response.headers)
        reply = self.translation_service.to_domain_response(body, self._format)
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
            translated_chunks(self.translation_service, self._format),
            lambda response: self.update_quota_headers(response.headers),
        )
