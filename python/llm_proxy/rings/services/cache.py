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

    The rows are the engine's (`store`): its workers answer from them too. No tenant ever sees
    another's answer: the tenant is part of the key.
    """

    def __init__(
        self,
        enabled: bool = True,
        ttl: float = 3600,
        max_bytes: int = 64 << 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._enabled = enabled
        self._clock = clock
        self.store = _core.ReplyCache(ttl, max_bytes)

    def make_key(self, body: dict[str, Any], tenant_id: str = "") -> str:
        """The same for every order of the request's keys."""
        try:
            key = _core.cache_key(_core.dumps(body), tenant_id)
        except (TypeError, ValueError):  # a plugin left an object in the body, or half a character
            key = None
        if key is None:
            asked = {name: body[name] for name in body if name not in _IRRELEVANT}
            text = json.dumps([tenant_id, asked], sort_keys=True, default=str)
            key = hashlib.sha256(text.encode()).hexdigest()
        return key

    async def get(self, body: dict[str, Any], tenant_id: str = "") -> dict[str, Any] | None:
        return self.find(self.make_key(body, tenant_id)) if self._enabled else None

    def find(self, key: str) -> dict[str, Any] | None:
        raw = self.store.find(key, self._clock())
        found: dict[str, Any] | None = None if raw is None else json.loads(raw)
        return found

    async def put(self, key: str, response: dict[str, Any]) -> None:
        if self._enabled:
            self.store.put(key, _core.dumps(response), self._clock())

    def clear(self) -> None:
        self.store.clear()

    def stats(self) -> dict[str, int]:
        return self.store.stats()


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
