"""A request as exact bytes: paths that no library leaves alone, fields twice, any local address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from e2e.conftest import Proxy

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Said:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    proxy: Proxy,
    method: str,
    target: str,
    body: Any = None,
    fields: Fields = (),
    *,
    host: str | None = "localhost",
    port: int | None = None,
    source: str = "127.0.0.1",
) -> Said:
    """One request on a connection of its own. `body`: bytes, or anything that JSON can say."""
    content = (
        b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    )
    lines = [f"{method} {target} HTTP/1.1"]
    if host is not None:
        lines.append(f"host: {host}")
    lines += [f"{name}: {value}" for name, value in fields]
    lines += ["connection: close", f"content-length: {len(content)}"]
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port or proxy.port, local_addr=(source, 0)
    )
    try:
        writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *rest = head.rstrip("\r\n").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, value in (line.split(":", 1) for line in rest)
        }
        said = await reader.read()
    finally:
        writer.close()
    if "chunked" in headers.get("transfer-encoding", ""):
        said = _joined(said)
    return Said(int(status.split(" ")[1]), headers, said)


def _joined(chunks: bytes) -> bytes:
    out = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        length = int(size, 16)
        out, chunks = out + chunks[:length], chunks[length + 2 :]
    return out


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


# One small request in each format, and where it is sent.
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"model": "echo", "messages": [{"role": "user", "content": "a"}]},
    ),
    "responses": ("/v1/responses", {"model": "echo", "input": "a"}),
    "messages": (
        "/v1/messages",
        {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]},
    ),
    "gemini": ("/v1beta/models/echo:generateContent", {"contents": [{"parts": [{"text": "a"}]}]}),
}
