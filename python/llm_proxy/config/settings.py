"""What the proxy runs on, typed: made by `load`, turned into the engine's JSON by `snapshot`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llm_proxy.backends.catalog import Auth, Kind, OtherFormat
from llm_proxy.config.errors import Problem
from llm_proxy.config.setting import Value

Source = Literal["default", "config", "environment", "cli", "derived"]


@dataclass(frozen=True)
class Origin:
    """Where a value came from."""

    source: Source
    where: str = ""  # "proxy.yaml:12", "APP_PORT", "--port", or why it was derived

    def __str__(self) -> str:
        return f"{self.source} ({self.where})" if self.where else self.source


DEFAULT = Origin("default")


@dataclass(frozen=True)
class Backend:
    """One instance of a backend: whom to ask, how, with which keys."""

    name: str
    type: str
    kind: Kind
    format: str
    base_url: str
    auth: Auth
    origin: Origin
    keys: tuple[str, ...] = field(default=(), repr=False)
    key_policy: str = "round-robin"
    headers: Mapping[str, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    models_path: str = ""
    cloud_models_url: str = ""
    quirks: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    model_names: Mapping[str, str] = field(default_factory=dict)
    others: tuple[OtherFormat, ...] = ()
    timeout: float = 0.0
    client_headers: bool = True
    loop_guard: bool = True
    routing_cost: float | None = None
    routing_priority: float | None = None
    example_model: str = ""
    own: Mapping[str, Value] = field(default_factory=dict, repr=False)  # a plugin's own settings


@dataclass(frozen=True)
class Settings:
    """Every setting with its value and origin, and the backends made from them."""

    values: Mapping[str, Value] = field(repr=False)
    origins: Mapping[str, Origin]
    backends: tuple[Backend, ...]
    default_backend: str
    default_model: str
    doubts: tuple[Problem, ...] = ()  # cannot work as it stands; `check-config` fails
    notes: tuple[Problem, ...] = ()  # has no effect, or is unwise

    def text(self, path: str) -> str:
        return str(self.values[path])

    def whole(self, path: str) -> int:
        value = self.values[path]
        assert isinstance(value, int)
        return value

    def number(self, path: str) -> float:
        value = self.values[path]
        assert isinstance(value, (int, float))
        return float(value)

    def seconds(self, path: str) -> float:
        return self.number(path)

    def switch(self, path: str) -> bool:
        return self.values[path] is True

    def texts(self, path: str) -> tuple[str, ...]:
        value = self.values[path]
        assert isinstance(value, tuple)
        return value

    def names(self, path: str) -> dict[str, str]:
        value = self.values[path]
        assert isinstance(value, Mapping)
        return {name: str(target) for name, target in value.items()}

    def mapping(self, path: str) -> Mapping[str, object]:
        value = self.values[path]
        assert isinstance(value, Mapping)
        return value

    @property
    def host(self) -> str:
        return self.text("host")

    @property
    def port(self) -> int:
        return self.whole("port")

    @property
    def anthropic_port(self) -> int | None:
        port = self.whole("anthropic_port")
        return port if port >= 0 else None

    @property
    def client_keys(self) -> tuple[str, ...]:
        return () if self.switch("auth.disable_auth") else self.texts("auth.api_keys")

    @property
    def admin_keys(self) -> tuple[str, ...]:
        return () if self.switch("auth.disable_auth") else self.texts("auth.admin_keys")

    def backend(self, name: str) -> Backend:
        return next(backend for backend in self.backends if backend.name == name)
