"""The plugin manifests: which plugins there are, in which ring and order, with which settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

import yaml

from llm_proxy.rings.runtime.swap import Edits
from llm_proxy.rings.sdk import ENTRY_POINT_GROUP, PluginHook

BUILT_IN = Path(__file__).parent.parent / "builtin" / "manifest.yaml"
STOCK = "stock"  # among the names to enable: what the built-in manifest enables
ALL = "all"
KINDS = ("python", "wasm")
DEFAULT_PRIORITY = 100.0
TOP_KEYS = ("plugins", "version", "name", "description")
# What a row may say; keys that begin with "x-" or "_" are the author's own.
ROW_KEYS = (
    "name",
    "hook",
    "entrypoint",
    "type",
    "enabled",
    "required",
    "priority",
    "timeout_ms",
    "fail_policy",
    "stream",
    "config",
    "limits",
    "version",
    "author",
    "description",
    "ui_schema",
    "sha256",
    "allow_inprocess",
    # What authors write about a plugin, for people.
    "category",
    "homepage",
    "icon",
    "license",
    "repository",
    "source",
    "tags",
    "url",
)
# What a row of type wasm may say under `limits`, and which values are sound.
_LIMITS: dict[str, Callable[[Any], bool]] = {
    "memory_mb": lambda value: type(value) in (int, float) and 0.0625 <= value <= 4096,
    "fuel": lambda value: value is None or (type(value) is int and value > 0),
    "instances": lambda value: type(value) is int and 1 <= value <= 64,
    "wasi": lambda value: isinstance(value, bool),
}


class Loadable(Protocol):
    """What hands a plugin over when it is loaded: the entry point of a package, or a test."""

    def load(self) -> Any: ...


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
    point: Loadable | None = None
    problem: str | None = None  # why it cannot be loaded, if its row is wrong
    oddity: str | None = None  # what its row says that nobody reads; it can be loaded all the same
    where: str = ""  # "plugins/manifest.yaml:12"

    @property
    def by_name(self) -> bool:
        """Whether the user asked for it, and not merely installed a package that has it."""
        return self.source in ("built-in", "bundled")


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
            close = close_to(name, [*entries, STOCK, ALL])
            what = f"there is no built-in plugin of this name{close or '; '}"
            what += "" if close else "`llm-proxy plugins` lists them"
            entries[name] = _broken(name, "built-in", what)
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
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = yaml.safe_load(text) or {}
        places = _places(path, text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        return [_broken(path.name, source, f"is not YAML: {what}", where)]
    except (OSError, ValueError, RecursionError) as error:
        what = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        return [_broken(path.name, source, f"cannot be read: {what}", str(path))]
    if not isinstance(document, Mapping):
        return [_broken(path.name, source, "must hold plugins: [...]", str(path))]
    strange = [key for key in document if key not in TOP_KEYS]
    rows = document.get("plugins")
    if rows is None and not strange:
        return []
    if rows is None or not isinstance(rows, list):
        what = f"there is no '{strange[0]}'{close_to(str(strange[0]), TOP_KEYS)}" if strange else ""
        return [_broken(path.name, source, what or "'plugins' must be a list", str(path))]
    return [parse_row(row, source, index, places[index]) for index, row in enumerate(rows)]


@dataclass(frozen=True)
class Place:
    """Where a row stands: its file, its line, and the lines of its keys."""

    file: Path
    line: int
    keys: Mapping[str, int]

    def of(self, key: str = "") -> str:
        return f"{self.file}:{self.keys.get(key, self.line)}"


def _places(path: Path, text: str) -> list[Place]:
    """The places of the rows of a manifest that was read without an error."""
    top = yaml.compose(text, yaml.SafeLoader)
    rows: list[yaml.Node] = []
    if isinstance(top, yaml.MappingNode):
        for key, value in top.value:
            if key.value == "plugins" and isinstance(value, yaml.SequenceNode):
                rows = value.value
    places = []
    for row in rows:
        pairs = row.value if isinstance(row, yaml.MappingNode) else []
        keys = {str(key.value): key.start_mark.line + 1 for key, _ in pairs}
        places.append(Place(path, row.start_mark.line + 1, keys))
    return places


def close_to(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing if none of `known` is like `name`."""
    close = get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _limits(limits: Any, problems: list[str]) -> Mapping[str, Any]:
    if not isinstance(limits, Mapping):
        problems.append("'limits' must be a mapping")
        return {}
    for key, value in limits.items():
        if key not in _LIMITS:
            problems.append(f"'limits.{key}' is not one of {', '.join(_LIMITS)}")
        elif not _LIMITS[key](value):
            problems.append(f"'limits.{key}' may not be {value!r}")
    return limits


def _is_known(key: str) -> bool:
    return key in ROW_KEYS or key.startswith(("x-", "_"))


def _broken(name: str, source: str, problem: str, where: str = "") -> ManifestEntry:
    return ManifestEntry(name, None, "", source=source, problem=problem, where=where)


def parse_row(row: Any, source: str, index: int = 0, place: Place | None = None) -> ManifestEntry:
    """One row; what is wrong with it is said in `problem` and concerns no other row."""
    at = place.of() if place is not None else ""
    if not isinstance(row, Mapping):
        return _broken(f"#{index}", source, "an entry must be a mapping", at)
    name = row.get("name")
    if not isinstance(name, str) or not name:
        what = "'name' is missing" if name in (None, "") else f"'name' is {name!r}: quote it"
        return _broken(f"#{index}", source, what, at)
    own = built_in().get(name)
    if own is not None and source != "built-in" and "entrypoint" not in row:
        config = {**(own.get("config") or {}), **(row.get("config") or {})}
        row, source = {**own, "enabled": True, **row, "config": config}, "built-in"
    problems: list[str] = []
    odd = [str(key) for key in row if not _is_known(str(key))]
    where = place.of(*odd[:1]) if place is not None else ""

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
        close = "" if row.get("entrypoint") else close_to(name, built_in())
        problems.append("'entrypoint' is missing" + close)
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
    limits = _limits(row.get("limits") or {}, problems)
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
        oddity="; ".join(f"there is no key '{key}'{close_to(key, ROW_KEYS)}" for key in odd)
        or None,
        where=where,
    )
