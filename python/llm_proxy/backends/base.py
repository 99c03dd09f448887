"""`LLMBackend`, which every backend plugin derives from."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from llm_proxy.backends.app_config import AppConfig
    from llm_proxy.contracts.processors import IResponseProcessor
    from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest
    from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope

_QUOTA_PREFIXES = ("x-codex-", "x-ratelimit-", "x-usage-")


@runtime_checkable
class IHealthAware(Protocol):
    """Told by the health monitor how the endpoint fares."""

    async def on_endpoint_healthy(self, api_url: str) -> None: ...

    async def on_endpoint_unhealthy(self, api_url: str, reason: str) -> None: ...


class LLMBackend(abc.ABC, IHealthAware):
    """One provider, as an object: asked for chat completions, for its models and for its health.

    Made by its factory without any I/O, then initialised once; lives on the lane. A subclass need
    not call `super().__init__`: every accessor here has a default of its own.
    """

    backend_type: str

    def __init__(
        self, config: AppConfig, response_processor: IResponseProcessor | None = None
    ) -> None:
        self.config = config
        self._response_processor = response_processor
        self._retry_after_until: float | None = None
        self._endpoint_healthy = True
        self._endpoint_reason = ""
        self._auth_valid = True
        self._auth_reason = ""
        self._api_url: str | None = None
        self._activity_tracker: Any = None
        self._instance_name: str | None = None
        self._last_quota_headers: dict[str, str] = {}

    @abc.abstractmethod
    async def chat_completions(
        self, request: ConnectorChatCompletionsRequest
    ) -> ResponseEnvelope | StreamingResponseEnvelope:
        """Answers one turn. The older form with keyword arguments is understood as well (see
        `dispatch`)."""

    @abc.abstractmethod
    async def initialize(self, **kwargs: Any) -> None:
        """Told its key, address and every entry of its `extra` section.

        Must accept keys it does not know.
        """

    def get_available_models(self) -> list[str]:
        """What it offers; empty: it does not say."""
        return []

    @property
    def last_quota_headers(self) -> dict[str, str]:
        return dict(getattr(self, "_last_quota_headers", {}))

    def update_quota_headers(self, headers: Mapping[str, str]) -> None:
        lowered = {name.lower(): value for name, value in headers.items()}
        kept = {name: value for name, value in lowered.items() if name.startswith(_QUOTA_PREFIXES)}
        if kept:
            self._last_quota_headers = kept

    @property
    def api_url(self) -> str | None:
        return getattr(self, "_api_url", None)

    @api_url.setter
    def api_url(self, value: str | None) -> None:
        self._api_url = value

    @property
    def is_endpoint_healthy(self) -> bool:
        return getattr(self, "_endpoint_healthy", True)

    async def on_endpoint_healthy(self, api_url: str) -> None:
        self._endpoint_healthy = True
        self._endpoint_reason = ""

    async def on_endpoint_unhealthy(self, api_url: str, reason: str) -> None:
        self._endpoint_healthy = False
        self._endpoint_reason = reason

    @property
    def has_static_credentials(self) -> bool:
        """False for logins that can be renewed: a 401 then does not take the backend out for
        good."""
        return True

    def mark_auth_invalid(self, reason: str = "Authentication failed") -> None:
        self._auth_valid = False
        self._auth_reason = reason

    def set_retry_after(self, retry_after_seconds: float) -> None:
        self._retry_after_until = time.monotonic() + retry_after_seconds

    def get_retry_after_remaining(self) -> float | None:
        until: float | None = getattr(self, "_retry_after_until", None)
        if until is None:
            return None
        remaining = until - time.monotonic()
        if remaining <= 0:
            self._retry_after_until = None
            return None
        return remaining

    def is_rate_limited(self) -> bool:
        return self.get_retry_after_remaining() is not None

    def is_backend_functional(self) -> bool:
        return (
            getattr(self, "_auth_valid", True)
            and self.is_endpoint_healthy
            and self._is_backend_functional_internal()
        )

    def _is_backend_functional_internal(self) -> bool:
        return True

    async def _validate_runtime_credentials(self) -> bool:
        """Asked once when the backend is not functional; True: it has recovered."""
        return False

    def get_validation_errors(self) -> list[str]:
        errors = []
        if not getattr(self, "_auth_valid", True):
            errors.append(f"Credentials invalid: {getattr(self, '_auth_reason', '')}")
        if not self.is_endpoint_healthy:
            errors.append(f"API endpoint unhealthy: {getattr(self, '_endpoint_reason', '')}")
        return errors

    def set_activity_tracker(self, tracker: Any, instance_name: str) -> None:
        self._activity_tracker = tracker
        self._instance_name = instance_name

    @property
    def instance_name(self) -> str:
        name = getattr(self, "_instance_name", None) or getattr(self, "backend_type", None)
        return str(name or type(self).__name__)

    @contextmanager
    def track_connection(
        self, session_id: str, connection_type: Any, model: str | None = None
    ) -> Iterator[None]:
        tracker = getattr(self, "_activity_tracker", None)
        if tracker is None:
            yield
            return
        with tracker.track_connection(self.instance_name, session_id, connection_type, model):
            yield

    def increment_rx(self, session_id: str, byte_count: int) -> None:
        self._count("increment_rx", session_id, byte_count)

    def increment_tx(self, session_id: str, byte_count: int) -> None:
        self._count("increment_tx", session_id, byte_count)

    def _count(self, counter: str, session_id: str, byte_count: int) -> None:
        count: Callable[..., None] | None = getattr(
            getattr(self, "_activity_tracker", None), counter, None
        )
        if count is not None:
            count(self.instance_name, session_id, byte_count)


def strip_vendor_prefix(model: str, vendor: str) -> str:
    """`vendor/model` → `model`."""
    return model.removeprefix(f"{vendor}/")


def add_vendor_prefix(model: str, vendor: str) -> str:
    """`model` → `vendor/model`, unless it is there already."""
    return model if model.startswith(f"{vendor}/") else f"{vendor}/{model}"
