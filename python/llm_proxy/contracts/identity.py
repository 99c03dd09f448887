"""Under which name the proxy calls upstream, and the small read-only views of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class IConfig(Protocol):
    def get(self, key: str, default: Any = None) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


@runtime_checkable
class IAppIdentityConfig(Protocol):
    def get_resolved_headers(
        self, incoming_headers: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        """`X-Title`, `HTTP-Referer` and `User-Agent` as configured, from the client's own where
        passed through."""
        ...


@runtime_checkable
class IBackendConfig(Protocol):
    api_key: str | None
    api_url: str | None
    models: list[str]
    timeout: int
    extra: dict[str, Any]


@runtime_checkable
class IBackendSpecificConfig(Protocol):
    def get(self, name: str, default: Any = None) -> Any: ...


@runtime_checkable
class IReasoningConfig(Protocol):
    reasoning_effort: str | None
    thinking_budget: int | None


@runtime_checkable
class ILoopDetectionConfig(Protocol):
    loop_detection_enabled: bool | None


@runtime_checkable
class IPlanningPhaseConfig(Protocol):
    enabled: bool
    strong_model: str | None
