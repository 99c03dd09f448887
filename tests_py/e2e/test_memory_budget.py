"""All requests together hold no more memory than they may, and those beyond are told to wait."""

from __future__ import annotations

import asyncio
import gzip
import json
import os

import httpx

from e2e.test_endless_peers import MIB, running, still_serves

LIMIT = 64 * MIB
# The budget, and what is not of it: allocators, buffers being grown, the connections.
BOUND = 2 * LIMIT + 32 * MIB


def bomb(size: int) -> bytes:
    """A chat request with `size` blanks in front, some thousand times smaller than it is."""
    ask = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
    return gzip.compress(b" " * size + json.dumps(ask).encode())


async def test_many_compressed_bodies_at_once_share_the_budget() -> None:
    body = bomb(20 * MIB)
    async with (
        running(LLM_PROXY_MAX_MEMORY_BYTES=str(LIMIT)) as (proxy, memory),
        httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=64)) as http,
    ):

        async def ask() -> httpx.Response:
            headers = {"content-encoding": "gzip"}
            url = proxy.url + "/v1/chat/completions"
            return await http.post(url, content=body, headers=headers)

        asked = [asyncio.create_task(ask()) for _ in range(30)]
        await still_serves(proxy)
        replies = await asyncio.gather(*asked)
        statuses = {reply.status_code for reply in replies}
        assert 200 in statuses and statuses <= {200, 429, 503}, statuses
        refused = [reply for reply in replies if reply.status_code != 200]
        assert refused, "nothing was refused: the bodies never met"
        for reply in refused:
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["code"] in ("memory_share", "short_of_memory")
        assert memory.grown < BOUND, memory.grown / MIB
        shown = (await http.get(proxy.url + "/v1/diagnostics")).json()["memory"]
        assert shown["limit_bytes"] == LIMIT
        assert shown["used_bytes"] == 0
        assert shown["refused"] >= len(refused)
        assert (await ask()).status_code == 200  # what was held is there again


async def test_a_body_that_could_never_fit_is_refused_for_good() -> None:
    async with (
        running(LLM_PROXY_MAX_MEMORY_BYTES=str(LIMIT)) as (proxy, memory),
        httpx.AsyncClient(timeout=60) as http,
    ):
        reply = await http.post(
            proxy.url + "/v1/messages",
            content=bomb(60 * MIB),
            headers={"content-encoding": "gzip"},
        )
        assert reply.status_code == 413
        assert "retry-after" not in reply.headers
        assert "limits.memory_bytes" in reply.json()["error"]["message"]
        assert memory.grown < BOUND, memory.grown / MIB


async def test_the_default_is_a_quarter_of_what_there_is() -> None:
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    async with running() as (proxy, _), httpx.AsyncClient() as http:
        shown = (await http.get(proxy.url + "/v1/diagnostics")).json()["memory"]
        assert 0 < shown["limit_bytes"] <= installed // 4
