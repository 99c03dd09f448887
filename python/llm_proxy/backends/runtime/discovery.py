"""Finds installed backend plugins. A plugin that is broken costs one warning, never the start."""

from __future__ import annotations

import importlib.metadata
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llm_proxy.backends.plugin_api import (
    BACKEND_PLUGIN_ENTRY_POINT_GROUP,
    BackendPluginDefinition,
    PluginCompatibility,
)
from llm_proxy.backends.registry import BackendRegistry, backend_registry
from llm_proxy.backends.runtime import discovery_state as state
from llm_proxy.import_problem import import_problem

logger = logging.getLogger(__name__)

CORE_DISTRIBUTION = "llm-interactive-proxy"
FALLBACK_CORE_VERSION = "0.1.0"
RETIRED_NAMES = frozenset({"anthropic-oauth"})

_DIGITS = re.compile(r"\d+")


class _SkippedError(Exception):
    """Why an entry point is left out; the text is what the user reads."""

    def __init__(self, reason: str, level: int = logging.WARNING) -> None:
        super().__init__(reason)
        self.level = level


@dataclass
class SkippedPlugin:
    name: str
    origin: str
    reason: str


@dataclass
class _Run:
    registered: list[str] = field(default_factory=list)
    skipped: list[SkippedPlugin] = field(default_factory=list)
    oauth: list[str] = field(default_factory=list)
    failures_told: set[tuple[str, str]] = field(default_factory=set)


_last_run = _Run()


def skipped_plugins() -> list[SkippedPlugin]:
    """The entry points that the last discovery left out, and why."""
    return list(_last_run.skipped)


def version_tuple(text: str) -> tuple[int, int, int] | None:
    """The first three runs of digits, padded with zeros; None when there is none.

    Deliberately not PEP 440.
    """
    numbers = [int(run) for run in _DIGITS.findall(text)[:3]]
    if not numbers:
        return None
    major, minor, patch = (*numbers, 0, 0)[:3]
    return major, minor, patch


def discover_plugin_backends(
    entry_point_group: str = BACKEND_PLUGIN_ENTRY_POINT_GROUP,
    registry: BackendRegistry | None = None,
) -> list[str]:
    """Registers every usable plugin of the group; the newly registered names, in order."""
    global _last_run
    registry = backend_registry if registry is None else registry
    state.clear_plugin_metadata()
    state.clear_plugin_post_build_hooks()
    _last_run = run = _Run()
    core_version = _resolve_core_version()
    for entry_point in _load_entry_points(entry_point_group):
        if entry_point.name in RETIRED_NAMES:
            continue
        try:
            _register(entry_point, core_version, registry, run)
        except _SkippedError as skipped:
            run.skipped.append(SkippedPlugin(entry_point.name, _origin(entry_point), str(skipped)))
            logger.log(
                skipped.level,
                "Backend plugin '%s' from %s was skipped: %s",
                entry_point.name,
                _origin(entry_point),
                skipped,
            )
    state.replace_skipped_oauth_connectors(run.oauth)
    return run.registered


