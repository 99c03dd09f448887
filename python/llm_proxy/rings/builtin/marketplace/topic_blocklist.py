"""Refuses requests that touch listed topics."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import messages_of, text_pieces

ALL = "all"  # among the roles: every one, also those that nobody has heard of
DEFAULT_TOPICS = (
    "how to make a bomb",
    "how to make explosives",
    "child sexual abuse material",
    "csam",
)


# Letters without a width that are no format characters to Unicode: fillers and joiners.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)


def seen(text: str) -> str:
    """A text as a reader sees it: no letters without a width, one spelling for each letter."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", _UNSEEN.sub("", text))
    return "".join(c for c in text if unicodedata.category(c) != "Cf")


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
        self.scan_roles = frozenset(self.config.get("scan_roles") or [ALL])
        flags = 0 if self.config.get("case_sensitive", False) else re.IGNORECASE
        self.patterns: list[tuple[str, re.Pattern[str]]] = []
        for topic in self.topics:
            try:
                self.patterns.append((topic, re.compile(self._expression(seen(str(topic))), flags)))
            except re.error as error:
                self.logger.warning("Topic %r is no regular expression: %s", topic, error)

    def _expression(self, topic: str) -> str:
        if self.match_mode == "regex":
            return topic
        escaped = re.escape(topic)
        return rf"\b{escaped}\b" if self.match_mode == "whole_word" else escaped

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        texts = tuple(self._texts(ctx))
        topic = next(
            (topic for topic, pattern in self.patterns if any(map(pattern.search, texts))), None
        )
        if topic is None:
            return PluginResponse.passthrough()
        if self.action == "block":
            return PluginResponse.block(400, "topic_blocked", f"Blocked topic: {topic}")
        self.logger.warning("A request touches the topic %r.", topic)
        return PluginResponse.passthrough()

    def _texts(self, ctx: PluginContext) -> Iterator[str]:
        """All that is said, as it stands and with every gap as one blank; messages in pieces also
        without the gaps between their pieces."""
        messages = [
            [seen(piece) for piece in text_pieces(message)]
            for message in messages_of(ctx.body)
            if ALL in self.scan_roles or message.get("role") in self.scan_roles
        ]
        whole = "\n".join("\n".join(pieces) for pieces in messages)
        yield whole
        yield " ".join(whole.split())
        yield from (" ".join("".join(p).split()) for p in messages if len(p) > 1)

    async def on_unload(self) -> None:
        self.patterns.clear()
