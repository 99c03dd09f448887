from llm_proxy.contracts.streaming import StreamingContent

__all__ = ["StreamingContent"]
