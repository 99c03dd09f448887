"""The plugins of a process: loaded from the manifests, run ring by ring, counted, replaced."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from llm_proxy import _core
from llm_proxy.import_problem import import_problem
from llm_proxy.rings.context import PluginContext, PluginState
from llm_proxy.rings.runtime.engine import (
    CHUNK,
    CLASS_TIMEOUT_MS,
    DEFAULT_TIMEOUT_MS,
    FAIL_CLOSED,
    RingEngine,
    RingEntry,
    default_fail_policy,
)
from llm_proxy.rings.runtime.gate import PluginSecurityError
from llm_proxy.rings.runtime.loader import companions, digest_of, load_entry
from llm_proxy.rings.runtime.manifest import ManifestEntry, parse_row, read_manifests
from llm_proxy.rings.runtime.natives import native_steps
from llm_proxy.rings.runtime.swap import HEALTH_HEADERS, HEALTH_REQUEST, Edits, SwapRefused, check
from llm_proxy.rings.runtime.wasm_runner import WasmPlugin
from llm_proxy.rings.sdk import PluginHook, attach
from llm_proxy.rings.services import pricing, tokenizer
from llm_proxy.rings.services.cache import ResponseCache
from llm_proxy.rings.services.host import Services
from llm_proxy.rings.services.store import MEMORY, StateStore

logger = logging.getLogger("llm_proxy.plugins")
OnLoadError = Literal["auto", "refuse", "skip"]


def _percentiles(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)

    def at(quantile: float) -> float:
        if not ordered:
            return 0.0
        return round(ordered[min(int(len(ordered) * quantile), len(ordered) - 1)], 3)

    return {"p50": at(0.50), "p95": at(0.95), "p99": at(0.99)}


class RequiredPluginMissing(RuntimeError):
    """A plugin that must be there cannot be loaded: traffic must not pass without it.

    `rows` are the entries and what is wrong with each.
    """

    def __init__(self, rows: Sequence[tuple[ManifestEntry, str]]) -> None:
        self.rows = tuple(rows)
        super().__init__("; ".join(f"{entry.name}: {problem}" for entry, problem in rows))


@dataclass
class Generation:
    """Rings, instances and descriptions that belong together. Immutable once it serves."""

    entries: list[RingEntry] = field(default_factory=list)
    meta: list[dict[str, Any]] = field(default_factory=list)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    edits: Edits = field(default_factory=Edits)  # what its files say

    async def unload(self) -> None:
        for entry in self.entries:
            if entry.instance is not None:
                await _unload(entry)
            if entry.module is not None:
                sys.modules.pop(entry.module.__name__, None)


def _its_own(error: BaseException) -> bool:
    """False if it is this task that was told to end, and not the plugin that ended something."""
    if not isinstance(error, asyncio.CancelledError):
        return True
    task = asyncio.current_task()
    told = getattr(task, "cancelling", None)  # Python 3.10 does not say
    return told is not None and told() == 0


def _refuses(policy: OnLoadError, row: ManifestEntry) -> bool:
    return policy == "refuse" or (policy == "auto" and row.by_name)


def _said(error: BaseException) -> str:
    """What was raised, without the name of the class where the loader itself says what is wrong."""
    own = (RuntimeError, FileNotFoundError, PluginSecurityError)
    return str(error) if type(error) in own else f"{type(error).__name__}: {error}"


async def _unload(entry: RingEntry) -> None:
    try:
        await entry.instance.on_unload()
    except Exception:
        logger.exception("Plugin %s failed in on_unload.", entry.name)


class PluginManager:
    """Loads the manifests of one directory and runs their plugins.

    Lives on the lane. `host()` is what the C++ engine serves traffic with; `execute_ring` runs one
    ring from Python, rows put into `rings` by hand included.
    """

    # What the C++ engine does; read by tools.
    PLUGIN_CB_THRESHOLD = 10
    PLUGIN_CB_COOLDOWN = 60.0
    # False: the default plugins run in Python even where the engine has them too.
    run_natively = True

    def __init__(
        self,
        plugins_dir: str | Path | None = "plugins",
        config: Any = None,
        *,
        enable: Collection[str] = (),
        state_file: str | Path = MEMORY,
        tenants: Mapping[str, Any] | None = None,
        on_load_error: OnLoadError = "skip",
        rows: Sequence[ManifestEntry] | None = None,
    ) -> None:
        """`on_load_error`: what a plugin that cannot be loaded ends. "refuse": building raises
        RequiredPluginMissing; "auto": only if the user enabled it by name or in the manifest of
        `plugins_dir`; "skip": nothing, the others run. A `required` one is never skipped. `rows`:
        the plugins to run, instead of what manifests and installed packages say."""
        self.plugins_dir = None if plugins_dir is None else Path(plugins_dir)
        directory = self.plugins_dir or Path("plugins")
        self.installed_dir = directory / "installed"
        self.manifest_path = directory / "manifest.yaml"
        settings = dict(config) if isinstance(config, Mapping) else {}
        self._on_load_error = on_load_error
        self._given = rows
        self._store = StateStore(state_file)
        self._cache = ResponseCache()
        self.state = PluginState(cache=self._cache, config=settings, extra={"store": self._store})
        self.services = Services(self.state, settings)
        self.services.native.set_cache(self._cache.store)
        self.rings: dict[PluginHook, list[dict[str, Any]]] = {hook: [] for hook in PluginHook}
        self.generation = Generation()
        self._counters: dict[str, _core.PluginRecord] = {}  # of rows put into rings by hand
        self._engine = RingEngine(self.state, self.services)
        self._configure(tuple(enable), settings, tenants or {}, [])
        self.config = config
        self._lane: _core.Lane | None = None
        self._handlers: _core.RingHandlers | None = None
        self._unloading: set[asyncio.Task[None]] = set()
        self._live = 0  # generations that C++ may still use
        self._host: _core.RingHost | None = None
        self._previous: tuple[Generation, _core.RingHost | None] | None = None
        self._swapping = asyncio.Lock()
        # How a new generation reaches the engine; set by the server.
        self.publish: Callable[[_core.RingHost | None], None] | None = None

    # ---- loading

    async def load_plugins(self) -> Generation:
        """Builds a generation from the manifests and makes it the current one."""
        self._adopt(await self.build())
        return self.generation

    def _adopt(self, generation: Generation) -> None:
        self.generation = generation
        self.rings = {hook: [] for hook in PluginHook}
        for entry in self.generation.entries:
            if entry.stream != CHUNK:
                self.rings[entry.ring].append(_as_dict(entry))

    async def build(self, edits: Edits | None = None) -> Generation:
        await self._store.ready()
        edits = edits or Edits.read(self.plugins_dir)
        generation = Generation(edits=edits)
        others: list[RingEntry] = []
        missing: list[tuple[ManifestEntry, str]] = []
        rows = self._given
        if rows is None:
            rows = read_manifests(self.plugins_dir, self._enable, edits)
        for row in rows:
            made: RingEntry | None = None
            problem = None if row.enabled else "disabled"
            if row.enabled and row.oddity:
                if _refuses(self._on_load_error, row):
                    missing.append((row, row.oddity))
                    continue
                logger.error("Plugin %s: %s: %s", row.name, row.where, row.oddity)
            if row.enabled:
                try:
                    made = await load_entry(row, self.plugins_dir, self.state)
                except BaseException as error:
                    if not _its_own(error):
                        await generation.unload()
                        raise
                    problem = import_problem(error) or _said(error)
                    if row.required or _refuses(self._on_load_error, row):
                        missing.append((row, problem))
                    else:
                        logger.error("Plugin %s is not loaded: %s", row.name, problem)
            if made is not None:
                generation.entries.append(made)
                others += companions(made)
            generation.meta.append(_describe(row, made, problem))
            generation.configs[row.name] = row.config
        if missing:
            await generation.unload()
            raise RequiredPluginMissing(missing)
        generation.entries += others
        await tokenizer.prepare()
        return generation

    async def _build_plugin_state(self) -> PluginState:
        """What all contexts share, once it is ready."""
        await self._store.ready()
        return self.state

    async def _load_plugin(
        self,
        p_info: Mapping[str, Any],
        *,
        rings: dict[PluginHook, list[dict[str, Any]]],
        meta: dict[str, dict[str, Any]],
        instances: dict[str, Any],
        stats: dict[str, dict[str, Any]],
    ) -> None:
        """Loads one manifest row into the given tables. Raises what loading it raises."""
        row = parse_row(p_info, str(p_info.get("_source") or "bundled"))
        meta[row.name] = _describe(row, None, "it is being loaded")
        stats[row.name] = _numbers(_core.PluginRecord())
        made = await load_entry(row, self.plugins_dir, await self._build_plugin_state())
        meta[row.name] = _describe(row, made, None)
        rings.setdefault(made.ring, []).append(_as_dict(made))
        if made.instance is not None:
            instances[row.name] = made.instance

    # ---- serving

    def bind(self, lane: _core.Lane) -> None:
        self._lane = lane
        self._handlers = _core.RingHandlers(lane, self._engine)

    def host(self) -> _core.RingHost:
        """The current generation for the C++ engine, unloaded after its last exchange."""
        self._host = self._host_of(self.generation)
        return self._host

    def _host_of(self, generation: Generation) -> _core.RingHost:
        lane, handlers = self._bound()
        self._live += 1

        def retired() -> None:
            self._live -= 1
            task = asyncio.get_running_loop().create_task(generation.unload())
            self._unloading.add(task)
            task.add_done_callback(self._unloading.discard)

        return _core.RingHost(lane, handlers, self._rows(generation), retired, self.services.native)

    def _rows(self, generation: Generation) -> list[tuple[Any, ...]]:
        steps = native_steps(generation.entries, self.services, self.state.cache is self._cache)
        return [
            entry.native(step if self.run_natively else "")
            for entry, step in zip(generation.entries, steps, strict=True)
        ]

    async def close(self) -> None:
        """Unloads what is still loaded. The engine has stopped."""
        self._host = self._previous = None
        for _ in range(100):  # the last hosts say on the lane that they retire
            if not self._live:
                break
            await asyncio.sleep(0.001)
        while self._unloading:
            # Tasks that are done already let nobody else run, not even their own callbacks.
            done, _ = await asyncio.wait(self._unloading)
            self._unloading -= done
        self._store.close()

    def _bound(self) -> tuple[_core.Lane, _core.RingHandlers]:
        if self._lane is None or self._handlers is None:
            self.bind(_core.Lane(asyncio.get_running_loop()))
        assert self._lane is not None and self._handlers is not None
        return self._lane, self._handlers

    async def execute_ring(self, hook: PluginHook, ctx: PluginContext) -> None:
        """Runs one ring on a context, as the engine would."""
        lane, handlers = self._bound()
        rows = [_from_dict(hook, row, self._counters).native() for row in self.rings[hook]]
        await _core.run_chain(lane, handlers, rows, ctx)

    # ---- changing what serves

    async def hot_swap(self, change: Callable[[Edits], Edits] | None = None) -> None:
        """Replaces the plugins by what the manifests say now, after `change`.

        The new ones are built and checked aside; requests under way keep the old ones, which are
        unloaded after the last of them and after the next swap. Any failure raises SwapRefused and
        leaves everything as it was.
        """
        async with self._swapping:
            await self._swap(change)

    async def _swap(self, change: Callable[[Edits], Edits] | None = None) -> None:
        # Without a directory the changes last as long as the process.
        kept = self.generation.edits if self.plugins_dir is None else None
        before = kept or Edits.read(self.plugins_dir)
        edits = before if change is None else change(before)
        try:
            made = await self.build(edits)
        except RequiredPluginMissing as error:
            raise SwapRefused(str(error)) from error
        try:
            await self._examine(made)
            self._carry_numbers(made)
            self._write(edits, before)
        except (SwapRefused, OSError) as error:
            await made.unload()
            raise SwapRefused(str(error)) from error
        self._show(made, self._host_of(made))

    async def reconfigure(
        self,
        enable: Collection[str] = (),
        config: Mapping[str, Any] | None = None,
        tenants: Mapping[str, Any] | None = None,
        backends: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """A configuration read anew, as a hot swap: SwapRefused leaves the old one in force."""
        new = (tuple(enable), dict(config or {}), tenants or {}, list(backends))
        async with self._swapping:
            before = self._configured
            self._configure(*new)
            try:
                await self._swap()
            except SwapRefused:
                self._configure(*before)
                raise

    def update_runtime_config(self, config: Mapping[str, Any]) -> None:
        """What plugins share (`plugins.config`), at once and without loading them anew."""
        enable, _, tenants, backends = self._configured
        self._configure(enable, dict(config), tenants, backends)

    def set_backends(self, backends: Iterable[Mapping[str, Any]]) -> None:
        enable, settings, tenants, _ = self._configured
        self._configure(enable, settings, tenants, list(backends))

    def _configure(
        self,
        enable: tuple[str, ...],
        settings: dict[str, Any],
        tenants: Mapping[str, Any],
        backends: list[Mapping[str, Any]],
    ) -> None:
        self._configured = (enable, settings, tenants, backends)
        self.config = settings
        self._enable = enable
        self.state.config = settings
        self.services.set_config(settings)
        self.services.set_backends(backends)
        self._engine.set_tenants(tenants)
        pricing.set_config_overrides(settings.get("pricing"))

    def _write(self, edits: Edits, before: Edits) -> None:
        if self.plugins_dir is not None and edits is not before:
            edits.write(self.plugins_dir, before)

    async def _examine(self, made: Generation) -> None:
        broken = {meta["name"] for meta in self.generation.meta if not meta["loaded"]}
        for meta in made.meta:
            if meta["enabled"] and not meta["loaded"]:
                known = self.get_plugin(meta["name"])
                if known is None or meta["name"] not in broken or not known["enabled"]:
                    raise SwapRefused(f"{meta['name']}: {meta['problem']}")
        lane, _ = self._bound()
        handlers = _core.RingHandlers(lane, self._engine)  # its times are no traffic's
        host = _core.RingHost(lane, handlers, self._rows(made), None, self.services.native)
        probe = _core.RingProbe(lane, host, HEALTH_REQUEST, "health-check", HEALTH_HEADERS)
        records = {entry.name: entry.record for entry in made.entries}
        last = [e.name for e in made.entries if e.ring is PluginHook.BACKGROUND]
        await check(probe, records, last)

    def _carry_numbers(self, made: Generation) -> None:
        before = {entry.name: entry.record for entry in self.generation.entries}
        for entry in made.entries:
            entry.record = before.get(entry.name) or _core.PluginRecord()
            if entry.instance is not None:
                attach(entry.instance, entry.record)

    def _show(self, generation: Generation, host: _core.RingHost | None) -> None:
        before = (self.generation, self._host)
        if self.publish is not None:
            self.publish(host)
        self._adopt(generation)
        self._host, self._previous = host, before

    async def rollback(self) -> bool:
        """Back to the generation before, which is still loaded, and to its files.

        False: there is none. Raises SwapRefused if the files cannot be written.
        """
        async with self._swapping:
            if self._previous is None:
                return False
            try:
                self._write(self._previous[0].edits, Edits.read(self.plugins_dir))
            except OSError as error:
                raise SwapRefused(str(error)) from error
            self._show(*self._previous)
            return True

    async def toggle_plugin(self, name: str, enabled: bool) -> bool:
        """False: there is no such plugin. Raises SwapRefused."""
        return await self._override(name, enabled=enabled)

    async def configure_plugin(self, name: str, config: Mapping[str, Any]) -> bool:
        """False: there is no such plugin. Raises SwapRefused."""
        return await self._override(name, config=dict(config))

    async def _override(self, name: str, **change: Any) -> bool:
        if self.get_plugin(name) is None:
            return False
        await self.hot_swap(lambda edits: edits.with_override(name, **change))
        return True

    async def install_plugin(self, entry: Mapping[str, Any]) -> bool:
        missing = [key for key in ("name", "hook", "entrypoint") if not entry.get(key)]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)}")
        row = self._pinned(entry)
        await self.hot_swap(lambda edits: edits.with_installed(row))
        if isinstance(entry, MutableMapping) and "sha256" in row:
            entry["sha256"] = row["sha256"]  # whoever installs hears of it, once it is installed
        return True

    def _pinned(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The entry with the SHA-256 of its file: no other will ever be loaded for it."""
        pin = entry.get("sha256") or digest_of(parse_row(entry, "installed"), self.plugins_dir)
        return {**entry, "sha256": pin} if pin else dict(entry)

    async def uninstall_plugin(self, name: str) -> bool:
        if not Edits.read(self.plugins_dir).has_installed(name):
            return False
        await self.hot_swap(lambda edits: edits.without_installed(name))
        return True

    # ---- numbers

    _percentiles = staticmethod(_percentiles)

    @property
    def _plugin_meta(self) -> dict[str, dict[str, Any]]:
        return {meta["name"]: meta for meta in self.generation.meta}

    @property
    def _plugin_instances(self) -> dict[str, Any]:
        entries = self.generation.entries
        return {entry.name: entry.instance for entry in entries if entry.instance is not None}

    def get_plugin_stats(self, name: str | None = None) -> dict[str, Any]:
        stats = self._plugin_stats
        return stats if name is None else stats.get(name, {})

    @property
    def _plugin_stats(self) -> dict[str, dict[str, Any]]:
        entries = [row.get("_entry") for rows in self.rings.values() for row in rows]
        counted = {entry.name: entry.record for entry in entries if entry is not None}
        return {name: _numbers(record) for name, record in (self._counters | counted).items()}

    def _init_stats(self, name: str) -> None:
        """Begins to count for a plugin that somebody puts into `rings` by hand."""
        self._counters[name] = _core.PluginRecord()

    def get_ring_traces(self, limit: int = 20) -> list[dict[str, Any]]:
        """What the plugins of the last exchanges took, newest first."""
        return self._bound()[1].traces()[:limit]

    def get_ring_latency(self) -> dict[str, Any]:
        handlers = self._bound()[1]
        times = handlers.ring_times()
        first = [row["ttft_ms"] for row in handlers.traces() if "ttft_ms" in row]
        stats = self.get_plugin_stats()
        return {
            "rings": {
                ring: {"count": len(window), **_percentiles(window)}
                for ring, window in times.items()
            },
            "plugins": {
                name: {
                    "avg_ms": row["avg_latency_ms"],
                    "percentiles": row["latency_percentiles"],
                    "invocations": row["invocations"],
                }
                for name, row in stats.items()
            },
            "ttft": {"samples": len(first), **_percentiles(first)},
        }

    def list_plugins(self) -> list[dict[str, Any]]:
        return list(self.generation.meta)

    def get_plugin_config(self, name: str) -> dict[str, Any]:
        return dict(self.generation.configs.get(name, {}))

    def get_plugin(self, name: str) -> dict[str, Any] | None:
        return next((meta for meta in self.generation.meta if meta["name"] == name), None)


