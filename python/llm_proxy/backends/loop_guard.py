"""The header that keeps a proxy from calling itself."""

from __future__ import annotations

from collections.abc import Mapping

LOOP_GUARD_HEADER = "x-llmproxy-loop-guard"
LOOP_GUARD_VALUE = "1"


def ensure_loop_guard_header(headers: Mapping[str, str] | None) -> dict[str, str]:
    """A copy of `headers` that carries the guard.

    A request that arrives with it has been here before.
    """
    guarded = dict(headers or {})
    guarded.setdefault(LOOP_GUARD_HEADER, LOOP_GUARD_VALUE)
    return guarded
