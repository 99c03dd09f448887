"""One subclass of each base class. Each adds a header and a limit of its own, and nothing else."""

from __future__ import annotations

from typing import Any

from src.connectors.anthropic import AnthropicBackend
from src.connectors.gemini import GeminiBackend
from src.connectors.openai import OpenAIConnector

LIMIT = 777


class TunedOpenAI(OpenAIConnector):
    backend_type: str = "tuned-openai"

    def get_headers(self, identity: Any = None) -> dict[str, str]:
        return {**super().get_headers(identity), "X-Tuned": "yes"}

    async def _prepare_payload(self, *args: Any, **kwargs: Any) -> Any:
        payload = await super()._prepare_payload(*args, **kwargs)
        payload["max_tokens"] = min(payload.get("max_tokens") or LIMIT, LIMIT)
        return payload


class TunedAnthropic(AnthropicBackend):
    backend_type: str = "tuned-anthropic"

    def _get_headers(self, identity: Any = None) -> dict[str, str]:
        return {**super()._get_headers(identity), "X-Tuned": "yes"}

    def _prepare_anthropic_payload(self, *args: Any, **kwargs: Any) -> Any:
        payload = super()._prepare_anthropic_payload(*args, **kwargs)
        payload["max_tokens"] = min(payload["max_tokens"], LIMIT)
        return payload


class TunedGemini(GeminiBackend):
    backend_type: str = "tuned-gemini"

    def _get_headers(self, identity: Any = None) -> dict[str, str]:
        return {**super()._get_headers(identity), "X-Tuned": "yes"}

    def _prepare_gemini_payload(self, *args: Any, **kwargs: Any) -> Any:
        payload = super()._prepare_gemini_payload(*args, **kwargs)
        limits = payload.setdefault("generationConfig", {})
        limits["maxOutputTokens"] = min(limits.get("maxOutputTokens") or LIMIT, LIMIT)
        return payload
