"""Settings as the JSON text the engine runs on: the members of `ServerConfig` in C++."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llm_proxy import __version__, cpus
from llm_proxy.backends.catalog import AUTH_OF_FORMAT, INSTALL_OAUTH, OAUTH_PACKAGE_BACKENDS
from llm_proxy.config.settings import Backend, Settings
from llm_proxy.config.table import SETTINGS


def snapshot(settings: Settings) -> str:
    """Every setting of the engine under its own path, and what is made from several.

    The engine refuses a member that it does not know.
    """
    made: dict[str, object] = {}
    for setting in SETTINGS:
        if setting.engine:
            _put(made, setting.path, settings.values[setting.path])
    _put(made, "anthropic_port", settings.anthropic_port)
    if not made["io_threads"]:
        made["io_threads"] = cpus.usable_cpus().count
    _put(made, "auth.api_keys", settings.client_keys)
    _put(made, "auth.admin_keys", settings.admin_keys)
    return json.dumps(
        {
            **made,
            "backends": [
                row
                for backend in settings.backends
                for row in (_backend(backend, settings), *_others(backend, settings))
            ],
            "default_backend": settings.default_backend,
            "default_model": settings.default_model,
            "static_route": settings.text("backends.static_route"),
            "not_installed": {
                name: f"backend '{name}' comes with the optional package: {INSTALL_OAUTH}"
                for name in sorted(OAUTH_PACKAGE_BACKENDS - {b.type for b in settings.backends})
            },
            "version": __version__,
        },
        ensure_ascii=False,
    )


def _put(tree: dict[str, object], path: str, value: object) -> None:
    *sections, name = path.split(".")
    for section in sections:
        inner = tree.setdefault(section, {})
        assert isinstance(inner, dict)
        tree = inner
    tree[name] = value


def proxies_of(settings: Settings) -> dict[str, object]:
    """How providers are reached, for `_core.ProxyRules`."""
    return {
        "http_proxy": settings.text("network.http_proxy"),
        "https_proxy": settings.text("network.https_proxy"),
        "all_proxy": settings.text("network.all_proxy"),
        "no_proxy": ",".join(settings.texts("network.no_proxy")),
        "proxy_loopback": settings.switch("network.proxy_loopback"),
    }


def _backend(backend: Backend, settings: Settings) -> dict[str, object]:
    missing = "routing.model_only_missing_"
    return {
        "name": backend.name,
        "type": backend.type,
        "kind": backend.kind,
        "format": backend.format,
        "base_url": backend.base_url,
        "auth_header": backend.auth.header,
        "auth_prefix": backend.auth.prefix,
        "keys": list(backend.keys) if backend.kind == "http" else [],
        "key_policy": backend.key_policy,
        "headers": dict(backend.headers),
        "models": list(backend.models),
        "models_path": backend.models_path,
        "cloud_models_url": backend.cloud_models_url,
        "only_models": [],
        "vendor_prefixes": [f"{vendor}/" for vendor in backend.vendors],
        "model_names": dict(backend.model_names),
        "timeout": backend.timeout,
        "client_headers": backend.client_headers,
        "loop_guard": backend.loop_guard,
        "routing_cost": settings.number(missing + "cost")
        if backend.routing_cost is None
        else backend.routing_cost,
        "routing_priority": settings.number(missing + "priority")
        if backend.routing_priority is None
        else backend.routing_priority,
        "quirks": dict.fromkeys(backend.quirks, True),
    }


def _others(backend: Backend, settings: Settings) -> Iterator[dict[str, object]]:
    """The same server once more for each further format it speaks."""
    for other in backend.others:
        auth = AUTH_OF_FORMAT[other.format]
        yield {
            **_backend(backend, settings),
            "format": other.format,
            "auth_header": auth.header,
            "auth_prefix": auth.prefix,
            "models": [],
            "only_models": list(other.models),
            "quirks": dict.fromkeys(other.quirks, True),
        }
