"""The proxy as an object: `async with Server(config) as server: ...`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llm_proxy import _core
from llm_proxy.admin.bridge import AdminBridge
from llm_proxy.lane_watchdog import Watchdog

if TYPE_CHECKING:
    from llm_proxy.backends.runtime.bridge import BackendBridge
    from llm_proxy.rings.runtime.manager import PluginManager

logger = logging.getLogger("llm_proxy")

# How soon a busy Python thread lets another one run: what a plugin that computes costs the rest.
SWITCH_SECONDS = 0.001
RING_PLUGINS = "llm_proxy_plugins"


class Server:
    """The C++ engine with its Python half: the lane, the ring plugins, the Python backends.

    `config` is the engine's snapshot (`llm_proxy.config.snapshot`), as JSON or a mapping.
    `plugins_dir` holds the manifest of ring plugins; `plugins` names built-in ones to run ("stock":
    the usual set, "all": every one). Without either no request meets Python. `plugin_options`:
    `config`, `state_file`, `tenants` of the PluginManager. `app_config` is what Python backends are
    configured with; without it there are none. Signals are the caller's business.
    """

    def __init__(
        self,
        config: str | Mapping[str, Any],
        *,
        plugins_dir: str | Path | None = None,
        plugins: Collection[str] = (),
        plugin_options: Mapping[str, Any] | None = None,
        app_config: Mapping[str, Any] | None = None,
        drain_seconds: float | None = None,
    ) -> None:
        self._config = config if isinstance(config, str) else json.dumps(config)
        self._plugins_dir = plugins_dir
        self._enable = tuple(plugins)
        self._plugin_options = dict(plugin_options or {})
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
        self.plugins: PluginManager | None = None
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
            admin = AdminBridge(self, self._lane.start_task)
            rings = await self._load_rings(self._lane)
            backends = self._load_backends(self._lane)
            self._engine = _core.Server(
                self._for_engine(self._config, self._bridge),
                rings,
                backends,
                _core.AdminHost(self._lane, admin.serve),
            )
            if self.plugins is not None:
                self.plugins.publish = self._engine.set_rings
            self._engine.start()
        except BaseException:
            self._engine = None
            if self.plugins is not None:
                self.plugins.publish = None
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
            if self.plugins is not None:
                self.plugins.publish = None
            del engine  # and with it the hosts: generations retire on the lane, below
            await self._close_python()

    async def _close_python(self) -> None:
        bridges, self._bridge, self._retired = {self._bridge, *self._retired}, None, set()
        for bridge in bridges - {None}:
            assert bridge is not None
            await bridge.close()
        if self.plugins is not None:
            await self.plugins.close()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._lane is not None:
            await asyncio.gather(*self._lane.close(), return_exceptions=True)
            self._lane = None
        sys.setswitchinterval(self._switch)

    # ---- what it serves with

    async def _load_rings(self, lane: _core.Lane) -> _core.RingHost | None:
        configured = self._plugins_dir is not None or self._enable
        if not configured and not entry_points(group=RING_PLUGINS):
            return None
        self.plugins = await self._make_rings(lane)
        return self.plugins.host()

    async def _make_rings(self, lane: _core.Lane) -> PluginManager:
        from llm_proxy.rings.runtime.manager import PluginManager

        made = PluginManager(self._plugins_dir, enable=self._enable, **self._plugin_options)
        made.bind(lane)
        made.set_backends(json.loads(self._config).get("backends") or ())
        made.services.send = self._send
        await made.load_plugins()
        return made

    async def ring_plugins(self) -> PluginManager:
        """The manager of the ring plugins; made now, with none running, if none was configured."""
        if self.plugins is None:
            if self._lane is None or self._engine is None:
                raise RuntimeError("the server does not run")
            made = await self._make_rings(self._lane)
            if self.plugins is None:
                self.plugins = made
                self.plugins.publish = self._engine.set_rings
        return self.plugins

    async def _send(self, body: dict[str, Any]) -> dict[str, Any]:
        """A chat request of a plugin's own, through this proxy as any client's."""
        import httpx

        from llm_proxy.rings.builtin.marketplace.shadow_traffic import HEADER

        headers = {HEADER: "1"}
        keys = json.loads(self._config).get("client_keys") or ()
        if keys:
            headers["authorization"] = f"Bearer {keys[0]}"
        url = f"http://{_own_address(self._config)}:{self.port}/v1/chat/completions"
        async with httpx.AsyncClient(trust_env=False, timeout=300) as http:
            response = await http.post(url, json=body, headers=headers)
        if response.status_code >= 400:
            raise RuntimeError(f"{response.status_code}: {response.text[:200]}")
        reply: dict[str, Any] = response.json()
        return reply

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
        options = {**self._plugin_options, **(plugin_options or {})}
        if self.plugins is not None or plugins or self._plugins_dir is not None:
            await (await self.ring_plugins()).reconfigure(
                tuple(plugins),
                options.get("config"),
                options.get("tenants"),
                json.loads(self._config).get("backends") or (),
            )
        self._enable, self._plugin_options = tuple(plugins), options

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
    return 30.0
