"""What a backend plugin package declares about itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llm_proxy.contracts.services import IServiceProvider

if TYPE_CHECKING:
    from llm_proxy.contracts.requests import ConnectorRequestContext

BACKEND_PLUGIN_ENTRY_POINT_GROUP = "llm_proxy_backends"

# Keys of httpx request and response extensions.
PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION = "llm_proxy_capture_context"
PLUGIN_HTTP_CAPTURED_EXTENSION = "llm_proxy_http_capture_completed"

# Called as factory(httpx_client, app_config, translation_service); makes the backend without
# any network I/O.
BackendFactory = Callable[..., Any]

# Called with the service provider after each build; may be called more than once, the first
# time with fewer services.
PluginPostBuildHook = Callable[[IServiceProvider], None]


@dataclass(frozen=True)
class PluginCompatibility:
    """Core versions the plugin works with, both ends included."""

    core_min_version: str
    core_max_version: str | None = None


@dataclass(frozen=True)
class BackendPluginDefinition:
    """What a provider returns.

    The entry point's own name is the one users write in their configuration.
    """

    backend_name: str
    factory: BackendFactory
    plugin_name: str
    compatibility: PluginCompatibility
    post_build_hook: PluginPostBuildHook | None = None


class BackendPluginProvider(Protocol):
    """The object an entry point names: called without arguments."""

    def __call__(self) -> BackendPluginDefinition: ...


@dataclass(frozen=True, slots=True)
class PluginHttpCaptureContext:
    """On whose behalf a plugin's HTTP request goes out."""

    backend: str
    model: str
    key_name: str | None = None
    context: ConnectorRequestContext | None = None
