"""Sends a share of the traffic to another model."""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse

STICKY_SECONDS = 3600.0
_MAX_SESSIONS = 50_000


class ABModelRouter(BasePlugin):
    name = "ab_model_router"
    hook = PluginHook.ROUTING
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.control = str(self.config.get("control_model") or "")
        self.variant = str(self.config.get("variant_model") or "")
        self.split = float(self.config.get("split_pct", 0.1))
        self.sticky = bool(self.config.get("sticky", True))
        self.experiment = str(self.config.get("experiment_id", "ab_test"))
        self._arms: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def _arm(self, session: str) -> str:
        now = time.monotonic()
        while self._arms and next(iter(self._arms.values()))[0] <= now - STICKY_SECONDS:
            self._arms.popitem(last=False)
        if self.sticky and session in self._arms:
            return self._arms[session][1]
        arm = "variant" if random.random() < self.split else "control"
        if self.sticky:
            self._arms[session] = (now, arm)
            if len(self._arms) > _MAX_SESSIONS:
                self._arms.popitem(last=False)
        return arm

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        model = ctx.body.get("model")
        if not self.control or not self.variant:
            return PluginResponse.passthrough()
        if model and model not in (self.control, self.variant):
            return PluginResponse.passthrough()
        arm = self._arm(ctx.session_id)
        note = {
            "experiment_id": self.experiment,
            "arm": arm,
            "control": self.control,
            "variant": self.variant,
        }
        ctx.body["model"] = self.variant if arm == "variant" else self.control
        ctx.body["_ab_meta"] = note  # a note: the engine sends no such key upstream
        ctx.metadata["_ab_meta"] = note
        return PluginResponse.modify(ctx.body)
