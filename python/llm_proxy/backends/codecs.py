"""The engine's codecs as Python calls them: text of one wire format in, text of another out.

There is no second translator: everything but OpenAI chat itself is done by `llm_proxy._core`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

OPENAI = "openai-chat"
ANTHROPIC = "anthropic-messages"
GEMINI = "gemini-generate"
RESPONSES = "openai-responses"


class StreamTranslator(Protocol):
    """Translates one stream. Events of the source in, whole frames of the target out."""

    def event(self, name: str, data: bytes) -> bytes: ...

    def end(self) -> bytes:
        """What the target needs to end well.

        Raises ValueError when the source's terminator was not seen.
        """
        ...


class Codecs(Protocol):
    """The part of `llm_proxy._core` used here. Raises ValueError, whose text is for the client."""

    def translate_request(self, body: bytes, source: str, target: str) -> bytes: ...

    def translate_reply(self, body: bytes, source: str, target: str) -> bytes: ...

    def stream_translator(self, source: str, target: str) -> StreamTranslator: ...


def engine_codecs() -> Codecs:
    return cast(Codecs, import_module("llm_proxy._core"))
