"""`GeminiOAuthBaseConnector`: Code Assist with a Google login, for plugins to subclass.

What starts with one underscore is part of what subclasses override and call; it stays.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from llm_proxy.backends.gemini import GeminiBackend
from llm_proxy.backends.gemini_oauth import credential_providers
from llm_proxy.backends.gemini_oauth.config import (
    CODE_ASSIST_API_VERSION,
    DEFAULT_CODE_ASSIST_PROMPT_LIMIT,
)
from llm_proxy.backends.gemini_oauth.credential_providers import FileCredentialProvider
from llm_proxy.backends.gemini_oauth.credentials import TOKEN_ENDPOINT, TOKEN_EXPIRY_BUFFER_SECONDS
from llm_proxy.backends.gemini_oauth.endpoints import StandardCodeAssistEndpoint
from llm_proxy.backends.gemini_oauth.model_discovery import FallbackModelDiscovery
from llm_proxy.backends.gemini_oauth.project_discovery import FreeTierProjectDiscovery
from llm_proxy.backends.gemini_oauth.request_builders import StandardRequestBodyBuilder
from llm_proxy.backends.gemini_oauth.response_processors import NoOpResponsePostProcessor
from llm_proxy.backends.openai import canonical_of_legacy, streaming_envelope
from llm_proxy.backends.translation import TranslationService
from llm_proxy.backends.upstream import awaited, open_stream, post, translated_chunks
from llm_proxy.contracts.exceptions import AuthenticationError, BackendError
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope

if TYPE_CHECKING:
    import httpx

    from llm_proxy.backends.app_config import AppConfig

logger = logging.getLogger(__name__)

_PATHS = ("credentials_path", "gemini_cli_oauth_path", "oauth_creds_path")


class AuthSession:
    """POST and GET with the login's headers, JSON both ways: what project discovery is given."""

    def __init__(self, connector: GeminiOAuthBaseConnector) -> None:
        self._connector = connector

    async def post(self, url: str, body: Mapping[str, Any]) -> dict[str, Any]:
        connector = self._connector
        answer, _ = await post(
            connector.client, url, dict(body), connector._get_headers(), connector.name
        )
        return answer if isinstance(answer, dict) else {}


