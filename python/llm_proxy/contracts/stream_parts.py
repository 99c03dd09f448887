"""A streamed piece with names for its parts, for plugins that would rather not read dicts."""

from __future__ import annotations

from typing import Any

from llm_proxy.contracts.model_bases import DomainModel


class StreamingUsage(DomainModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class StreamingErrorInfo(DomainModel):
    message: str
    type: str | None = None
    code: str | None = None
    status_code: int | None = None


class StreamingMetadata(DomainModel):
    id: str | None = None
    model: str | None = None
    created: int | None = None
    provider: str | None = None
    finish_reason: str | None = None


class StreamingPayload(DomainModel):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class StreamingChunk(DomainModel):
    """One piece: what was said, what is known about it, and whether it is the last."""

    payload: StreamingPayload | None = None
    metadata: StreamingMetadata | None = None
    usage: StreamingUsage | None = None
    error: StreamingErrorInfo | None = None
    is_done: bool = False
