"""A proxy to talk to: inside the test's own event loop, or as the program users start."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import planted
from e2e.upstream import Upstream
from llm_proxy.assembly import make_server
from llm_proxy.config.load import Sources, load
from llm_proxy.config.snapshot import snapshot
from llm_proxy.server import Server
from repo import ROOT


@dataclass
class Proxy:
    port: int
    server: Server | None = None  # in the test's own process
    process: asyncio.subprocess.Process | None = None  # the program

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


StartProxy = Callable[..., AbstractAsyncContextManager[Proxy]]

QUIET = {
    "APP_PORT": "0",
    "LLM_PROXY_ACCESS_LOG_FILE": str(planted.ACCESS_LOG),
    "LLM_PROXY_IO_THREADS": "1",
}


def environment_for(upstream: Upstream | None, backend: str) -> dict[str, str]:
    """What a user would set to have `backend` asked at the upstream's address."""
    if upstream is None:
        return {"LLM_BACKEND": backend}
    prefix = {
        "openai": "OPENAI",
        "anthropic": "ANTHROPIC",
        "gemini": "GEMINI",
        "openai-responses": "OPENAI",
    }[backend]
    return {
        f"{prefix}_API_KEY": planted.PROVIDER,
        f"{prefix}_API_BASE_URL": upstream.url,
        "LLM_BACKEND": backend,
    }


@pytest.fixture
def start_proxy() -> StartProxy:
    """start_proxy(upstream, backend, **settings of the environment): a proxy in this process."""

    @asynccontextmanager
    async def start(
        upstream: Upstream | None = None, backend: str = "echo", **environment: str
    ) -> AsyncIterator[Proxy]:
        settings = load(
            Sources(environment={**QUIET, **environment_for(upstream, backend), **environment})
        )
        async with make_server(snapshot(settings)) as server:
            yield Proxy(server.port, server=server)

    return start


PYTHON_PROGRAM = (sys.executable, "-m", "cli")


@asynccontextmanager
async def program(
    *flags: str,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    command: tuple[str, ...] = PYTHON_PROGRAM,
) -> AsyncIterator[Proxy]:
    """`python -m cli` as a user starts it, on a free port; killed at the end if still there."""
    process = await asyncio.create_subprocess_exec(
        *command,
        "--port",
        "0",
        *flags,
        cwd=folder or ROOT / "tests_py",
        env={
            **{name: value for name, value in os.environ.items() if name in KEPT},
            "PYTHONPATH": ":".join(path for path in sys.path if path),
            **(environment or {}),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        if line.startswith("{"):  # what is logged is JSON, and so is what is printed first
            line = json.loads(line)["message"]
        found = re.search(r" serves on http://\S+:(\d+)$", line.strip())
        if not found:
            assert process.stderr is not None
            raise AssertionError(line + (await process.stderr.read()).decode())
        yield Proxy(int(found.group(1)), process=process)
    finally:
        if process.returncode is None:
            process.kill()
        for printed in await process.communicate():
            planted.said("programs.txt", printed)


# What a sanitized or relocated interpreter needs to start at all.
KEPT = ("PATH", "HOME", "LD_PRELOAD", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LANG")
