"""Thousands of requests over providers that fail at random: each ends in time, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import time
from collections import Counter
from pathlib import Path

import httpx

import planted
from e2e.answers import TEXT, chat_stream
from e2e.conftest import QUIET
from e2e.upstream import Close, Received, Reply, Reset, Upstream, answering, error, stream, whole
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot

REQUESTS = int(os.environ.get("LLM_PROXY_FLAPPING_REQUESTS", "1500"))
AT_ONCE = 24
BUDGET = 6.0  # seconds, the proxy's own for one request


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_flapping_upstream_costs_no_request_its_end(tmp_path: Path) -> None:
    dice, files = random.Random(7), open_files()
    said = list(chat_stream(TEXT))
    good = answering(TEXT)

    def flap(request: Received) -> Reply:
        if dice.random() < 0.85:
            return good(request)
        return dice.choice(
            (
                error(500, "api_error", "oops"),
                error(503, "api_error", "down", ("retry-after-ms", "40")),
                error(429, "rate_limit_error", "slow", ("retry-after-ms", "30")),
                error(529, "overloaded_error", "busy"),
                Reply(raw=b""),
                Reply(raw=b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"),
                whole(b"<html>"),
                stream([*said[:3], Reset()]),
                stream([*said[: len(said) // 2], Close()]),
                Reply(silent=True),
            )
        )

    async with Upstream(flap) as first, Upstream(flap) as second, Upstream(flap) as third:
        config = {
            "backends": {
                name: {
                    "type": "openai-compatible",
                    "api_url": upstream.url,
                    "api_key": [planted.key(f"{name}-{i}") for i in range(3)],
                }
                for name, upstream in (("a", first), ("b", second), ("c", third))
            },
            "failover_routes": {"route": {"elements": ["a:m", "b:m", "c:m"]}},
            "failure_handling": {"total_timeout_budget": BUDGET, "max_silent_wait": 0.2},
            "timeouts": {"first_byte": 0.25, "stream_idle": 0.25, "connect": 1},
        }
        file = tmp_path / "proxy.yaml"
        file.write_text(json.dumps(config))
        async with make_server(
            snapshot(load(Sources(environment=QUIET, config_file=file)))
        ) as server:
            url = f"http://127.0.0.1:{server.port}"
            outcomes: Counter[str] = Counter()
            slowest = 0.0
            left = iter(range(REQUESTS))

            async def client() -> None:
                nonlocal slowest
                async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                    for number in left:
                        body = {"model": "route", "messages": [{"role": "user", "content": "x"}]}
                        if number % 2:
                            body["stream"] = True
                        began = time.monotonic()
                        try:
                            got = await http.post("/v1/chat/completions", json=body)
                            whole_reply = got.content.endswith((b"}", b"[DONE]\n\n"))
                            assert whole_reply or number % 2, got.content
                            outcomes[str(got.status_code)] += 1
                        except httpx.RemoteProtocolError:
                            outcomes["cut"] += 1  # after its first output
                        slowest = max(slowest, time.monotonic() - began)

            await asyncio.gather(*(client() for _ in range(AT_ONCE)))
            assert sum(outcomes.values()) == REQUESTS
            assert outcomes["200"] > REQUESTS * 0.9, outcomes
            assert set(outcomes) <= {"200", "429", "500", "502", "503", "504", "529", "cut"}, (
                outcomes
            )
            assert slowest < BUDGET + 3, "no request is stuck"
            for _ in range(100):
                stats = server.stats()
                if not stats["active"] and not stats["client_connections"]:
                    break
                await asyncio.sleep(0.02)
            assert (stats["active"], stats["client_connections"]) == (0, 0)
            for upstream in (first, second, third):
                upstream.handler = good
            async with httpx.AsyncClient(base_url=url, timeout=30) as http:
                for name in ("a", "b", "c"):
                    assert (
                        await http.post(f"/v1/diagnostics/backends/{name}/reactivate")
                    ).status_code == 200
                    body = {"model": f"{name}:m", "messages": []}
                    assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    for _ in range(100):  # closed sockets leave the loop a turn later
        gc.collect()
        if open_files() <= files + 3:
            break
        await asyncio.sleep(0.02)
    assert open_files() <= files + 3, "sockets are given back"
