"""Puts the operator's system prompt into every conversation."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import operation_of


def _is_system(message: Any) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


class SystemPromptEnforcer(BasePlugin):
    name = "system_prompt_enforcer"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.prompt = str(self.config.get("prompt") or "")
        self.mode = self.config.get("mode", "prepend")
        self.skip_if_empty = bool(self.config.get("skip_if_empty", False))

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        # Embeddings have no instructions; a stored request has them already.
        if not self.prompt or operation_of(ctx) in ("embeddings", "stored"):
            return PluginResponse.passthrough()
        body, ours = ctx.body, {"role": "system", "content": self.prompt}
        messages = body.get("messages")
        if not messages or not isinstance(messages, list):
            if self.skip_if_empty:
                return PluginResponse.passthrough()
            body["messages"] = [ours]
            return PluginResponse.modify(body, "System prompt set")
        theirs = [message for message in messages if _is_system(message)]
        others = [message for message in messages if not _is_system(message)]
        if self.mode == "replace":
            body["messages"] = [ours, *others]
        elif self.mode == "append":
            body["messages"] = [*theirs, *others, ours]
        else:
            first = next((i for i, message in enumerate(messages) if _is_system(message)), 0)
            body["messages"] = [*messages[:first], ours, *messages[first:]]
        return PluginResponse.modify(body, f"System prompt enforced ({self.mode})")