def _describe(row: ManifestEntry, made: RingEntry | None, problem: str | None) -> dict[str, Any]:
    ring = made.ring if made else row.hook
    own = made.instance if made and made.kind == "class" else None

    def told(what: str, unsaid: str) -> str:
        """What the row says, else the class."""
        said = getattr(row, what)
        return str(getattr(own, what, said)) if said == unsaid else said

    return {
        "name": row.name,
        "hook": ring.value if ring else None,
        "type": row.kind,
        "version": told("version", "0.0.0"),
        "author": told("author", "unknown"),
        "description": told("description", ""),
        "ui_schema": row.ui_schema,
        "enabled": row.enabled,
        "timeout_ms": made.timeout_ms if made else row.timeout_ms,
        "fail_policy": made.fail_policy if made else row.fail_policy,
        "stream": made.stream_mode if made else row.stream,
        "priority": row.priority,
        "source": row.source,
        "loaded": made is not None,
        "problem": problem,
        # Of one that runs and cannot do its work: a masker without its model.
        "warning": _warning(made),
    }


def _warning(made: RingEntry | None) -> str | None:
    said = getattr(made.instance, "problem", None) if made else None
    return said if isinstance(said, str) else None


def _as_dict(entry: RingEntry) -> dict[str, Any]:
    """A ring's row, in the shape that tools and tests read and build by hand."""
    row: dict[str, Any] = {
        "type": entry.kind,
        "name": entry.name,
        "timeout_ms": entry.timeout_ms,
        "fail_policy": entry.fail_policy,
        "_entry": entry,
    }
    if isinstance(entry.instance, WasmPlugin):
        runner = entry.instance.runner
        return {**row, "path": str(runner.path), "_runner": runner}
    row["instance" if entry.instance is not None else "func"] = entry.instance or entry.call
    return row


