"""Settings as backend plugins are given them: the nested mapping their `AppConfig` is made of."""

from __future__ import annotations

from typing import Any

from llm_proxy.config.settings import Backend, Settings
from llm_proxy.config.table import SETTINGS, Value


def plugin_view(settings: Settings) -> dict[str, Any]:
    """Every setting at its path, and below `backends` each instance with its first key."""
    out: dict[str, Any] = {}
    for setting in SETTINGS:
        _put(out, setting.path, settings.values[setting.path])
    out["proxy_timeout"] = max(1, round(settings.seconds("proxy_timeout")))
    out["model_aliases"] = [
        {"pattern": name, "replacement": target}
        for name, target in settings.names("model_aliases").items()
    ]
    out["backends"] = {
        "default_backend": settings.default_backend,
        "static_route": settings.text("backends.static_route") or None,
        **{backend.name: _backend(backend) for backend in settings.backends},
    }
    return out


def _backend(backend: Backend) -> dict[str, Any]:
    return {
        "connector": backend.type,
        "api_key": backend.keys[0] if backend.keys else None,
        "api_url": backend.base_url or None,
        "models": list(backend.models),
        **backend.own,
    }


def _put(out: dict[str, Any], path: str, value: Value) -> None:
    *sections, name = path.split(".")
    for section in sections:
        out = out.setdefault(section, {})
    out[name] = list(value) if isinstance(value, tuple) else value
