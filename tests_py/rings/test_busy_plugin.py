"""A plugin that computes for a second costs those who wait for it, and nobody else anything."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from e2e.conftest import program
from rings.test_all_at_once import CHAT

BUSY = """
import time
from core.plugin_sdk import BasePlugin, PluginResponse

class Busy(BasePlugin):
    timeout_ms = 20
    async def execute(self, ctx):
        if ctx.body.get("user") == "busy":
            until = time.monotonic() + 1.0
            while time.monotonic() < until:
                pass
        return PluginResponse.passthrough()
"""


@pytest.mark.parametrize(("policy", "status"), [("open", 200), ("closed", 504)])
async def test_a_second_of_computing_delays_only_those_who_wait_for_it(
    policy: str, status: int, tmp_path: Path
) -> None:
    (tmp_path / "busy.py").write_text(BUSY)
    row = {"name": "it", "hook": "pre_flight", "entrypoint": "busy:Busy", "fail_policy": policy}
    (tmp_path / "manifest.yaml").write_text(json.dumps({"plugins": [row]}))
    settings = {"LLM_BACKEND": "echo", "LLM_PROXY_PLUGINS_DIR": str(tmp_path)}
    now = asyncio.get_running_loop().time
    async with (
        program(environment=settings, folder=tmp_path) as proxy,
        httpx.AsyncClient(trust_env=False, base_url=proxy.url, timeout=20) as http,
    ):
        await http.get("/api/v1/plugins/stats")  # the application is there
        began = now()
        asked = asyncio.create_task(
            http.post("/v1/chat/completions", json={**CHAT, "user": "busy"})
        )
        waits = []
        while not asked.done():
            sent = now()
            assert (await http.get("/health")).status_code == 200
            waits.append(now() - sent)
        answer = await asked
        took = now() - began
        assert answer.status_code == status, answer.text
        assert ("plugin_timeout" in answer.text) is (status == 504)
        # The plugin is interrupted: after its limit, a grace and a margin.
        assert 0.5 < took < 3, took
        assert sorted(waits)[len(waits) // 2] < 0.05, waits
        while True:  # until the plugin is through, and counted
            stats = (await http.get("/api/v1/plugins/stats")).json()["it"]
            if stats["timeouts"]:
                break
            await asyncio.sleep(0.01)
        assert stats["errors"] == 1
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
