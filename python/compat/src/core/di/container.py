from llm_proxy.backends.runtime.services import ServiceCollection, ServiceProvider

__all__ = ["ServiceCollection", "ServiceProvider"]
