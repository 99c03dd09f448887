"""`OpenAIConnector`: the base class of plugins for OpenAI-compatible providers.

What starts with one underscore is part of what subclasses override and call; it stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llm_proxy.backends.base import LLMBackend
from llm_proxy.backends.loop_guard import ensure_loop_guard_header
from llm_proxy.backends.translation import TranslationService, openai_request
from llm_proxy.backends.upstream import (
    Payload,
    awaited,
    chat_chunks,
    open_stream,
    post,
    translated_chunks,
)
from llm_proxy.contracts.exceptions import ServiceUnavailableError
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest, ConnectorResponsesRequest
from llm_proxy.contracts.responses import (
    ResponseEnvelope,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)

if TYPE_CHECKING:
    import httpx

    from llm_proxy.backends.app_config import AppConfig
    from llm_proxy.contracts.identity import IAppIdentityConfig
    from llm_proxy.contracts.processors import IResponseProcessor

logger = logging.getLogger(__name__)

_MODELS_SECONDS = 10.0
_MODELS_WAIT_SECONDS = 0.5  # of the first request, at most
_LEGACY = ("request_data", "processed_messages", "effective_model", "identity")


class OpenAIConnector(LLMBackend):
    """Speaks Chat Completions over httpx, and relays its streams as they come.

    `_handle_streaming_response` gives a handle whose iterator yields `ProcessedResponse`, with the
    dict of one chunk as its content: an override may wrap it and read or change `chunk.content`.
    """

    backend_type: str = "openai"
    VENDOR_PREFIX: str = "openai"

    def __init__(
        self,
        client: httpx.AsyncClient,
        config: AppConfig,
        translation_service: TranslationService | None = None,
        response_processor: IResponseProcessor | None = None,
    ) -> None:
        super().__init__(config, response_processor)
        self.client = client
        self.translation_service = translation_service or TranslationService()
        self.api_key: str | None = None
        self.available_models: list[str] = []
        self.name = self.backend_type
        self.enable_websocket = False
        self._api_base_url = "https://api.openai.com/v1"
        self._health_check_enabled = False
        self._health_checked = False
        self._asking: asyncio.Task[None] | None = None

    @property
    def api_base_url(self) -> str:
        return self._api_base_url

    @api_base_url.setter
    def api_base_url(self, value: str) -> None:
        self._api_base_url = value.rstrip("/")

    async def initialize(self, **kwargs: Any) -> None:
        self.api_key = kwargs.get("api_key")
        if address := kwargs.get("api_base_url"):
            self.api_base_url = address
        self.available_models = list(kwargs.get("models") or self.available_models)
        if self.api_key and not self.available_models:
            await self._ask_for_models()

    async def _ask_for_models(self) -> None:
        """Fills `available_models`. The start waits a little for it, and does not fail for it."""

        async def fill() -> None:
            try:
                await asyncio.wait_for(self.get_available_models_async(), _MODELS_SECONDS)
            except Exception as error:
                logger.debug("%s does not say which models it has: %r", self.name, error)

        self._asking = asyncio.create_task(fill())
        await asyncio.wait({self._asking}, timeout=_MODELS_WAIT_SECONDS)

    def get_available_models(self) -> list[str]:
        return list(self.available_models)

    async def get_available_models_async(self) -> list[str]:
        if not self.available_models:
            listing = await self.list_models()
            self.available_models = [model["id"] for model in listing.get("data", [])]
        return list(self.available_models)

    async def list_models(self, api_base_url: str | None = None) -> dict[str, Any]:
        address = f"{(api_base_url or self.api_base_url).rstrip('/')}/models"
        response = await self.client.get(address, headers=self.get_headers())
        response.raise_for_status()
        listing: dict[str, Any] = response.json()
        return listing

    def get_headers(self, identity: IAppIdentityConfig | None = None) -> dict[str, str]:
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        if identity is not None:
            headers.update(identity.get_resolved_headers(None))
        return ensure_loop_guard_header(headers)

    def enable_health_check(self) -> None:
        self._health_check_enabled = True

    def disable_health_check(self) -> None:
        self._health_check_enabled = False

    async def _perform_health_check(self) -> bool:
        try:
            await self.list_models()
        except Exception as error:
            logger.warning("%s failed its health check: %r", self.name, error)
            return False
        return True

    async def _ensure_healthy(self) -> None:
        """Asks the upstream once, before the first turn, where a health check is wanted."""
        if self._health_check_enabled and not self._health_checked:
            if not await self._perform_health_check():
                raise ServiceUnavailableError(f"{self.name} failed its health check.")
            self._health_checked = True

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest | None = None, *args: Any, **kwargs: Any
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        """The canonical call; the older form by position or keyword is taken as well."""
        if not isinstance(request, ConnectorChatCompletionsRequest):
            request = canonical_of_legacy(self.translation_service, request, args, kwargs)
        return await self._chat_completions_canonical(request)

    async def _chat_completions_canonical(
        self, request: ConnectorChatCompletionsRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        await self._ensure_healthy()
        stream = bool(request.request.stream)
        if stream and _overrides(self, OpenAIConnector, "stream_completion"):
            effective = request.request.model_copy(update={"model": request.effective_model})
            return StreamingResponseEnvelope(self.stream_completion(effective))
        payload = await awaited(
            self._prepare_payload(
                request.request,
                request.processed_messages,
                request.effective_model,
                request.context,
            )
        )
        payload["stream"] = stream
        headers = self.get_headers(request.identity)
        session = str(request.options.get("session_id") or "")
        url = f"{self.api_base_url}/chat/completions"
        if not stream:
            return await self._handle_non_streaming_response(
                url, payload, headers, session, request.context
            )
        handle = await self._handle_streaming_response(
            url, payload, headers, session, "openai", request.context
        )
        return streaming_envelope(handle)

    def _prepare_payload(
        self,
        request_data: Any,
        processed_messages: Sequence[Any],
        effective_model: str,
        context: Any = None,
    ) -> Payload:
        payload = Payload(openai_request(request_data))
        payload["model"] = effective_model
        if processed_messages:
            payload["messages"] = openai_request({"messages": processed_messages})["messages"]
        return payload

    async def _handle_non_streaming_response(
        self, url: str, payload: Any, headers: Any, session_id: str, context: Any = None
    ) -> ResponseEnvelope:
        body, response = await post(self.client, url, payload, headers, self.name)
        self.update_quota_headers(response.headers)
        reply = self.translation_service.to_domain_response(body, "openai")
        usage = body.get("usage") if isinstance(body, Mapping) else None
        headers_back = dict(response.headers)
        return ResponseEnvelope(reply.model_dump(), headers_back, response.status_code, usage=usage)

    async def _handle_streaming_response(
        self,
        url: str,
        payload: Any,
        headers: Any,
        session_id: str,
        stream_format: str = "openai",
        context: Any = None,
    ) -> StreamingResponseHandle:
        return await open_stream(
            self.client, url, payload, headers, self.name, chat_chunks, self._on_stream_open
        )

    def _on_stream_open(self, response: httpx.Response) -> None:
        self.update_quota_headers(response.headers)

    async def stream_completion(self, request: Any) -> AsyncIterator[Any]:
        """The chunks of one streamed turn. An override of this is what streams are made of."""
        payload = await awaited(self._prepare_payload(request, request.messages, request.model))
        payload["stream"] = True
        url = f"{self.api_base_url}/chat/completions"
        handle = await self._handle_streaming_response(
            url, payload, self.get_headers(), "", "openai"
        )
        async for chunk in handle.iterator:
            yield chunk

    def get_provider_name(self) -> str:
        return self.backend_type

    async def responses(
        self, request: ConnectorResponsesRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        """The same turn over the Responses API of the upstream; the reply is a chat completion."""
        service = self.translation_service
        payload = service.from_domain_request(request.request, "responses")
        payload["model"] = request.effective_model
        headers = self.get_headers(request.identity)
        url = f"{self.api_base_url}/responses"
        if request.request.stream:
            handle = await open_stream(
                self.client,
                url,
                {**payload, "stream": True},
                headers,
                self.name,
                translated_chunks(service, "responses"),
                self._on_stream_open,
            )
            return streaming_envelope(handle)
        body, response = await post(self.client, url, payload, headers, self.name)
        reply = service.to_domain_response(body, "responses")
        return ResponseEnvelope(reply.model_dump(), dict(response.headers), usage=reply.usage)

    async def close(self) -> None:
        """Ends what it has begun; the client is shared and stays."""
        if self._asking is not None:
            self._asking.cancel()


def streaming_envelope(handle: Any) -> StreamingResponseEnvelope:
    """The envelope of a stream that an overridden handler may have wrapped itself."""
    if isinstance(handle, StreamingResponseEnvelope):
        return handle
    return StreamingResponseEnvelope(
        handle.iterator, headers=handle.headers, cancel_callback=handle.cancel_callback
    )


def _overrides(backend: Any, base: type, name: str) -> bool:
    return getattr(type(backend), name) is not getattr(base, name)


def canonical_of_legacy(
    service: TranslationService, first: Any, rest: Sequence[Any], named: Mapping[str, Any]
) -> ConnectorChatCompletionsRequest:
    """The canonical request of a call in the older form."""
    given = [] if first is None else [first]
    told = {**dict(zip(_LEGACY, [*given, *rest], strict=False)), **named}
    request = service.to_domain_request(told.pop("request_data"), "openai")
    return ConnectorChatCompletionsRequest(
        request=request,
        processed_messages=told.pop("processed_messages", None) or request.messages,
        effective_model=told.pop("effective_model", None) or request.model,
        identity=told.pop("identity", None),
        cancellation_token=told.pop("cancellation_token", None),
        cancellation_coordinator=told.pop("cancellation_coordinator", None),
        context=told.pop("context", None),
        options=told,
    )
