"""The configuration as backend plugins see it: read by attribute, by dotted path, and by backend
name."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llm_proxy.backends.login_families import second_logins
from llm_proxy.backends.registry import backend_registry
from llm_proxy.contracts.exceptions import ConfigurationError
from llm_proxy.contracts.listings import BackendCapabilityDescriptor

DEFAULT_TITLE = "llm-interactive-proxy"


class HeaderConfig(BaseModel):
    """Where one identity header comes from: our default, the client, or a fixed value."""

    mode: str = "default"
    override_value: str | None = None
    default_value: str | None = None
    passthrough_name: str | None = None

    def resolve(self, incoming: Mapping[str, Any]) -> str | None:
        if self.mode == "override":
            return self.override_value
        if self.mode == "passthrough" and self.passthrough_name:
            sent = {name.lower(): value for name, value in incoming.items()}
            passed = sent.get(self.passthrough_name.lower())
            return self.default_value if passed is None else str(passed)
        return self.default_value


def _header(default: str | None, passthrough: str) -> Any:
    return Field(
        default_factory=lambda: HeaderConfig(default_value=default, passthrough_name=passthrough)
    )


class AppIdentityConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    title: HeaderConfig = _header(DEFAULT_TITLE, "x-title")
    url: HeaderConfig = _header(None, "http-referer")
    user_agent: HeaderConfig = _header(DEFAULT_TITLE, "user-agent")

    def get_resolved_headers(
        self, incoming_headers: Mapping[str, Any] | None = None
    ) -> dict[str, str]:
        incoming = incoming_headers or {}
        resolved = {
            "X-Title": self.title.resolve(incoming),
            "HTTP-Referer": self.url.resolve(incoming),
            "User-Agent": self.user_agent.resolve(incoming),
        }
        return {name: value for name, value in resolved.items() if value}


class BackendConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", arbitrary_types_allowed=True)

    api_key: str | None = None
    api_url: str | None = None
    models: list[str] = Field(default_factory=list)
    timeout: int = 120
    identity: AppIdentityConfig | None = None
    extra: dict[str, Any] = Field(default_factory=dict)
    allow_concurrent_use: bool = True
    credentials_path: str | None = None
    supported_input_types: list[str] | None = None
    connector: str | None = None
    capability_descriptor: BackendCapabilityDescriptor | None = None

    @field_validator("api_key", mode="before")
    @classmethod
    def _first_key(cls, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return value[0] if value else None
        return value

    @field_validator("api_url")
    @classmethod
    def _web_url(cls, value: str | None) -> str | None:
        if value is not None and urlsplit(value).scheme not in ("http", "https"):
            raise ValueError("api_url must start with http:// or https://")
        return value


def _spellings(name: str) -> list[str]:
    """`name` as given, with underscores, with dashes, and the same of the connector before its
    first dot."""
    base = name.split(".", 1)[0]
    spelt = [name, name.replace("-", "_"), name.replace("_", "-")]
    spelt += [base, base.replace("-", "_"), base.replace("_", "-")]
    return list(dict.fromkeys(spelt))


class BackendSettings(BaseModel):
    """Every backend by name; whatever else the section holds is an attribute of its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    default_backend: str = "openai"
    static_route: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _backend_configs(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        named = cls.model_fields
        return {
            name: BackendConfig.model_validate(value)
            if name not in named and isinstance(value, Mapping)
            else value
            for name, value in data.items()
        }

    def get(self, name: str, default: Any = None) -> Any:
        value = (self.model_extra or {}).get(name)
        if value is None:
            value = getattr(self, name, None) if name in type(self).model_fields else None
        return default if value is None else value

    def lookup(self, name: str) -> BackendConfig | None:
        """The configuration of an instance under any spelling of its name; one with a key wins."""
        found = [self.get(spelling) for spelling in _spellings(name)]
        configs = [config for config in found if isinstance(config, BackendConfig)]
        return next((config for config in configs if config.api_key), next(iter(configs), None))

    def __getitem__(self, name: str) -> Any:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            extra = self.model_extra or {}
            for spelling in (name, name.replace("_", "-")):
                if spelling in extra:
                    return extra[spelling]
        raise AttributeError(name)

    def get_named_backend_configs(self) -> dict[str, BackendConfig]:
        return {
            name: value
            for name, value in (self.model_extra or {}).items()
            if isinstance(value, BackendConfig)
        }

    @property
    def functional_backends(self) -> set[str]:
        return {name for name, config in self.get_named_backend_configs().items() if config.api_key}


class LoggingConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    level: str = "INFO"
    log_file: str | None = None
    capture_file: str | None = None
    capture_max_bytes: int = 0
    capture_max_files: int = 5
    capture_truncate_bytes: int = 0
    cbor_capture_dir: str | None = None
    cbor_capture_session_id: str | None = None


class AuthConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    disable_auth: bool = False
    api_keys: list[str] = Field(default_factory=list)
    auth_token: str | None = None
    redact_api_keys_in_prompts: bool = True
    trusted_ips: list[str] = Field(default_factory=list)


class SessionConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    cleanup_enabled: bool = True
    cleanup_interval: int = 3600
    max_age: int = 86400
    max_per_session_backends: int = 32


class FailureHandlingConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    enabled: bool = True
    max_silent_wait: float = 60.0
    total_timeout_budget: float = 90.0
    keepalive_interval: float = 8.0
    max_failover_hops: int = 5
    min_retry_wait: float = 1.0


class NotificationConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    enabled: bool = False


class RoutingConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    disable_backend_ids: bool = False
    disable_backend_names: bool = False
    disable_model_names: bool = False


class ModelAliasRule(BaseModel):
    pattern: str
    replacement: str


class AppConfig(BaseModel):
    """The whole configuration. `AppConfig({...})` takes one mapping; unknown sections are kept."""

    model_config = ConfigDict(extra="allow")

    host: str = "127.0.0.1"
    port: int = 8000
    anthropic_port: int | None = None
    public_url: str | None = None
    proxy_timeout: int = 120
    command_prefix: str = "!/"
    context_window_override: int | None = None
    disable_health_checks: bool = False
    streaming_yield_interval: int = 100
    gemini_read_timeout: int = 120
    request_dedup_window: float = 6.0
    default_rate_limit: int = 60
    default_rate_window: int = 60
    backends: BackendSettings = Field(default_factory=BackendSettings)
    auth: AuthConfig = Field(default_factory=AuthConfig)
    session: SessionConfig = Field(default_factory=SessionConfig)
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    identity: AppIdentityConfig = Field(default_factory=AppIdentityConfig)
    failure_handling: FailureHandlingConfig = Field(default_factory=FailureHandlingConfig)
    notifications: NotificationConfig = Field(default_factory=NotificationConfig)
    routing: RoutingConfig = Field(default_factory=RoutingConfig)
    model_aliases: list[ModelAliasRule] = Field(default_factory=list)

    def __init__(self, data: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        super().__init__(**{"backends": {}, **(data or {}), **values})

    @field_validator("backends", mode="before")
    @classmethod
    def _every_registered_backend(cls, value: Any) -> Any:
        """A backend that is registered but not configured has an empty configuration, not none."""
        if not isinstance(value, Mapping):
            return value
        _one_login_a_family(value)
        configured = {spelling for name in value for spelling in (name, name.replace("_", "-"))}
        absent = [
            name for name in backend_registry.get_registered_backends() if name not in configured
        ]
        return {**{name: BackendConfig() for name in absent}, **value}

    def get(self, key: str, default: Any = None) -> Any:
        """The value at a dotted path."""
        value: Any = self
        for step in key.split("."):
            if isinstance(value, (BackendSettings, Mapping)):
                value = value.get(step)
            else:
                value = getattr(value, step, None)
            if value is None:
                return default
        return value

    def set(self, key: str, value: Any) -> None:
        warnings.warn(
            "AppConfig.set is deprecated; build the configuration you need instead",
            DeprecationWarning,
            stacklevel=2,
        )
        *path, last = key.split(".")
        target: Any = self
        for step in path:
            target = getattr(target, step)
        setattr(target, last, value)

    def mutate_backends(self, changes: Mapping[str, Any]) -> None:
        """Replaces the configuration of the named backends."""
        current = {name: getattr(self.backends, name) for name in BackendSettings.model_fields}
        self.backends = BackendSettings.model_validate(
            {**current, **(self.backends.model_extra or {}), **changes}
        )

    def save(self, path: str | Path) -> None:
        import yaml

        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        Path(path).write_text(text, encoding="utf-8")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> AppConfig:
        return cls(_environment(os.environ if environ is None else environ))


def _one_login_a_family(backends: Mapping[str, Any]) -> None:
    configs = {name: value for name, value in backends.items() if isinstance(value, Mapping)}
    connectors = {name: str(value.get("connector") or name) for name, value in configs.items()}
    for name, kept in second_logins(connectors):
        raise ConfigurationError(
            f"backends.{name}: this connector is a personal login, and '{kept}' is one already; "
            "keep one of the two.",
            {
                "error_code": "constrained_family_single_instance_violation",
                "instances": [kept, name],
            },
        )


# Variable of the environment → setting.
_OF_ENVIRONMENT = {
    "APP_HOST": "host",
    "APP_PORT": "port",
    "ANTHROPIC_PORT": "anthropic_port",
    "PROXY_TIMEOUT": "proxy_timeout",
    "COMMAND_PREFIX": "command_prefix",
}
# Providers whose variable is not called like their backend.
_PROVIDERS = {
    "alibaba-token-plan": "alibaba-token-plan-intl",
    "internai": "internlm",
    "kimi": "kimi-code",
}


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The part of the environment that plugins look at: the proxy's own address, and providers'
    keys and addresses."""
    backends: dict[str, Any] = {}
    for name, value in environ.items():
        if name.endswith("_API_KEY") and value:
            provider = name[: -len("_API_KEY")]
            entry: dict[str, Any] = {"api_key": value}
            if url := environ.get(f"{provider}_API_BASE_URL"):
                entry["api_url"] = url
            name_of = provider.lower().replace("_", "-")
            backends[_PROVIDERS.get(name_of, name_of)] = entry
    found: dict[str, Any] = {"backends": backends}
    for name, setting in _OF_ENVIRONMENT.items():
        if given := environ.get(name):
            found[setting] = given
    if default := environ.get("LLM_BACKEND"):
        backends["default_backend"] = default
    return found


def load_config(path: str | Path | None = None, **overrides: Any) -> AppConfig:
    """YAML, over which the environment, over which `overrides`."""
    merged: dict[str, Any] = {}
    if path is not None:
        import yaml

        merged = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    for layer in (_environment(os.environ), overrides):
        merged = dict(_merged(merged, layer))
    return AppConfig(merged)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in {**under, **over}:
        low, high = under.get(key), over.get(key)
        if isinstance(low, Mapping) and isinstance(high, Mapping):
            yield key, dict(_merged(low, high))
        else:
            yield key, high if key in over else low
