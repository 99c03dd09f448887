"""Many requests of every kind, a third of them left by their client: nothing may stay behind.

LLM_PROXY_SOAK is the number of requests (default 3,000; 100,000 is the release's figure).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from backends.packages import install_example
from e2e.answers import Answer
from e2e.upstream import Upstream, answering
from llm_proxy.plugins import backend_discovery
from llm_proxy.server import Server

REQUESTS = int(os.environ.get("LLM_PROXY_SOAK", "3000"))
CLIENTS = 24
ANSWER = Answer("Zażółć gęślą jaźń. " * 8)


def snapshot(upstream: Upstream) -> dict[str, Any]:
    at = {"kind": "http", "base_url": upstream.url, "keys": ["k"]}
    return {
        "port": 0,
        "workers": 2,
        "access_log": False,
        "backends": [
            {"name": "up", "type": "openai", "format": "openai-chat", **at},
            {"name": "parrot", "type": "parrot", "kind": "python", "format": "openai-chat"},
            {"name": "echo", "type": "echo", "kind": "echo"},
        ],
    }


def request(rng: random.Random) -> bytes:
    """A raw, translated, hosted or built-in exchange, whole or streamed."""
    backend = rng.choice(["up", "up", "parrot", "echo"])
    path = rng.choice(["/v1/chat/completions", "/v1/messages"])
    body = json.dumps(
        {
            "model": f"{backend}:m",
            "max_tokens": 50,
            "stream": rng.random() < 0.6,
            "messages": [{"role": "user", "content": "grüße " * rng.randrange(1, 200)}],
        }
    ).encode()
    return (
        b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body))
        + body
    )


async def one(port: int, rng: random.Random) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        sent = request(rng)
        leaves = rng.random()
        if leaves < 0.1:  # in the middle of its request
            writer.write(sent[: rng.randrange(1, len(sent))])
            await writer.drain()
            return
        writer.write(sent)
        await writer.drain()
        if leaves < 0.2:  # before the reply
            return
        if leaves < 0.35:  # in the middle of the reply
            await reader.read(rng.randrange(1, 400))
            return
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        if b"chunked" in head:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
    finally:
        writer.transport.abort()


async def run(port: int, count: int) -> None:
    async def client(number: int) -> None:
        rng = random.Random(number)
        for _ in range(count // CLIENTS):
            await one(port, rng)

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


def left_behind() -> dict[str, int]:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0])
    return {
        "KB": resident,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count() + len(os.listdir("/proc/self/task")),
        "tasks": len(asyncio.all_tasks()),
    }


async def settled(server: Server) -> None:
    while server.stats()["active"] or server.stats()["client_connections"]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_example(tmp_path, "parrot_backend")
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()
    async with (
        Upstream(answering(ANSWER)) as upstream,
        Server(snapshot(upstream), app_config={"backends": {"parrot": {}}}) as server,
    ):
        upstream.requests = deque(maxlen=64)  # type: ignore[assignment]  # what it heard is not ours to keep
        await run(server.port, 1500)  # pools, caches and arenas reach their size
        await settled(server)
        before = left_behind()
        await run(server.port, REQUESTS)
        await settled(server)
        after = left_behind()
    backend_discovery.reset_backend_discovery_state()
    print(f"\n{REQUESTS} requests: before {before}, after {after}")
    # Pooled connections come and go, each with a task of the test's upstream; a leak is hundreds.
    assert after["tasks"] <= before["tasks"] + 2 * CLIENTS
    assert after["threads"] == before["threads"]
    assert after["files"] <= before["files"] + 2 * CLIENTS
    assert after["KB"] <= before["KB"] + 16_384
