"""From a manifest entry to a plugin that runs. What goes wrong with one concerns no other."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import itertools
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from llm_proxy.rings.context import PluginContext, PluginState
from llm_proxy.rings.runtime.engine import (
    CHUNK,
    CLASS_TIMEOUT_MS,
    DEFAULT_TIMEOUT_MS,
    FAIL_OPEN,
    RingEntry,
    default_fail_policy,
    own_fail_policy,
)
from llm_proxy.rings.runtime.gate import PluginSecurityError, ast_scan, compute_plugin_sha256
from llm_proxy.rings.runtime.host_steps import source_around, steps_for
from llm_proxy.rings.runtime.manifest import ManifestEntry
from llm_proxy.rings.runtime.patience import aside, on_loop
from llm_proxy.rings.runtime.rehearsal import rehearse
from llm_proxy.rings.runtime.warmup import import_ahead, source_of
from llm_proxy.rings.runtime.wasm_runner import WasmLimits, WasmPlugin, WasmRunner
from llm_proxy.rings.sdk import ENTRY_POINT_GROUP, BasePlugin, PluginHook, attach, share

IMPORT_SECONDS = 30.0
ON_LOAD_SECONDS = 30.0
ON_LOAD_STEP_SECONDS = 10.0  # without an await: all Python of the proxy waits for it
_BEFORE = (PluginHook.INGRESS, PluginHook.PRE_FLIGHT, PluginHook.ROUTING)
_Plugin = TypeVar("_Plugin", bound=BasePlugin)
_numbers = itertools.count(1)
_rehearsed: deque[str] = deque(maxlen=1000)  # digests of files that came to an end


async def load_entry(
    entry: ManifestEntry, directory: Path | None, state: PluginState | None = None
) -> RingEntry:
    """The plugin, loaded: `on_load` has run. Raises what its code raises, or RuntimeError."""
    if entry.problem:
        raise RuntimeError(entry.problem)
    if entry.kind == "wasm":
        return await _load_guest(entry, directory, state)
    if entry.point:
        target = await aside(entry.point.load, IMPORT_SECONDS, "importing it")
        source, package = source_of(target)
        await import_ahead(source, entry.name, package)
        made = await _make(entry, target, state)
        made.host_steps = steps_for(made, source_around(target))
        return made
    if entry.source == "built-in":
        name, _, symbol = entry.entrypoint.partition(":")
        target = getattr(importlib.import_module(f"llm_proxy.rings.builtin.{name}"), symbol)
        return await _make(entry, target, state)
    module, source, symbol = _from_file(entry, directory)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up there
    try:
        await _run(module, source)
        await import_ahead(source, entry.name)
        if not hasattr(module, symbol):
            raise RuntimeError(f"{Path(str(module.__file__)).name} has no '{symbol}'")
        made = await _make(entry, getattr(module, symbol), state)
    except BaseException:
        del sys.modules[module.__name__]
        raise
    made.module = module
    made.host_steps = steps_for(made, source)
    return made


async def _run(module: ModuleType, source: str) -> None:
    """Runs a module's text: first where it can harm nobody, then here, and never on the loop."""
    path, digest = str(module.__file__), compute_plugin_sha256(source)
    if digest not in _rehearsed:
        seconds = IMPORT_SECONDS
        problem = await aside(lambda: rehearse(source, path, seconds), seconds + 5, "trying it")
        if problem:
            raise RuntimeError(problem)
        _rehearsed.append(digest)
    code = compile(source, path, "exec")
    await aside(lambda: exec(code, module.__dict__), IMPORT_SECONDS, "importing it")


async def _make(entry: ManifestEntry, target: Any, state: PluginState | None) -> RingEntry:
    ring = entry.hook or _own_ring(target)
    if inspect.isclass(target) and issubclass(target, BasePlugin):
        if not inspect.iscoroutinefunction(inspect.unwrap(target.execute)):
            raise RuntimeError(f"{target.__name__}.execute must be an async function: async def")
        instance = await _started(lambda: target(config=entry.config), state)
        call, kind = instance.execute, "class"
        timeout = _class_timeout(entry, instance)
    else:
        if not inspect.iscoroutinefunction(target):
            raise RuntimeError(
                f"{entry.entrypoint} is neither a BasePlugin class nor an async function"
            )
        instance, call, kind = None, target, "python"
        timeout = DEFAULT_TIMEOUT_MS if entry.timeout_ms is None else entry.timeout_ms
    made = RingEntry(
        name=entry.name,
        ring=ring,
        kind=kind,
        call=call,
        timeout_ms=timeout,
        fail_policy=entry.fail_policy or own_fail_policy(target) or default_fail_policy(ring),
        instance=instance,
        stream=entry.stream or "",
    )
    if instance is not None:
        attach(instance, made.record)
    return made


async def _started(make: Callable[[], _Plugin], state: PluginState | None) -> _Plugin:
    """The instance, loaded: what its code does on the loop until then has its limits."""

    async def start() -> _Plugin:
        instance = make()
        share(instance, state)
        await instance.on_load()
        return instance

    return await on_loop(start(), ON_LOAD_SECONDS, ON_LOAD_STEP_SECONDS, "on_load")


async def _load_guest(
    entry: ManifestEntry, directory: Path | None, state: PluginState | None
) -> RingEntry:
    if entry.hook is None:
        raise RuntimeError("'hook' is missing")
    path = _guest_file(entry.entrypoint, directory)
    module = path.read_bytes()
    _pin(entry, hashlib.sha256(module).hexdigest())
    timeout = DEFAULT_TIMEOUT_MS if entry.timeout_ms is None else entry.timeout_ms
    limits = WasmLimits(timeout_ms=timeout, **entry.limits)
    runner = WasmRunner(path, entry.config, limits, module)
    instance = await _started(lambda: WasmPlugin(runner), state)
    made = RingEntry(
        name=entry.name,
        ring=entry.hook,
        kind="wasm",
        call=instance.execute,
        timeout_ms=timeout,
        fail_policy=entry.fail_policy or default_fail_policy(entry.hook),
        instance=instance,
        stream=entry.stream or "",
    )
    attach(instance, made.record)
    return made


