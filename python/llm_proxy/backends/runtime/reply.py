"""Whatever a backend returns, as OpenAI chat: one JSON body, or whole server-sent frames."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from llm_proxy._core import ChatFrames, SseReader
from llm_proxy.backends.runtime.failure import BUG
from llm_proxy.backends.sse import begins_event, may_begin_event
from llm_proxy.backends.translation import end_exchange
from llm_proxy.backends.upstream import RelayedChunk
from llm_proxy.contracts.chat import CanonicalStreamChunk
from llm_proxy.contracts.exceptions import BackendError, json_safe
from llm_proxy.contracts.processors import ProcessedResponse
from llm_proxy.contracts.responses import (
    ResponseEnvelope,
    StreamingResponseEnvelope,
    StreamingResponseHandle,
)
from llm_proxy.contracts.usage import UsageSummary

DONE = b"data: [DONE]\n\n"

# Set by whoever writes to the client, never by a backend.
_FRAMING_HEADERS = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "date", "keep-alive"}
    | {"proxy-authenticate", "proxy-connection", "server", "set-cookie", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")

# Of a stream that is made one reply, for a client that wants it whole.
MAX_WHOLE_BYTES = 64 * 1024 * 1024

Envelope = ResponseEnvelope | StreamingResponseEnvelope


def misuse(what: str) -> BackendError:
    """What a backend gave is nothing the contract knows: its author's mistake, for the log."""
    return BackendError(what, status_code=500, code=BUG)


def as_envelope(reply: Any) -> Envelope:
    """The envelope around a reply in any of the shapes that backends return."""
    if isinstance(reply, (ResponseEnvelope, StreamingResponseEnvelope)):
        return reply
    if isinstance(reply, StreamingResponseHandle):
        return StreamingResponseEnvelope(
            content=reply.iterator, headers=reply.headers, cancel_callback=reply.cancel_callback
        )
    if isinstance(reply, ProcessedResponse):
        return ResponseEnvelope(reply.content, usage=reply.usage, metadata=reply.metadata)
    if isinstance(reply, tuple) and reply and isinstance(reply[0], Mapping):
        return ResponseEnvelope(dict(reply[0]))
    if hasattr(reply, "__aiter__"):
        return StreamingResponseEnvelope(content=reply)
    if reply is None:
        raise misuse("the backend returned nothing")
    return ResponseEnvelope(reply)


def reply_headers(headers: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What of a backend's headers may reach the client."""
    return [
        (str(name).lower(), str(value))
        for name, value in (headers or {}).items()
        if str(name).lower() not in _FRAMING_HEADERS
    ]


def plain(content: Any) -> Any:
    """A domain model, a usage-carrying dict subclass or a dataclass-like content as plain JSON
    values."""
    for name in ("to_plain_dict", "to_chunk", "model_dump", "to_dict"):
        dump = getattr(content, name, None)
        if callable(dump):
            return dump()
    return content


def usage_dict(usage: Any) -> dict[str, Any] | None:
    """Counts in Chat's own spelling; None when there are none."""
    if usage is None:
        return None
    summary = usage if isinstance(usage, UsageSummary) else UsageSummary.from_dict(plain(usage))
    if summary.prompt_tokens is None and summary.completion_tokens is None:
        return None
    counts = {name: getattr(summary, name) or 0 for name in _COUNTS}
    return {**counts, **summary.extensions}


def completion(envelope: ResponseEnvelope, model: str) -> dict[str, Any]:
    """The `chat.completion` of a whole reply."""
    content = plain(envelope.content)
    if isinstance(content, (bytes, bytearray)):
        content = bytes(content).decode("utf-8", "replace")
    if isinstance(content, str):
        content = _json_object(content) or _completion_of_text(content)
    if not isinstance(content, Mapping):
        raise misuse(f"its reply is {type(content).__name__}, not a chat completion")
    if "choices" not in content and "error" not in content:
        raise BackendError("The backend's reply has no choices.", code="garbled_reply")
    made_up = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "usage": usage_dict(envelope.usage),
    }
    said = {key: value for key, value in content.items() if value or key not in made_up}
    body = {**made_up, **said}
    return {key: value for key, value in body.items() if value is not None or key != "usage"}


def encode(body: Mapping[str, Any]) -> bytes:
    return json.dumps(json_safe(body), ensure_ascii=False, separators=(",", ":")).encode()


def frame(body: Mapping[str, Any]) -> bytes:
    return b"data: " + encode(body) + b"\n\n"


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        parsed = json.loads(text)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


