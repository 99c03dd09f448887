from llm_proxy.backends.registry import BackendRegistry, backend_registry

__all__ = ["BackendRegistry", "backend_registry"]
