"""Answers kept for the next one who asks the same, and refusals kept likewise."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from llm_proxy import _core

# What does not change an answer.
_IRRELEVANT = frozenset(("stream", "stream_options", "user", "metadata", "store"))


class ResponseCache:
    """Chat completions by tenant and request, bounded in bytes and age.

    Lives on the lane. No tenant ever sees another's answer: the tenant is part of the key.
    """

    def __init__(
        self,
        enabled: bool = True,
        ttl: float = 3600,
        max_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enabled = enabled
        self._ttl = ttl
        self._max_bytes = max_bytes
        self._clock = clock
        self._rows: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0
        self.hits = 0
        self.misses = 0

    def make_key(self, body: dict[str, Any], tenant_id: str = "") -> str:
        """The same for every order of the request's keys."""
        asked = {key: body[key] for key in sorted(body) if key not in _IRRELEVANT}
        try:
            text = _core.dumps(asked)
        except (TypeError, ValueError):  # a plugin left an object in the body
            text = json.dumps(asked, sort_keys=True, default=str).encode()
        return hashlib.sha256(tenant_id.encode("utf-8", "surrogatepass") + b"\0" + text).hexdigest()

    async def get(self, body: dict[str, Any], tenant_id: str = "") -> dict[str, Any] | None:
        return self.find(self.make_key(body, tenant_id)) if self._enabled else None

    def find(self, key: str) -> dict[str, Any] | None:
        row = self._rows.get(key)
        if row is not None and row[0] <= self._clock():
            self._drop(key)
            row = None
        if row is None:
            self.misses += 1
            return None
        self.hits += 1
        self._rows.move_to_end(key)
        found: dict[str, Any] = json.loads(row[1])
        return found

    async def put(self, key: str, response: dict[str, Any]) -> None:
        if not self._enabled:
            return
        raw = _core.dumps(response)
        if len(raw) > self._max_bytes // 8:
            return
        self._drop(key)
        self._rows[key] = (self._clock() + self._ttl, raw)
        self._bytes += len(raw)
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._rows)))

    def clear(self) -> None:
        self._rows.clear()
        self._bytes = 0

    def stats(self) -> dict[str, int]:
        return {
            "entries": len(self._rows),
            "bytes": self._bytes,
            "hits": self.hits,
            "misses": self.misses,
        }

    def _drop(self, key: str) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self._bytes -= len(row[1])


class NegativeCache:
    """Requests that were refused for what they say, so that the same words are refused at once.

    By tenant: what one client does never blocks another.
    """

    def __init__(
        self,
        maxsize: int = 50_000,
        ttl: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._maxsize = maxsize
        self._ttl = ttl
        self._clock = clock
        self._rows: OrderedDict[str, tuple[float, str]] = OrderedDict()

    @staticmethod
    def make_key(body: dict[str, Any], tenant_id: str = "") -> str:
        text = json.dumps([tenant_id, body.get("model"), body.get("messages")], default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def check(self, body: dict[str, Any], tenant_id: str = "") -> str | None:
        """Why this was refused a short while ago; None if it was not."""
        key = self.make_key(body, tenant_id)
        row = self._rows.get(key)
        if row is None:
            return None
        if row[0] <= self._clock():
            del self._rows[key]
            return None
        return row[1]

    def add(self, body: dict[str, Any], reason: str, tenant_id: str = "") -> None:
        key = self.make_key(body, tenant_id)
        self._rows.pop(key, None)
        self._rows[key] = (self._clock() + self._ttl, reason)
        while len(self._rows) > self._maxsize:
            self._rows.popitem(last=False)

    def clear(self) -> None:
        self._rows.clear()

    def __len__(self) -> int:
        return len(self._rows)
