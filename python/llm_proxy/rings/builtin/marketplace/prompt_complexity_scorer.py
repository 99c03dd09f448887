"""Scores how demanding a prompt is, for the plugins after it."""

from __future__ import annotations

import re
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import messages_of, text_of

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_INSTRUCTIONS = re.compile(
    r"\b(?:explain|analyze|compare|implement|write|create|design|build|refactor|debug|optimize"
    r"|summarize|translate|list|describe|calculate|step \d|first|second|third|finally|must|should"
    r"|ensure)\b",
    re.IGNORECASE,
)


class PromptComplexityScorer(BasePlugin):
    name = "prompt_complexity_scorer"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 5

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        defaults = {"depth": 0.3, "turns": 0.2, "code": 0.25, "instruction": 0.25}
        self.weights = {
            signal: float(self.config.get(f"{signal}_weight", weight))
            for signal, weight in defaults.items()
        }

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        messages = messages_of(ctx.body)
        text = "\n".join(text_of(message.get("content")) for message in messages)
        signals = dict.fromkeys(self.weights, 0.0)
        if text:
            code = sum(len(hit[0]) for hit in _CODE.finditer(text))
            signals = {
                "depth": min(1.0, len(text) / 6000),
                "turns": min(1.0, max(0.0, (len(messages) - 1) / 9)),
                "code": min(1.0, 2 * code / len(text)),
                "instruction": min(1.0, len(_INSTRUCTIONS.findall(text)) / 10),
            }
        weighed = sum(self.weights[signal] * value for signal, value in signals.items())
        score = round(min(1.0, max(0.0, weighed)), 3)
        tier = "simple" if score < 0.3 else "moderate" if score < 0.7 else "complex"
        ctx.metadata["_prompt_complexity"] = score
        ctx.metadata["_complexity_tier"] = tier
        ctx.metadata["_complexity_signals"] = {k: round(v, 3) for k, v in signals.items()}
        return PluginResponse.passthrough()
