"""What the entry point names."""

from oauth_backend.connector import RenewedBackend
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility


def renewed() -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name="renewed",
        factory=RenewedBackend,
        plugin_name="llm-proxy-oauth-backend",
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )
