"""From the engine's admin requests to the application and back, as ASGI in one process."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from llm_proxy._core import AdminAnswer
    from llm_proxy.server import Server

logger = logging.getLogger("llm_proxy.admin")

ROLE = "llm_proxy.admin"  # as access.ROLE, which cannot be imported without FastAPI
INSTALL = "the admin API needs FastAPI: pip install fastapi"
# Of the connection, not of the answer: the engine writes its own.
FRAMING = frozenset(("connection", "content-length", "transfer-encoding"))


class AdminBridge:
    """Serves admin requests on the lane. The application is made with the first of them.

    One that has begun is finished even if its client leaves: half a change is no change.
    """

    def __init__(self, server: Server, spawn: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self._server = server
        self._spawn = spawn
        self._app: Any = None
        self._building = asyncio.Lock()

    def serve(
        self,
        answer: AdminAnswer,
        method: str,
        path: str,
        query: str,
        headers: list[tuple[str, str]],
        body: bytes,
        client_host: str,
        admin: bool,
    ) -> None:
        """Called by the engine; returns at once. An `answer` that is dropped is a 503."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("latin-1", "replace"),
            "root_path": "",
            "query_string": query.encode("latin-1", "replace"),
            "headers": [(k.encode(), v.encode("latin-1", "replace")) for k, v in headers],
            "client": (client_host, 0),
            "server": None,
            ROLE: admin,
        }
        self._spawn(self._serve(answer, scope, body))

    async def _serve(self, answer: AdminAnswer, scope: dict[str, Any], body: bytes) -> None:
        status, lines, parts = 500, [], [json.dumps({"detail": "there was no answer"}).encode()]
        came = False

        async def receive() -> dict[str, Any]:
            nonlocal came
            if came:  # whoever asks again waits for the client to leave, which is nobody's news
                await asyncio.Future()
            came = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, lines, parts
            if message["type"] == "http.response.start":
                status, lines, parts = message["status"], list(message.get("headers", ())), []
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        try:
            app = await self._application()
            await app(scope, receive, send)
        except ImportError:
            status, parts = 501, [json.dumps({"detail": INSTALL}).encode()]
        except Exception:
            logger.exception("%s %s failed.", scope["method"], scope["path"])
        fields = [(k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in lines]
        media = next((v for k, v in fields if k == "content-type"), "application/json")
        kept = [(k, v) for k, v in fields if k not in FRAMING and k != "content-type"]
        answer.send(status, media, kept, b"".join(parts))

    async def _application(self) -> Any:
        async with self._building:
            if self._app is None:
                self._app = await asyncio.to_thread(self._build)
        return self._app

    def _build(self) -> Any:
        from llm_proxy.admin.app import build

        return build(self._server)
