from llm_proxy.backends.translation import TranslationService

__all__ = ["TranslationService"]
