"""The service provider as a `post_build_hook` sees it."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


class ServiceLifetime(enum.Enum):
    TRANSIENT = "transient"
    SINGLETON = "singleton"
    SCOPED = "scoped"


@runtime_checkable
class IServiceProvider(Protocol):
    """Finds the proxy's services by type.

    The first provider a hook is given may know only some of them: prefer `get_service`, which
    answers None.
    """

    def get_service(self, service_type: type[T]) -> T | None: ...

    def get_required_service(self, service_type: type[T]) -> T: ...

    def has_service(self, service_type: type[Any]) -> bool: ...

    def get_required_service_or_default(
        self, service_type: type[T], default_factory: Callable[[], T]
    ) -> T: ...

    def create_scope(self) -> IServiceScope: ...


@runtime_checkable
class IServiceScope(Protocol):
    @property
    def service_provider(self) -> IServiceProvider: ...

    async def dispose(self) -> None: ...


@runtime_checkable
class IServiceCollection(Protocol):
    def add_singleton(
        self,
        service_type: type[Any],
        implementation_type: type[Any] | None = None,
        implementation_factory: Callable[[IServiceProvider], Any] | None = None,
    ) -> IServiceCollection: ...

    def add_singleton_factory(
        self, service_type: type[Any], implementation_factory: Callable[[IServiceProvider], Any]
    ) -> IServiceCollection: ...

    def add_transient(
        self,
        service_type: type[Any],
        implementation_type: type[Any] | None = None,
        implementation_factory: Callable[[IServiceProvider], Any] | None = None,
    ) -> IServiceCollection: ...

    def add_scoped(
        self,
        service_type: type[Any],
        implementation_type: type[Any] | None = None,
        implementation_factory: Callable[[IServiceProvider], Any] | None = None,
    ) -> IServiceCollection: ...

    def add_instance(self, service_type: type[Any], instance: Any) -> IServiceCollection: ...

    def build_service_provider(self, run_post_build_hooks: bool = True) -> IServiceProvider: ...
