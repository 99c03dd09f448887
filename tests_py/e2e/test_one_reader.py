"""Pipelined requests whose reads overlap: one client cannot reach the memory of the process.

A connection keeps a read pending while a request is answered. The body of the next request used to
be read beside it: what came last was written to memory that had been given back. Each case ends
with more bytes than one read takes, and with a proxy that is alive and answers.

PIPELINE_ROUNDS sets how often each case is tried (3).
"""

from __future__ import annotations

import asyncio
import json
import os
import re

import pytest

from e2e.conftest import Proxy, program
from e2e.upstream import Reply, Upstream

ROUNDS = int(os.environ.get("PIPELINE_ROUNDS", "3"))
AT_ONCE = 20
PAUSE = 0.05  # so that the parts come in reads of their own; nothing is expected within it
CONTENT = "x" * 49_900
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": CONTENT}]}).encode()
HEALTH = b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n"
MORE = b"A" * (200 << 10)


def post(path: bytes, framing: bytes, version: bytes = b"1.1", fields: bytes = b"") -> bytes:
    return b"POST %b HTTP/%b\r\nhost: a\r\ncontent-type: application/json\r\n%b%b\r\n\r\n" % (
        path,
        version,
        fields,
        framing,
    )


LENGTH = b"content-length: %d" % len(BODY)
CHUNK = b"%x\r\n" % len(BODY)

CASES: dict[str, list[bytes]] = {
    "a length": [HEALTH + post(b"/v1/chat/completions", LENGTH) + BODY[:1], BODY[1:], MORE],
    "a length, all the rest at once": [
        HEALTH + post(b"/v1/chat/completions", LENGTH) + BODY[:1],
        BODY[1:] + MORE,
    ],
    "a length in three parts": [
        HEALTH + post(b"/v1/chat/completions", LENGTH) + BODY[:1],
        BODY[1:2000],
        BODY[2000:],
        MORE,
    ],
    "chunks": [
        HEALTH + post(b"/v1/chat/completions", b"transfer-encoding: chunked") + CHUNK + BODY[:1],
        BODY[1:] + b"\r\n0\r\n\r\n",
        MORE,
    ],
    "HTTP/1.0": [
        HEALTH
        + post(b"/v1/chat/completions", LENGTH, b"1.0", b"connection: keep-alive\r\n")
        + BODY[:1],
        BODY[1:],
        MORE,
    ],
    "Anthropic": [HEALTH + post(b"/v1/messages", LENGTH) + BODY[:1], BODY[1:], MORE],
    "a body where none is expected": [
        HEALTH + HEALTH.replace(b"\r\n\r\n", b"\r\n" + LENGTH + b"\r\n\r\n") + BODY[:1],
        BODY[1:],
        MORE,
    ],
    "a coding nobody knows": [
        HEALTH
        + HEALTH.replace(b"\r\n\r\n", b"\r\ncontent-encoding: odd\r\n" + LENGTH + b"\r\n\r\n")
        + BODY[:1],
        BODY[1:] + MORE,
    ],
    "many small ones": [HEALTH * 50 + post(b"/v1/chat/completions", LENGTH), BODY + MORE],
    "expecting to be told to go on": [
        HEALTH + post(b"/v1/chat/completions", LENGTH, fields=b"expect: 100-continue\r\n"),
        BODY,
        MORE,
    ],
}


async def attack(port: int, parts: list[bytes]) -> None:
    """Sends the parts as far as the proxy takes them, reads what comes, and goes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(PAUSE)
        await asyncio.wait_for(reader.read(65536), 5)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()


async def port_of_anthropic(proxy: Proxy) -> int:
    assert proxy.process is not None and proxy.process.stdout is not None
    while line := await asyncio.wait_for(proxy.process.stdout.readline(), 10):
        if found := re.search(rb"Anthropic alone:\s+http://\S+:(\d+)", line):
            return int(found.group(1))
    raise AssertionError("the program names no second port")


async def healthy(proxy: Proxy) -> bool:
    assert proxy.process is not None
    if proxy.process.returncode is not None:
        return False
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(HEALTH.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("keys", [False, True], ids=["open", "keys asked and none sent"])
@pytest.mark.parametrize("anthropic_port", [False, True], ids=["main port", "anthropic port"])
async def test_overlapping_reads_never_touch_memory(keys: bool, anthropic_port: bool) -> None:
    async with Upstream(lambda _: Reply(silent=True)) as upstream:
        environment = {
            "OPENAI_API_KEY": "k",
            "OPENAI_API_BASE_URL": upstream.url,
            "ANTHROPIC_API_KEY": "k",
            "ANTHROPIC_API_BASE_URL": upstream.url,
            **(
                {"API_KEYS": "client-secret", "BRUTE_FORCE_PROTECTION_ENABLED": "false"}
                if keys
                else {}
            ),
            **({"ANTHROPIC_PORT": "0"} if anthropic_port else {}),
        }
        async with program(environment=environment) as proxy:
            port = await port_of_anthropic(proxy) if anthropic_port else proxy.port
            for parts in CASES.values():
                for begun in range(0, ROUNDS, AT_ONCE):
                    count = min(AT_ONCE, ROUNDS - begun)
                    await asyncio.gather(*(attack(port, parts) for _ in range(count)))
                assert await healthy(proxy)
