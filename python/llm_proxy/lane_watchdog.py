"""Says who blocks the loop: requests that need Python wait for whatever it is."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Callable

logger = logging.getLogger("llm_proxy.lane")

LIMIT_SECONDS = 0.5
BEAT_SECONDS = 0.25


class PluginInterrupted(BaseException):
    """Raised in a plugin that has been computing for longer than it may without giving way."""


class Watchdog:
    """A helper thread that logs the stack of the loop's thread when work waits too long for it.

    One log line for each time the loop is blocked, not one per beat. A ring plugin that computes on
    and on is interrupted; a call that never comes back to Python cannot be.
    """

    def __init__(
        self,
        lag: Callable[[], float],
        limit: float = LIMIT_SECONDS,
        interrupt: Callable[[type[BaseException]], bool] | None = None,
    ) -> None:
        self._lag = lag
        self._interrupt = interrupt
        self._limit = limit
        self._watched = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="llm-proxy-watchdog", daemon=True)
        self.blocked = 0  # how often the loop was found blocked

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        said = False
        while not self._stop.wait(min(BEAT_SECONDS, self._limit / 2)):
            lag = self._lag()
            if lag < self._limit:
                said = False
            elif not said:
                said = True
                self.blocked += 1
                self._say(lag)
            if self._interrupt and self._interrupt(PluginInterrupted):
                logger.warning("The plugin that blocks the event loop is interrupted.")

    def _say(self, lag: float) -> None:
        frame = sys._current_frames().get(self._watched)
        stack = "".join(traceback.format_stack(frame)) if frame else "  (no Python stack)\n"
        logger.warning("The event loop has been blocked for %.1f s, by:\n%s", lag, stack.rstrip())
