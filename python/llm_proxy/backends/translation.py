"""`TranslationService`: between the proxy's own chat models and the wire formats of providers."""

from __future__ import annotations

import contextlib
import contextvars
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from llm_proxy._core import SseReader
from llm_proxy.backends import codecs
from llm_proxy.backends.lone_events import ends_reply, openings, terminator
from llm_proxy.backends.sse import begins_event, may_begin_event
from llm_proxy.contracts.chat import (
    CanonicalChatRequest,
    CanonicalChatResponse,
    CanonicalStreamChunk,
    ChatRequest,
)
from llm_proxy.contracts.exceptions import InvalidRequestError, TranslationError

Converter = Callable[..., Any]

# The names plugins use for a format → the codec behind it.
_CODEC_OF = {
    "openai": codecs.OPENAI,
    "openrouter": codecs.OPENAI,
    "anthropic": codecs.ANTHROPIC,
    "gemini": codecs.GEMINI,
    "code_assist": codecs.GEMINI,
    "responses": codecs.RESPONSES,
    "openai-responses": codecs.RESPONSES,
}
_RAW_TEXT = "raw_text"
_DONE = "[DONE]"
_FROM_REQUEST = frozenset({*_CODEC_OF, _RAW_TEXT})
_FROM_REPLY = _FROM_REQUEST - {"openrouter"}
_TO_WHOLE = frozenset({"gemini", "openai", "responses", "openai-responses", "anthropic"})
_TO_CHUNK = frozenset({"openai", "anthropic", "gemini"})

# Ours, or already said elsewhere in the request: never part of a provider's body.
_NOT_ON_THE_WIRE = frozenset(
    {"extra_body", "session_id", "agent", "system_prompt", "request_metadata", "vtc_enabled"}
    | {"streaming_loop_detection_enabled", "thinking_budget", "generation_config"}
)

_RequestFields = frozenset(ChatRequest.model_fields)


class UnknownFormatError(NotImplementedError):
    """A format that no converter is registered for.

    The base class is what the plugin contract names.
    """

    def __init__(self, direction: str, name: str, known: frozenset[str]) -> None:
        super().__init__(f"No converter {direction} '{name}'; known: {', '.join(sorted(known))}.")


class _Streams:
    """What streams have read but not yet translated, by source format.

    Of one running exchange; or `lone`: of a service that is used outside of any, in a script or a
    unit test, where nobody says that a stream has ended.
    """

    def __init__(self, lone: bool = False) -> None:
        self.lone = lone
        self.readers: dict[str, SseReader] = {}
        self.translators: dict[tuple[str, str], codecs.StreamTranslator] = {}
        self.told_end: set[str] = set()  # by codec: the finish was told ahead of the terminator

    def translator(self, source: str, target: str) -> codecs.StreamTranslator:
        if (source, target) not in self.translators:
            made = codecs.engine_codecs().stream_translator(source, target)
            self.translators[(source, target)] = made
        return self.translators[(source, target)]


_streams: contextvars.ContextVar[_Streams | None] = contextvars.ContextVar(
    "llm_proxy_translation_streams", default=None
)


def begin_exchange() -> None:
    """Forgets the rests of other streams: from here on the running task translates a stream of
    its own."""
    _streams.set(_Streams())


def end_exchange() -> list[dict[str, Any]]:
    """What the task's streams still had to say when they ended, as chunks of OpenAI chat.

    A format without a terminator tells its finish and its usage only now. A stream that was cut
    has nothing to say.
    """
    streams = _streams.get()
    if streams is None:
        return []
    out: list[dict[str, Any]] = []
    for (_, target), translator in streams.translators.items():
        if target != codecs.OPENAI:
            continue
        with contextlib.suppress(ValueError):
            out += [json.loads(data) for data in _chunk_data(translator.end())]
    streams.translators.clear()
    return out


