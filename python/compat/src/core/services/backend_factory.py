from llm_proxy.backends.runtime.factory import BackendFactory

__all__ = ["BackendFactory"]
