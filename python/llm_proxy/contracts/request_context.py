"""What the core knows about a client's request. Plugins meet these names in type hints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


class RequestHeaders(Mapping[str, str]):
    """Header values by name, in any case."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self._values = {name.lower(): value for name, value in (headers or {}).items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values


class RequestCookies(dict[str, str]):
    """Cookie values by name."""


class ProcessingContext(dict[str, Any]):
    """Notes that the steps of one request leave for each other."""


@dataclass
class ContentModificationTracker:
    """Which steps changed a request's content, in order."""

    changes: list[tuple[str, str]] = field(default_factory=list)  # (who, what)

    def record(self, who: str, what: str = "") -> None:
        self.changes.append((who, what))

    @property
    def modified(self) -> bool:
        return bool(self.changes)


@dataclass
class RequestContext:
    """One request of one client."""

    headers: Mapping[str, str] = field(default_factory=RequestHeaders)
    cookies: Mapping[str, str] = field(default_factory=RequestCookies)
    state: Any = None
    app_state: Any = None
    client_host: str | None = None
    session_id: str | None = None
    agent: str | None = None
    original_request: Any = None
    request_id: str | None = None
    processing_context: ProcessingContext = field(default_factory=ProcessingContext)
    modifications: ContentModificationTracker = field(default_factory=ContentModificationTracker)
    extensions: dict[str, Any] = field(default_factory=dict)
