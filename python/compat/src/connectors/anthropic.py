from llm_proxy.backends.anthropic import (
    ANTHROPIC_DEFAULT_BASE_URL,
    ANTHROPIC_VERSION_HEADER,
    AnthropicBackend,
)

__all__ = ["ANTHROPIC_DEFAULT_BASE_URL", "ANTHROPIC_VERSION_HEADER", "AnthropicBackend"]
