"""Is it a stream of server-sent events? The events themselves are read by `_core.SseReader`."""

from __future__ import annotations

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def begins_event(raw: bytes) -> bool:
    """A field name, so that this is an event stream and not text of another kind."""
    return raw.lstrip().startswith(_FIELDS)


def may_begin_event(raw: bytes) -> bool:
    """As much of a field name as a cut in the network's bytes has left."""
    return raw != b"" and any(field.startswith(raw) for field in _FIELDS)
