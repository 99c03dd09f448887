"""Many requests of every kind, a third of them left by their client: nothing may stay behind.

LLM_PROXY_SOAK is the number of requests (default 3,000; 100,000 is the release's figure). Clients
and provider are another process: what they leave in the heap is theirs.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from backends.packages import install_example
from e2e.soak_load import CLIENTS
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.server import Server

REQUESTS = int(os.environ.get("LLM_PROXY_SOAK", "3000"))


class Load:
    """The process of soak_load.py."""

    def __init__(self, process: asyncio.subprocess.Process, upstream: str) -> None:
        self._process = process
        self.upstream = upstream

    async def run(self, port: int, count: int) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{port} {count}\n".encode())
        assert await self._process.stdout.readline() == b"done\n"


@contextlib.asynccontextmanager
async def load() -> AsyncIterator[Load]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "e2e.soak_load",
        stdin=pipe,
        stdout=pipe,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Load(process, (await process.stdout.readline()).decode().strip())
    finally:
        process.stdin.close()
        await process.wait()


def snapshot(upstream: str) -> dict[str, Any]:
    at = {"kind": "http", "base_url": upstream, "keys": ["k"]}
    return {
        "port": 0,
        "io_threads": 2,
        "logging": {"access_log": False},
        "backends": [
            {"name": "up", "type": "openai", "format": "openai-chat", **at},
            {"name": "parrot", "type": "parrot", "kind": "python", "format": "openai-chat"},
            {"name": "echo", "type": "echo", "kind": "echo"},
        ],
    }


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
        load() as others,
        make_server(snapshot(others.upstream), app_config={"backends": {"parrot": {}}}) as server,
    ):
        await others.run(server.port, 1500)  # pools, caches and arenas reach their size
        await settled(server)
        before = left_behind()
        await others.run(server.port, REQUESTS)
        await settled(server)
        after = left_behind()
    backend_discovery.reset_backend_discovery_state()
    print(f"\n{REQUESTS} requests: before {before}, after {after}")
    assert after["tasks"] <= before["tasks"] + 1
    assert after["threads"] == before["threads"]
    assert after["files"] <= before["files"] + 2 * CLIENTS
    if "LLM_PROXY_SANITIZED" not in os.environ:  # a sanitizer keeps what was freed, to watch it
        assert after["KB"] <= before["KB"] + 16_384
