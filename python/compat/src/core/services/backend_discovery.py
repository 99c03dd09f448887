from llm_proxy.backends.runtime.discovery import discover_backends, reset_backend_discovery_state

__all__ = ["discover_backends", "reset_backend_discovery_state"]
