from llm_proxy.backends.openai import OpenAIConnector

__all__ = ["OpenAIConnector"]
