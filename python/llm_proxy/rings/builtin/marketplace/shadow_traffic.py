"""Asks a second model the same, for comparison; no client waits for it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import generates, messages_of, reply_messages, text_of
from llm_proxy.rings.services.host import SHADOW_HEADER

MAX_UNDER_WAY = 16


class ShadowTraffic(BasePlugin):
    name = "shadow_traffic"
    hook = PluginHook.BACKGROUND
    version = "1.0.0"
    timeout_ms = 50

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.model = str(self.config.get("shadow_model") or "")
        self.provider = str(self.config.get("shadow_provider") or "")
        self.sample_rate = float(self.config.get("sample_rate", 0.05))
        self.store_responses = bool(self.config.get("store_responses", True))
        self._running: set[asyncio.Task[None]] = set()
        self._sent = self._failed = self._skipped = 0

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        rotator = ctx.metadata.get("rotator")
        send = getattr(rotator, "send", None)
        if (
            not self.model
            or send is None
            or not generates(ctx)
            or random.random() >= self.sample_rate
        ):
            return PluginResponse.passthrough()
        if ctx.request is not None and SHADOW_HEADER in ctx.request.headers:
            return PluginResponse.passthrough()  # a shadow casts none
        if len(self._running) >= MAX_UNDER_WAY:
            self._skipped += 1
            return PluginResponse.passthrough()
        target = f"{self.provider}:{self.model}" if self.provider else self.model
        body = {key: value for key, value in ctx.body.items() if not key.startswith("_")}
        body = {**body, "model": target, "stream": False}
        body.pop("stream_options", None)
        store = ctx.state.extra.get("store") if ctx.state is not None else None
        task = asyncio.get_running_loop().create_task(self._ask(ctx, body, send, store))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return PluginResponse.passthrough()

    async def _ask(self, ctx: PluginContext, body: dict[str, Any], send: Any, store: Any) -> None:
        began = time.perf_counter()
        record: dict[str, Any] = {
            "timestamp": time.time(),
            "session_id": ctx.session_id,
            "original_model": ctx.metadata.get("_model_alias") or ctx.body.get("model"),
            "shadow_model": body["model"],
        }
        try:
            reply = await send(body)
        except Exception as error:
            self._failed += 1
            record["error"] = str(error)
            self.logger.warning("A shadow request failed: %s", error)
        else:
            self._sent += 1
            record["usage"] = reply.get("usage")
            if self.store_responses:
                asked = messages_of(body)
                record["prompt_preview"] = text_of(asked[-1].get("content"))[:200] if asked else ""
                record["response"] = [text_of(m.get("content")) for m in reply_messages(reply)]
        record["latency_ms"] = round((time.perf_counter() - began) * 1000, 2)
        if store is not None:
            number = (self._sent + self._failed) % 1000  # the last thousand are kept
            await store.set_state(f"shadow:{number}", record)

    def get_stats(self) -> dict[str, Any]:
        return {"sent": self._sent, "failed": self._failed, "skipped": self._skipped}

    async def on_unload(self) -> None:
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