def _guest_file(entrypoint: str, directory: Path | None) -> Path:
    """`wasm.guest`, `wasm/guest`, `wasm/guest.wasm` and `plugins/wasm/guest.wasm` are one file."""
    bare = entrypoint.removesuffix(".wasm").replace(".", "/")
    spellings = (bare + ".wasm", bare.removeprefix("plugins/") + ".wasm")
    return _inside(directory, entrypoint, *spellings)


def _inside(directory: Path | None, entrypoint: str, *spellings: str) -> Path:
    if directory is None:
        raise RuntimeError("there is no plugin directory")
    root = directory.resolve()
    paths = [(root / spelling).resolve() for spelling in spellings]
    if not all(path.is_relative_to(root) for path in paths):
        raise PluginSecurityError(f"'{entrypoint}' leads out of the plugin directory")
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"there is no file {paths[0]}")
    return found


def _pin(entry: ManifestEntry, digest: str) -> None:
    if entry.sha256 and str(entry.sha256).lower() != digest:
        raise PluginSecurityError(
            f"'{entry.name}' is not the file that was pinned: its SHA-256 is {digest}, "
            f"the pin says {entry.sha256}"
        )


def digest_of(entry: ManifestEntry, directory: Path | None) -> str | None:
    """The SHA-256 of the file behind an entry; None: there is none, or it has no file."""
    try:
        if entry.kind == "wasm":
            return hashlib.sha256(_guest_file(entry.entrypoint, directory).read_bytes()).hexdigest()
        return compute_plugin_sha256(_source_of(entry, directory)[1])
    except (OSError, RuntimeError, ValueError, PluginSecurityError):
        return None  # loading it says what is wrong


def companions(made: RingEntry) -> list[RingEntry]:
    """What a plugin does in other rings, as entries of its own.

    Before the request leaves they fail as the plugin does; behind it they fail open.
    """
    owner = made.instance if made.instance is not None else made.call
    found = list(made.host_steps)
    on_chunk = getattr(owner, "on_chunk", None)
    if made.ring is PluginHook.POST_FLIGHT and inspect.iscoroutinefunction(on_chunk):
        found.append(_hearing(made, on_chunk))
    rows = getattr(owner, "also", None)
    for ring, step in rows.items() if isinstance(rows, dict) else ():
        call = getattr(owner, step, None) if isinstance(step, str) else step
        if not isinstance(ring, PluginHook) or not inspect.iscoroutinefunction(call):
            continue  # an attribute of the author's own that has this name
        name = f"{made.name}: {call.__name__}"
        policy = made.fail_policy if ring in _BEFORE else FAIL_OPEN
        found.append(RingEntry(name, ring, "python", call, DEFAULT_TIMEOUT_MS, policy))
    return found


def _hearing(
    made: RingEntry, on_chunk: Callable[[PluginContext, str], Awaitable[Any]]
) -> RingEntry:
    """The entry that gives a plugin each piece of a stream as it comes."""

    async def hear(ctx: PluginContext) -> Any:
        return await on_chunk(ctx, ctx.__dict__["_chunk"])

    name = f"{made.name}: on_chunk"
    return RingEntry(
        name, made.ring, made.kind, hear, made.timeout_ms, made.fail_policy, stream=CHUNK
    )


def _class_timeout(entry: ManifestEntry, instance: BasePlugin) -> float:
    if entry.timeout_ms is not None:
        return entry.timeout_ms
    own: Any = getattr(instance, "timeout_ms", None)
    return float(own) if isinstance(own, (int, float)) and own > 0 else CLASS_TIMEOUT_MS


def _own_ring(target: Any) -> PluginHook:
    hook = getattr(target, "hook", None)
    if isinstance(hook, PluginHook):
        return hook
    raise RuntimeError("it does not say its ring: set `hook`, or name it in a manifest")


def _from_file(entry: ManifestEntry, directory: Path | None) -> tuple[ModuleType, str, str]:
    """A module that has not run yet, the very text that was scanned, and the name wanted of it."""
    if entry.entrypoint.startswith(ENTRY_POINT_GROUP + ":"):
        raise RuntimeError(f"no installed package offers {entry.entrypoint.partition(':')[2]!r}")
    if entry.source == "installed" and not entry.allow_inprocess:
        raise PluginSecurityError(
            f"'{entry.name}' was installed and may not run in this process: set allow_inprocess"
        )
    path, source, symbol = _source_of(entry, directory)
    ast_scan(source, entry.name)
    digest = compute_plugin_sha256(source)
    _pin(entry, digest)
    made = ModuleType(f"_llm_proxy_plugin_{digest[:16]}_{next(_numbers)}")
    made.__file__ = str(path)
    return made, source, symbol


def _source_of(entry: ManifestEntry, directory: Path | None) -> tuple[Path, str, str]:
    """The file an entrypoint `folder.module:Name` names, its text, and the name."""
    module, _, symbol = entry.entrypoint.partition(":")
    if not module or not symbol or ":" in symbol:
        raise RuntimeError(f"'{entry.entrypoint}' must be of the form folder.module:Name")
    path = _inside(directory, entry.entrypoint, module.replace(".", "/") + ".py")
    return path, path.read_text(encoding="utf-8"), symbol
