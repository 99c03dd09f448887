from llm_proxy.backends.plugin_api import (
    BACKEND_PLUGIN_ENTRY_POINT_GROUP,
    PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION,
    PLUGIN_HTTP_CAPTURED_EXTENSION,
    BackendFactory,
    BackendPluginDefinition,
    BackendPluginProvider,
    PluginCompatibility,
    PluginHttpCaptureContext,
    PluginPostBuildHook,
)
from llm_proxy.backends.runtime.capture.plugin_client import (
    build_capture_aware_async_client,
    capture_http_response,
)

__all__ = [
    "BACKEND_PLUGIN_ENTRY_POINT_GROUP",
    "PLUGIN_HTTP_CAPTURED_EXTENSION",
    "PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION",
    "BackendFactory",
    "BackendPluginDefinition",
    "BackendPluginProvider",
    "PluginCompatibility",
    "PluginHttpCaptureContext",
    "PluginPostBuildHook",
    "build_capture_aware_async_client",
    "capture_http_response",
]
