from llm_proxy.backends.gemini_oauth.request_counter import (
    DailyRequestCounter,
)

__all__ = [
    "DailyRequestCounter",
]
