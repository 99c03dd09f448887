from llm_proxy.plugins.backend_dispatch import ConnectorInvoker

__all__ = ["ConnectorInvoker"]
