from llm_proxy.backends.streaming import integrate_streaming_pipeline

__all__ = ["integrate_streaming_pipeline"]