class GeminiOAuthBaseConnector(GeminiBackend, abc.ABC):
    """Holds one login, renews it in time, and speaks Code Assist.

    The login is renewed once however many requests wait for it; a 401 renews it once more.
    """

    prompt_limit_overrides: ClassVar[dict[str, int]] = {}
    prompt_limit_prefix_overrides: ClassVar[dict[str, int]] = {
        "claude": 200_000,
        "gemini-2.5": 1_000_000,
        "gemini-3": 1_000_000,
    }
    default_prompt_limit: int = DEFAULT_CODE_ASSIST_PROMPT_LIMIT

    def __init__(
        self,
        client: httpx.AsyncClient,
        config: AppConfig,
        translation_service: TranslationService | None = None,
        name: str = "gemini-oauth",
        credential_provider: Any = None,
        endpoint_config: Any = None,
        request_body_builder: Any = None,
        project_discovery: Any = None,
        model_discovery: Any = None,
        response_post_processor: Any = None,
        token_manager: Any = None,
        request_counter: Any = None,
        file_watcher_state: Any = None,
        graceful_degradation: Any = None,
        thought_signature_service: Any = None,
        token_estimator: Any = None,
        google_auth_provider: Any = None,
        streaming_executor: Any = None,
        retry_policy: Any = None,
        auth_refresh_policy: Any = None,
    ) -> None:
        super().__init__(client, config, translation_service)
        self.name = name
        self._credential_provider = credential_provider or FileCredentialProvider()
        self._endpoint_config = endpoint_config or StandardCodeAssistEndpoint()
        self._request_body_builder = request_body_builder or StandardRequestBodyBuilder()
        self._project_discovery = project_discovery or FreeTierProjectDiscovery()
        self._model_registry = model_discovery or FallbackModelDiscovery()
        self._response_post_processor = response_post_processor or NoOpResponsePostProcessor()
        self._request_counter = request_counter
        self._graceful_degradation = graceful_degradation
        self._background_tasks: set[asyncio.Task[Any]] = set()
        self._credentials: dict[str, Any] | None = None
        self._credentials_fingerprint = ""
        self._project_id: str | None = None
        self._validation_errors: list[str] = []
        self._refreshing = asyncio.Lock()
        self._token_endpoint = TOKEN_ENDPOINT
        self.is_functional = False
        self.gemini_api_base_url = self._endpoint_config.get_base_url()

    # The login.

    @property
    def has_static_credentials(self) -> bool:
        return False

    @property
    def _oauth_credentials(self) -> dict[str, Any] | None:
        return self._credentials

    @_oauth_credentials.setter
    def _oauth_credentials(self, credentials: dict[str, Any] | None) -> None:
        self._credentials = credentials
        if credentials:
            self._credentials_fingerprint = self._compute_credentials_fingerprint(credentials)

    async def initialize(self, **kwargs: Any) -> None:
        """Reads the login. Without a usable one the backend says so instead of failing to start."""
        path = next((kwargs[name] for name in _PATHS if kwargs.get(name)), None)
        if path and isinstance(self._credential_provider, FileCredentialProvider):
            self._credential_provider = FileCredentialProvider(path)
        address = kwargs.get("gemini_api_base_url") or kwargs.get("api_base_url")
        if address:
            self.gemini_api_base_url = str(address).rstrip("/")
        self._token_endpoint = str(kwargs.get("token_endpoint") or self._token_endpoint)
        self._project_id = kwargs.get("project_id") or self._project_id
        self.available_models = list(kwargs.get("models") or [])
        await self._load_oauth_credentials()
        if errors := self._validate_credentials_structure(self._oauth_credentials):
            self._fail_init(errors)
            return
        self._validation_errors = []
        self.is_functional = True

    async def _load_oauth_credentials(self) -> bool:
        self._oauth_credentials = await self._credential_provider.load()
        return self._oauth_credentials is not None

    async def _save_oauth_credentials(self, credentials: dict[str, Any]) -> None:
        self._oauth_credentials = credentials
        save = getattr(self._credential_provider, "save", None)
        if save is not None:
            await save(credentials)

    def _validate_credentials_structure(self, credentials: Any) -> list[str]:
        return credential_providers.validate(credentials)

    def _compute_credentials_fingerprint(self, credentials: Mapping[str, Any]) -> str:
        return credential_providers.fingerprint(credentials)

    def _fail_init(self, errors: Sequence[str]) -> None:
        self.is_functional = False
        self._validation_errors = list(errors)
        logger.warning("%s has no usable login: %s", self.name, "; ".join(errors))

    def _is_token_expired(self) -> bool:
        credentials = self._oauth_credentials or {}
        expiry = credentials.get("expiry_date")
        if not credentials.get("access_token"):
            return True
        if not isinstance(expiry, (int, float)):
            return False
        return bool(expiry / 1000 <= time.time() + TOKEN_EXPIRY_BUFFER_SECONDS)

    async def _refresh_token_if_needed(
        self,
        force_reload: bool = False,
        session_id: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> bool:
        """True: there is a token that should work.

        Another program may have renewed the login, so the file is read before Google is asked.
        """
        if not force_reload and not self._is_token_expired():
            return True
        refused = (self._oauth_credentials or {}).get("access_token")
        async with self._refreshing:
            held = (self._oauth_credentials or {}).get("access_token")
            if held != refused and not self._is_token_expired():
                return True
            await self._load_oauth_credentials()
            held = (self._oauth_credentials or {}).get("access_token")
            if held != refused and not self._is_token_expired():
                return True
            return await self._refresh_token()

    async def _refresh_token(self) -> bool:
        credentials = self._oauth_credentials or {}
        if not credentials.get("refresh_token"):
            return not self._is_token_expired()
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials["refresh_token"],
            "client_id": os.environ.get("GEMINI_CLI_CLIENT_ID", ""),
            "client_secret": os.environ.get("GEMINI_CLI_CLIENT_SECRET", ""),
        }
        response = await self.client.post(self._token_endpoint, data=form)
        if response.status_code != 200:
            logger.warning("%s: renewing the login gave %d", self.name, response.status_code)
            return False
        told = response.json()
        expiry = int((time.time() + float(told.get("expires_in", 3600))) * 1000)
        renewed = {**credentials, "access_token": told["access_token"], "expiry_date": expiry}
        if told.get("refresh_token"):
            renewed["refresh_token"] = told["refresh_token"]
        await self._save_oauth_credentials(renewed)
        return True

    # Health.

    def _is_backend_functional_internal(self) -> bool:
        return self.is_functional

    async def _validate_runtime_credentials(self) -> bool:
        """The login may have been made since: read it again."""
        await self._load_oauth_credentials()
        errors = self._validate_credentials_structure(self._oauth_credentials)
        self._validation_errors = errors
        self.is_functional = not errors
        if not errors:
            self._auth_valid = True
        return not errors

    def get_validation_errors(self) -> list[str]:
        return [*super().get_validation_errors(), *self._validation_errors]

    def _mark_backend_unusable(
        self, reason: str = "", retry_after_seconds: float | None = None
    ) -> None:
        if retry_after_seconds is None:
            self.is_functional = False
            self._validation_errors = [reason or "marked unusable"]
        else:
            self.record_rate_limit(retry_after_seconds=retry_after_seconds)

    def record_rate_limit(self, retry_after_seconds: float | None = None) -> None:
        self.set_retry_after(60.0 if retry_after_seconds is None else retry_after_seconds)

    async def _perform_health_check(self) -> bool:
        return await self._refresh_token_if_needed()

    async def shutdown(self) -> None:
        for task in list(self._background_tasks):
            task.cancel()
        await asyncio.gather(*self._background_tasks, return_exceptions=True)
        self._background_tasks.clear()

    # Models and projects.

    async def _ensure_models_loaded(self) -> None:
        if not self.available_models:
            self.available_models = list(await self._model_registry.discover())

    async def get_available_models_async(self) -> list[str]:
        await self._ensure_models_loaded()
        return list(self.available_models)

    async def list_models(self, gemini_api_base_url: str | None = None) -> dict[str, Any]:
        await self._ensure_models_loaded()
        return {"models": [{"name": f"models/{name}"} for name in self.available_models]}

    def _prompt_limit(self, model: str) -> int:
        if model in self.prompt_limit_overrides:
            return self.prompt_limit_overrides[model]
        prefixes = self.prompt_limit_prefix_overrides.items()
        return next(
            (limit for prefix, limit in prefixes if model.startswith(prefix)),
            self.default_prompt_limit,
        )

    @abc.abstractmethod
    async def _discover_project_id(self, auth_session: Any) -> str:
        """The project to work in; most subclasses ask `self._project_discovery`."""

    # The turn.

    def _get_headers(self, identity: Any = None) -> dict[str, str]:
        told: dict[str, str] = self._endpoint_config.get_api_headers(self._oauth_credentials or {})
        return {**super()._get_headers(identity), **told}

    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest | None = None, *args: Any, **kwargs: Any
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        """The canonical call; the older form by position or keyword is taken as well."""
        if not isinstance(request, ConnectorChatCompletionsRequest):
            request = canonical_of_legacy(self.translation_service, request, args, kwargs)
        if not await self._refresh_token_if_needed():
            raise AuthenticationError(f"The login of {self.name} has expired; log in again.")
        ask = (
            self._chat_completions_code_assist_streaming
            if request.request.stream
            else self._chat_completions_code_assist
        )
        turn = (request.request, request.processed_messages, request.effective_model)
        try:
            return await ask(*turn)
        except AuthenticationError:
            if not await self._refresh_token_if_needed(force_reload=True):
                raise
            return await ask(*turn)

    async def _code_assist_body(
        self, request_data: Any, processed_messages: Sequence[Any], effective_model: str
    ) -> dict[str, Any]:
        if self._project_id is None:
            self._project_id = await self._discover_project_id(AuthSession(self))
        if self._request_counter is not None:
            self._request_counter.increment()
        inner = await awaited(
            self._prepare_gemini_payload(request_data, processed_messages, effective_model)
        )
        body: dict[str, Any] = self._request_body_builder.build(
            effective_model, self._project_id, request_data, inner
        )
        return body

    def _call(self, name: str) -> str:
        return f"{self.gemini_api_base_url}/{CODE_ASSIST_API_VERSION}:{name}"

    async def _chat_completions_code_assist(
        self, request_data: Any, processed_messages: Sequence[Any], effective_model: str, **_: Any
    ) -> ResponseEnvelope:
        body = await self._code_assist_body(request_data, processed_messages, effective_model)
        answer, response = await post(
            self.client, self._call("generateContent"), body, self._get_headers(), self.name
        )
        if not isinstance(answer, Mapping):
            raise BackendError(f"{self.name} did not answer with an object.", self.name)
        reply = self.translation_service.to_domain_response(answer, "code_assist")
        content = self._response_post_processor.process(reply.model_dump())
        return ResponseEnvelope(content, dict(response.headers), usage=reply.usage)

    async def _chat_completions_code_assist_streaming(
        self, request_data: Any, processed_messages: Sequence[Any], effective_model: str, **_: Any
    ) -> StreamingResponseEnvelope:
        body = await self._code_assist_body(request_data, processed_messages, effective_model)
        handle = await open_stream(
            self.client,
            self._call("streamGenerateContent?alt=sse"),
            body,
            self._get_headers(),
            self.name,
            translated_chunks(self.translation_service, "code_assist"),
            lambda response: self.update_quota_headers(response.headers),
        )
        handle.iterator = self._response_post_processor.process_streaming(handle.iterator)
        return streaming_envelope(handle)
