from llm_proxy.backends.gemini import GEMINI_DEFAULT_BASE_URL, GeminiBackend

__all__ = ["GEMINI_DEFAULT_BASE_URL", "GeminiBackend"]