class TranslationService:
    """Translates by name of format.

    One for all exchanges; the state of a stream belongs to the running exchange. Outside of any it
    belongs to the service, which then translates one stream of a format at a time.
    """

    def __init__(self, translator_registry: Any = None) -> None:
        self._registry = translator_registry
        self._converters: dict[tuple[str, str], Converter] = {}
        self._lone = _Streams(lone=True)

    @property
    def _streams(self) -> _Streams:
        return _streams.get() or self._lone

    def register_converter(self, direction: str, format: str, converter: Converter) -> None:
        """`direction`: request, response or stream, each with the prefix `to_domain_` or
        `from_domain_`."""
        self._converters[(direction, format)] = converter

    # Requests.

    def to_domain_request(self, request: Any, source_format: str) -> CanonicalChatRequest:
        if converter := self._converters.get(("to_domain_request", source_format)):
            converted: CanonicalChatRequest = converter(request)
            return converted
        if isinstance(request, CanonicalChatRequest):
            return request
        _expect(source_format, _FROM_REQUEST, "from")
        if source_format == _RAW_TEXT:
            message = {"role": "user", "content": _text_of(request)}
            return CanonicalChatRequest.model_validate({"model": "unknown", "messages": [message]})
        body = _plain(request)
        if source_format == "code_assist" and isinstance(body.get("request"), Mapping):
            body = {"model": body.get("model"), **body["request"]}
        return canonical_request(_request_to_openai(body, _CODEC_OF[source_format]))

    def from_domain_request(self, request: Any, target_format: str) -> dict[str, Any]:
        if converter := self._converters.get(("from_domain_request", target_format)):
            converted: dict[str, Any] = converter(request)
            return converted
        _expect(target_format, _TO_WHOLE | {"openrouter"}, "to")
        body = openai_request(request)
        codec = _CODEC_OF[target_format]
        if codec == codecs.OPENAI:
            return body
        return _translated(codecs.engine_codecs().translate_request, body, codecs.OPENAI, codec)

    # Whole replies.

    def to_domain_response(self, response: Any, source_format: str) -> CanonicalChatResponse:
        if converter := self._converters.get(("to_domain_response", source_format)):
            converted: CanonicalChatResponse = converter(response)
            return converted
        if isinstance(response, CanonicalChatResponse):
            return response
        _expect(source_format, _FROM_REPLY, "from")
        if source_format == _RAW_TEXT:
            return _completion_of_text(_text_of(response))
        body = _plain(response)
        if source_format == "code_assist":
            body = _of_code_assist(body)
        codec = _CODEC_OF[source_format]
        if codec != codecs.OPENAI:
            translate = codecs.engine_codecs().translate_reply
            body = _translated(translate, body, codec, codecs.OPENAI)
        return _completion(body)

    def from_domain_response(self, response: Any, target_format: str = "openai") -> dict[str, Any]:
        if converter := self._converters.get(("from_domain_response", target_format)):
            converted: dict[str, Any] = converter(response)
            return converted
        _expect(target_format, _TO_WHOLE, "to")
        body = _plain(response)
        codec = _CODEC_OF[target_format]
        if codec == codecs.OPENAI:
            return body
        return _translated(codecs.engine_codecs().translate_reply, body, codecs.OPENAI, codec)

    # Streams.

    def to_domain_stream_chunk(
        self, chunk: Any, source_format: str, target_format: str = "domain"
    ) -> Any:
        """One chunk for whatever was read: part of an event, one, or several.

        An unfinished event is kept for the stream's next call. `[DONE]` gives an empty chunk;
        what is no event of the format raises TranslationError. The chunk is a
        `CanonicalStreamChunk`, but a plain dict for Anthropic. Outside of an exchange the chunk of
        an event that says why the reply has ended tells the finish and the usage at once.
        """
        if converter := self._converters.get(("to_domain_stream", source_format)):
            return converter(chunk)
        if isinstance(chunk, CanonicalStreamChunk):
            return chunk
        _expect(source_format, _FROM_REPLY, "from")
        if source_format == _RAW_TEXT:
            return _chunk([{"choices": [_text_choice(_text_of(chunk))]}])
        codec = _CODEC_OF[source_format]
        streams = self._streams
        events = _events(chunk, source_format, streams)
        if codec == codecs.OPENAI:
            read = _chunk([_chunk_json(data) for _, data in events if data != _DONE])
            return read.as_last() if any(data == _DONE for _, data in events) else read
        translated = [data for event in events for data in _stream_step(event, codec, streams)]
        merged = _chunk([_chunk_json(data) for data in translated])
        return merged.model_dump() if source_format == "anthropic" else merged

    def from_domain_stream_chunk(
        self, chunk: Any, target_format: str, source_format: str = "domain"
    ) -> Any:
        """The chunk as one event of the format, a dict: where it becomes several (the opening of a
        message and of a block come before the first text) the one that says most. Empty: none."""
        if converter := self._converters.get(("from_domain_stream", target_format)):
            return converter(chunk)
        _expect(target_format, _TO_CHUNK, "to")
        body = _plain(chunk)
        codec = _CODEC_OF[target_format]
        if codec == codecs.OPENAI:
            return body
        streams, key = self._streams, (codecs.OPENAI, codec)
        frames = streams.translator(*key).event("", _json(body))
        if streams.lone and any(choice.get("finish_reason") for choice in body.get("choices", ())):
            frames += streams.translators.pop(key).end()
        return _main_event(frames)

    def end_of_stream(self, source_format: str) -> list[dict[str, Any]]:
        """What a stream still had to say when its body ended, as OpenAI chunks.

        Only of a format without a terminator. Nothing of one that was cut.
        """
        translator = self._streams.translators.pop((_CODEC_OF[source_format], codecs.OPENAI), None)
        if translator is None:
            return []
        try:
            return [json.loads(data) for data in _chunk_data(translator.end())]
        except ValueError:
            return []

    # The same by name.

    def from_domain_to_openai_request(self, request: Any) -> dict[str, Any]:
        return self.from_domain_request(request, "openai")

    def from_domain_to_anthropic_request(self, request: Any) -> dict[str, Any]:
        return self.from_domain_request(request, "anthropic")

    def from_domain_to_gemini_request(self, request: Any) -> dict[str, Any]:
        return self.from_domain_request(request, "gemini")

    def from_domain_to_responses_request(self, request: Any) -> dict[str, Any]:
        return self.from_domain_request(request, "responses")

    def from_domain_to_openai_response(self, response: Any) -> dict[str, Any]:
        return self.from_domain_response(response, "openai")

    def from_domain_to_anthropic_response(self, response: Any) -> dict[str, Any]:
        return self.from_domain_response(response, "anthropic")

    def from_domain_to_gemini_response(self, response: Any) -> dict[str, Any]:
        return self.from_domain_response(response, "gemini")

    def from_domain_to_responses_response(self, response: Any) -> dict[str, Any]:
        return self.from_domain_response(response, "responses")

    def from_domain_to_openai_stream_chunk(self, chunk: Any) -> Any:
        return self.from_domain_stream_chunk(chunk, "openai")

    def from_domain_to_anthropic_stream_chunk(self, chunk: Any) -> Any:
        return self.from_domain_stream_chunk(chunk, "anthropic")

    def from_domain_to_gemini_stream_chunk(self, chunk: Any) -> Any:
        return self.from_domain_stream_chunk(chunk, "gemini")

    # Structured output.

    def validate_json_against_schema(
        self, data: Any, schema: Mapping[str, Any]
    ) -> tuple[bool, str | None]:
        """Types, required keys, enums and nesting of `schema`; the first breach is named by its
        path."""
        breach = _schema_breach(data, schema, "$")
        return breach is None, breach

    def enhance_structured_output_response(
        self, response: Any, original_request_extra_body: Mapping[str, Any] | None = None
    ) -> Any:
        """The reply itself when its text already is the JSON that was asked for, without a code
        fence around it."""
        body = _plain(response)
        for choice in body.get("choices") or []:
            message = choice.get("message") or {}
            if isinstance(message.get("content"), str):
                message["content"] = _without_fence(message["content"])
        return type(response).model_validate(body) if isinstance(response, BaseModel) else body


