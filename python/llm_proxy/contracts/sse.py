"""Server-sent events: bytes cut anywhere in, whole events out."""

from __future__ import annotations

from dataclasses import dataclass

MAX_EVENT_BYTES = 32 * 1024 * 1024


_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")


def begins_event(raw: bytes) -> bool:
    """A field name, so that this is an event stream and not text of another kind."""
    return raw.lstrip().startswith(_FIELDS)


def may_begin_event(raw: bytes) -> bool:
    """As much of a field name as a cut in the network's bytes has left."""
    return raw != b"" and any(field.startswith(raw) for field in _FIELDS)


@dataclass(frozen=True, slots=True)
class Event:
    name: str
    data: str


class SseReader:
    """Cuts a stream into events.

    Bytes in, so that no character is ever split; what is unfinished is kept.
    """

    def __init__(self) -> None:
        self._kept = b""

    @property
    def unfinished(self) -> bool:
        return bool(self._kept.strip())

    def frames(self, chunk: bytes) -> list[bytes]:
        """The frames that `chunk` completes, each with its blank line."""
        pending = self._kept + chunk
        if b"\r" in pending:
            ended_in_cr = pending.endswith(b"\r")
            pending = pending.replace(b"\r\n", b"\n")
            if ended_in_cr:
                pending = pending[:-1].replace(b"\r", b"\n") + b"\r"
            else:
                pending = pending.replace(b"\r", b"\n")
        *whole, self._kept = pending.split(b"\n\n")
        if len(self._kept) > MAX_EVENT_BYTES:
            raise ValueError("a server-sent event does not end")
        return [frame.lstrip(b"\n") + b"\n\n" for frame in whole if frame.strip()]

    def whole(self, chunk: bytes) -> bytes:
        """All the frames that `chunk` completes, in one piece."""
        if not self._kept and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            return chunk
        return b"".join(self.frames(chunk))

    def rest(self) -> bytes:
        """What came after the last blank line, as a frame of its own; empty when nothing did."""
        kept, self._kept = self._kept.strip(), b""
        return kept + b"\n\n" if kept else b""


def parse_event(frame: bytes) -> Event | None:
    """The event of one frame; None for a comment or an event without data."""
    name, data = "", []
    for line in frame.decode("utf-8", "replace").split("\n"):
        label, _, value = line.partition(":")
        if label == "data":
            data.append(value.removeprefix(" "))
        elif label == "event":
            name = value.removeprefix(" ")
    return Event(name, "\n".join(data)) if data else None
