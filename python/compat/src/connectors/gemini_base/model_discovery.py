from llm_proxy.backends.gemini_oauth.model_discovery import (
    FallbackModelDiscovery,
)

__all__ = [
    "FallbackModelDiscovery",
]
