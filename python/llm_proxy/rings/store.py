"""What plugins remember across restarts: names and JSON values, in SQLite."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

logger = logging.getLogger("llm_proxy.plugins")

_SCHEMA = "CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
_WRITE = "INSERT INTO state VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
MEMORY = ":memory:"


class StateStore:
    """Async get and set on one SQLite file.

    A helper thread owns the database; the lane never waits for a disk. Writes are kept in a map
    (the last one of a key wins, `limit` keys at most) that the thread empties in one transaction;
    what does not fit is dropped and counted.
    """

    def __init__(self, path: str | Path = MEMORY, limit: int = 10_000) -> None:
        self._path = str(path)
        self._limit = limit
        self._wake = threading.Condition()
        self._pending: OrderedDict[str, str] = OrderedDict()
        self._writing: dict[str, str] = {}
        self._asked: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Future[str | None]]] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        self.problem: str | None = None  # why nothing reaches the disk

    # ---- for plugins, on the lane

    async def get_state(self, key: str, default: Any = None) -> Any:
        loop = asyncio.get_running_loop()
        with self._wake:
            text = self._pending.get(key) or self._writing.get(key)
            if text is not None:
                return json.loads(text)
            if self._closing or len(self._asked) >= self._limit:
                return default
            future: asyncio.Future[str | None] = loop.create_future()
            self._asked.append((key, loop, future))
            self._start()
        found = await future
        return default if found is None else json.loads(found)

    async def set_state(self, key: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        with self._wake:
            if self._closing or (key not in self._pending and len(self._pending) >= self._limit):
                self.dropped += 1
                return
            self._pending[key] = text
            self._start()

    # ---- life

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="llm-proxy-state", daemon=True)
            self._thread.start()
        self._wake.notify()

    def close(self) -> None:
        """Writes what is pending and ends the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    # ---- on the helper thread

    def _run(self) -> None:
        database = self._open()
        while True:
            with self._wake:
                while not (self._pending or self._asked or self._closing):
                    self._wake.wait()
                self._writing, self._pending = dict(self._pending), OrderedDict()
                asked, self._asked = self._asked, []
                closing = self._closing
            if self._writing:
                self._write(database)
            for key, loop, future in asked:
                self._reply(loop, future, self._read(database, key))
            if closing:
                database.close()
                return

    def _open(self) -> sqlite3.Connection:
        try:
            database = sqlite3.connect(self._path)
            if self._path != MEMORY:
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=NORMAL")
            database.execute(_SCHEMA)
            database.commit()
        except sqlite3.Error as error:
            self.problem = f"{self._path}: {error}"
            logger.error("Plugin state is kept in memory only, %s", self.problem)
            database = sqlite3.connect(MEMORY)
            database.execute(_SCHEMA)
        return database

    def _write(self, database: sqlite3.Connection) -> None:
        try:
            with database:
                database.executemany(_WRITE, list(self._writing.items()))
        except sqlite3.Error as error:
            self.dropped += len(self._writing)
            logger.error("Plugin state was not written: %s", error)
        with self._wake:
            self._writing = {}

    @staticmethod
    def _read(database: sqlite3.Connection, key: str) -> str | None:
        try:
            row = database.execute("SELECT value FROM state WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            logger.error("Plugin state was not read: %s", error)
            return None
        return None if row is None else str(row[0])

    @staticmethod
    def _reply(
        loop: asyncio.AbstractEventLoop, future: asyncio.Future[str | None], value: str | None
    ) -> None:
        def tell() -> None:
            if not future.done():
                future.set_result(value)

        try:
            loop.call_soon_threadsafe(tell)
        except RuntimeError:
            logger.debug("The loop that asked for plugin state is closed.")
