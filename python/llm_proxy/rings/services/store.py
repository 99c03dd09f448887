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
_SLOW_SECONDS = 5.0


class StateStore:
    """Async get and set on one SQLite file, which belongs to this process.

    A helper thread owns the database; the lane never waits for a disk. `ready` opens the file and
    reads it, so that every `get_state` after it is answered from memory, without a suspension: a
    plugin may ask in a budget of a few milliseconds. Memory holds `memory_limit` bytes of keys and
    values, the last used ones; only a key beyond them is read from the file when it is asked for.

    Writes are kept in a map (the last one of a key wins, `limit` keys at most) that the thread
    empties in one transaction; what does not fit is dropped and counted.
    """

    def __init__(
        self, path: str | Path = MEMORY, limit: int = 10_000, memory_limit: int = 64 << 20
    ) -> None:
        self._path = str(path)
        self._limit = limit
        self._memory_limit = memory_limit
        self._wake = threading.Condition()
        self._rows: OrderedDict[str, str] = OrderedDict()  # of the file, and newer
        self._size = 0  # of _rows, in bytes of UTF-8 at least
        self._whole = False  # what is not in _rows is not in the file either
        self._pending: OrderedDict[str, str] = OrderedDict()
        self._writing: dict[str, str] = {}
        self._asked: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Future[str | None]]] = []
        self._opened = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        self.problem: str | None = None  # why nothing reaches the disk

    # ---- for plugins, on the lane

    async def get_state(self, key: str, default: Any = None) -> Any:
        loop = asyncio.get_running_loop()
        with self._wake:
            text = self._newest(key)
            if text is None and not self._whole:
                if self._closing or len(self._asked) >= self._limit:
                    return default
                future: asyncio.Future[str | None] = loop.create_future()
                self._asked.append((key, loop, future))
                self._start()
            elif text is None:
                return default
        if text is None:
            text = await future
        return default if text is None else json.loads(text)

    async def set_state(self, key: str, value: Any) -> None:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        with self._wake:
            if self._closing or (key not in self._pending and len(self._pending) >= self._limit):
                self.dropped += 1
                return
            self._pending[key] = text
            self._remember(key, text)
            self._start()

    def _newest(self, key: str) -> str | None:
        for rows in (self._pending, self._writing, self._rows):
            if key in rows:
                if rows is self._rows:
                    self._rows.move_to_end(key)
                return rows[key]
        return None

    def _remember(self, key: str, text: str) -> None:
        self._size += _weight(key, text) - _weight(key, self._rows.pop(key, ""))
        self._rows[key] = text
        while self._size > self._memory_limit and self._rows:
            oldest, forgotten = self._rows.popitem(last=False)
            self._size -= _weight(oldest, forgotten)
            self._whole = False

    # ---- life

    async def ready(self) -> None:
        """Returns when the file is open and read, or known to be unusable (`problem`).

        Costs nothing when it has been called before. A disk that does not answer is waited for,
        and the log says so.
        """
        if self._opened.is_set():
            return
        loop = asyncio.get_running_loop()
        with self._wake:
            if self._closing or self._opened.is_set():
                return
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.append((loop, future))
            self._start()
        done, _ = await asyncio.wait({future}, timeout=_SLOW_SECONDS)
        if not done:
            logger.warning("The start waits for the plugins' state file %s.", self._path)
            await future

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
        self._load(database)
        with self._wake:
            self._opened.set()
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            _tell(loop, future, None)
        while True:
            with self._wake:
                while not (self._pending or self._asked or self._closing):
                    self._wake.wait()
                self._writing, self._pending = dict(self._pending), OrderedDict()
                asked, self._asked = self._asked, []
                closing = self._closing
            if self._writing:
                self._write(database)
            for key, loop, future_text in asked:
                _tell(loop, future_text, self._read(database, key))
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

    def _load(self, database: sqlite3.Connection) -> None:
        """The rows of the file, the last written ones first, as far as memory may hold them."""
        rows: list[tuple[str, str]] = []
        size, whole = 0, True
        try:
            for key, text in database.execute("SELECT key, value FROM state ORDER BY rowid DESC"):
                size += _weight(str(key), str(text))
                if size > self._memory_limit:
                    whole = False
                    break
                rows.append((str(key), str(text)))
        except sqlite3.Error as error:
            whole = False
            logger.error("Plugin state was not read: %s", error)
        with self._wake:
            newer, self._rows, self._size, self._whole = self._rows, OrderedDict(), 0, whole
            for key, text in (*reversed(rows), *newer.items()):
                self._remember(key, text)

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


def _weight(key: str, text: str) -> int:
    return len(key) + len(text) if text else 0


def _tell(loop: asyncio.AbstractEventLoop, future: asyncio.Future[Any], value: Any) -> None:
    def tell() -> None:
        if not future.done():
            future.set_result(value)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        logger.debug("The loop that asked for plugin state is closed.")
