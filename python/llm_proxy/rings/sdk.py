"""What a ring plugin is made of: the names that plugins import from `core.plugin_sdk`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from llm_proxy._core import PluginRecord
    from llm_proxy.rings.context import PluginContext, PluginState

logger = logging.getLogger("plugin_sdk")

# Packages name their ring plugins in this group of entry points.
ENTRY_POINT_GROUP = "llm_proxy_plugins"


class PluginHook(Enum):
    """The five rings, in the order they run."""

    INGRESS = "ingress"
    PRE_FLIGHT = "pre_flight"
    ROUTING = "routing"
    POST_FLIGHT = "post_flight"
    BACKGROUND = "background"


class PluginAction(str, Enum):
    PASSTHROUGH = "passthrough"
    MODIFY = "modify"
    BLOCK = "block"
    CACHE_HIT = "cache_hit"


_ACTIONS = tuple(action.value for action in PluginAction)


class PluginResponseError(ValueError):
    """A PluginResponse that cannot be: the plugin that made it has failed."""


@dataclass
class PluginResponse:
    """What a plugin answers: go on, with this body, stop with an error, or answer with this."""

    action: str = "passthrough"
    status_code: int = 200
    error_type: str | None = None
    message: str | None = None
    body: dict[str, Any] | None = None
    response: Any = None

    def __post_init__(self) -> None:
        if self.action not in _ACTIONS:
            raise PluginResponseError(
                f"Invalid PluginResponse action '{self.action}'; allowed: {', '.join(_ACTIONS)}"
            )
        if self.action == "block" and self.status_code < 400:
            logger.warning("A block with status %s becomes 403.", self.status_code)
            self.status_code = 403

    @classmethod
    def passthrough(cls) -> PluginResponse:
        # The defaults are class attributes, so this most frequent answer needs no __init__.
        return cls.__new__(cls)

    @classmethod
    def modify(
        cls, body: dict[str, Any] | None = None, message: str | None = None
    ) -> PluginResponse:
        return cls(action="modify", body=body, message=message)

    @classmethod
    def block(
        cls,
        status_code: int = 403,
        error_type: str = "plugin_block",
        message: str = "Blocked by plugin",
    ) -> PluginResponse:
        return cls(action="block", status_code=status_code, error_type=error_type, message=message)

    @classmethod
    def cache_hit(cls, response: Any) -> PluginResponse:
        return cls(action="cache_hit", response=response)


class _Shared:
    """What all contexts share, under the name `state`, unless the plugin has something of its own
    by that name."""

    def __get__(self, instance: Any, owner: type | None = None) -> PluginState | None:
        state: PluginState | None = getattr(instance, "_BasePlugin__state", None)
        return state


class BasePlugin:
    """A plugin with a life: made once, `on_load`, many `execute`, `on_unload`.

    Every attribute belongs to the author: the engine keeps what is its own under mangled names.
    """

    name: ClassVar[str] = "unnamed_plugin"
    hook: ClassVar[PluginHook] = PluginHook.BACKGROUND
    version: ClassVar[str] = "0.0.1"
    author: ClassVar[str] = "unknown"
    description: ClassVar[str] = ""
    timeout_ms: ClassVar[float] = 50
    # What its failure means where the manifest does not say: "closed" refuses the exchange, which
    # is right for a plugin that guards; "open" goes on without it. None: as the ring does.
    fail_policy: ClassVar[str | None] = None
    # What a plugin of the reply ring does to streams: "observe" sees them once they have been sent,
    # all but their end, and may still end them with an error; "buffer" holds them back until it has
    # spoken, and may replace them.
    stream: ClassVar[str] = "observe"
    # Methods that run at the end of other rings for the same plugin: {ring: method name}.
    also: ClassVar[dict[PluginHook, str]] = {}

    state: PluginState | None = _Shared()  # type: ignore[assignment]  # there before on_load
    __state: PluginState | None = None
    __record: PluginRecord | None = None  # the engine's numbers, once it runs this instance

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config: dict[str, Any] = config or {}
        self.logger = logging.getLogger("plugin." + self.name)
        self._stats: dict[str, float] = {
            "invocations": 0,
            "errors": 0,
            "blocks": 0,
            "total_latency_ms": 0,
        }

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        return PluginResponse.passthrough()

    async def on_load(self) -> None:
        """Once, before the first execute."""

    async def on_unload(self) -> None:
        """Once, after the last execute: on a swap, on removal, at shutdown."""

    @property
    def stats(self) -> dict[str, Any]:
        record = self.__record
        own = getattr(self, "_stats", None)

        def number(key: str) -> Any:
            if record is not None:
                return getattr(record, key)
            return own.get(key, 0) if isinstance(own, dict) else 0

        count, total = number("invocations"), number("total_latency_ms")
        return {
            "name": self.name,
            "version": self.version,
            "invocations": count,
            "errors": number("errors"),
            "blocks": number("blocks"),
            "timeouts": number("timeouts"),
            "total_latency_ms": round(total, 3),
            "avg_latency_ms": round(total / count if count else 0.0, 2),
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} v{self.version} [{self.hook.value}]>"


def share(plugin: BasePlugin, state: PluginState | None) -> None:
    """Gives a plugin what all contexts share. For the host, before `on_load`."""
    object.__setattr__(plugin, "_BasePlugin__state", state)


def attach(plugin: BasePlugin, record: PluginRecord) -> None:
    """Lets `plugin.stats` tell the engine's numbers. For the host."""
    object.__setattr__(plugin, "_BasePlugin__record", record)
