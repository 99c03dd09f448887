"""Built-in plugins, loaded from a manifest and run by the engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llm_proxy import _core
from llm_proxy.rings.context import PluginContext, Reply
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.sdk import PluginHook
from llm_proxy.rings.services.host import Rotator


def completion(content: Any, **message: Any) -> dict[str, Any]:
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": content, **message},
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


class Bench:
    """One manager whose plugins a test names; runs rings on contexts of its own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.manager = PluginManager(directory)

    async def load(self, **plugins: dict[str, Any]) -> None:
        rows = [{"name": name, "config": config} for name, config in plugins.items()]
        (self._directory / "manifest.yaml").write_text(json.dumps({"plugins": rows}))
        self.manager.bind(_core.Lane(asyncio.get_running_loop()))
        await self.manager.load_plugins()
        for meta in self.manager.list_plugins():
            assert not meta["enabled"] or meta["loaded"], meta["problem"]

    def instance(self, name: str) -> Any:
        return next(e.instance for e in self.manager.generation.entries if e.name == name)

    def context(self, body: dict[str, Any], **metadata: Any) -> PluginContext:
        tenant = metadata.get("api_key", "tenant")
        facade = Rotator(self.manager.services, tenant)
        return PluginContext(
            body=body,
            metadata={"rotator": facade, **metadata},
            session_id=metadata.get("session", "s"),
            state=self.manager.state,
        )

    async def request(self, ctx: PluginContext) -> PluginContext:
        for hook in (PluginHook.INGRESS, PluginHook.PRE_FLIGHT, PluginHook.ROUTING):
            await self.manager.execute_ring(hook, ctx)
            if ctx.stop_chain:
                break
        return ctx

    async def reply(self, ctx: PluginContext, body: Any, status: int = 200) -> PluginContext:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        ctx.response = Reply(raw, status)
        ctx.metadata["_status"] = status
        for hook in (PluginHook.POST_FLIGHT, PluginHook.BACKGROUND):
            await self.manager.execute_ring(hook, ctx)
            if ctx.stop_chain:
                break
        return ctx


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.manager.generation.unload()
    await made.manager.close()
