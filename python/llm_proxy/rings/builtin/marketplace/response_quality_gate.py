"""Judges an answer by its looks: empty, short, refused, apologetic, cut."""

from __future__ import annotations

import re
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import calls_tools, messages_of, reply_text, text_of

_REFUSALS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bI (?:cannot|can['’]t|am unable to|['’]m unable to|will not|won['’]t)\b",
        r"\bas an AI\b",
        r"\bI(?:['’]m| am) (?:just )?(?:a language model|an AI|an assistant|a virtual assistant)\b",
        r"\bI (?:do not|don['’]t) have (?:the )?(?:ability|access)\b",
        r"\bsorry,? (?:but )?I (?:cannot|can['’]t)\b",
        r"\bnot (?:able|allowed|permitted) to\b",
        r"\b(?:outside|beyond) my (?:scope|capabilities)\b",
        r"\bI (?:must |have to )?(?:decline|refuse)\b",
    )
]
_APOLOGY = re.compile(r"\b(?:I(?:['’]m| am) sorry|I apologi[sz]e|my apologies)\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]+(?:\s|$)")
_ENDINGS = tuple(".!?:;\"')]}`。！？।…»”")


class ResponseQualityGate(BasePlugin):
    name = "response_quality_gate"
    hook = PluginHook.POST_FLIGHT
    version = "1.0.0"
    timeout_ms = 5

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.min_length = int(self.config.get("min_length", 20))
        self.refusal_threshold = int(self.config.get("refusal_threshold", 2))
        self.check_truncation = bool(self.config.get("check_truncation", True))

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        metadata = ctx.metadata
        if metadata.get("_cache_status") == "HIT":
            self._note(metadata, 1.0, "cached", [])
            return PluginResponse.passthrough()
        text = reply_text(ctx)
        if text is None or calls_tools(ctx):  # a tool call needs no words
            return PluginResponse.passthrough()
        issues = self._issues(text.strip(), messages_of(ctx.body))
        if not issues:
            self._note(metadata, 1.0, "ok", issues)
        elif "empty_response" in issues:
            self._note(metadata, 0.0, "failed", issues)
        elif "safety_refusal" in issues:
            self._note(metadata, 0.2, "refused", issues)
        else:
            self._note(metadata, 0.5, "degraded", issues)
        return PluginResponse.passthrough()

    @staticmethod
    def _note(metadata: dict[str, Any], score: float, status: str, issues: list[str]) -> None:
        metadata["_quality_score"] = score
        metadata["_quality_status"] = status
        metadata["_quality_issues"] = issues

    def _issues(self, text: str, messages: list[dict[str, Any]]) -> list[str]:
        if not text:
            return ["empty_response"]
        asked = text_of(messages[-1].get("content")) if messages else ""
        issues = []
        if len(asked) >= 10 and len(text) < self.min_length:
            issues.append("too_short")
        if sum(bool(p.search(text)) for p in _REFUSALS) >= self.refusal_threshold:
            issues.append("safety_refusal")
        if _APOLOGY.search(text) and len(_SENTENCE_END.findall(text)) <= 2:
            issues.append("apology_only")
        if self.check_truncation and len(text) >= 50 and not text.endswith(_ENDINGS):
            issues.append("truncated")
        return issues
