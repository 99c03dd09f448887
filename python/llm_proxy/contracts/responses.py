"""The envelopes in which a backend answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from llm_proxy.contracts.exceptions import json_safe
from llm_proxy.contracts.processors import ProcessedResponse
from llm_proxy.contracts.usage import CanonicalUsageRecord, UsageSummary

CancelCallback = Callable[[], Awaitable[None]]

_FIELD_STARTS = ("data:", "event:", "id:", "retry:", ":")
_REASONING_ALIASES = ("reasoning", "thinking", "thought")


@dataclass
class ResponseEnvelope:
    """A whole reply: an OpenAI `chat.completion` as dict, JSON text or bytes."""

    content: Any
    headers: dict[str, str] | None = None
    status_code: int = 200
    media_type: str = "application/json"
    usage: UsageSummary | dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    canonical_usage: CanonicalUsageRecord | None = None


@dataclass
class StreamingResponseHandle:
    """A running stream and how to end it early."""

    iterator: AsyncIterator[Any]
    cancel_callback: CancelCallback | None = None
    headers: dict[str, str] | None = None


@dataclass
class StreamingResponseEnvelope:
    """A streamed reply. `cancel_callback` is awaited when the client goes before the stream
    ends."""

    content: AsyncIterator[Any] | None = None
    media_type: str = "text/event-stream"
    headers: dict[str, str] | None = None
    status_code: int = 200
    cancel_callback: CancelCallback | None = None
    metadata: dict[str, Any] | None = None
    canonical_usage: CanonicalUsageRecord | None = None

    @property
    def body_iterator(self) -> AsyncIterator[bytes]:
        """The stream as the bytes of its media type."""
        return _body(self.content, self.media_type)


async def _body(content: AsyncIterator[Any] | None, media_type: str) -> AsyncIterator[bytes]:
    if content is None:
        return
    encode = _event if media_type.startswith("text/event-stream") else _plain
    async for item in content:
        yield encode(item.content if isinstance(item, ProcessedResponse) else item)


def _plain(content: Any) -> bytes:
    if isinstance(content, (bytes, bytearray)):
        return bytes(content)
    if isinstance(content, str):
        return content.encode()
    return json.dumps(json_safe(_unwrapped(content)), ensure_ascii=False).encode()


def _event(content: Any) -> bytes:
    """`content` as one server-sent event.

    None and empty bytes have their own, odd, spelling that clients know.
    """
    if isinstance(content, (bytes, bytearray)):
        text = bytes(content).decode("utf-8", errors="replace")
    elif isinstance(content, str):
        text = content
    elif content is None:
        text = "None"
    else:
        shown = _with_reasoning_aliases(_unwrapped(content))
        text = json.dumps(json_safe(shown), ensure_ascii=False)
    if text.startswith(_FIELD_STARTS):
        return text.encode()
    lines = text.splitlines() or [""]
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode()


def _unwrapped(content: Any) -> Any:
    for name in ("to_chunk", "model_dump", "to_dict"):
        dump = getattr(content, name, None)
        if callable(dump):
            return dump()
    return content


def _with_reasoning_aliases(chunk: Any) -> Any:
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
        return chunk
    return {**chunk, "choices": [_aliased_choice(choice) for choice in chunk["choices"]]}


def _aliased_choice(choice: Any) -> Any:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or delta.get("reasoning_content") is None:
        return choice
    text = delta["reasoning_content"]
    return {**choice, "delta": {**delta, **dict.fromkeys(_REASONING_ALIASES, text)}}
