"""What plugins reach the proxy through: `ctx.metadata["rotator"]`, made anew for each request."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_proxy import _core
from llm_proxy.rings.context import PluginState
from llm_proxy.rings.services.pii import SECRET, Vault

logger = logging.getLogger("llm_proxy.plugins")

# What the smart router has learnt, in all of a process.
endpoint_stats = _core.EndpointStats()
_LEVELS = {"ERROR": logging.ERROR, "WARNING": logging.WARNING, "SECURITY": logging.WARNING}


@dataclass
class Endpoint:
    """One backend, as routing plugins see it."""

    id: str
    url: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


class Breaker:
    """Closed until so many failures in a row; then one try after each pause."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        state: _core.EndpointBreaker | None = None,
    ) -> None:
        self._clock = clock
        self._state = state or _core.EndpointBreaker()

    async def can_execute(self) -> bool:
        return self._state.can_execute(self._clock())

    def report(self, success: bool) -> None:
        self._state.report(success, self._clock())


class Breakers:
    def __init__(self, native: _core.NativeServices) -> None:
        self._native = native

    async def get_breaker(self, name: str) -> Breaker:
        return self.of(name)

    def of(self, name: str) -> Breaker:
        return Breaker(state=self._native.breaker(name))


class Identity:
    """Who a network address belongs to. Nothing but the address itself is asked here."""

    async def verify_tailscale_identity(self, address: str) -> dict[str, Any]:
        return {"status": "unverified", "user": None, "node": None}


class PoolStore:
    """The backends and the plugin state, under the names routing plugins know."""

    def __init__(self, state: PluginState) -> None:
        self._state = state
        self.endpoints: list[Endpoint] = []

    async def get_pool(self) -> list[Endpoint]:
        return list(self.endpoints)

    async def get_state(self, key: str, default: Any = None) -> Any:
        store = self._state.extra.get("store")
        return default if store is None else await store.get_state(key, default)

    async def set_state(self, key: str, value: Any) -> None:
        store = self._state.extra.get("store")
        if store is not None:
            await store.set_state(key, value)


Send = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
# Marks a request that a plugin makes itself, so that no plugin answers it with another one.
SHADOW_HEADER = "x-llm-proxy-shadow"


class Services:
    """What all rotators of a process share. Lives on the lane."""

    def __init__(self, state: PluginState, settings: Mapping[str, Any] | None = None) -> None:
        self.native = _core.NativeServices(endpoint_stats, SECRET)
        self.set_config(settings or {})
        self.store = PoolStore(state)
        self.circuit_manager = Breakers(self.native)
        self.zt_manager = Identity()
        self.send: Send | None = None  # a chat request through this very proxy

    def set_config(self, settings: Mapping[str, Any]) -> None:
        self.config: dict[str, Any] = dict(settings)
        self.native.set_rules(
            blocks_domains=bool(self.config.get("blocked_domains")),
            priority_mode=bool(self.config.get("priority_mode")),
        )

    def set_backends(self, backends: Iterable[Mapping[str, Any]]) -> None:
        self.store.endpoints = [
            Endpoint(
                str(backend["name"]),
                str(backend.get("base_url", "")),
                {
                    "provider": backend.get("type", ""),
                    "models": list(backend.get("models", ())),
                    "priority": backend.get("priority", 0),
                },
            )
            for backend in backends
        ]
        self.native.set_pool([(e.id, e.metadata["models"]) for e in self.store.endpoints])


# Controls, and marks that reorder or hide text; joiners stay, many scripts need them.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u202a-\u202e\u2060\u2066-\u2069\ufeff"
                     "\U000e0000-\U000e007f]")  # fmt: skip
_LINK = re.compile(r"https?://([\w.-]+)[^\s)\]>\"']*", re.IGNORECASE)


class Security:
    """Masking and cleansing for one request: its vault is nobody else's."""

    def __init__(
        self, tenant: str, blocked_domains: Iterable[str] = (), values: dict[str, str] | None = None
    ) -> None:
        self._vault = Vault(tenant, values)
        self._blocked = tuple(domain.lower() for domain in blocked_domains)
        self.pii_vault = self._vault.values

    def mask_pii(self, text: str) -> str:
        return self._vault.mask(text)

    def token_for(self, group: str, text: str) -> str:
        """The token that stands for one piece of personal data in this request."""
        return self._vault.token_for(group, text)

    def restore_pii(self, text: str, escape: Callable[[str], str] = str) -> str:
        return self._vault.restore(text, escape)

    def sanitize_response(self, text: str) -> str:
        """Without hidden characters and blocked links, personal data restored."""
        text = _HIDDEN.sub("", text)
        if self._blocked:
            text = _LINK.sub(self._link, text)
        return self._vault.restore(text)

    def _link(self, hit: re.Match[str]) -> str:
        host = hit[1].lower().rstrip(".")
        blocked = any(host == domain or host.endswith("." + domain) for domain in self._blocked)
        return "[link removed]" if blocked else hit[0]


class Rotator:
    """The proxy as plugins of one request see it.

    `placeholders` is the request's vault, before anybody has masked anything: the context has the
    very same mapping, so the engine restores whatever plugins mask through the host.
    """

    __slots__ = ("_security", "_services", "_tenant", "logger", "placeholders", "priority_mode")

    def __init__(self, services: Services, tenant: str = "") -> None:
        self._services = services
        self._tenant = tenant
        self._security: Security | None = None
        self.placeholders: dict[str, str] = {}
        self.logger = logger
        self.priority_mode = bool(services.config.get("priority_mode", False))

    @property
    def security(self) -> Security:
        if self._security is None:
            blocked = self.config.get("blocked_domains") or ()
            self._security = Security(self._tenant, blocked, self.placeholders)
        return self._security

    @property
    def config(self) -> dict[str, Any]:
        return self._services.config

    @property
    def store(self) -> PoolStore:
        return self._services.store

    @property
    def circuit_manager(self) -> Breakers:
        return self._services.circuit_manager

    @property
    def zt_manager(self) -> Identity:
        return self._services.zt_manager

    @property
    def send(self) -> Send | None:
        return self._services.send

    @property
    def routing_cost_weight(self) -> float:
        return float(self.config.get("routing_cost_weight", 0.3))

    async def _add_log(self, message: str, level: str = "INFO", **more: Any) -> None:
        logger.log(_LEVELS.get(level.upper(), logging.INFO), "%s", message)
