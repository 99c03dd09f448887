"""Tells the user something outside of any reply, e.g. that a login is needed."""

from __future__ import annotations

import abc
import inspect
import logging
from typing import Any

logger = logging.getLogger(__name__)


class INotificationService(abc.ABC):
    @property
    @abc.abstractmethod
    def is_enabled(self) -> bool: ...

    @abc.abstractmethod
    async def send_notification(
        self, title: str, message: str, *, url: str | None = None, url_label: str = "Open link"
    ) -> None: ...


class NotificationService(INotificationService):
    """Hands notifications to `provider.send(...)`; without a provider, and when enabled, they
    are log lines."""

    def __init__(self, config: Any, host: str, provider: Any = None) -> None:
        self._config = config
        self._host = host
        self._provider = provider

    @property
    def is_enabled(self) -> bool:
        return bool(getattr(self._config, "enabled", False))

    async def send_notification(
        self, title: str, message: str, *, url: str | None = None, url_label: str = "Open link"
    ) -> None:
        if not self.is_enabled:
            return
        if self._provider is None:
            logger.info("%s: %s%s", title, message, f" ({url})" if url else "")
            return
        outcome = self._provider.send(title, message, url=url, url_label=url_label)
        if inspect.isawaitable(outcome):
            await outcome
