"""Refuses prompts that cannot fit into the model's context window."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.tokenizer import count_messages_tokens

DEFAULT_WINDOWS = {
    "gpt-4": 8192,
    "gpt-4-turbo": 128_000,
    "gpt-4o": 128_000,
    "gpt-4.1": 1_047_576,
    "gpt-5": 400_000,
    "gpt-3.5-turbo": 16_385,
    "o1": 200_000,
    "o3": 200_000,
    "o4": 200_000,
    "claude-": 200_000,
    "gemini-": 1_048_576,
}


class ContextWindowGuard(BasePlugin):
    name = "context_window_guard"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.margin = float(self.config.get("safety_margin", 0.9))
        self.windows = {**DEFAULT_WINDOWS, **(self.config.get("model_windows") or {})}
        self._prefixes = sorted(self.windows, key=len, reverse=True)

    def window_of(self, model: str) -> int | None:
        """By name, else by its longest known beginning; None: not known, not judged."""
        bare = model.rpartition(":")[2].rpartition("/")[2]
        for name in (model, bare):
            if name in self.windows:
                return int(self.windows[name])
        known = next((prefix for prefix in self._prefixes if bare.startswith(prefix)), None)
        return None if known is None else int(self.windows[known])

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        model = ctx.body.get("model")
        if not isinstance(model, str) or not model:
            return PluginResponse.passthrough()
        tokens = count_messages_tokens(ctx.body.get("messages"), model)
        window = self.window_of(model)
        ctx.metadata["_estimated_total_tokens"] = tokens
        if window is None:
            return PluginResponse.passthrough()
        ctx.metadata["_context_window_usage"] = round(tokens / window, 4)
        if tokens <= int(window * self.margin):
            return PluginResponse.passthrough()
        message = f"About {tokens} tokens do not fit into the {window} of '{model}'"
        return PluginResponse.block(413, "context_window_exceeded", message)
