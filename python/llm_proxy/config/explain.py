"""Settings for a reader: every value with its origin, no key ever shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llm_proxy import cpus
from llm_proxy.config.settings import Backend, Settings
from llm_proxy.config.table import SETTINGS, Value


def masked(key: str) -> str:
    """Enough to tell two keys apart, too little to use one."""
    return f"...{key[-4:]}" if len(key) >= 20 else "(set)"


def explain(settings: Settings) -> Iterator[str]:
    width = max(len(setting.path) for setting in SETTINGS)
    for setting in SETTINGS:
        shown = _shown(settings.values[setting.path], setting.secret)
        origin = str(settings.origins[setting.path])
        if setting.path == "io_threads" and settings.values["io_threads"] == 0:
            usable = cpus.usable_cpus()
            origin = f"{origin}; {usable.count} now: {usable.reason}"
        yield f"{setting.path:{width}}  {shown:24}  {origin}"
    yield ""
    for backend in settings.backends:
        default = "  <- default" if backend.name == settings.default_backend else ""
        yield f"backend {backend.name}: {describe(backend)}  {backend.origin}{default}"


def describe(backend: Backend) -> str:
    keys = ", ".join(map(masked, backend.keys))
    return " ".join(
        part
        for part in (
            backend.base_url or f"({backend.kind})",
            backend.format if backend.kind == "http" else "",
            f"keys {keys}" if keys else "",
        )
        if part
    )


def without_password(url: str) -> str:
    """The URL of a proxy for a reader: that it has a user and a password, not which."""
    scheme, mark, rest = url.rpartition("://")
    _login, at, place = rest.rpartition("@")
    return f"{scheme}{mark}***@{place}" if at else url


def _shown(value: Value, secret: bool) -> str:
    if isinstance(value, str) and secret:
        return without_password(value) or "-"
    if isinstance(value, tuple):
        return ", ".join(masked(part) if secret else part for part in value) or "-"
    if isinstance(value, Mapping) and secret:
        return ", ".join(masked(name) for name in value) or "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={target}" for name, target in value.items()) or "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if value != "" else "-"
