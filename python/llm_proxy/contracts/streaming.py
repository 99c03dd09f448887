"""Pieces of streams in the forms that connectors pass among themselves."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_proxy.contracts.chat import CanonicalStreamChunk
from llm_proxy.contracts.exceptions import LLMProxyError, json_safe


class UsageChunkLeakError(RuntimeError):
    """A chunk that carries usage was about to become text by accident."""


class StopChunkWithUsage(dict[str, Any]):
    """The last chunk with its usage.

    Becomes text only where that is meant: after `allow_stringify`.
    """

    _stringify = False

    def allow_stringify(self) -> StopChunkWithUsage:
        self._stringify = True
        return self

    def __str__(self) -> str:
        self._guard()
        return json.dumps(self.to_plain_dict())

    def __repr__(self) -> str:
        """Safe in logs and tracebacks: the names of its fields, not their values."""
        return f"<{type(self).__name__} {sorted(map(str, self))}>"

    def items(self) -> Any:
        if sys._getframe(1).f_globals.get("__name__") == "json.encoder":
            self._guard()  # json knows no other way to ask a dict what it says as text
        return super().items()

    def _guard(self) -> None:
        if not self._stringify:
            raise UsageChunkLeakError("a usage chunk must not be turned into text here")

    def to_plain_dict(self) -> dict[str, Any]:
        return dict(self)

    def safe_json_dumps(self, **kwargs: Any) -> str:
        return json.dumps(self.to_plain_dict(), **kwargs)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StopChunkWithUsage:
        return cls(data)

    @classmethod
    def wrap(cls, data: Mapping[str, Any]) -> StopChunkWithUsage:
        return data if isinstance(data, cls) else cls(data)


@dataclass
class StreamingContent:
    """One piece of a stream: text or an OpenAI chunk, and whether it is the last."""

    content: Any = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    is_done: bool = False
    is_empty: bool | None = None
    stream_id: str | None = None
    is_cancellation: bool = False
    usage: dict[str, Any] | None = None
    raw_data: Any = None

    def __post_init__(self) -> None:
        if self.is_empty is None:
            self.is_empty = not self.content and not self.metadata and not self.is_done

    def to_dict(self) -> dict[str, Any]:
        """Its fields; `from_dict` makes an equal piece of them."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def to_chunk(self) -> dict[str, Any]:
        """The OpenAI chunk of this piece."""
        if isinstance(self.content, Mapping) and "choices" in self.content:
            return dict(self.content)
        delta = {"content": self.content} if self.content else {}
        reason = self.metadata.get("finish_reason") or ("stop" if self.is_done else None)
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {
            "id": self.metadata.get("id") or self.stream_id or "",
            "object": "chat.completion.chunk",
            "created": self.metadata.get("created") or 0,
            "model": self.metadata.get("model") or "",
            "choices": [choice],
        }
        return {**chunk, "usage": self.usage} if self.usage else chunk

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StreamingContent:
        """Of `to_dict`, or of an OpenAI chunk."""
        if "choices" not in data and data.keys() & cls.__dataclass_fields__.keys():
            return cls(**{key: data[key] for key in cls.__dataclass_fields__ if key in data})
        choice: Mapping[str, Any] = next(iter(data.get("choices") or []), {})
        reason = choice.get("finish_reason")
        named = {key: data[key] for key in ("id", "model", "created") if data.get(key)}
        return cls(
            content=dict(data),
            metadata={**named, **({"finish_reason": reason} if reason else {})},
            is_done=bool(reason),
            usage=data.get("usage"),
            raw_data=data,
        )

    def to_bytes(self) -> bytes:
        """As server-sent events."""
        if self.is_done and not self.content and not self.usage:
            return b"data: [DONE]\n\n"
        return f"data: {json.dumps(json_safe(self.to_chunk()), ensure_ascii=False)}\n\n".encode()

    @classmethod
    def from_raw(cls, raw: Any) -> StreamingContent:
        """A piece of whatever an upstream sent: a frame, JSON text, a dict, or plain text."""
        if isinstance(raw, StreamingContent):
            return raw
        if isinstance(raw, Mapping):
            return cls.from_dict(raw)
        text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
        payload = _data_of(text) if text.startswith(("data:", "event:")) else text
        if payload.strip() == "[DONE]":
            return cls(is_done=True, raw_data=raw)
        try:
            parsed = json.loads(payload)
        except ValueError:
            return cls(content=payload, raw_data=raw)
        return cls.from_dict(parsed) if isinstance(parsed, dict) else cls(payload, raw_data=raw)

    def to_typed_chunk(self) -> CanonicalStreamChunk:
        return CanonicalStreamChunk.model_validate(self.to_chunk())

    @classmethod
    def from_typed_chunk(cls, chunk: CanonicalStreamChunk) -> StreamingContent:
        return cls.from_dict(chunk.model_dump())


class StreamingErrorMapper:
    """An exception as the error object of a stream."""

    @staticmethod
    def map(error: BaseException) -> dict[str, Any]:
        if isinstance(error, LLMProxyError):
            return error.to_dict()
        return {"error": {"message": str(error), "type": type(error).__name__}}


def handle_streaming_error(error: BaseException) -> bytes:
    """The server-sent event that tells of an error in a stream."""
    return f"data: {json.dumps(StreamingErrorMapper.map(error), ensure_ascii=False)}\n\n".encode()


def _data_of(frame: str) -> str:
    """What one server-sent event says; the frame itself where it says nothing."""
    lines = [line[5:].removeprefix(" ") for line in frame.split("\n") if line.startswith("data:")]
    return "\n".join(lines) if lines else frame
