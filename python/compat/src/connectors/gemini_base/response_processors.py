from llm_proxy.backends.gemini_oauth.response_processors import (
    NoOpResponsePostProcessor,
    XmlToolCallPostProcessor,
)

__all__ = [
    "NoOpResponsePostProcessor",
    "XmlToolCallPostProcessor",
]
