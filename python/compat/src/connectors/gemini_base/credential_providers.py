from llm_proxy.backends.gemini_oauth.credential_providers import (
    AntigravitySQLiteCredentialProvider,
    FileCredentialProvider,
)

__all__ = [
    "AntigravitySQLiteCredentialProvider",
    "FileCredentialProvider",
]
