"""The wire capture into a file: one JSON object a line, rotated, written off the event loop."""

from __future__ import annotations

import base64
import datetime
import json
import logging
import queue
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_proxy.backends.runtime.capture.wire_capture import set_wire_capture

if TYPE_CHECKING:
    from llm_proxy.backends.app_config import LoggingConfig

# Waiting lines; beyond it lines are dropped and counted rather than kept in memory.
_QUEUE = 1000


class CaptureFile:
    """What backend plugins sent and got, as `IWireCapture` hands it over: credentials hidden.

    Lane only; a thread of its own writes. `close` writes what waits and ends it. Raises OSError
    when the file cannot be opened.
    """

    def __init__(
        self, path: str | Path, *, max_bytes: int = 0, files: int = 5, truncate_bytes: int = 0
    ) -> None:
        """Past `max_bytes` (0: never) the file moves to `path.1`, of which `files` are kept; of a
        body `truncate_bytes` (0: all) are written."""
        target = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=files, encoding="utf-8")
        Path(path).chmod(0o600)
        self._lines: queue.Queue[Any] = queue.Queue(_QUEUE)
        self._handler = _DropNewest(self._lines)
        self._listener = QueueListener(self._lines, target)
        self._listener.start()
        self._target = target
        self._truncate = truncate_bytes

    @property
    def dropped(self) -> int:
        return self._handler.dropped

    def enabled(self) -> bool:
        return True

    async def capture_boundary(self, *, payload: bytes, **told: Any) -> None:
        line = {"time": datetime.datetime.now(datetime.timezone.utc).isoformat(), **told}
        shown = payload[: self._truncate] if self._truncate else payload
        if len(shown) < len(payload):
            line["truncated_bytes"] = len(payload) - len(shown)
        try:
            line["payload"] = shown.decode()
        except UnicodeDecodeError:
            line["payload_base64"] = base64.b64encode(shown).decode()
        text = json.dumps(line, ensure_ascii=False, default=str)
        self._handler.handle(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        set_wire_capture(None)
        self._listener.stop()
        self._target.close()


def open_capture(config: LoggingConfig) -> CaptureFile | None:
    """The capture that the configuration asks for, running; None: none is asked for."""
    if not config.capture_file:
        return None
    capture = CaptureFile(
        config.capture_file,
        max_bytes=config.capture_max_bytes,
        files=config.capture_max_files,
        truncate_bytes=config.capture_truncate_bytes,
    )
    set_wire_capture(capture)
    return capture


class _DropNewest(QueueHandler):
    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1