def canonical_request(body: Mapping[str, Any]) -> CanonicalChatRequest:
    """An OpenAI chat body as model. Keys that the model does not name travel in `extra_body`."""
    known = {key: value for key, value in body.items() if key in _RequestFields}
    rest = {key: value for key, value in body.items() if key not in _RequestFields}
    known.setdefault("model", "unknown")
    if rest:
        known["extra_body"] = {**rest, **(known.get("extra_body") or {})}
    try:
        return CanonicalChatRequest.model_validate(known)
    except ValueError as error:
        raise InvalidRequestError(f"Invalid chat request: {_first_line(error)}") from error


def openai_request(request: Any) -> dict[str, Any]:
    """The body an OpenAI-compatible provider is sent: nothing that is unset, nothing that is
    ours."""
    dumped = _plain(request)
    body = {
        key: value
        for key, value in dumped.items()
        if value is not None and key not in _NOT_ON_THE_WIRE
    }
    if prompt := dumped.get("system_prompt"):
        body["messages"] = [{"role": "system", "content": prompt}, *body.get("messages", [])]
    body["messages"] = [_message(message) for message in body.get("messages", [])]
    if dumped.get("request_metadata"):
        body["metadata"] = dumped["request_metadata"]  # as Chat names it
    for key, value in (dumped.get("extra_body") or {}).items():
        if not key.startswith("_") and key != "model":
            body.setdefault(key, value)
    return body


def _message(message: Any) -> Any:
    plain = _plain(message) if not isinstance(message, dict) else message
    return {key: value for key, value in plain.items() if value is not None and key != "metadata"}


