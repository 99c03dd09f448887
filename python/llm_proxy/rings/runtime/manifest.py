"""The plugin manifests: which plugins there are, in which ring and order, with which settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import yaml

from llm_proxy.rings.runtime.swap import Edits
from llm_proxy.rings.sdk import ENTRY_POINT_GROUP, PluginHook

BUILT_IN = Path(__file__).parent.parent / "builtin" / "manifest.yaml"
STOCK = "stock"  # among the names to enable: what the built-in manifest enables
ALL = "all"
KINDS = ("python", "wasm")
DEFAULT_PRIORITY = 100.0
# What a row of type wasm may say under `limits`, and which values are sound.
_LIMITS: dict[str, Callable[[Any], bool]] = {
    "memory_mb": lambda value: type(value) in (int, float) and 0.0625 <= value <= 4096,
    "fuel": lambda value: value is None or (type(value) is int and value > 0),
    "instances": lambda value: type(value) is int and 1 <= value <= 64,
    "wasi": lambda value: isinstance(value, bool),
}


@dataclass(slots=True)
class ManifestEntry:
    """One row of a manifest, or one installed entry point that no row names."""

    name: str
    hook: PluginHook | None
    entrypoint: str
    kind: str = "python"
    source: str = "bundled"  # "built-in", "bundled", "installed" or "package"
    enabled: bool = True
    required: bool = False
    priority: float = DEFAULT_PRIORITY
    timeout_ms: float | None = None
    fail_policy: str | None = None
    stream: str | None = None  # "observe" or "buffer"; None: as the plugin says
    config: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)  # of a guest: see _LIMITS
    version: str = "0.0.0"
    author: str = "unknown"
    description: str = ""
    ui_schema: list[Any] = field(default_factory=list)
    sha256: str | None = None
    allow_inprocess: bool = False
    point: EntryPoint | None = None
    problem: str | None = None  # why it cannot be loaded, if its row is wrong


@cache
def built_in() -> dict[str, Mapping[str, Any]]:
    """The rows of the manifest that comes with the proxy, by name."""
    rows = yaml.safe_load(BUILT_IN.read_text(encoding="utf-8"))["plugins"]
    return {row["name"]: row for row in rows}


def read_manifests(
    directory: Path | None, enable: Collection[str] = (), edits: Edits | None = None
) -> list[ManifestEntry]:
    """Every entry in the order it runs: built-in, bundled, installed, and packages.

    A built-in plugin runs only if `enable` or a row of the directory's manifests says so; a row
    without an entrypoint is a change to the built-in one of its name.
    """
    entries: dict[str, ManifestEntry] = {}
    for name, row in built_in().items():
        entry = parse_row(row, "built-in")
        stock = entry.enabled and STOCK in enable
        entries[name] = replace(entry, enabled=stock or ALL in enable or name in enable)
    for name in enable:
        if name not in entries and name not in (STOCK, ALL):
            entries[name] = _broken(name, "built-in", "there is no built-in plugin of this name")
    if directory is not None:
        for entry in _read(directory / "manifest.yaml", "bundled"):
            entries[entry.name] = entry
    edits = edits or Edits.read(directory)
    for file, problem in edits.unread.items():
        entries[file] = _broken(file, "installed", problem)
    for index, row in enumerate(edits.installed):
        entry = parse_row(row, "installed", index)
        entries[entry.name] = entry
    for point in entry_points(group=ENTRY_POINT_GROUP):
        spelling = f"{ENTRY_POINT_GROUP}:{point.name}"
        found = next((entry for entry in entries.values() if entry.entrypoint == spelling), None)
        if found is not None:
            found.point = point
        elif point.name not in entries:
            entries[point.name] = ManifestEntry(
                point.name, None, point.value, source="package", point=point
            )
    for name, change in edits.overrides.items():
        if name in entries:
            entry = entries[name]
            config = {**entry.config, **(change.get("config") or {})}
            on = bool(change.get("enabled", entry.enabled))
            entries[name] = replace(entry, enabled=on, config=config)
    return sorted(entries.values(), key=lambda entry: entry.priority)


def _read(path: Path, source: str) -> list[ManifestEntry]:
    if not path.is_file():
        return []
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        return [_broken(str(path), source, f"cannot be read: {error}")]
    rows = document.get("plugins") if isinstance(document, Mapping) else None
    if rows is None:
        return []
    if not isinstance(rows, list):
        return [_broken(str(path), source, "'plugins' must be a list")]
    return [parse_row(row, source, index) for index, row in enumerate(rows)]


def _broken(name: str, source: str, problem: str) -> ManifestEntry:
    return ManifestEntry(name, None, "", source=source, problem=problem)


def parse_row(row: Any, source: str, index: int = 0) -> ManifestEntry:
    """One row; what is wrong with it is said in `problem` and concerns no other row."""
    if not isinstance(row, Mapping):
        return _broken(f"#{index}", source, "an entry must be a mapping")
    name = row.get("name")
    if not isinstance(name, str) or not name:
        return _broken(f"#{index}", source, "'name' is missing")
    own = built_in().get(name)
    if own is not None and source != "built-in" and "entrypoint" not in row:
        config = {**(own.get("config") or {}), **(row.get("config") or {})}
        row, source = {**own, "enabled": True, **row, "config": config}, "built-in"
    problems: list[str] = []

    def number(key: str, default: float | None) -> float | None:
        value = row.get(key, default)
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            return value
        problems.append(f"'{key}' must be a number, not {value!r}")
        return default

    hook = None
    try:
        hook = PluginHook(str(row["hook"]).lower())
    except KeyError:
        problems.append("'hook' is missing")
    except ValueError:
        rings = ", ".join(ring.value for ring in PluginHook)
        problems.append(f"'hook' is {row['hook']!r}; the rings are {rings}")
    entrypoint = row.get("entrypoint")
    if not isinstance(entrypoint, str) or not entrypoint:
        problems.append("'entrypoint' is missing")
    kind = str(row.get("type", "python"))
    if kind not in KINDS:
        problems.append(f"'type' is {kind!r}; it must be one of {', '.join(KINDS)}")
    policy = row.get("fail_policy")
    if policy not in (None, "open", "closed"):
        problems.append(f"'fail_policy' is {policy!r}; it must be open or closed")
    stream = row.get("stream")
    if stream not in (None, "observe", "buffer"):
        problems.append(f"'stream' is {stream!r}; it must be observe or buffer")
    config = row.get("config") or {}
    if not isinstance(config, Mapping):
        problems.append("'config' must be a mapping")
        config = {}
    limits = row.get("limits") or {}
    if not isinstance(limits, Mapping):
        problems.append("'limits' must be a mapping")
        limits = {}
    for key, value in limits.items():
        if key not in _LIMITS:
            problems.append(f"'limits.{key}' is not one of {', '.join(_LIMITS)}")
        elif not _LIMITS[key](value):
            problems.append(f"'limits.{key}' may not be {value!r}")
    priority = number("priority", DEFAULT_PRIORITY)
    return ManifestEntry(
        name=name,
        hook=hook,
        entrypoint=entrypoint if isinstance(entrypoint, str) else "",
        kind=kind,
        source=source,
        enabled=bool(row.get("enabled", True)),
        required=bool(row.get("required", False)),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        timeout_ms=number("timeout_ms", None),
        fail_policy=policy,
        stream=stream,
        config=dict(config),
        limits=dict(limits),
        version=str(row.get("version", "0.0.0")),
        author=str(row.get("author", "unknown")),
        description=str(row.get("description", "")),
        ui_schema=list(row.get("ui_schema") or []),
        sha256=row.get("sha256"),
        allow_inprocess=bool(row.get("allow_inprocess", False)),
        problem="; ".join(problems) or None,
    )
