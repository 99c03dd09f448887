"""Settings as what a `Server` is made of, and what of them a running one can take over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_proxy.config.plugin_view import plugin_view
from llm_proxy.config.settings import Settings
from llm_proxy.config.snapshot import snapshot

# Read when the process starts; a change waits for the next start.
AT_START = (
    "host",
    "port",
    "anthropic_port",
    "io_threads",
    "responses.store_entries",
    "responses.store_bytes",
    "responses.store_seconds",
    "network.http_proxy",
    "network.https_proxy",
    "network.all_proxy",
    "network.no_proxy",
    "network.proxy_loopback",
    "timeouts.upstream_idle",
    "timeouts.drain",
    "plugins.directory",
    "plugins.state_file",
    "plugins.on_load_error",
    "logging.format",
    "logging.log_file",
    "logging.console_stream",
    "logging.access_log_file",
)


@dataclass(frozen=True)
class Plan:
    """The arguments of a `Server`, made from one reading of the configuration."""

    config: str
    plugins_dir: str | None
    plugins: tuple[str, ...]
    plugin_options: Mapping[str, Any]
    app_config: Mapping[str, Any] | None


def plan(settings: Settings) -> Plan:
    hosted = any(backend.kind == "python" for backend in settings.backends)
    state_file = settings.text("plugins.state_file")
    return Plan(
        snapshot(settings),
        settings.text("plugins.directory") or None,
        settings.texts("plugins.enabled"),
        {
            "config": settings.mapping("plugins.config"),
            "tenants": settings.mapping("plugins.tenants"),
            **({"state_file": state_file} if state_file else {}),
            "on_load_error": settings.text("plugins.on_load_error"),
        },
        plugin_view(settings) if hosted else None,
    )


def waits_for_a_start(before: Settings, after: Settings) -> tuple[str, ...]:
    """The settings that differ and that a running server cannot take over."""
    return tuple(path for path in AT_START if before.values[path] != after.values[path])