def _expect(name: str, known: frozenset[str], direction: str) -> None:
    if name not in known:
        raise UnknownFormatError(direction, name, known)


def _plain(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (str, bytes)):
        parsed = json.loads(value)
        if isinstance(parsed, dict):
            return parsed
    dump = getattr(value, "to_dict", None)
    if callable(dump):
        return dict(dump())
    raise TranslationError(f"{type(value).__name__} is no message of a known format")


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _translated(
    translate: Callable[[bytes, str, str], bytes], body: Mapping[str, Any], source: str, target: str
) -> dict[str, Any]:
    try:
        result: dict[str, Any] = json.loads(translate(_json(body), source, target))
    except ValueError as error:
        raise TranslationError(str(error)) from error
    return result


def _request_to_openai(body: Mapping[str, Any], codec: str) -> Mapping[str, Any]:
    if codec == codecs.OPENAI:
        return body
    return _translated(codecs.engine_codecs().translate_request, body, codec, codecs.OPENAI)


def _completion(body: Mapping[str, Any]) -> CanonicalChatResponse:
    filled = {
        **body,
        "id": body.get("id") or f"chatcmpl-{uuid.uuid4().hex}",
        "created": body.get("created") or int(time.time()),
        "model": body.get("model") or "unknown",
        "object": body.get("object") or "chat.completion",
        "choices": body.get("choices") or [],
    }
    try:
        return CanonicalChatResponse.model_validate(filled)
    except ValueError as error:
        raise TranslationError(f"Not a chat completion: {_first_line(error)}") from error


def _completion_of_text(text: str) -> CanonicalChatResponse:
    message = {"role": "assistant", "content": text}
    return _completion({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})


