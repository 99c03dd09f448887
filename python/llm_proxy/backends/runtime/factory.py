"""Makes backends: positional factory call, then `initialize` with what the configuration says."""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llm_proxy.backends.registry import BackendRegistry, UnregisteredBackendError
from llm_proxy.backends.runtime import discovery_state as state
from llm_proxy.contracts.exceptions import RoutingError

if TYPE_CHECKING:
    import httpx

    from llm_proxy.backends.app_config import AppConfig, BackendConfig
    from llm_proxy.backends.translation import TranslationService

logger = logging.getLogger(__name__)

# Connectors that find their key in the environment when the configuration has no entry for them.
_ENVIRONMENT_KEYS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_API_BASE_URL"),
    "opencode-go": ("OPENCODE_GO_API_KEY", "OPENCODE_GO_API_BASE_URL"),
    "minimax": ("MINIMAX_API_KEY", "MINIMAX_API_BASE_URL"),
}


class BackendFactory:
    """One for the process. Backends are made on the lane, one after the other."""

    def __init__(
        self,
        httpx_client: httpx.AsyncClient,
        backend_registry: BackendRegistry,
        config: AppConfig,
        translation_service: TranslationService,
        endpoint_registry: Any = None,
        backend_notifier: Any = None,
        activity_tracker: Any = None,
    ) -> None:
        self._client = httpx_client
        self._registry = backend_registry
        self._config = config
        self._translation = translation_service
        self._endpoints = endpoint_registry
        self._notifier = backend_notifier
        self._tracker = activity_tracker

    @staticmethod
    def create(service_provider: Any) -> BackendFactory:
        factory: BackendFactory = service_provider.get_required_service(BackendFactory)
        return factory

    def create_backend(self, backend_type: str, config: AppConfig | None = None) -> Any:
        if backend_type not in self._registry.get_registered_backends():
            raise _unknown(backend_type)
        make = self._registry.get_backend_factory(backend_type)
        return make(self._client, config or self._config, self._translation)

    async def initialize_backend(self, backend: Any, init_config: Mapping[str, Any]) -> None:
        await backend.initialize(**init_config)

    def unregister_backend(self, name: str) -> None:
        self._registry.unregister_backend(name)

    async def ensure_backend(
        self,
        backend_type: str,
        app_config: AppConfig,
        backend_config: BackendConfig | None = None,
    ) -> Any:
        """The backend of an instance name (`connector` or `connector.instance`), initialised."""
        connector = backend_type.split(".", 1)[0]
        if backend_config is not None and backend_config.connector:
            connector = backend_config.connector
        init_config = init_config_of(connector, backend_config)
        backend = self.create_backend(connector, app_config)
        await self.initialize_backend(backend, init_config)
        with suppress(AttributeError):
            backend.backend_type = backend_type
        with suppress(AttributeError):
            backend.api_url = init_config.get("api_base_url") or _address_of(backend)
        if self._endpoints is not None:
            self._endpoints.register(backend_type, backend)
        set_tracker: Callable[..., None] | None = getattr(backend, "set_activity_tracker", None)
        if self._tracker is not None and set_tracker is not None:
            set_tracker(self._tracker, backend_type)
        return backend


def init_config_of(connector: str, config: BackendConfig | None) -> dict[str, Any]:
    """What `initialize` is called with: the documented keys, then every key of `extra`."""
    if config is None:
        key_name, url_name = _ENVIRONMENT_KEYS.get(connector, ("", ""))
        found = {"api_key": os.environ.get(key_name), "api_base_url": os.environ.get(url_name)}
        return {name: value for name, value in found.items() if value}
    init: dict[str, Any] = {"api_key": config.api_key}
    if config.api_url:
        init["api_base_url"] = config.api_url
    for name in ("credentials_path", "supported_input_types", "models"):
        if value := getattr(config, name):
            init[name] = value
    init.update(config.extra)
    return init


def _address_of(backend: Any) -> str | None:
    address = getattr(backend, "api_base_url", None)
    return address if isinstance(address, str) else None


def _unknown(backend_type: str) -> Exception:
    if not state.is_extracted_backend_name(backend_type):
        return UnregisteredBackendError(f"Backend '{backend_type}' is not registered.")
    if state.is_running_in_multi_user_mode():
        return RoutingError(
            f"Backend '{backend_type}' is a personal login and not available in multi-user mode.",
            {"code": "unknown_model", "category": "multi_user_blocked", "retryable": False},
        )
    command = state.get_oauth_install_command()
    return RoutingError(
        f"Backend '{backend_type}' is not installed. Install it with: {command}",
        {
            "code": "unknown_model",
            "category": "optional_backend_missing",
            "retryable": False,
            "backend_type": backend_type,
            "optional_package": state.get_optional_oauth_package_name(),
            "install_command": command,
        },
    )


async def call_if_there(target: Any, name: str, *args: Any) -> Any:
    """Calls an optional method of a backend, sync or async; None where it has none."""
    method = getattr(target, name, None)
    if not callable(method):
        return None
    outcome = method(*args)
    return await outcome if inspect.isawaitable(outcome) else outcome
