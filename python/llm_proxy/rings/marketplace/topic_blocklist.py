"""Refuses requests that touch listed topics."""

from __future__ import annotations

import re
from typing import Any

from llm_proxy.plugins.context import PluginContext
from llm_proxy.plugins.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.chat import messages_of, text_of

DEFAULT_TOPICS = (
    "how to make a bomb",
    "how to make explosives",
    "child sexual abuse material",
    "csam",
)


class TopicBlocklist(BasePlugin):
    name = "topic_blocklist"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 5

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.topics = list(self.config.get("topics", DEFAULT_TOPICS))
        self.action = self.config.get("action", "block")
        self.match_mode = self.config.get("match_mode", "keyword")
        self.scan_roles = frozenset(self.config.get("scan_roles", ["user"]))
        flags = 0 if self.config.get("case_sensitive", False) else re.IGNORECASE
        self.patterns: list[tuple[str, re.Pattern[str]]] = []
        for topic in self.topics:
            try:
                self.patterns.append((topic, re.compile(self._expression(str(topic)), flags)))
            except re.error as error:
                self.logger.warning("Topic %r is no regular expression: %s", topic, error)

    def _expression(self, topic: str) -> str:
        if self.match_mode == "regex":
            return topic
        escaped = re.escape(topic)
        return rf"\b{escaped}\b" if self.match_mode == "whole_word" else escaped

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        text = "\n".join(
            text_of(message.get("content"))
            for message in messages_of(ctx.body)
            if message.get("role") in self.scan_roles
        )
        topic = next((topic for topic, pattern in self.patterns if pattern.search(text)), None)
        if topic is None:
            return PluginResponse.passthrough()
        if self.action == "block":
            return PluginResponse.block(400, "topic_blocked", f"Blocked topic: {topic}")
        self.logger.warning("A request touches the topic %r.", topic)
        return PluginResponse.passthrough()

    async def on_unload(self) -> None:
        self.patterns.clear()
