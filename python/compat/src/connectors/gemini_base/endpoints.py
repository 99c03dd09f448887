from llm_proxy.backends.gemini_oauth.endpoints import (
    AntigravitySandboxEndpoint,
    StandardCodeAssistEndpoint,
)

__all__ = [
    "AntigravitySandboxEndpoint",
    "StandardCodeAssistEndpoint",
]
