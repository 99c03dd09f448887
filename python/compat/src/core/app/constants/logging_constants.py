from llm_proxy.contracts.trace import TRACE_LEVEL

__all__ = ["TRACE_LEVEL"]
