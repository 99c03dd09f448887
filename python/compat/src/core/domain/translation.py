from llm_proxy.backends.domain_translation import Translation

__all__ = ["Translation"]
