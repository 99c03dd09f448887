from llm_proxy.backends.gemini_oauth.connector import (
    GeminiOAuthBaseConnector,
)

__all__ = [
    "GeminiOAuthBaseConnector",
]
