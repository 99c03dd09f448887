"""The ring plugins of one server, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_proxy.rings.sdk import ENTRY_POINT_GROUP

if TYPE_CHECKING:
    from llm_proxy import _core
    from llm_proxy.rings.runtime.manager import PluginManager

Address = Callable[[], "tuple[str, str | None]"]
Publish = Callable[["_core.RingHost | None"], None]


class RingPlugins:
    """Makes the plugin manager when it is needed, and keeps what it is to be made with.

    Owned by the Server; lives on the lane. `manager` is None until plugins are configured or
    somebody asks for them, so that a proxy without ring plugins never meets Python in a request.

    `directory` holds a manifest; `enable` names built-in plugins ("stock": the usual set, "all":
    every one); `options` are further arguments of the PluginManager: `config`, `state_file`,
    `tenants`, `rows`.
    """

    def __init__(
        self,
        directory: str | Path | None = None,
        enable: Collection[str] = (),
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.manager: PluginManager | None = None
        self._directory = directory
        self._enable = tuple(enable)
        self._options = dict(options or {})

    @property
    def configured(self) -> bool:
        """Whether a directory, a name, a row or an installed package asks for ring plugins."""
        if self._directory is not None or self._enable or self._options.get("rows"):
            return True
        return bool(entry_points(group=ENTRY_POINT_GROUP))

    async def start(
        self, lane: _core.Lane, backends: Collection[Any], address: Address
    ) -> PluginManager:
        """The manager with its plugins loaded; made by the first call.

        `backends`: the rows of the engine's configuration. `address`: where plugins send requests
        of their own. Raises RequiredPluginMissing.
        """
        # Here, so that a proxy without ring plugins starts without them.
        from llm_proxy.rings.runtime.manager import PluginManager
        from llm_proxy.rings.runtime.own_requests import OwnRequests

        if self.manager is None:
            made = PluginManager(self._directory, enable=self._enable, **self._options)
            made.bind(lane)
            made.set_backends(backends)
            made.services.send = OwnRequests(address).send
            await made.load_plugins()
            if self.manager is None:  # nobody else was first while this one loaded
                self.manager = made
        return self.manager

    def publish_to(self, publish: Publish | None) -> None:
        """Where new generations go from now on; None: nowhere, the engine has ended."""
        if self.manager is not None:
            self.manager.publish = publish

    async def reload(
        self, enable: Collection[str], options: Mapping[str, Any], backends: Collection[Any]
    ) -> None:
        """Manifests, names, settings, tenants and backends anew. Raises SwapRefused: the old stay.

        The directory and the state file are read when the process starts, and stay.
        """
        options = {**self._options, **options}
        if self.manager is not None:
            await self.manager.reconfigure(
                tuple(enable), options.get("config"), options.get("tenants"), backends
            )
        self._enable, self._options = tuple(enable), options

    async def close(self) -> None:
        ended, self.manager = self.manager, None
        if ended is not None:
            await ended.close()
