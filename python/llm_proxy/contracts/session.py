"""Whose turn this is, and how a turn is called off."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class SessionKey:
    """Names one running turn.

    `primary_id` is the session, or the request where no session is known.
    """

    protocol: str
    primary_id: str
    group_id: str | None = None

    def __post_init__(self) -> None:
        if not self.primary_id.strip():
            raise ValueError("primary_id must not be blank")


class ClientTerminationReason(str, enum.Enum):
    CLIENT_DISCONNECTED = "client_disconnected"
    CLIENT_CANCELLED = "client_cancelled"
    UNKNOWN_CLIENT_TERMINATION = "unknown_client_termination"


@runtime_checkable
class ICancellable(Protocol):
    async def cancel(self) -> None: ...


class ISessionCancellationCoordinator(Protocol):
    """Asked by a backend whether its turn is still wanted, and told by it what to cancel when
    not."""

    def is_cancelled(self, key: SessionKey) -> bool: ...

    async def cancel_session(self, key: SessionKey, reason: ClientTerminationReason) -> None: ...

    def register_cancellable(self, key: SessionKey, cancellable: ICancellable) -> None: ...

    def ensure_not_cancelled(self, key: SessionKey) -> None: ...

    def cleanup(self, key: SessionKey) -> None: ...
