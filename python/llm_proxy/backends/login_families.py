"""Which backends are personal logins, of which a proxy has at most one of a kind."""

from __future__ import annotations

from collections.abc import Mapping


def normalize_backend_name(name: str) -> str:
    """The connector part of a backend name, in lower case with dashes."""
    return name.strip().lower().replace("_", "-").split(".", 1)[0].split(":", 1)[0]


def is_login_family(name: str) -> bool:
    """Of the `x-oauth` or `x-oauth-y` shape: a personal login, of which there is one."""
    normal = normalize_backend_name(name)
    return normal.endswith("-oauth") or "-oauth-" in normal


def second_logins(connectors: Mapping[str, str]) -> list[tuple[str, str]]:
    """The instances that follow another one of the same login family, each with the first one.

    `connectors`: instance name → connector. Gives pairs (later instance, first instance).
    """
    first: dict[str, str] = {}
    late = []
    for name, connector in connectors.items():
        if is_login_family(connector):
            kept = first.setdefault(normalize_backend_name(connector), name)
            if kept != name:
                late.append((name, kept))
    return late
