"""Adds up the tokens and costs that providers report."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import usage_of
from llm_proxy.rings.services.pricing import estimate_cost


class TokenCounter(BasePlugin):
    name = "token_counter"
    hook = PluginHook.BACKGROUND
    version = "1.0.0"
    timeout_ms = 5

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self._requests = self._input = self._output = 0
        self._cost = 0.0

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        metadata = ctx.metadata
        tokens = None if metadata.get("_cache_status") == "HIT" else usage_of(ctx)
        if tokens is None:
            return PluginResponse.passthrough()
        cost = estimate_cost(str(metadata.get("_model") or ctx.body.get("model") or ""), *tokens)
        self._requests += 1
        self._input += tokens[0]
        self._output += tokens[1]
        self._cost += cost
        metadata["_actual_tokens_in"], metadata["_actual_tokens_out"] = tokens
        metadata["_actual_cost_usd"] = round(cost, 6)
        estimated = metadata.get("_estimated_cost_usd")
        if estimated is not None:
            metadata["_cost_delta_usd"] = round(cost - estimated, 6)
        return PluginResponse.passthrough()

    def get_stats(self) -> dict[str, Any]:
        total = self._input + self._output
        return {
            "requests_counted": self._requests,
            "total_input_tokens": self._input,
            "total_output_tokens": self._output,
            "total_cost_usd": round(self._cost, 6),
            "avg_tokens_per_request": total / self._requests if self._requests else 0.0,
        }
