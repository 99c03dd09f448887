"""Settings as the JSON text the engine runs on: the members of `ServerConfig` in C++."""

from __future__ import annotations

import json
from collections.abc import Iterator

from llm_proxy import __version__
from llm_proxy.backends.catalog import AUTH_OF_FORMAT, INSTALL_OAUTH, OAUTH_PACKAGE_BACKENDS
from llm_proxy.config.settings import Backend, Settings
from llm_proxy.config.table import SETTINGS

_GUARD = "auth.brute_force_protection"


def snapshot(settings: Settings) -> str:
    return json.dumps(
        {
            "host": settings.host,
            "port": settings.port,
            "anthropic_port": settings.anthropic_port,
            "workers": settings.whole("io_threads"),
            "body_limit": settings.whole("limits.body_bytes"),
            "head_limit": settings.whole("limits.head_bytes"),
            "client_min_rate": settings.whole("limits.client_min_rate"),
            "memory_limit": settings.whole("limits.memory_bytes"),
            **proxies_of(settings),
            "timeouts": {
                setting.path.removeprefix("timeouts."): settings.seconds(setting.path)
                for setting in SETTINGS
                if setting.path.startswith("timeouts.")
            },
            "client_keys": list(settings.client_keys),
            "admin_keys": list(settings.admin_keys),
            "trusted_ips": list(settings.texts("auth.trusted_ips")),
            "trusted_proxies": list(settings.texts("auth.trusted_proxies")),
            "allowed_hosts": list(settings.texts("allowed_hosts")),
            "brute_force": {
                "enabled": settings.switch(f"{_GUARD}.enabled"),
                "max_failed_attempts": settings.whole(f"{_GUARD}.max_failed_attempts"),
                "ttl": settings.seconds(f"{_GUARD}.ttl_seconds"),
                "initial_block": settings.seconds(f"{_GUARD}.initial_block_seconds"),
                "block_multiplier": settings.number(f"{_GUARD}.block_multiplier"),
                "max_block": settings.seconds(f"{_GUARD}.max_block_seconds"),
            },
            "allowed_origins": list(settings.texts("cors.allow_origins")),
            "backends": [
                made
                for backend in settings.backends
                for made in (_backend(backend, settings), *_others(backend, settings))
            ],
            "default_backend": settings.default_backend,
            "default_model": settings.default_model,
            "not_installed": {
                name: f"backend '{name}' comes with the optional package: {INSTALL_OAUTH}"
                for name in sorted(OAUTH_PACKAGE_BACKENDS - {b.type for b in settings.backends})
            },
            "static_route": settings.text("backends.static_route"),
            "model_aliases": settings.names("model_aliases"),
            "failover_routes": settings.mapping("failover_routes"),
            "routing": {
                "no_instances": settings.switch("routing.disable_backend_ids"),
                "no_backends": settings.switch("routing.disable_backend_names"),
                "no_models": settings.switch("routing.disable_model_names"),
                "preference": settings.text("routing.model_only_preference_policy"),
                "by_model": settings.names("routing.model_only_model_overrides"),
                "by_backend": settings.names("routing.model_only_backend_family_overrides"),
            },
            "failure_handling": {
                "enabled": settings.switch("failure_handling.enabled"),
                "max_attempts": settings.whole("failure_handling.max_attempts"),
                "max_hops": settings.whole("failure_handling.max_failover_hops"),
                "max_silent_wait": settings.seconds("failure_handling.max_silent_wait"),
                "total_budget": settings.seconds("failure_handling.total_timeout_budget"),
                "back_off": settings.seconds("failure_handling.min_retry_wait"),
            },
            "breaker": {
                "threshold": settings.whole("resilience.circuit_breaker.failure_threshold")
                if settings.switch("resilience.circuit_breaker.enabled")
                else 0,
                "cool_down": settings.seconds("resilience.circuit_breaker.open_cooldown_seconds"),
            },
            "response_store": {
                "entries": settings.whole("responses.store_entries"),
                "bytes": settings.whole("responses.store_bytes"),
                "ttl": settings.seconds("responses.store_seconds"),
            },
            "guarded_body_limit": settings.whole("plugins.guarded_body_bytes"),
            "pass_unreadable": settings.text("plugins.unreadable") == "pass",
            "exact_token_counts": settings.switch("counting.exact"),
            "commands": {
                "enabled": not settings.switch("session.disable_interactive_commands"),
                "prefix": settings.text("command_prefix"),
                "session_ttl": settings.seconds("session.ttl"),
            },
            "reply_headers": settings.switch("failure_handling.reply_headers"),
            "model_discovery": settings.switch("models.discovery"),
            "models_fresh": settings.seconds("models.cache_seconds"),
            "log_json": settings.text("logging.format") == "json",
            "access_log": settings.switch("logging.access_log"),
            "access_log_path": settings.text("logging.access_log_file"),
            "version": __version__,
        },
        ensure_ascii=False,
    )


def proxies_of(settings: Settings) -> dict[str, object]:
    """How providers are reached: the same words for the engine and for `_core.ProxyRules`."""
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
