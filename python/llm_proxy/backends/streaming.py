"""Makes a streaming envelope of a provider's raw stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from llm_proxy.backends.translation import TranslationService
from llm_proxy.contracts.processors import ProcessedResponse
from llm_proxy.contracts.responses import StreamingResponseEnvelope
from llm_proxy.contracts.streaming import StreamingContent

# Provider → the format of its stream; anything else is taken for OpenAI chat.
_FORMATS = {"anthropic": "anthropic", "gemini": "gemini"}


async def integrate_streaming_pipeline(
    raw_stream: AsyncIterator[Any],
    provider: str,
    stream_id: str | None = None,
    enable_loop_detection: bool | None = None,
    enable_tool_call_repair: bool = True,
    enable_think_tags: bool = True,
    prompt_tokens: int | None = None,
    model_name: str | None = None,
    vtc_enabled: bool = False,
    yield_interval: int = 100,
    headers: Mapping[str, str] | None = None,
    domain_request: Any = None,
) -> StreamingResponseEnvelope:
    """The stream of `provider` as OpenAI chunks.

    Repair, loop detection and think tags are rings of the engine and apply to every backend alike;
    the switches are accepted and decide nothing here.
    """
    source = _FORMATS.get(provider, "openai")
    chunks = _chunks(raw_stream, source, TranslationService())
    return StreamingResponseEnvelope(content=chunks, headers=dict(headers or {}))


async def _chunks(
    raw_stream: AsyncIterator[Any], source: str, service: TranslationService
) -> AsyncIterator[ProcessedResponse]:
    try:
        async for item in raw_stream:
            piece = item.content if isinstance(item, ProcessedResponse) else item
            if isinstance(piece, StreamingContent):
                yield ProcessedResponse(piece.to_bytes(), usage=piece.usage)
            elif source == "openai":
                yield ProcessedResponse(piece)
            else:
                yield ProcessedResponse(service.to_domain_stream_chunk(piece, source))
    finally:
        close = getattr(raw_stream, "aclose", None)
        if callable(close):
            await close()
