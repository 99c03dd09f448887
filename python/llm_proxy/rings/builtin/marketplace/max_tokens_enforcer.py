"""Keeps the length of answers under a ceiling."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import generates

_KEYS = ("max_tokens", "max_completion_tokens")


class MaxTokensEnforcer(BasePlugin):
    name = "max_tokens_enforcer"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 1

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.ceiling = int(self.config.get("ceiling", 4096))
        self.inject_default = bool(self.config.get("inject_default", False))
        self.log_clamp = bool(self.config.get("log_clamp", True))

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        body = ctx.body
        asked = {key: body[key] for key in _KEYS if body.get(key) is not None}
        if not asked:
            if not self.inject_default or not generates(ctx):
                return PluginResponse.passthrough()
            body["max_tokens"] = self.ceiling
            return PluginResponse.modify(body, f"max_tokens set to {self.ceiling}")
        over = {key: n for key, n in asked.items() if type(n) in (int, float) and n > self.ceiling}
        if not over:
            return PluginResponse.passthrough()
        body.update(dict.fromkeys(over, self.ceiling))
        message = ", ".join(f"{key} {n} -> {self.ceiling}" for key, n in over.items())
        if self.log_clamp:
            self.logger.info("Clamped %s", message)
        return PluginResponse.modify(body, f"Clamped {message}")
