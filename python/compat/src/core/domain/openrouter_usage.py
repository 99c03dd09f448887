from llm_proxy.backends.usage import OpenRouterUsage

__all__ = ["OpenRouterUsage"]
