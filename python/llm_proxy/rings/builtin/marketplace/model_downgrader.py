"""Sends simple prompts to a cheaper model."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse

DEFAULT_MAP = {
    "gpt-4": "gpt-3.5-turbo",
    "gpt-4-turbo": "gpt-3.5-turbo",
    "gpt-4-0125-preview": "gpt-3.5-turbo",
    "gpt-4o": "gpt-4o-mini",
    "claude-3-opus-20240229": "claude-3-haiku-20240307",
    "claude-3-5-sonnet-20241022": "claude-3-haiku-20240307",
    "claude-sonnet-4-20250514": "claude-haiku-4-5-20251001",
    "claude-opus-4-20250514": "claude-sonnet-4-20250514",
}


class ModelDowngrader(BasePlugin):
    name = "model_downgrader"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.threshold = float(self.config.get("complexity_threshold", 0.3))
        self.map = dict(self.config.get("downgrade_map", DEFAULT_MAP))
        self._checked = 0
        self._downgraded = 0

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        self._checked += 1
        score = ctx.metadata.get("_prompt_complexity")
        model = ctx.body.get("model")
        target = self.map.get(model) if isinstance(model, str) else None
        if score is None or score >= self.threshold or not target:
            return PluginResponse.passthrough()
        self._downgraded += 1
        ctx.metadata["_original_model"] = model
        ctx.metadata["_downgraded_to"] = target
        ctx.metadata["_downgrade_reason"] = f"complexity={score:.3f}<{self.threshold}"
        ctx.body["model"] = target
        return PluginResponse.modify(ctx.body, f"Downgraded {model} to {target}")

    def get_stats(self) -> dict[str, Any]:
        return {
            "total_checked": self._checked,
            "total_downgraded": self._downgraded,
            "downgrade_rate": self._downgraded / self._checked if self._checked else 0.0,
        }
