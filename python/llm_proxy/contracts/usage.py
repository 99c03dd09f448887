"""Token counts, as summary and as the record that is kept."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


@dataclass(eq=False, frozen=True)
class UsageSummary:
    """What a turn cost. Never changes; reads like the dict it replaces.

    Every further count is in `extensions`.
    """

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
        """Both together: numbers are added, of anything else what `other` says counts."""
        mine = self.to_legacy_dict()
        more = other if isinstance(other, UsageSummary) else UsageSummary.from_dict(other)
        theirs = more.to_legacy_dict()
        both = {
            key: mine[key] + theirs[key] if _adds(mine.get(key)) and _adds(value) else value
            for key, value in theirs.items()
        }
        if "total_tokens" not in theirs and theirs.keys() & {"prompt_tokens", "completion_tokens"}:
            counts = ({**mine, **both}.get(name) or 0 for name in _COUNTS[:2])
            both["total_tokens"] = sum(counts)
        return UsageSummary.from_dict({**mine, **both})

    def equals(self, other: Any) -> bool:
        """Another summary with the same counts and extensions."""
        return isinstance(other, UsageSummary) and self == other

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


def _adds(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


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
