"""Compares what requests take with what was promised."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse


def _percentiles(samples: deque[float]) -> dict[str, float]:
    ordered = sorted(samples)
    if not ordered:
        return {"p50": 0.0, "p95": 0.0, "p99": 0.0}
    last = len(ordered) - 1
    return {f"p{q}": round(ordered[min(len(ordered) * q // 100, last)], 2) for q in (50, 95, 99)}


class LatencySlaGuard(BasePlugin):
    name = "latency_sla_guard"
    hook = PluginHook.POST_FLIGHT
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.ttft_p95 = float(self.config.get("ttft_p95_ms", 500))
        self.total_p95 = float(self.config.get("total_p95_ms", 3000))
        self.hard_limit = float(self.config.get("hard_limit_ms", 10_000))
        window = int(self.config.get("window_size", 500))
        self._ttfts: deque[float] = deque(maxlen=window)
        self._totals: deque[float] = deque(maxlen=window)
        self._count = {"ok": 0, "warning": 0, "breach": 0}

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        metadata = ctx.metadata
        if metadata.get("_cache_status") == "HIT":
            metadata["_sla_status"] = "cached"
            return PluginResponse.passthrough()
        start, first = metadata.get("_request_start_time"), metadata.get("_ttft_time")
        if metadata.get("duration") is not None:
            total = float(metadata["duration"]) * 1000
        else:
            total = (time.time() - start) * 1000 if start else 0.0
        self._totals.append(total)
        metadata["_latency_ms"] = round(total, 2)
        violations = []
        status = "ok"
        if total > self.hard_limit:
            status = "breach"
            violations.append(f"total>{self.hard_limit:g}ms(hard)")
        elif total > self.total_p95:
            status = "warning"
            violations.append(f"total>{self.total_p95:g}ms(P95)")
        if start and first:
            ttft = (first - start) * 1000
            self._ttfts.append(ttft)
            metadata["_ttft_ms"] = round(ttft, 2)
            if ttft > self.ttft_p95:
                status = "warning" if status == "ok" else status
                violations.append(f"ttft>{self.ttft_p95:g}ms(P95)")
        self._count[status] += 1
        metadata["_sla_status"] = status
        metadata["_sla_violations"] = violations
        return PluginResponse.passthrough()

    def get_sla_stats(self) -> dict[str, Any]:
        total = sum(self._count.values())
        return {
            "total_requests": total,
            "sla_warnings": self._count["warning"],
            "sla_breaches": self._count["breach"],
            "breach_rate": self._count["breach"] / total if total else 0.0,
            "ttft_percentiles": _percentiles(self._ttfts),
            "total_percentiles": _percentiles(self._totals),
            "targets": {
                "ttft_p95_ms": self.ttft_p95,
                "total_p95_ms": self.total_p95,
                "hard_limit_ms": self.hard_limit,
            },
        }
