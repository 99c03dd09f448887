"""`Translation`: the translations of `TranslationService` under one static name each."""

from __future__ import annotations

from typing import Any

from llm_proxy.backends.translation import TranslationService

_service = TranslationService()
_FORMATS = ("openai", "anthropic", "gemini", "responses", "openrouter", "code_assist", "raw_text")


class Translation:
    """`Translation.gemini_to_domain_request(body)` and its like.

    For each format X: `X_to_domain_request`, `X_to_domain_response`, `X_to_domain_stream_chunk`;
    `from_domain_to_X_request`, `..._response` and, for the three of them, `..._stream_chunk`.
    Raises what `TranslationService` raises; thread-safe.
    """

    validate_json_against_schema = staticmethod(_service.validate_json_against_schema)
    enhance_structured_output_response = staticmethod(_service.enhance_structured_output_response)


def _reader(kind: str, source: str) -> Any:
    def read(value: Any) -> Any:
        return getattr(_service, f"to_domain_{kind}")(value, source)

    return staticmethod(read)


for _format in _FORMATS:
    for _kind in ("request", "response", "stream_chunk"):
        setattr(Translation, f"{_format}_to_domain_{_kind}", _reader(_kind, _format))
for _name in dir(_service):
    if _name.startswith("from_domain_to_"):
        setattr(Translation, _name, staticmethod(getattr(_service, _name)))