def _from_dict(
    hook: PluginHook, row: dict[str, Any], counters: Mapping[str, _core.PluginRecord]
) -> RingEntry:
    known = row.get("_entry")
    if isinstance(known, RingEntry):
        return known
    is_class = row["type"] == "class"
    if row["type"] == "wasm":
        call = _guest_call(row.get("_runner"))
    else:
        call = row["instance"].execute if is_class else row["func"]
    entry = RingEntry(
        name=row["name"],
        ring=hook,
        kind=row["type"],
        call=call,
        timeout_ms=row.get("timeout_ms", CLASS_TIMEOUT_MS if is_class else DEFAULT_TIMEOUT_MS),
        fail_policy=FAIL_CLOSED
        if row.get("fail_policy", default_fail_policy(hook)) == FAIL_CLOSED
        else "open",
        instance=row.get("instance"),
        record=counters.get(row["name"]) or _core.PluginRecord(),
    )
    row["_entry"] = entry
    return entry


def _guest_call(runner: Any) -> Callable[[PluginContext], Awaitable[Any]]:
    async def call(ctx: PluginContext) -> Any:
        if runner is None:
            return None  # a row that stands for a guest that is not there
        return await runner.execute(ctx.body, ctx.metadata, ctx.session_id)

    return call


def _numbers(record: _core.PluginRecord) -> dict[str, Any]:
    count = record.invocations
    return {
        "invocations": count,
        "errors": record.errors,
        "blocks": record.blocks,
        "timeouts": record.timeouts,
        "left_behind": record.left_behind,
        "total_latency_ms": record.total_latency_ms,
        "consecutive_errors": record.consecutive_errors,
        "quarantined": record.quarantined,
        "avg_latency_ms": round(record.total_latency_ms / count, 2) if count else 0.0,
        "latency_percentiles": _percentiles(record.latencies_ms),
    }
