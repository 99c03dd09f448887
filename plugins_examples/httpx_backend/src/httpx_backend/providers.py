"""What the entry point names."""

from httpx_backend.connector import MyProvider
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility


def my_provider() -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name="my-provider",
        factory=MyProvider,
        plugin_name="llm-proxy-httpx-backend",
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )
