from llm_proxy.contracts.session import SessionKey

__all__ = ["SessionKey"]
