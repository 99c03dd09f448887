"""Which models a login may use. Code Assist has no list: what is known is offered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_proxy.backends.gemini_oauth.config import DEFAULT_AVAILABLE_MODELS


class FallbackModelDiscovery:
    def __init__(self, fallback_models: Sequence[str] | None = None, *args: Any, **kw: Any) -> None:
        self._models = list(fallback_models or DEFAULT_AVAILABLE_MODELS)

    async def discover(self, *args: Any, **kwargs: Any) -> list[str]:
        return self.get_fallback_models()

    def get_fallback_models(self) -> list[str]:
        return list(self._models)