def _text_of(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else str(value)


def _events(chunk: Any, source_format: str, streams: _Streams) -> list[tuple[str, str]]:
    """The (name, data) of every event that `chunk` completes."""
    if isinstance(chunk, (str, bytes)):
        raw = chunk.encode() if isinstance(chunk, str) else chunk
        reader = streams.readers.setdefault(source_format, SseReader())
        if not reader.unfinished and _is_json_object(raw):
            events = [("", raw.decode("utf-8", "replace").strip())]
        else:
            events = _read(reader, raw)
        if source_format == "code_assist":
            return [(name, _json(_of_code_assist(_plain(data))).decode()) for name, data in events]
        return events
    body = _plain(chunk)
    if source_format == "code_assist":
        body = _of_code_assist(body)
    return [(str(body.get("type") or ""), _json(body).decode())]


def _of_code_assist(body: dict[str, Any]) -> dict[str, Any]:
    """The Gemini reply inside a Code Assist reply."""
    inner = body.get("response")
    return dict(inner) if isinstance(inner, Mapping) else body


def _read(reader: SseReader, raw: bytes) -> list[tuple[str, str]]:
    started = reader.unfinished
    events = reader.events(raw)
    if events or started or not raw.strip():
        return events
    if _line_is_whole(raw):
        return reader.rest_events()
    if not begins_event(raw) and not may_begin_event(raw):
        reader.rest_events()
        raise TranslationError(f"Invalid chunk format: {raw[:80]!r}")
    return events


def _line_is_whole(raw: bytes) -> bool:
    """A single `data:` line without its blank line, as `aiter_lines` gives it."""
    text = raw.strip()
    if not text.startswith(b"data:") or b"\n" in text:
        return False
    payload = text[len(b"data:") :].strip()
    return payload == _DONE.encode() or _is_json_object(payload)


def _is_json_object(raw: bytes) -> bool:
    text = raw.strip()
    if not text.startswith(b"{"):
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _chunk_json(data: str) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except ValueError as error:
        raise TranslationError(f"Invalid chunk format: {data[:80]!r}") from error
    if not isinstance(parsed, dict):
        raise TranslationError(f"Invalid chunk format: {data[:80]!r}")
    return parsed


def _text_choice(text: str) -> dict[str, Any]:
    return {"index": 0, "delta": {"content": text}, "finish_reason": None}


def _chunk(bodies: list[dict[str, Any]]) -> CanonicalStreamChunk:
    merged: dict[str, Any] = {}
    for body in bodies:
        _merge_chunk(merged, body)
    merged.setdefault("choices", [])
    for name, default in (
        ("id", ""),
        ("object", "chat.completion.chunk"),
        ("created", 0),
        ("model", ""),
    ):
        merged[name] = merged.get(name) or default
    try:
        return CanonicalStreamChunk.model_validate(merged)
    except ValueError as error:
        raise TranslationError(f"Invalid chunk format: {_first_line(error)}") from error


def _merge_chunk(into: dict[str, Any], body: Mapping[str, Any]) -> None:
    """Several chunks read at once become one: texts joined, tool call pieces side by side, the
    last of the rest."""
    choices = {choice.get("index", 0): choice for choice in into.get("choices", [])}
    for choice in body.get("choices") or []:
        index = choice.get("index", 0)
        held = choices.setdefault(index, {"index": index, "delta": {}, "finish_reason": None})
        held.update(
            {key: value for key, value in choice.items() if key != "delta" and value is not None}
        )
        for key, value in (choice.get("delta") or {}).items():
            joined = isinstance(value, (str, list)) and key not in ("role", "id")
            before = held["delta"].get(key)
            held["delta"][key] = before + value if joined and before else value or before
    into.update({key: value for key, value in body.items() if value is not None})
    into["choices"] = list(choices.values())


def _stream_step(event: tuple[str, str], codec: str, streams: _Streams) -> list[str]:
    """What one event becomes, as the data of OpenAI chunks."""
    key = (codec, codecs.OPENAI)
    parsed = json.loads(event[1]) if _is_json_object(event[1].encode()) else {}
    kind = parsed.get("type")
    if kind == "message_start":  # another stream, whatever became of the one before
        streams.translators.pop(key, None)
        streams.told_end.discard(codec)
    if kind == "message_stop" and codec in streams.told_end:
        return []
    try:
        try:
            out = _translate_event(event, parsed, codec, streams)
        except ValueError:
            if not streams.lone or key not in streams.translators:
                raise
            del streams.translators[key]  # an event that has nothing to do with the ones before it
            out = _translate_event(event, parsed, codec, streams)
        if streams.lone and key in streams.translators and ends_reply(parsed, codec):
            translator = streams.translators.pop(key)
            closing = terminator(codec)
            if closing is not None:
                out += translator.event(closing["type"], _json(closing))
            out += translator.end()
            streams.told_end.add(codec)
    except ValueError as error:
        raise TranslationError(str(error)) from error
    return _chunk_data(out)


def _translate_event(
    event: tuple[str, str], parsed: Mapping[str, Any], codec: str, streams: _Streams
) -> bytes:
    begins = (codec, codecs.OPENAI) not in streams.translators
    translator = streams.translator(codec, codecs.OPENAI)
    if begins and parsed:
        for before in openings(parsed, codec):
            translator.event(before["type"], _json(before))
    return translator.event(event[0], event[1].encode())


# What a chunk is about, the most telling first.
_TELLING = ("content_block_delta", "message_delta", "content_block_start", "message_stop")


def _main_event(frames: bytes) -> dict[str, Any]:
    events = [_chunk_json(data) for _, data in SseReader().events(frames)]
    rank = {kind: place for place, kind in enumerate(_TELLING)}
    return min(events, key=lambda e: rank.get(str(e.get("type")), len(rank)), default={})


def _chunk_data(frames: bytes) -> list[str]:
    """What the frames of a chat stream hold, without its terminator."""
    return [data for _, data in SseReader().events(frames) if data != _DONE]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split("\n")[1:3]).strip() or str(error)


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def _schema_breach(data: Any, schema: Mapping[str, Any], path: str) -> str | None:
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else list(wanted or [])
    allowed = tuple(kind for name in names for kind in _JSON_TYPES.get(name, ()))
    if allowed and (
        not isinstance(data, allowed) or (isinstance(data, bool) and bool not in allowed)
    ):
        return f"{path}: expected {' or '.join(names)}, found {type(data).__name__}"
    if "enum" in schema and data not in schema["enum"]:
        return f"{path}: not one of {schema['enum']}"
    if isinstance(data, dict):
        for name in schema.get("required", []):
            if name not in data:
                return f"{path}: '{name}' is missing"
        children = [
            (data[name], child, f"{path}.{name}")
            for name, child in (schema.get("properties") or {}).items()
            if name in data
        ]
    elif isinstance(data, list) and isinstance(schema.get("items"), Mapping):
        children = [(item, schema["items"], f"{path}[{at}]") for at, item in enumerate(data)]
    else:
        children = []
    breaches = (_schema_breach(*child) for child in children)
    return next((breach for breach in breaches if breach), None)


def _without_fence(text: str) -> str:
    stripped = text.strip()
    if not (stripped.startswith("```") and stripped.endswith("```")):
        return text
    inner = stripped[3:-3].split("\n", 1)[-1].strip()
    return inner if _is_json_object(inner.encode()) else text
