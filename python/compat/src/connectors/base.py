from llm_proxy.backends.base import IHealthAware, LLMBackend, add_vendor_prefix, strip_vendor_prefix

__all__ = ["IHealthAware", "LLMBackend", "add_vendor_prefix", "strip_vendor_prefix"]
