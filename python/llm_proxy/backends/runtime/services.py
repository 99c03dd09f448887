"""The service provider: services by type, made when first asked for."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from llm_proxy.backends.runtime.discovery_state import get_plugin_post_build_hooks
from llm_proxy.contracts.exceptions import ServiceResolutionError
from llm_proxy.contracts.services import IServiceProvider, ServiceLifetime

logger = logging.getLogger(__name__)

T = TypeVar("T")
Make = Callable[[IServiceProvider], Any]


@dataclass(frozen=True)
class _Service:
    lifetime: ServiceLifetime
    make: Make


class ServiceProvider:
    """Built by a `ServiceCollection`; a scope is one of these with a root above it."""

    def __init__(
        self, services: dict[type[Any], _Service], root: ServiceProvider | None = None
    ) -> None:
        self._services = services
        self._root = root
        self._made: dict[type[Any], Any] = {}

    def get_service(self, service_type: type[T]) -> T | None:
        service = self._services.get(service_type)
        if service is None:
            return None
        if service.lifetime is ServiceLifetime.TRANSIENT:
            return cast(T, service.make(self))
        if service.lifetime is ServiceLifetime.SCOPED and self._root is None:
            raise RuntimeError(f"{service_type.__name__} is scoped; resolve it from a scope.")
        owner = self
        if service.lifetime is ServiceLifetime.SINGLETON and self._root is not None:
            owner = self._root
        if service_type not in owner._made:
            owner._made[service_type] = service.make(owner)
        return cast(T, owner._made[service_type])

    def get_required_service(self, service_type: type[T]) -> T:
        service = self.get_service(service_type)
        if service is None:
            raise ServiceResolutionError(f"No service registered for {service_type.__name__}.")
        return service

    def has_service(self, service_type: type[Any]) -> bool:
        return service_type in self._services

    def get_required_service_or_default(
        self, service_type: type[T], default_factory: Callable[[], T]
    ) -> T:
        service = self.get_service(service_type)
        return default_factory() if service is None else service

    def create_scope(self) -> ServiceScope:
        return ServiceScope(ServiceProvider(self._services, self._root or self))


class ServiceScope:
    """A provider of its own for scoped services; disposing it disposes them."""

    def __init__(self, provider: ServiceProvider) -> None:
        self._provider = provider

    @property
    def service_provider(self) -> ServiceProvider:
        return self._provider

    async def dispose(self) -> None:
        made, self._provider._made = list(self._provider._made.values()), {}
        for service in reversed(made):
            dispose = getattr(service, "dispose", None)
            if callable(dispose):
                outcome = dispose()
                if inspect.isawaitable(outcome):
                    await outcome

    async def __aenter__(self) -> ServiceScope:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.dispose()


class ServiceCollection:
    """Registrations from which providers are built. Every adder returns the collection."""

    def __init__(self) -> None:
        self._services: dict[type[Any], _Service] = {}

    def _add(
        self,
        lifetime: ServiceLifetime,
        service_type: type[Any],
        implementation_type: type[Any] | None,
        implementation_factory: Make | None,
    ) -> ServiceCollection:
        made_of = implementation_type or service_type
        make = implementation_factory or (lambda provider: made_of())
        self._services[service_type] = _Service(lifetime, make)
        return self

    def add_singleton(
        self,
        service_type: type[Any],
        implementation_type: type[Any] | None = None,
        implementation_factory: Make | None = None,
    ) -> ServiceCollection:
        lifetime = ServiceLifetime.SINGLETON
        return self._add(lifetime, service_type, implementation_type, implementation_factory)

    def add_singleton_factory(
        self, service_type: type[Any], implementation_factory: Make
    ) -> ServiceCollection:
        return self._add(ServiceLifetime.SINGLETON, service_type, None, implementation_factory)

    def add_transient(
        self,
        service_type: type[Any],
        implementation_type: type[Any] | None = None,
        implementation_factory: Make | None = None,
    ) -> ServiceCollection:
        lifetime = ServiceLifetime.TRANSIENT
        return self._add(lifetime, service_type, implementation_type, implementation_factory)

    def add_scoped(
        self,
        service_type: type[Any],
        implementation_type: type[Any] | None = None,
        implementation_factory: Make | None = None,
    ) -> ServiceCollection:
        lifetime = ServiceLifetime.SCOPED
        return self._add(lifetime, service_type, implementation_type, implementation_factory)

    def add_instance(self, service_type: type[Any], instance: Any) -> ServiceCollection:
        return self._add(ServiceLifetime.SINGLETON, service_type, None, lambda provider: instance)

    def build_service_provider(self, run_post_build_hooks: bool = True) -> ServiceProvider:
        provider = ServiceProvider(dict(self._services))
        if run_post_build_hooks:
            run_plugin_post_build_hooks(provider)
        return provider


def run_plugin_post_build_hooks(provider: IServiceProvider) -> None:
    """Calls the hook of every registered plugin, by backend name.

    A hook that raises is warned about, not fatal.
    """
    for name, hook in get_plugin_post_build_hooks():
        try:
            hook(provider)
        except Exception as error:
            logger.warning("post_build_hook of backend plugin '%s' failed: %r", name, error)
