"""Token counts, as summary and as the record that is kept."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(eq=False)
class UsageSummary:
    """What a turn cost. Reads like the dict it replaces; every further count is in `extensions`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    extensions: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> UsageSummary:
        """Takes the spellings of Chat (`prompt_tokens`) and of Messages and Responses
        (`input_tokens`)."""
        data = data or {}
        prompt = data.get("prompt_tokens", data.get("input_tokens"))
        completion = data.get("completion_tokens", data.get("output_tokens"))
        total = data.get("total_tokens")
        if total is None and prompt is not None and completion is not None:
            total = prompt + completion
        named = {*_COUNTS, "input_tokens", "output_tokens", "extensions"}
        extensions = {key: value for key, value in data.items() if key not in named}
        extensions.update(data.get("extensions") or {})
        return cls(prompt, completion, total, extensions)

    def to_dict(self) -> dict[str, Any]:
        return {**self.to_legacy_dict(), "extensions": dict(self.extensions)}

    def to_legacy_dict(self) -> dict[str, Any]:
        """The counts and extensions side by side, without what is unknown."""
        counts = {name: getattr(self, name) for name in _COUNTS}
        return {
            **{name: value for name, value in counts.items() if value is not None},
            **self.extensions,
        }

    def merge(self, other: UsageSummary | Mapping[str, Any] | None) -> UsageSummary:
        """A summary in which what `other` knows replaces what this one says."""
        if other is None:
            return UsageSummary.from_dict(self.to_legacy_dict())
        summary = other if isinstance(other, UsageSummary) else UsageSummary.from_dict(other)
        return UsageSummary.from_dict({**self.to_legacy_dict(), **summary.to_legacy_dict()})

    def get(self, key: str, default: Any = None) -> Any:
        return self.to_legacy_dict().get(key, default)

    def keys(self) -> Iterator[str]:
        return iter(self.to_legacy_dict())

    def __getitem__(self, key: str) -> Any:
        return self.to_legacy_dict()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.to_legacy_dict()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, UsageSummary):
            return self.to_legacy_dict() == other.to_legacy_dict()
        if isinstance(other, Mapping):
            return self.to_legacy_dict() == dict(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]


class UsageCompletionOutcome(str, enum.Enum):
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"


class UsageIncompleteReason(str, enum.Enum):
    CLIENT_DISCONNECTED = "client_disconnected"
    UPSTREAM_ERROR = "upstream_error"
    MISSING_USAGE = "missing_usage"
    UNKNOWN = "unknown"


@dataclass
class CanonicalUsageRecord:
    provider_id: str | None = None
    model_id: str | None = None
    request_id: str | None = None
    protocol: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cost: float | None = None
    completion_outcome: UsageCompletionOutcome | None = None
    incomplete_reason: UsageIncompleteReason | None = None
    extensions: dict[str, Any] = field(default_factory=dict)


UsagePayload = UsageSummary | dict[str, Any]
