"""What the entry point names."""

from native_backend.connector import NativeExample
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility


def native() -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name="native",
        factory=NativeExample,
        plugin_name="llm-proxy-native-backend",
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )
