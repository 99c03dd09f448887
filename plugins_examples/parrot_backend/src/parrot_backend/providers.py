"""What the entry point names."""

from parrot_backend.connector import ParrotBackend
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility


def parrot() -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name="parrot",
        factory=ParrotBackend,
        plugin_name="llm-proxy-parrot-backend",
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )
