from llm_proxy.contracts.requests import (
    ConnectorChatCompletionsRequest,
    ConnectorRequestContext,
    ConnectorResponsesRequest,
    ICanonicalChatCompletionsBackend,
)

__all__ = [
    "ConnectorChatCompletionsRequest",
    "ConnectorRequestContext",
    "ConnectorResponsesRequest",
    "ICanonicalChatCompletionsBackend",
]
