"""What the entry points name."""

from base_class_backends.connectors import TunedAnthropic, TunedGemini, TunedOpenAI
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility


def _definition(factory: type) -> BackendPluginDefinition:
    return BackendPluginDefinition(
        backend_name=str(factory.backend_type),
        factory=factory,
        plugin_name="llm-proxy-base-class-backends",
        compatibility=PluginCompatibility(core_min_version="0.1.0"),
    )


def tuned_openai() -> BackendPluginDefinition:
    return _definition(TunedOpenAI)


def tuned_anthropic() -> BackendPluginDefinition:
    return _definition(TunedAnthropic)


def tuned_gemini() -> BackendPluginDefinition:
    return _definition(TunedGemini)
