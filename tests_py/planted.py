"""Keys that stand in configurations of tests and must show in nothing that a proxy says.

What proxies say in a test run is kept in `FOLDER`: access logs, the process log, what programs
printed, and every error a client was given. The session's last act (conftest) is to search it.
"""

from __future__ import annotations

import base64
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(tempfile.mkdtemp(prefix="what-proxies-said-"))
ACCESS_LOG = FOLDER / "access.log"
_MARK = "Planted0Key0"


def key(owner: str) -> str:
    """A key that no other text of a test run holds."""
    return f"sk-{_MARK}-{owner}-5fe2c1"


PROVIDER, CLIENT, ADMIN = key("provider"), key("client"), key("admin")
_TRACES = (_MARK.encode(), base64.b64encode(_MARK.encode()).rstrip(b"="))


def said(name: str, text: bytes) -> None:
    with (FOLDER / name).open("ab") as file:
        file.write(text + b"\n")


def found() -> Iterator[str]:
    """The lines that hold a part of a planted key, or its beginning in base64."""
    for file in sorted(FOLDER.iterdir()):
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if any(trace in line for trace in _TRACES):
                yield f"{file.name}:{number}: {line.decode(errors='replace')[:300]}"


def listen() -> logging.Handler:
    """Keeps what the process log says, at the level users run with."""
    handler = logging.FileHandler(FOLDER / "process.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(lambda record: not record.name.startswith(("httpx", "httpcore")))
    handler.setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    logging.getLogger("llm_proxy").setLevel(logging.INFO)
    return handler


_send = httpx.AsyncClient.send


async def _kept(self: httpx.AsyncClient, request: httpx.Request, **more: Any) -> httpx.Response:
    response = await _send(self, request, **more)
    head = b"\r\n".join(b": ".join(pair) for pair in response.headers.raw)
    said("headers.txt", head)
    if not more.get("stream") and response.status_code >= 400:
        said("errors.txt", response.content)
    return response


def keep_errors() -> None:
    httpx.AsyncClient.send = _kept  # type: ignore[method-assign,assignment]


def forget_errors() -> None:
    httpx.AsyncClient.send = _send  # type: ignore[method-assign]
