from llm_proxy.contracts.processors import ProcessedResponse
from llm_proxy.contracts.responses import (
    ResponseEnvelope,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)

__all__ = [
    "ProcessedResponse",
    "ResponseEnvelope",
    "StreamingResponseEnvelope",
    "StreamingResponseHandle",
]
