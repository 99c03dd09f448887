from llm_proxy.backends.runtime.dispatch import ConnectorInvoker

__all__ = ["ConnectorInvoker"]
