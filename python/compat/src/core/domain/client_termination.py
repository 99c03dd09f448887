from llm_proxy.contracts.session import ClientTerminationReason

__all__ = ["ClientTerminationReason"]
