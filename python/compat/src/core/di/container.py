from llm_proxy.backends.services import ServiceCollection, ServiceProvider

__all__ = ["ServiceCollection", "ServiceProvider"]
