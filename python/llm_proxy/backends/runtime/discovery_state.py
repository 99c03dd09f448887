"""What discovery found: names, metadata, hooks; and which names belong to the optional OAuth
package."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from llm_proxy.backends.login_families import is_login_family, normalize_backend_name

if TYPE_CHECKING:
    from llm_proxy.backends.plugin_api import PluginPostBuildHook

OAUTH_DISTRIBUTION = "llm-interactive-proxy-oauth-connectors"
OAUTH_INSTALL_COMMAND = "pip install llm-interactive-proxy[oauth]"
ACCESS_MODE_VARIABLE = "LLM_PROXY_ACCESS_MODE"
EXTRACTED_NAMES_VARIABLE = "LLM_PROXY_EXTRACTED_BACKENDS"


@dataclass(frozen=True)
class PluginMetadataRecord:
    """One registered plugin, for diagnostics."""

    backend_name: str
    plugin_name: str
    core_min_version: str
    core_max_version: str | None = None


_metadata: dict[str, PluginMetadataRecord] = {}
_hooks: dict[str, PluginPostBuildHook] = {}
_skipped_oauth: list[str] = []


@lru_cache(maxsize=1)
def get_extracted_connector_module_names() -> frozenset[str]:
    """Modules that the optional OAuth package's entry points name; empty when it is not
    installed."""
    return frozenset(entry.value.split(":", 1)[0] for entry in _oauth_entry_points())


def get_extracted_backend_names() -> frozenset[str]:
    """Backend names that belong to the optional OAuth package, or are declared to by the
    environment."""
    declared = os.environ.get(EXTRACTED_NAMES_VARIABLE, "").split(",")
    names = [*declared, *(entry.name for entry in _oauth_entry_points())]
    return frozenset(normalize_backend_name(name) for name in names if name.strip())


@lru_cache(maxsize=1)
def _oauth_entry_points() -> tuple[importlib.metadata.EntryPoint, ...]:
    try:
        entries = importlib.metadata.distribution(OAUTH_DISTRIBUTION).entry_points
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(entry for entry in entries if entry.group == "llm_proxy_backends")


def is_extracted_backend_name(name: str) -> bool:
    return is_login_family(name) or normalize_backend_name(name) in get_extracted_backend_names()


def filter_oauth_style_backend_names(names: Iterable[str]) -> list[str]:
    """Those that are personal logins."""
    return [name for name in names if is_extracted_backend_name(name)]


def get_oauth_install_command() -> str:
    return OAUTH_INSTALL_COMMAND


def get_optional_oauth_package_name() -> str:
    return OAUTH_DISTRIBUTION


def record_plugin_metadata(record: PluginMetadataRecord) -> None:
    _metadata[record.backend_name] = record


def get_plugin_metadata(backend_name: str) -> PluginMetadataRecord | None:
    return _metadata.get(backend_name)


def clear_plugin_metadata() -> None:
    _metadata.clear()


def register_plugin_post_build_hook(name: str, hook: PluginPostBuildHook) -> None:
    _hooks[name] = hook


def get_plugin_post_build_hooks() -> list[tuple[str, PluginPostBuildHook]]:
    """By backend name."""
    return sorted(_hooks.items())


def clear_plugin_post_build_hooks() -> None:
    _hooks.clear()


def get_skipped_oauth_connectors() -> list[str]:
    return list(_skipped_oauth)


def replace_skipped_oauth_connectors(names: Iterable[str]) -> None:
    _skipped_oauth[:] = names


def set_discovery_mode(*, is_multi_user_mode: bool) -> None:
    os.environ[ACCESS_MODE_VARIABLE] = "multi_user" if is_multi_user_mode else "single_user"


def is_running_in_multi_user_mode() -> bool:
    return os.environ.get(ACCESS_MODE_VARIABLE, "").strip().lower() == "multi_user"
