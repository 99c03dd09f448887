from llm_proxy.backends.gemini_oauth.project_discovery import (
    AntigravityProjectDiscovery,
    FreeTierProjectDiscovery,
    PaidTierProjectDiscovery,
)

__all__ = [
    "AntigravityProjectDiscovery",
    "FreeTierProjectDiscovery",
    "PaidTierProjectDiscovery",
]
