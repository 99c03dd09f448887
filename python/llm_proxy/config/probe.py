"""What this machine offers without being asked to: installed backend plugins and local servers."""

from __future__ import annotations

from urllib.parse import urlsplit

ENTRY_POINT_GROUP = "llm_proxy_backends"


def installed_backends() -> tuple[str, ...]:
    """Names of the backend plugins installed beside us; nothing of theirs is imported."""
    from importlib.metadata import entry_points

    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def answers(url: str) -> bool:
    """Whether something accepts connections there; a local server is given 0.2 s."""
    import socket

    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=0.2):
            return True
    except OSError:
        return False
