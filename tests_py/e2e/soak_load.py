"""The other side of test_soak.py, a process of its own: a provider, and clients that leave early.

Prints the provider's address; then, for every line "PORT COUNT" of its input, sends that many
requests there and prints "done".
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import deque

from e2e.answers import Answer
from e2e.upstream import Upstream, answering

CLIENTS = 24
ANSWER = Answer("Zażółć gęślą jaźń. " * 8)


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


async def main() -> None:
    async with Upstream(answering(ANSWER)) as upstream:
        upstream.requests = deque(maxlen=64)  # type: ignore[assignment]  # what it heard is not ours to keep
        print(upstream.url, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            port, count = map(int, line.split())
            await run(port, count)
            print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
