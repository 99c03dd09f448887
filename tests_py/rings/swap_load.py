"""The other side of `test_swap_under_load`: a provider and its clients, in a process of their own.

Prints the provider's port; reads `{"proxy": port, "rate": R, "streams": S}`; asks until it reads
another line; prints what it saw.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

CONNECTIONS = 32
PIECES = 12
PAUSE = 0.1


async def read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A head and its body: counted or chunked."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while True:
            size = int(await reader.readline(), 16)
            body += (await reader.readexactly(size + 2))[:-2]
            if size == 0:
                return head, body
    at = lower.find(b"content-length:")
    size = int(lower[at + 15 : lower.index(b"\r\n", at)]) if at >= 0 else 0
    return head, await reader.readexactly(size)


# ---- the provider


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    data = b"data: " + json.dumps({**event, "choices": [choice]}).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


async def provide(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            _, raw = await read_message(reader)
            body = json.loads(raw)
            text = body["messages"][-1]["content"]
            if body.get("stream"):
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                    b"transfer-encoding: chunked\r\n\r\n"
                )
                writer.write(chunk({"role": "assistant", "content": text}))
                for _ in range(PIECES):
                    await asyncio.sleep(PAUSE)
                    writer.write(chunk({"content": " and"}))
                done = b"data: [DONE]\n\n"
                writer.write(chunk({}, "stop") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done))
                continue
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            data = json.dumps({**reply, "choices": [choice], "usage": usage}).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
                % len(data)
                + data
            )
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


# ---- the clients


class Clients:
    def __init__(self, port: int) -> None:
        self.port = port
        self.stop = False
        self.requests = 0
        self.streams = 0
        self.failures: list[str] = []
        self.worst = 0.0

    def request(self, stream: bool) -> bytes:
        message = {"role": "user", "content": "gens"}
        body = json.dumps({"model": "m", "stream": stream, "messages": [message]}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        return head % len(body) + body

    def judge(self, head: bytes, body: bytes, stream: bool) -> None:
        """200, whole, and every plugin that touched it of one generation."""
        text = body.decode()
        at = text.find("gens ")
        marks = set(text[at + 5 : text.index(".", at)].split()) if at >= 0 else {"none"}
        lower = head.decode().lower()
        if "x-gen:" in lower:
            marks.add(lower.split("x-gen:")[1].split()[0])
        elif not stream:
            marks.add("no reply mark")
        ended = text.rstrip().endswith("data: [DONE]" if stream else "}")
        if b" 200 " not in head.split(b"\r\n")[0] or len(marks) != 1 or not ended:
            self.failures.append(f"{stream} {sorted(marks)} {head[:60]!r} {text[-200:]}")

    async def work(self, stream: bool, interval: float, offset: float) -> None:
        loop = asyncio.get_running_loop()
        request = self.request(stream)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        due = loop.time() + offset
        while not self.stop and len(self.failures) < 20:
            await asyncio.sleep(max(0.0, due - loop.time()))
            began = loop.time()
            due = max(due + interval, began)
            try:
                writer.write(request)
                self.judge(*await asyncio.wait_for(read_message(reader), 30), stream)
            except Exception as error:
                self.failures.append(f"{stream} {error!r}")
                return
            if stream:
                self.streams += 1
            else:
                self.requests += 1
                self.worst = max(self.worst, loop.time() - began)
        writer.close()


async def main() -> None:
    provider = await asyncio.start_server(provide, "127.0.0.1", 0)
    print(provider.sockets[0].getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    asked = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    clients = Clients(asked["proxy"])
    interval = CONNECTIONS / asked["rate"]
    length = PIECES * PAUSE
    began = loop.time()
    work = [
        clients.work(False, interval, interval * n / CONNECTIONS) for n in range(CONNECTIONS)
    ] + [clients.work(True, 0, length * n / asked["streams"]) for n in range(asked["streams"])]
    tasks = [asyncio.ensure_future(one) for one in work]
    await loop.run_in_executor(None, sys.stdin.readline)
    seconds = loop.time() - began
    count = clients.requests
    clients.stop = True
    await asyncio.gather(*tasks)
    report = {
        "requests": clients.requests,
        "streams": clients.streams,
        "rate": round(count / seconds, 1),
        "worst_ms": round(clients.worst * 1000, 1),
        "failures": clients.failures,
    }
    print(json.dumps(report), flush=True)
    os._exit(0)  # the proxy's idle connections to this provider are nobody's concern


if __name__ == "__main__":
    asyncio.run(main())
