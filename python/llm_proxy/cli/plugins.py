"""`llm-proxy plugins`: what is installed, what is left out and why, what a backend lacks."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Sequence
from pathlib import Path

from llm_proxy.backends.registry import backend_registry
from llm_proxy.backends.runtime.discovery import discover_backends, skipped_plugins
from llm_proxy.backends.runtime.discovery_state import get_plugin_metadata
from llm_proxy.config.errors import ConfigError, Problem, nearest
from llm_proxy.config.settings import Settings


def plugins(words: Sequence[str], settings: Settings) -> int:
    """`words`: nothing, or `check NAME`. The exit status: 1 when what is checked would not do."""
    if not words:
        print("\n".join([*_backends(), "", *_rings(settings)]))
        return 0
    if words[0] != "check" or len(words) != 2:
        say = "say `llm-proxy plugins` or `llm-proxy plugins check NAME`"
        raise ConfigError([Problem("", "", say)])
    return _check(words[1])


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
    from llm_proxy.rings.runtime.manifest import read_manifests
    from llm_proxy.rings.sdk import PluginHook

    folder = settings.text("plugins.directory")
    entries = read_manifests(Path(folder) if folder else None, settings.texts("plugins.enabled"))
    yield "Ring plugins, in the order they run"
    rings = list(PluginHook)
    for entry in sorted(entries, key=lambda entry: rings.index(entry.hook) if entry.hook else 9):
        ring = entry.hook.value if entry.hook else "its own ring"
        state = "on" if entry.enabled else "off"
        if entry.problem:
            state = f"left out: {entry.problem}"
        yield f"  {entry.name}: {ring}, {entry.source}, {state}"


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
