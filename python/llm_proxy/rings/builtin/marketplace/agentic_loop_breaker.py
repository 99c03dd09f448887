"""Stops an agent that asks the same again and again."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict, deque
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import generates, messages_of, text_of

_MAX_SESSIONS = 10_000


class AgenticLoopBreaker(BasePlugin):
    name = "agentic_loop_breaker"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 10

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.max_repeats = int(self.config.get("max_repeats", 3))
        self.window = float(self.config.get("window_seconds", 120))
        self.hash_messages = int(self.config.get("hash_messages", 3))
        self._seen: OrderedDict[str, deque[tuple[float, str]]] = OrderedDict()

    def _fingerprint(self, messages: list[dict[str, Any]]) -> str:
        digest = hashlib.sha256()
        for message in messages[-self.hash_messages :]:
            text = f"{message.get('role')}:{text_of(message.get('content')).strip()}|"
            if message.get("tool_calls") or message.get("tool_call_id"):
                calls = [message.get("tool_calls"), message.get("tool_call_id")]
                text += json.dumps(calls, sort_keys=True, default=str)
            digest.update(text.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()[:16]

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        messages = messages_of(ctx.body)
        if not messages or not generates(ctx):
            return PluginResponse.passthrough()
        who = ctx.session_id
        seen = self._seen.setdefault(who, deque())
        self._seen.move_to_end(who)
        if len(self._seen) > _MAX_SESSIONS:
            self._seen.popitem(last=False)
        now = time.monotonic()
        while seen and seen[0][0] <= now - self.window:
            seen.popleft()
        mark = self._fingerprint(messages)
        if sum(known == mark for _, known in seen) >= self.max_repeats:
            seen.clear()
            return PluginResponse.block(
                429,
                "agentic_loop_detected",
                f"The same request came more than {self.max_repeats} times "
                f"in {self.window:g} seconds",
            )
        seen.append((now, mark))
        return PluginResponse.passthrough()

    async def on_unload(self) -> None:
        self._seen.clear()
