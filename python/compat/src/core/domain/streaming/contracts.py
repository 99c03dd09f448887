from llm_proxy.contracts.stream_parts import (
    StreamingChunk,
    StreamingErrorInfo,
    StreamingMetadata,
    StreamingPayload,
    StreamingUsage,
)

__all__ = [
    "StreamingChunk",
    "StreamingErrorInfo",
    "StreamingMetadata",
    "StreamingPayload",
    "StreamingUsage",
]
