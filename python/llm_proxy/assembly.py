"""A whole proxy from its parts: the server with ring plugins, Python backends and the admin API."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from llm_proxy.admin.bridge import AdminBridge
from llm_proxy.rings.runtime.ring_plugins import RingPlugins
from llm_proxy.server import Server


def make_server(
    config: str | Mapping[str, Any],
    *,
    plugins_dir: str | Path | None = None,
    plugins: Collection[str] = (),
    plugin_options: Mapping[str, Any] | None = None,
    app_config: Mapping[str, Any] | None = None,
    drain_seconds: float | None = None,
) -> Server:
    """The server, not yet started: `async with make_server(config) as server: ...`.

    `plugins_dir` holds the manifest of ring plugins; `plugins` names built-in ones to run ("stock":
    the usual set, "all": every one). Without either no request meets Python. `plugin_options`:
    `config`, `state_file`, `tenants` of the PluginManager. `config`, `app_config` and
    `drain_seconds` are those of the Server.
    """
    return Server(
        config,
        rings=RingPlugins(plugins_dir, plugins, plugin_options),
        admin=AdminBridge,
        app_config=app_config,
        drain_seconds=drain_seconds,
    )
