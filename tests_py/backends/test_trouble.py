"""Backends that misbehave, behind the whole proxy: what their clients get, and what stays behind.

LLM_PROXY_TROUBLE is the number of mixed runs (default 600; 10,000 is the release's figure, with
`-p no:logging`, for pytest keeps what is logged),
LLM_PROXY_STREAM_MB the length of the stream that is read slowly (default 48; 1,000).
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from backends.packages import install
from backends.trouble import BIG, Trouble
from e2e.answers import TEXT, chat_stream
from e2e.conftest import Proxy
from e2e.test_client_gone import leave_after
from e2e.test_python_backend import FRONTENDS
from e2e.test_soak import left_behind, settled
from e2e.upstream import Stall, Upstream, stream
from llm_proxy.assembly import make_server
from llm_proxy.backends.runtime import discovery as backend_discovery
from llm_proxy.server import Server

RUNS = int(os.environ.get("LLM_PROXY_TROUBLE", "600"))
STREAM_MB = int(os.environ.get("LLM_PROXY_STREAM_MB", "48"))
EVENTS = list(chat_stream(TEXT))

Start = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    install(tmp_path, "trouble", {"trouble": "backends.trouble:provider"})
    monkeypatch.syspath_prepend(str(tmp_path))
    backend_discovery.reset_backend_discovery_state()
    Trouble.open = Trouble.yielded = 0

    @asynccontextmanager
    async def started(patience: float, url: str = "") -> AsyncIterator[Server]:
        row = {"name": "trouble", "type": "trouble", "kind": "python", "format": "openai-chat"}
        snapshot = {
            "port": 0,
            "io_threads": 1,
            "logging": {"access_log": False},
            "default_backend": "trouble",
            "backends": [row],
            "failure_handling": {"max_attempts": 1},
            "timeouts": {"first_byte": patience, "stream_idle": patience},
            "responses": {
                "store_entries": 50,
                "store_bytes": 1_000_000,
            },  # full at once: what grows leaks
        }
        own = {"trouble": {"api_url": url or "http://127.0.0.1:1/v1"}}
        async with make_server(snapshot, app_config={"backends": own}) as server:
            yield server
        backend_discovery.reset_backend_discovery_state()

    return started


def body_of(frontend: str, told: str, streamed: bool) -> tuple[str, dict[str, Any]]:
    path, body = FRONTENDS[frontend][0](told, streamed)
    body.pop("tools", None)
    return path, {"model": "m", **body}


async def told(
    client: httpx.AsyncClient, frontend: str, what: str, streamed: bool
) -> tuple[int, str, bool]:
    """Status, all that was heard, and whether the reply ended as a whole one does."""
    path, body = body_of(frontend, what, streamed)
    heard = b""
    async with client.stream("POST", path, json=body) as reply:
        try:
            async for piece in reply.aiter_bytes():
                heard += piece
        except httpx.RemoteProtocolError:
            return reply.status_code, heard.decode(), False
    return reply.status_code, heard.decode(), True


# What only a stream that ended well says.
ENDS = {
    "chat": "[DONE]",
    "messages": "message_stop",
    "responses": "response.completed",
    "gemini": '"finishReason":"STOP"',
}
ERROR = re.compile(r'"error": ?\{|"type": ?"error"|event: error|response\.failed')


@pytest.mark.parametrize("frontend", FRONTENDS)
async def test_a_client_is_told_in_its_own_words_how_a_bad_backend_ended(
    start: Start, frontend: str
) -> None:
    before = ["hangs", "swallows its cancellation", "raises", "returns garbage"]
    later = [*Trouble.LATER, *Trouble.GARBAGE, "never ends"]
    async with (
        start(0.1) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client,
    ):
        for streamed in (False, True):
            status, heard, whole = await told(client, frontend, "is good", streamed)
            assert (status, whole) == (200, True)
            assert heard.count("word") >= 2
            assert not streamed or ENDS[frontend] in heard.replace('": "', '":"')
        for what in before + later:
            seen: list[Any] = [what]
            status, heard, _ = await told(client, frontend, what, False)
            seen += [status, heard]
            assert status in (500, 502, 503, 504), seen
            assert json.loads(heard)["error"]["message"], seen
            if what == "never ends":
                continue  # and nothing is wrong with that, as long as somebody listens
            status, heard, whole = await told(client, frontend, what, True)
            seen += [status, heard, whole]
            assert ERROR.search(heard), seen
            assert ENDS[frontend] not in heard.replace('": "', '":"'), seen
            if what in before:
                assert status in (500, 502, 503, 504), seen
        assert server._bridge is not None
        await server._bridge.idle(5)
        assert Trouble.open == 0


async def test_a_stream_that_never_ends_is_not_folded_without_bound(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_proxy.backends.runtime.reply.MAX_WHOLE_BYTES", 1_000_000)
    async with (
        start(60) as server,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=20) as client,
    ):
        status, heard, _ = await told(client, "chat", "yields 100000", False)
        assert status == 502
        assert "too long" in json.loads(heard)["error"]["message"]
        assert Trouble.yielded < 1_100_000


@pytest.mark.parametrize("phase", ["before the first event", "in mid-stream"])
async def test_a_client_that_leaves_closes_the_httpx_stream_of_the_plugin(
    start: Start, phase: str
) -> None:
    events = {"before the first event": EVENTS[:1], "in mid-stream": EVENTS[:4]}[phase]
    heard = b"data: " if phase == "in mid-stream" else b""
    body = {"model": "m", "messages": [{"role": "user", "content": "relays"}]}
    async with (
        Upstream(lambda _: stream([*events, Stall()])) as upstream,
        start(60, upstream.url) as server,
    ):
        proxy = Proxy(server.port, server)
        took = sorted([await leave_after(proxy, upstream, True, heard, body) for _ in range(21)])
        await settled(server)
        assert Trouble.open == 0
    print(
        f"\nfrom a client's reset to the upstream's close, {phase}: {took[10] * 1e3:.2f} ms, "
        f"at most {took[-1] * 1e3:.2f}"
    )
    assert took[10] <= 0.050, took


def resident_kb() -> int:
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])


async def test_a_slow_client_makes_the_plugin_wait(start: Start) -> None:
    chunks = STREAM_MB * 1_000_000 // len(BIG)
    path, body = body_of("chat", f"yields {chunks}", True)
    sent = json.dumps(body).encode()
    async with start(60) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=65536)
        writer.write(
            b"POST %s HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
            % (path.encode(), len(sent), sent)
        )
        await reader.readuntil(b"data: ")
        before = -1
        while Trouble.yielded != before:  # the client reads nothing: soon the plugin waits
            before = Trouble.yielded
            await asyncio.sleep(0.02)
        assert before < 8_000_000
        gc.collect()
        most = first = resident_kb()
        heard, rest = 0, b""
        while b"\r\n0\r\n\r\n" not in rest[-16:]:
            piece = await reader.read(65536)
            assert piece, "the stream was cut"
            heard += len(piece)
            rest = rest[-16:] + piece
            if heard % 16 == 0:
                most = max(most, resident_kb())
        writer.close()
    print(
        f"\n{heard / 1e6:.0f} MB read; {before / 1e6:.1f} MB ahead of a client that does not "
        f"read; RSS {first} KB, at most {most}"
    )
    assert heard > chunks * len(BIG)
    assert most < first + 16_384


WAYS = [
    "is good", "is good", "relays", "yields 20", "never ends", "returns garbage",
    *Trouble.AT_ONCE, *Trouble.LATER, *Trouble.GARBAGE,
]  # fmt: skip
CLIENTS = 24


async def at_rest(server: Server) -> None:
    while server.stats()["active"]:  # noqa: ASYNC110 -- there is no event for it
        await asyncio.sleep(0.01)
    assert server._bridge is not None
    await server._bridge.idle(5)


async def mixed(url: str, count: int, seed: int) -> None:
    async def one(client: httpx.AsyncClient, rng: random.Random) -> None:
        what, frontend = rng.choice(WAYS), rng.choice(list(FRONTENDS))
        streamed = rng.random() < 0.6
        patient = (
            0.0 if what == "never ends" or "swallow" in what else 0.1 if "hang" in what else 0.7
        )
        leaves = rng.random() >= patient
        path, body = body_of(frontend, what, streamed)
        asked = asyncio.ensure_future(client.post(path, json=body))
        await asyncio.wait({asked}, timeout=rng.random() * 0.05 if leaves else 20)
        while not asked.done():  # CPython 3.10 may lose a cancellation inside anyio
            asked.cancel()
            await asyncio.wait({asked}, timeout=0.1)
        try:
            reply = asked.result()
        except (asyncio.CancelledError, httpx.RemoteProtocolError):
            return
        good = what in ("is good", "relays", "yields 20")
        assert (reply.status_code == 200) >= good, (what, reply.text)

    async def many(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        left = count // CLIENTS
        while left:
            # A client for a few runs: a request cancelled too early keeps its place in the pool.
            async with httpx.AsyncClient(base_url=url, timeout=20, verify=False) as client:
                for _ in range(min(left, 20)):
                    await one(client, rng)
                    left -= 1

    await asyncio.gather(*(many(number) for number in range(CLIENTS)))


async def test_mixed_runs_leave_nothing_behind(start: Start) -> None:
    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    async with (
        Upstream(lambda _: stream(EVENTS)) as upstream,
        start(2, upstream.url) as server,
    ):
        url = f"http://127.0.0.1:{server.port}"
        await mixed(url, max(480, RUNS // 4), 1)
        await at_rest(server)
        upstream.requests.clear()
        before, count = left_behind(), objects()
        await mixed(url, RUNS, 2)
        await at_rest(server)
        upstream.requests.clear()
        after, objects_after = left_behind(), objects()
        assert Trouble.open == 0
        assert server._bridge.running_calls == 0
    print(f"\n{RUNS} runs: before {before}, {count} objects; after {after}, {objects_after}")
    assert after["tasks"] <= before["tasks"] + 2 * CLIENTS
    assert after["threads"] == before["threads"]
    assert after["files"] <= before["files"] + 2 * CLIENTS
    assert objects_after <= count + 5_000
    assert after["KB"] <= before["KB"] + 16_384
