"""So many requests a minute, by tenant and model."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import operation_of

DEFAULT_LIMITS = {
    "gpt-4": 20,
    "gpt-4-turbo": 20,
    "gpt-4o": 30,
    "gpt-4o-mini": 120,
    "gpt-3.5-turbo": 120,
    "claude-3-opus-20240229": 15,
    "claude-sonnet-4-20250514": 30,
    "claude-opus-4-20250514": 15,
    "claude-haiku-4-5-20251001": 120,
}
_MAX_WINDOWS = 50_000


class ModelRateLimiter(BasePlugin):
    name = "model_rate_limiter"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.default_rpm = int(self.config.get("default_rpm", 60))
        self.window = float(self.config.get("window_seconds", 60))
        self.limits = dict(self.config.get("model_limits", DEFAULT_LIMITS))
        self._windows: OrderedDict[tuple[str, str], deque[float]] = OrderedDict()
        self._checked = 0
        self._limited = 0

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        model = ctx.body.get("model")
        if not isinstance(model, str) or not model or operation_of(ctx) == "stored":
            return PluginResponse.passthrough()
        self._checked += 1
        key = (str(ctx.metadata.get("api_key") or ctx.session_id), model)
        times = self._windows.setdefault(key, deque())
        self._windows.move_to_end(key)
        if len(self._windows) > _MAX_WINDOWS:
            self._windows.popitem(last=False)
        now = time.monotonic()
        while times and times[0] <= now - self.window:
            times.popleft()
        limit = int(self.limits.get(model, self.default_rpm))
        if len(times) >= limit:
            self._limited += 1
            ctx.metadata["_rate_limited_model"] = model
            ctx.metadata["_rate_limit_rpm"] = limit
            wait = math.ceil(times[0] + self.window - now) if times else math.ceil(self.window)
            message = f"Rate limit of {limit} requests for '{model}'; retry in {wait} seconds"
            return PluginResponse.block(429, "model_rate_limited", message)
        times.append(now)
        ctx.metadata["_model_rpm_used"] = len(times)
        ctx.metadata["_model_rpm_limit"] = limit
        return PluginResponse.passthrough()

    def get_stats(self) -> dict[str, Any]:
        return {
            "total_checked": self._checked,
            "total_limited": self._limited,
            "active_windows": len(self._windows),
            "limit_rate": self._limited / self._checked if self._checked else 0.0,
        }
