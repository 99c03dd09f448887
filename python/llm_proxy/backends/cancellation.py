"""Calls off a running turn: whoever registered under its key is cancelled."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from llm_proxy.contracts.exceptions import SessionCancelledError
from llm_proxy.contracts.session import ClientTerminationReason, ICancellable, SessionKey

logger = logging.getLogger(__name__)


@dataclass
class _Turn:
    reason: ClientTerminationReason | None = None
    cancellables: list[ICancellable] = field(default_factory=list)


class SessionCancellationCoordinator:
    """Holds one entry per running turn; `cleanup` ends it. Used on the lane only."""

    def __init__(self) -> None:
        self._turns: dict[SessionKey, _Turn] = {}

    @property
    def turns(self) -> int:
        """How many turns are known: the running ones that anyone asked about."""
        return len(self._turns)

    def is_cancelled(self, key: SessionKey) -> bool:
        turn = self._turns.get(key)
        return turn is not None and turn.reason is not None

    def mark_cancelled(self, key: SessionKey, reason: ClientTerminationReason) -> None:
        """The part of `cancel_session` that takes effect at once."""
        self._turns.setdefault(key, _Turn()).reason = reason

    async def cancel_session(self, key: SessionKey, reason: ClientTerminationReason) -> None:
        self.mark_cancelled(key, reason)
        turn = self._turns[key]
        cancellables, turn.cancellables = turn.cancellables, []
        for cancellable in cancellables:
            try:
                await cancellable.cancel()
            except Exception as error:
                logger.debug("cancelling %r failed: %r", cancellable, error)

    def register_cancellable(self, key: SessionKey, cancellable: ICancellable) -> None:
        self._turns.setdefault(key, _Turn()).cancellables.append(cancellable)

    def ensure_not_cancelled(self, key: SessionKey) -> None:
        turn = self._turns.get(key)
        if turn is not None and turn.reason is not None:
            raise SessionCancelledError(key, turn.reason)

    def cleanup(self, key: SessionKey) -> None:
        self._turns.pop(key, None)
