from llm_proxy.contracts.streaming import (
    StopChunkWithUsage,
    StreamingContent,
    StreamingErrorMapper,
    UsageChunkLeakError,
    handle_streaming_error,
)

__all__ = [
    "StopChunkWithUsage",
    "StreamingContent",
    "StreamingErrorMapper",
    "UsageChunkLeakError",
    "handle_streaming_error",
]
