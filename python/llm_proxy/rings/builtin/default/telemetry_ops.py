"""Counts what a request used and cost."""

from __future__ import annotations

import logging
import time

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.services.chat import reply_text, usage_of
from llm_proxy.rings.services.pricing import estimate_cost
from llm_proxy.rings.services.tokenizer import count_messages_tokens, count_tokens

logger = logging.getLogger("llm_proxy.telemetry")


async def record(ctx: PluginContext) -> None:
    model = str(ctx.metadata.get("_model") or ctx.body.get("model") or "")
    tokens = usage_of(ctx)
    if tokens is None:
        asked = count_messages_tokens(ctx.body.get("messages"), model)
        tokens = asked, count_tokens(reply_text(ctx) or "", model)
    ctx.metadata["metrics"] = {
        "timestamp": time.time(),
        "tokens_in": tokens[0],
        "tokens_out": tokens[1],
        "cost_usd": round(estimate_cost(model, *tokens), 8),
        "model": model,
    }
    logger.debug("%s: %s", ctx.metadata.get("req_id"), ctx.metadata["metrics"])
