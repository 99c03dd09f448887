from llm_proxy.backends.gemini_oauth.request_builders import (
    AntigravityRequestBodyBuilder,
    StandardRequestBodyBuilder,
)

__all__ = [
    "AntigravityRequestBodyBuilder",
    "StandardRequestBodyBuilder",
]
