"""Notices when an answer gives the system prompt away."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import messages_of, reply_json, reply_messages, text_of


def leaked_share(secret: str, answer: str) -> tuple[float, str]:
    """How much of `secret` stands in `answer`, and how it was found: each word counts once."""
    secret, answer = secret.lower(), answer.lower()
    if secret in answer:
        return 1.0, "full_match"
    words, spoken = secret.split(), answer.split()
    if len(words) < 6:
        return 0.0, "none"
    size = min(8, len(words) // 2)
    heard = {tuple(spoken[i : i + size]) for i in range(len(spoken) - size + 1)}
    leaked: set[int] = set()
    for at in range(len(words) - size + 1):
        if tuple(words[at : at + size]) in heard:
            leaked.update(range(at, at + size))
    return len(leaked) / len(words), "window" if leaked else "none"


class CanaryDetector(BasePlugin):
    name = "canary_detector"
    hook = PluginHook.POST_FLIGHT
    version = "1.0.0"
    timeout_ms = 5

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.min_chars = int(self.config.get("min_leak_chars", 50))
        self.threshold = float(self.config.get("similarity_threshold", 0.6))
        self.block_on_leak = bool(self.config.get("block_on_leak", False))
        self._checked = 0
        self._leaks = 0

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        texts = [text_of(message.get("content")) for message in reply_messages(reply_json(ctx))]
        answer = "\n".join(text for text in texts if text)
        if not answer or ctx.metadata.get("_cache_status") == "HIT":
            return PluginResponse.passthrough()
        roles = ("system", "developer")
        secret = "\n".join(
            text_of(m.get("content")) for m in messages_of(ctx.body) if m.get("role") in roles
        ).strip()
        if len(secret) < self.min_chars:
            return PluginResponse.passthrough()
        self._checked += 1
        ratio, method = leaked_share(secret, answer)
        leak = ratio >= self.threshold
        ctx.metadata["_canary_leak"] = leak
        ctx.metadata["_canary_ratio"] = round(ratio, 3)
        ctx.metadata["_canary_method"] = method
        if not leak:
            return PluginResponse.passthrough()
        self._leaks += 1
        if self.block_on_leak:
            message = "The answer would have disclosed the system prompt"
            return PluginResponse.block(403, "system_prompt_leak", message)
        self.logger.warning("An answer discloses %.0f%% of the system prompt.", ratio * 100)
        return PluginResponse.passthrough()

    def get_stats(self) -> dict[str, Any]:
        return {
            "total_checked": self._checked,
            "leaks_detected": self._leaks,
            "leak_rate": self._leaks / self._checked if self._checked else 0.0,
        }