def _completion_of_text(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


class ChatStream:
    """The frames of one streamed reply, made of whatever the backend yields.

    Text and bytes that are server-sent events pass as they came, cut at frame edges. Dicts and
    models become one frame each; other text becomes a chunk with that text. `finish` adds the
    terminator where the backend ended well without one, and raises where it did not.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._frames = ChatFrames(self._id, self._created, model)  # and what they have said
        self._reader = SseReader()
        self._relays = False
        self._done = False
        self._ended = False  # the upstream's terminator was seen
        self._failed = False
        self._usage: dict[str, Any] | None = None

    def feed(self, item: Any) -> bytes:
        content = item
        if type(item) is RelayedChunk and item.untouched and not self._done:
            self._note(item.body)
            return item.frame
        if isinstance(item, ProcessedResponse):
            content = item.content
            if item.usage is not None:
                self._usage = usage_dict(item.usage) or self._usage
        if self._done:
            return b""
        if type(content) is dict and (plain_chunk := self._frames.frame(content)) is not None:
            return plain_chunk
        if isinstance(content, (bytes, bytearray)):
            return self._text(bytes(content), may_begin_event(bytes(content)))
        if isinstance(content, str):
            return self._text(content.encode("utf-8", "replace"), False)
        if content is None:
            return b""
        if isinstance(content, CanonicalStreamChunk):
            self._relays = True
            self._ended = self._ended or content.ends_stream
        return self._body(_streamed(content))

    def finish(self) -> bytes:
        """What the stream still lacks to end well. Raises BackendError when it was cut."""
        out = self._relay(self._reader.rest_frames())
        if self._done or self._failed:
            return out
        out += b"".join(map(self._body, end_exchange()))
        if self._relays and not (self._frames.finished or self._ended):
            raise BackendError("The backend's stream ended before its end.", code="stream_cut")
        if not self._frames.finished:
            reason = "tool_calls" if self._frames.called_tools else "stop"
            out += self._chunk({}, reason)
        if self._usage and not self._frames.counted:
            out += frame({**self._envelope(), "choices": [], "usage": self._usage})
        self._done = True
        return out + DONE

    def _text(self, raw: bytes, cut: bool) -> bytes:
        if cut or self._reader.unfinished or begins_event(raw):
            self._relays = True
            return self._relay(self._reader.frames(raw))
        if not raw.strip() and self._relays:
            return self._relay(self._reader.frames(raw))
        text = raw.decode("utf-8", "replace")
        body = _json_object(text)
        if body is not None and ("choices" in body or "error" in body):
            return self._body(body)
        return self._chunk({"content": text}) if text else b""

    def _relay(self, frames: list[tuple[bytes, str]]) -> bytes:
        return b"".join(self._frame(raw, data) for raw, data in frames)

    def _frame(self, raw: bytes, data: str) -> bytes:
        """A frame that the backend wrote. Noted in passing: has it ended, did it count."""
        if self._done:
            return b""
        if data.strip() == "[DONE]":
            self._ended = True
            return self.finish()
        body = _json_object(data)
        if body is None:
            raise BackendError("The backend's stream holds what is no chunk.", code="garbled_reply")
        self._note(body)
        return raw

    def _body(self, body: dict[str, Any]) -> bytes:
        self._note(body)
        if "error" in body and "choices" not in body:
            return frame(body)
        choices = body.get("choices")
        if not isinstance(choices, list):
            raise BackendError("The backend's chunk has no choices.", code="garbled_reply")
        if choices and "message" in choices[0] and "delta" not in choices[0]:
            return b"".join(self.feed(chunk) for chunk in completion_chunks(body))
        if not choices and not body.get("usage"):
            return b""
        return frame({**self._envelope(), **{k: v for k, v in body.items() if v not in (None, "")}})

    def _note(self, body: Mapping[str, Any]) -> None:
        self._failed = self._failed or "error" in body
        seen = self._frames
        seen.counted = seen.counted or bool(body.get("usage"))
        for choice in body.get("choices") or []:
            if isinstance(choice, Mapping):
                seen.finished = seen.finished or bool(choice.get("finish_reason"))
                delta = choice.get("delta")
                if isinstance(delta, Mapping) and delta.get("tool_calls"):
                    seen.called_tools = True

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return frame({**self._envelope(), "choices": [choice]})

    def _envelope(self) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }


def _streamed(content: Any) -> dict[str, Any]:
    """A chunk of any type as an OpenAI chunk."""
    body = plain(content)
    if not isinstance(body, Mapping):
        raise misuse(f"it yielded {type(content).__name__}, not a chunk")
    if "choices" in body or "error" in body or "content" not in body:
        return dict(body)
    text = body.get("content")
    if isinstance(text, Mapping):
        return dict(text)
    delta = {"content": text, "tool_calls": body.get("tool_calls")}
    choice = {
        "index": 0,
        "delta": {key: value for key, value in delta.items() if value},
        "finish_reason": body.get("finish_reason"),
    }
    return {"choices": [choice], "model": body.get("model"), "usage": body.get("usage")}


def completion_chunks(body: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """A whole completion as the chunks of a stream."""
    shared = {key: body[key] for key in ("id", "created", "model") if body.get(key)}
    shared["object"] = "chat.completion.chunk"
    for choice in body.get("choices") or []:
        index = choice.get("index", 0)
        message = {key: value for key, value in choice.get("message", {}).items() if value}
        if isinstance(message.get("tool_calls"), list):
            calls = enumerate(message["tool_calls"])
            message["tool_calls"] = [{"index": at, **call} for at, call in calls]
        delta = {"role": "assistant", **message}
        yield {**shared, "choices": [{"index": index, "delta": delta, "finish_reason": None}]}
        ending = choice.get("finish_reason") or "stop"
        yield {**shared, "choices": [{"index": index, "delta": {}, "finish_reason": ending}]}
    if body.get("usage"):
        yield {**shared, "choices": [], "usage": body["usage"]}


async def folded(envelope: StreamingResponseEnvelope, model: str) -> dict[str, Any]:
    """A stream as the whole completion it amounts to, for a client that did not ask for a
    stream."""
    stream = ChatStream(model)
    fold = _Fold()
    size = 0
    async for item in chunks_of(envelope):
        frames = stream.feed(item)
        size += len(frames)
        if size > MAX_WHOLE_BYTES:
            raise BackendError("The backend's stream is too long for one reply.", code="too_long")
        fold.add(frames)
    fold.add(stream.finish())
    return fold.completion(model)


async def chunks_of(envelope: StreamingResponseEnvelope) -> AsyncIterator[Any]:
    if envelope.content is not None:
        async for item in envelope.content:
            yield item


class _Fold:
    """Joins chunks by choice and tool call index."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._calls: dict[tuple[int, int], dict[str, Any]] = {}
        self._usage: Any = None

    def add(self, frames: bytes) -> None:
        for _, data in SseReader().events(frames):
            if data == "[DONE]":
                continue
            body = json.loads(data)
            if "error" in body:
                raise stream_error(body["error"])
            self._head = self._head or body
            self._usage = body.get("usage") or self._usage
            for choice in body.get("choices") or []:
                self._add_choice(choice)

    def _add_choice(self, choice: Mapping[str, Any]) -> None:
        index = choice.get("index", 0)
        message = {"role": "assistant", "content": None}
        held = self._choices.setdefault(
            index, {"index": index, "message": message, "finish_reason": None}
        )
        held["finish_reason"] = choice.get("finish_reason") or held["finish_reason"]
        for key, value in (choice.get("delta") or {}).items():
            if key == "tool_calls":
                for call in value or []:
                    self._add_call(index, call)
            elif isinstance(value, str) and key != "role":
                held["message"][key] = (held["message"].get(key) or "") + value
            elif value is not None:
                held["message"][key] = value

    def _add_call(self, choice: int, piece: Mapping[str, Any]) -> None:
        empty = {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._calls.setdefault((choice, piece.get("index", 0)), empty)
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function") or {}
        call["function"]["name"] = function.get("name") or call["function"]["name"]
        call["function"]["arguments"] += function.get("arguments") or ""

    def completion(self, model: str) -> dict[str, Any]:
        for (choice, _), call in sorted(self._calls.items()):
            self._choices[choice]["message"].setdefault("tool_calls", []).append(call)
        return completion(
            ResponseEnvelope(
                {
                    "id": self._head.get("id"),
                    "created": self._head.get("created"),
                    "model": self._head.get("model"),
                    "choices": [self._choices[index] for index in sorted(self._choices)],
                },
                usage=self._usage,
            ),
            model,
        )


def stream_error(error: Any) -> BackendError:
    """An error object found inside a reply, as exception."""
    if not isinstance(error, Mapping):
        return BackendError(str(error))
    code = error.get("code")
    return BackendError(
        str(error.get("message") or "The backend reported an error."),
        code=None if code is None else str(code),
    )
