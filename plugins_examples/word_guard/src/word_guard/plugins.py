from __future__ import annotations

from typing import Any

from core.plugin_engine import PluginContext
from core.plugin_sdk import BasePlugin, PluginHook, PluginResponse


class WordGuard(BasePlugin):
    """Refuses requests whose last message holds one of the configured words."""

    name = "word_guard"
    hook = PluginHook.PRE_FLIGHT
    version = "0.1.0"
    timeout_ms = 10

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.words = [word.lower() for word in self.config.get("words", ["open sesame"])]

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        messages = ctx.body.get("messages") or [{}]
        text = str(messages[-1].get("content")).lower()
        if any(word in text for word in self.words):
            return PluginResponse.block(403, "forbidden_word", "This request holds a refused word.")
        return PluginResponse.passthrough()


replies = 0


async def count_replies(ctx: PluginContext) -> None:
    global replies
    replies += 1
    ctx.metadata["reply_number"] = replies


count_replies.hook = PluginHook.POST_FLIGHT  # type: ignore[attr-defined]
