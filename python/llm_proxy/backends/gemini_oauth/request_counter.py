"""How many requests have gone out today, kept in a file over restarts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

logger = logging.getLogger(__name__)

# Shares of the limit that are worth a word in the log.
_THRESHOLDS = (0.7, 0.9, 1.0)


def _pacific() -> timezone | ZoneInfo:
    try:
        return ZoneInfo("America/Los_Angeles")
    except ZoneInfoNotFoundError:
        return timezone(timedelta(hours=-8))


class DailyRequestCounter:
    """Counts requests of one day in US Pacific time, where Google's quotas begin anew."""

    def __init__(
        self,
        persistence_path: str | Path,
        limit: int,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._path = Path(persistence_path)
        self.limit = limit
        self._now = now
        self._zone = _pacific()
        self.count = 0
        self.day = self._today()
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            if kept["day"] == self.day:
                self.count = int(kept["count"])
        except (OSError, ValueError, KeyError, TypeError):
            logger.debug("no count of today in %s", self._path)

    def _today(self) -> str:
        return self._now().astimezone(self._zone).date().isoformat()

    def increment(self) -> int:
        """The count with this request."""
        today = self._today()
        if today != self.day:
            self.day, self.count = today, 0
        self.count += 1
        for share in _THRESHOLDS:
            if self.count == int(self.limit * share):
                logger.warning("%d of %d requests of today are used.", self.count, self.limit)
                break
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"day": self.day, "count": self.count}))
        except OSError as error:
            logger.warning("The count of today cannot be kept: %s", error)
        return self.count
