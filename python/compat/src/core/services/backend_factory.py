from llm_proxy.backends.factory import BackendFactory

__all__ = ["BackendFactory"]