def _resolve_core_version() -> str:
    try:
        return importlib.metadata.version(CORE_DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return FALLBACK_CORE_VERSION


def _load_entry_points(group: str) -> Iterable[importlib.metadata.EntryPoint]:
    return importlib.metadata.entry_points(group=group)


def _origin(entry_point: importlib.metadata.EntryPoint) -> str:
    distribution = getattr(entry_point, "dist", None)
    return str(getattr(distribution, "name", None) or getattr(entry_point, "value", "unknown"))


def _register(
    entry_point: importlib.metadata.EntryPoint,
    core_version: str,
    registry: BackendRegistry,
    run: _Run,
) -> None:
    name = entry_point.name
    definition = _definition(_loaded(entry_point, run))
    _check_version(definition.compatibility, core_version)
    if definition.backend_name != name:
        logger.warning(
            "Backend plugin '%s' calls itself '%s'; the entry point's name is used.",
            name,
            definition.backend_name,
        )
    if state.is_running_in_multi_user_mode() and any(
        map(state.is_extracted_backend_name, (name, definition.backend_name))
    ):
        run.oauth.append(name)
        raise _SkippedError("personal logins are not available in multi-user mode")
    if name in run.registered:
        raise _SkippedError("declared twice; the first one is kept", logging.DEBUG)
    if not registry.register_backend(name, definition.factory):
        raise _SkippedError("the name is taken", logging.DEBUG)
    compatibility = definition.compatibility
    state.record_plugin_metadata(
        state.PluginMetadataRecord(
            name,
            definition.plugin_name,
            compatibility.core_min_version,
            compatibility.core_max_version,
        )
    )
    if definition.post_build_hook is not None:
        state.register_plugin_post_build_hook(name, definition.post_build_hook)
    run.registered.append(name)


def _loaded(entry_point: importlib.metadata.EntryPoint, run: _Run) -> Any:
    try:
        provider = entry_point.load()
    except (Exception, SystemExit) as error:
        failure = (type(error).__name__, str(error))
        reason = (
            f"it cannot be imported ({failure[0]}: {failure[1]}); "
            f"{import_problem(error) or 'install what it depends on'} and restart"
        )
        level = logging.DEBUG if failure in run.failures_told else logging.WARNING
        run.failures_told.add(failure)
        raise _SkippedError(reason, level) from error
    if not callable(provider):
        raise _SkippedError(f"loaded object is not callable: {type(provider).__name__}")
    try:
        return provider()
    except (Exception, SystemExit) as error:
        raise _SkippedError(f"provider failed: {type(error).__name__}: {error}") from error


def _definition(offered: Any) -> BackendPluginDefinition:
    if not isinstance(offered, BackendPluginDefinition):
        raise _SkippedError(
            "strict metadata contract: the provider must return BackendPluginDefinition, "
            f"not {type(offered).__name__}"
        )
    for broken, reason in _contract_breaches(offered):
        if broken:
            raise _SkippedError(reason)
    return offered


def _blank(value: Any) -> bool:
    return not isinstance(value, str) or not value.strip()


def _contract_breaches(offered: BackendPluginDefinition) -> Iterable[tuple[bool, str]]:
    compatibility: Any = offered.compatibility
    hook: Any = offered.post_build_hook
    yield _blank(offered.backend_name), "backend_name is empty"
    yield not callable(offered.factory), "factory is not callable"
    yield _blank(offered.plugin_name), "plugin_name is required"
    yield (
        not isinstance(compatibility, PluginCompatibility),
        "strict metadata contract: compatibility must be a PluginCompatibility",
    )
    yield (
        _blank(compatibility.core_min_version),
        "strict metadata contract: core_min_version is required",
    )
    yield (
        compatibility.core_max_version is not None and _blank(compatibility.core_max_version),
        "strict metadata contract: core_max_version must be a version or None",
    )
    yield hook is not None and not callable(hook), "post_build_hook must be callable"


def _check_version(compatibility: PluginCompatibility, core_version: str) -> None:
    running = version_tuple(core_version)
    lowest = version_tuple(compatibility.core_min_version)
    wanted_max = compatibility.core_max_version
    highest = None if wanted_max is None else version_tuple(wanted_max)
    if running is None or lowest is None or (wanted_max is not None and highest is None):
        raise _SkippedError(
            f"invalid version format: core {core_version!r}, "
            f"minimum {compatibility.core_min_version!r}, maximum {wanted_max!r}"
        )
    if running < lowest:
        raise _SkippedError(
            f"requires core>={compatibility.core_min_version}, running core is {core_version}"
        )
    if highest is not None and running > highest:
        raise _SkippedError(f"supports core<={wanted_max}, running core is {core_version}")


_discovered: list[str] | None = None


def discover_backends(*, force: bool = False) -> list[str]:
    """Once per process: core names first (they are always registered), then plugins.

    The plugins' names.
    """
    global _discovered
    if _discovered is None or force:
        for name in _discovered or ():
            backend_registry.unregister_backend(name)
        _discovered = discover_plugin_backends()
    return list(_discovered)


def reset_backend_discovery_state() -> None:
    global _discovered
    for name in _discovered or ():
        backend_registry.unregister_backend(name)
    _discovered = None
