"""`llm-proxy plugins`: what is installed, what is left out and why, what a backend lacks."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from llm_proxy.backends.registry import backend_registry
from llm_proxy.backends.runtime.discovery import discover_backends, skipped_plugins
from llm_proxy.backends.runtime.discovery_state import get_plugin_metadata
from llm_proxy.config.errors import ConfigError, Problem, close_to, nearest
from llm_proxy.config.settings import Settings
from llm_proxy.rings.runtime.manager import PluginManager, RequiredPluginMissing
from llm_proxy.rings.runtime.manifest import read_manifests
from llm_proxy.rings.sdk import ENTRY_POINT_GROUP, PluginHook


def plugins(words: Sequence[str], settings: Settings) -> int:
    """`words`: nothing, or `check NAME`. The exit status: 1 when what is checked would not do."""
    if not words:
        print("\n".join([*_backends(), "", *_rings(settings)]))
        return 0
    if words[0] != "check" or len(words) != 2:
        close = close_to(words[0], ["check"]) if words[0] != "check" else ""
        say = f"say `llm-proxy plugins` or `llm-proxy plugins check NAME`{close}"
        raise ConfigError([Problem("", "", say)])
    return _check(words[1])


def ring_problems(settings: Settings) -> tuple[list[Problem], list[Problem]]:
    """Loads the ring plugins as a start would, and unloads them.

    What would refuse the start, and what would be left out of it.
    """
    try:
        metas = _loaded(settings, settings.text("plugins.on_load_error"))
    except RequiredPluginMissing as error:
        return missing_plugins(settings, error), []
    left_out = [
        Problem("", f"ring plugin '{meta['name']}'", f"is left out: {meta['problem']}")
        for meta in metas
        if meta["enabled"] and not meta["loaded"]
    ]
    return [], left_out


def missing_plugins(settings: Settings, error: RequiredPluginMissing) -> list[Problem]:
    """The problems of plugins that cannot be loaded and must be."""
    named = settings.origins["plugins.enabled"].where
    return [
        Problem(
            entry.where or (named if entry.by_name else ""), f"ring plugin '{entry.name}'", what
        )
        for entry, what in error.rows
    ]


def _loaded(settings: Settings, policy: Any) -> list[dict[str, Any]]:
    """What the manager says of each plugin after loading it. Raises RequiredPluginMissing."""
    folder, names = settings.text("plugins.directory"), settings.texts("plugins.enabled")
    if not folder and not names and not entry_points(group=ENTRY_POINT_GROUP):
        return []

    async def load() -> list[dict[str, Any]]:
        manager = PluginManager(
            folder or None,
            settings.mapping("plugins.config"),
            enable=names,
            tenants=settings.mapping("plugins.tenants"),
            on_load_error=policy,
        )
        made = await manager.build()
        await made.unload()
        await manager.close()
        return made.meta

    with _quiet():
        return asyncio.run(load())


@contextmanager
def _quiet() -> Iterator[None]:
    """What is logged meanwhile is printed by the command itself."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def _backends() -> Iterable[str]:
    yield "Backend plugins"
    names = discover_backends()
    for name in names:
        about = get_plugin_metadata(name)
        assert about is not None
        most = f", <= {about.core_max_version}" if about.core_max_version else ""
        package = f"{about.plugin_name} {_version(about.plugin_name)}".rstrip()
        yield f"  {name}: {package}, core >= {about.core_min_version}{most}"
    for skipped in skipped_plugins():
        yield f"  {skipped.name}: left out ({skipped.origin}): {skipped.reason}"
    if not names and not skipped_plugins():
        yield "  none is installed"


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _rings(settings: Settings) -> Iterable[str]:
    yield "Ring plugins, in the order they run"
    order = [hook.value for hook in PluginHook]
    metas = _loaded(settings, "skip") or [
        {"name": entry.name, "hook": entry.hook.value if entry.hook else None, "enabled": False,
         "loaded": False, "source": entry.source, "problem": None}
        for entry in read_manifests(None)
    ]  # fmt: skip
    for meta in sorted(metas, key=lambda meta: _position(order, meta["hook"])):
        state = "runs" if meta["loaded"] else "off"
        if meta["enabled"] and not meta["loaded"]:
            state = f"does not run: {meta['problem']}"
        ring = meta["hook"] or "its own ring"
        yield f"  {meta['name']}: {ring}, {meta['source']}, {state}"


def _position(order: Sequence[str], ring: str | None) -> int:
    return order.index(ring) if ring in order else len(order)


def _check(name: str) -> int:
    from llm_proxy.backends.runtime.check import backend_problems

    names = discover_backends()
    left_out = [skipped for skipped in skipped_plugins() if skipped.name == name]
    if left_out and name not in names:
        print(f"{name}: left out ({left_out[0].origin}): {left_out[0].reason}")
        return 1
    if name not in names:
        known = [*names, *(skipped.name for skipped in skipped_plugins())]
        hint = nearest(name, known) if known else ": no backend plugin is installed"
        raise ConfigError([Problem("", "", f"no installed package has a backend '{name}'{hint}")])
    problems = backend_problems(backend_registry.get_backend_factory(name))
    for problem in problems:
        print(f"{name}: {problem}")
    if not problems:
        print(f"{name}: good. Try it: llm-proxy --default-backend {name}")
    return 1 if problems else 0
