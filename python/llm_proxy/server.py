"""The engine with its Python half, as an object: `async with Server(config) as server: ...`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from llm_proxy import _core
from llm_proxy.lane_watchdog import Watchdog

if TYPE_CHECKING:
    from llm_proxy.backends.runtime.bridge import BackendBridge
    from llm_proxy.rings.runtime.manager import PluginManager

logger = logging.getLogger("llm_proxy")

# How soon a busy Python thread lets another one run: what a plugin that computes costs the rest.
SWITCH_SECONDS = 0.001

Spawn = Callable[[Coroutine[Any, Any, Any]], Any]
# Where the proxy listens now, as a URL without a path, and a client key for it or None.
Address = Callable[[], tuple[str, str | None]]


class Rings(Protocol):
    """The ring plugins of a server (`llm_proxy.rings.runtime.ring_plugins.RingPlugins`)."""

    manager: PluginManager | None

    @property
    def configured(self) -> bool: ...
    async def start(
        self, lane: _core.Lane, backends: Collection[Any], address: Address
    ) -> PluginManager: ...
    def publish_to(self, publish: Callable[[_core.RingHost | None], None] | None) -> None: ...
    async def reload(
        self, enable: Collection[str], options: Mapping[str, Any], backends: Collection[Any]
    ) -> None: ...
    async def close(self) -> None: ...


class AdminApi(Protocol):
    """The admin API of a server (`llm_proxy.admin.bridge.AdminBridge`)."""

    def serve(self, *request: Any) -> None: ...


class Server:
    """The C++ engine with its Python half: the lane, the ring plugins, the Python backends.

    `config` is the engine's snapshot (`llm_proxy.config.snapshot`), as JSON or a mapping. `rings`
    holds the ring plugins; `admin` makes the admin API; `app_config` is what Python backends are
    configured with. Without one of them the server does without that part.
    `llm_proxy.assembly.make_server` puts a whole proxy together. Signals are the caller's business.
    """

    def __init__(
        self,
        config: str | Mapping[str, Any],
        *,
        rings: Rings | None = None,
        admin: Callable[[Server, Spawn], AdminApi] | None = None,
        app_config: Mapping[str, Any] | None = None,
        drain_seconds: float | None = None,
    ) -> None:
        self._config = config if isinstance(config, str) else json.dumps(config)
        self._rings = rings
        self._admin = admin
        self._app_config = app_config
        self._drain_seconds = (
            _drain_seconds(self._config) if drain_seconds is None else drain_seconds
        )
        self._lane: _core.Lane | None = None
        self._engine: _core.Server | None = None
        self._watchdog: Watchdog | None = None
        self._bridge: BackendBridge | None = None
        self._retired: set[BackendBridge] = set()  # still serve requests that began with them
        self._switch = 0.0
        # Reads the configuration anew and reloads with it; set by whoever knows where it stands.
        self.reread: Callable[[], Awaitable[Collection[str]]] | None = None

    # ---- life

    async def __aenter__(self) -> Server:
        if self._lane is not None:
            raise RuntimeError("this server runs already")
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        self._lane = _core.Lane(asyncio.get_running_loop())
        self._watchdog = Watchdog(self._lane.lag, interrupt=self._lane.interrupt)
        self._watchdog.start()
        try:
            rings = None
            if self._rings is not None and self._rings.configured:
                rings = (await self._start_rings(self._rings, self._lane)).host()
            backends = self._load_backends(self._lane)
            self._engine = _core.Server(
                self._for_engine(self._config, self._bridge),
                rings,
                backends,
                self._admin_host(self._lane),
            )
            self._publish_to(self._engine)
            self._engine.start()
        except BaseException:
            self._engine = None
            self._publish_to(None)
            await self._close_python()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Drains, stops the workers, then ends everything Python that served them. Idempotent."""
        engine, lane = self._engine, self._lane
        if engine is None or lane is None:
            return
        self._engine = None
        drained = asyncio.Event()
        engine.drain(self._drain_seconds, lane, drained.set)
        try:
            await drained.wait()
        except asyncio.CancelledError:
            engine.drain(0, lane, drained.set)
            raise
        finally:
            engine.join()
            self._publish_to(None)
            del engine  # and with it the hosts: generations retire on the lane, below
            await self._close_python()

    async def _close_python(self) -> None:
        bridges, self._bridge, self._retired = {self._bridge, *self._retired}, None, set()
        for bridge in bridges - {None}:
            assert bridge is not None
            await bridge.close()
        if self._rings is not None:
            await self._rings.close()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._lane is not None:
            await asyncio.gather(*self._lane.close(), return_exceptions=True)
            self._lane = None
        sys.setswitchinterval(self._switch)

    # ---- what it serves with

    @property
    def plugins(self) -> PluginManager | None:
        """The manager of the ring plugins; None: none is configured and nobody has asked yet."""
        return None if self._rings is None else self._rings.manager

    async def ring_plugins(self) -> PluginManager:
        """The manager of the ring plugins; made now, with none running, if none was configured.

        RuntimeError: the server does not run, or was made without `rings`.
        """
        if self._rings is None:
            raise RuntimeError("this server was made without ring plugins")
        if self._rings.manager is None:
            if self._lane is None or self._engine is None:
                raise RuntimeError("the server does not run")
            await self._start_rings(self._rings, self._lane)
            self._publish_to(self._engine)
        assert self._rings.manager is not None
        return self._rings.manager

    async def _start_rings(self, rings: Rings, lane: _core.Lane) -> PluginManager:
        return await rings.start(lane, self._backends(), self._address)

    def _publish_to(self, engine: _core.Server | None) -> None:
        if self._rings is not None:
            self._rings.publish_to(None if engine is None else engine.set_rings)

    def _backends(self) -> Collection[Any]:
        return json.loads(self._config).get("backends") or ()

    def _address(self) -> tuple[str, str | None]:
        keys = json.loads(self._config).get("auth", {}).get("api_keys") or (None,)
        return f"http://{_own_address(self._config)}:{self.port}", keys[0]

    def _admin_host(self, lane: _core.Lane) -> _core.AdminHost | None:
        if self._admin is None:
            return None
        return _core.AdminHost(lane, self._admin(self, lane.start_task).serve)

    def _load_backends(self, lane: _core.Lane) -> _core.BackendHost | None:
        if self._app_config is None:
            return None
        from llm_proxy.backends.runtime.bridge import BackendBridge

        self._bridge = BackendBridge(self._app_config, spawn=lane.start_task)
        return self._host_of(lane, self._bridge)

    @staticmethod
    def _for_engine(config: str, bridge: BackendBridge | None) -> str:
        return config if bridge is None else bridge.with_native_rows(config)

    def _host_of(self, lane: _core.Lane, bridge: BackendBridge) -> _core.BackendHost:
        """The engine's way to the bridge; once the engine has left it, the bridge closes."""
        entrance = _Entrance(bridge)
        weakref.finalize(entrance, self._left, lane, bridge).atexit = False
        return _core.BackendHost(lane, entrance)

    def _left(self, lane: _core.Lane, bridge: BackendBridge) -> None:
        if bridge in self._retired:
            self._retired.discard(bridge)
            lane.start_task(bridge.close())

    def reload(
        self, config: str | Mapping[str, Any], app_config: Mapping[str, Any] | None = None
    ) -> None:
        """A new snapshot for new exchanges. ValueError says what is wrong; the old one stays.

        `app_config` is what Python backends are configured with from now on: if it is another one
        than before they are made anew, and the old ones end with the requests that began with them.
        None: as they are.
        """
        if self._engine is None or self._lane is None:
            raise RuntimeError("the server does not run")
        text = config if isinstance(config, str) else json.dumps(config)
        bridge, host = None, None
        if app_config is not None and app_config != self._app_config:
            from llm_proxy.backends.runtime.bridge import BackendBridge

            bridge = BackendBridge(app_config, spawn=self._lane.start_task)
            host = self._host_of(self._lane, bridge)
        try:
            self._engine.reload(self._for_engine(text, bridge or self._bridge), host)
        except ValueError:
            if bridge is not None:
                self._lane.start_task(bridge.close())
            raise
        self._config = text
        if bridge is not None:
            self._app_config = app_config
            if self._bridge is not None:
                self._retired.add(self._bridge)
            self._bridge = bridge

    async def reload_plugins(
        self, plugins: Collection[str] = (), plugin_options: Mapping[str, Any] | None = None
    ) -> None:
        """The ring plugins after a reload: manifests, names, settings, tenants and backends anew.

        To be called behind `reload`. SwapRefused says what is wrong; the old ones stay. The
        directory and the state file are the process's own and stay as well.
        """
        if self._rings is None:
            return
        if plugins or self._rings.configured:
            await self.ring_plugins()
        await self._rings.reload(plugins, plugin_options or {}, self._backends())

    # ---- what it says

    @property
    def lane(self) -> _core.Lane:
        """The thread that runs plugins. RuntimeError unless the server runs."""
        if self._lane is None:
            raise RuntimeError("the server does not run")
        return self._lane

    @property
    def port(self) -> int:
        return self._engine.port if self._engine is not None else 0

    @property
    def anthropic_port(self) -> int:
        """Of the second port, which has Anthropic's API alone; 0: there is none."""
        return self._engine.anthropic_port if self._engine is not None else 0

    def stats(self) -> dict[str, int]:
        return self._engine.stats() if self._engine is not None else {}


class _Entrance:
    """What the engine holds of a bridge: three functions, and by holding them, its life."""

    def __init__(self, bridge: BackendBridge) -> None:
        self._bridge = bridge

    def start(self, *call: Any) -> Any:
        return self._bridge.start(*call)

    def list_models(self, done: Any) -> None:
        self._bridge.list_models(done)

    def key(self, *asked: Any) -> None:
        self._bridge.key(*asked)


def _own_address(config: str) -> str:
    host = str(json.loads(config).get("host") or "127.0.0.1")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _drain_seconds(config: str) -> float:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return float(json.loads(config)["timeouts"]["drain"])
    return 10.0
