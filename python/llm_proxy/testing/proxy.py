"""A whole proxy inside a test's event loop, and a provider that answers what the test says."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from llm_proxy.cli.serve import server_of
from llm_proxy.config.load import Sources, load
from llm_proxy.config.probe import installed_backends
from llm_proxy.config.settings import Settings


@asynccontextmanager
async def running_proxy(
    config: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """The base URL of a proxy with every installed backend plugin, on a free port of this machine.

    `config` is what the YAML file would hold. Nothing of the process's own environment is read.
    """
    async with server_of(settings_for(config or {}, environment or {})) as server:
        yield f"http://127.0.0.1:{server.port}"


def settings_for(
    config: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> Settings:
    """What a configuration file that holds `config` says, for a proxy on a free port."""
    quiet = {"APP_PORT": "0", "LLM_PROXY_ACCESS_LOG": "false", "LLM_PROXY_IO_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "proxy.yaml"
        file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        return load(
            Sources(
                environment={**quiet, **(environment or {})},
                config_file=file,
                plugin_backends=installed_backends(),
            )
        )


@dataclass
class Received:
    """One request as the provider got it."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """`body`: bytes, text, a mapping that becomes JSON, or the pieces of a stream."""

    body: bytes | str | Mapping[str, Any] | list[bytes | str] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Received], Reply | Awaitable[Reply]]


class ScriptedUpstream:
    """A provider on a free port of this machine: `async with ScriptedUpstream(script) as upstream`.

    `script` makes each reply; `requests` is what came. `closed` counts the connections whose
    client went away before its reply had ended.
    """

    def __init__(self, script: Script) -> None:
        self.requests: list[Received] = []
        self.closed = 0
        self._script = script
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> ScriptedUpstream:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read(reader):
                self.requests.append(request)
                made = self._script(request)
                await _send(writer, await made if isinstance(made, Awaitable) else made)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.closed += 1
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(method, target, headers, body)


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    stream = isinstance(reply.body, list)
    kind = "text/event-stream" if stream else "application/json"
    headers = {"content-type": kind, **reply.headers}
    if isinstance(reply.body, list):
        headers["transfer-encoding"] = "chunked"
        pieces = [_bytes(piece) for piece in reply.body]
    else:
        whole = reply.body if isinstance(reply.body, (bytes, str)) else json.dumps(reply.body)
        pieces = [_bytes(whole)]
        headers["content-length"] = str(len(pieces[0]))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode("latin-1"))
    for piece in pieces:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if stream else piece)
        await writer.drain()
    if stream:
        writer.write(b"0\r\n\r\n")
    await writer.drain()


def _bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text
