from llm_proxy.contracts.listings import BackendCapabilityDescriptor

__all__ = ["BackendCapabilityDescriptor"]
