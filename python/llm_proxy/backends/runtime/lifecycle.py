"""The running backends: made on first use, kept per instance name, shut down when they go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from llm_proxy.backends.runtime.factory import call_if_there
from llm_proxy.contracts.exceptions import (
    AuthenticationError,
    BackendError,
    LLMProxyError,
    RateLimitExceededError,
)

if TYPE_CHECKING:
    from llm_proxy.backends.app_config import AppConfig, BackendConfig

logger = logging.getLogger(__name__)

MAX_BACKENDS = 200
START_FAILED = "backend_start_failed"
AGAIN_SECONDS = 60.0  # a second refusal of the credentials within it counts
REST_SECONDS = 300.0
_SHUTDOWN_SECONDS = 5.0


class Maker(Protocol):
    async def ensure_backend(
        self, backend_type: str, app_config: AppConfig, backend_config: BackendConfig | None = None
    ) -> Any: ...


@dataclass(frozen=True)
class _Refusal:
    """Of a backend's credentials by its provider; times of the manager's clock, in seconds."""

    at: float
    reason: str
    until: float  # the backend rests so long


class BackendLifecycleManager:
    """Holds at most `MAX_BACKENDS` instances, the least used goes first. Used on the lane only."""

    def __init__(
        self, factory: Maker, config: AppConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._factory = factory
        self._config = config
        self._backends: OrderedDict[str, Any] = OrderedDict()
        self._starting: dict[str, asyncio.Task[Any]] = {}
        self._refused: dict[str, _Refusal] = {}

    async def acquire(self, instance: str) -> Any:
        """A backend that may be asked now.

        Raises what the client should be told when there is none.
        """
        if refusals := self._refused.get(instance):
            self._rest(instance, refusals)
        backend = self._backends.get(instance)
        if backend is None:
            backend = await self._start(instance)
        else:
            self._backends.move_to_end(instance)
        await self._check(instance, backend)
        return backend

    def started(self) -> dict[str, Any]:
        return dict(self._backends)

    def config_of(self, instance: str) -> BackendConfig | None:
        return self._config.backends.lookup(instance)

    async def on_unauthenticated(self, instance: str, backend: Any, reason: str) -> None:
        """The upstream refused the credentials.

        Once may be a key that was renewed in the meantime: the backend is made anew for the next
        request. Twice within `AGAIN_SECONDS` it rests for `REST_SECONDS`.
        """
        if not getattr(backend, "has_static_credentials", True):
            return
        await call_if_there(backend, "mark_auth_invalid", reason)
        now, before = self._clock(), self._refused.get(instance)
        again = before is not None and now - before.at < AGAIN_SECONDS
        self._refused[instance] = _Refusal(now, reason, now + REST_SECONDS if again else now)
        if self._backends.pop(instance, None) is not None:
            await _shut_down(instance, backend)

    def _rest(self, instance: str, refusal: _Refusal) -> None:
        """Raises for as long as the backend rests."""
        remaining = refusal.until - self._clock()
        if remaining > 0:
            raise BackendError(
                f"Backend '{instance}' rests for another {remaining:.0f} s: its provider has "
                f"refused its credentials twice ({refusal.reason})",
                backend_name=instance,
                details={"validation_errors": [refusal.reason], "retry_after": remaining},
                status_code=503,
                code="backend_disabled",
            )

    async def discard(self, instance: str) -> None:
        backend = self._backends.pop(instance, None)
        if backend is not None:
            await _shut_down(instance, backend)

    async def shutdown(self) -> None:
        for task in list(self._starting.values()):
            task.cancel()
        while self._backends:
            instance, backend = self._backends.popitem()
            await _shut_down(instance, backend)

    async def _start(self, instance: str) -> Any:
        """One start at a time per instance; whoever asks meanwhile waits for the same one."""
        task = self._starting.get(instance)
        if task is None:
            task = asyncio.create_task(self._make(instance))
            self._starting[instance] = task
            task.add_done_callback(lambda done: self._started(instance, done))
        return await asyncio.shield(task)

    def _started(self, instance: str, task: asyncio.Task[Any]) -> None:
        self._starting.pop(instance, None)
        if not task.cancelled():
            task.exception()

    async def _make(self, instance: str) -> Any:
        try:
            backend = await self._factory.ensure_backend(
                instance, self._config, self.config_of(instance)
            )
        except (LLMProxyError, asyncio.CancelledError):
            raise
        except Exception as error:
            if isinstance(getattr(error, "status_code", None), int):
                raise  # as fastapi's HTTPException: it says what the client is told
            logger.warning("Backend '%s' could not be started: %r", instance, error)
            raise BackendError(
                f"Backend '{instance}' could not be started; the log of the proxy says why.",
                backend_name=instance,
                code=START_FAILED,
            ) from error
        self._backends[instance] = backend
        while len(self._backends) > MAX_BACKENDS:
            oldest, evicted = self._backends.popitem(last=False)
            await _shut_down(oldest, evicted)
        return backend

    async def _check(self, instance: str, backend: Any) -> None:
        remaining = await call_if_there(backend, "get_retry_after_remaining")
        if isinstance(remaining, (int, float)) and remaining > 0:
            raise RateLimitExceededError(
                f"Backend '{instance}' is rate limited for another {remaining:.0f} s.",
                backend_name=instance,
                reset_at=time.time() + remaining,
            )
        functional = await call_if_there(backend, "is_backend_functional")
        if functional is None or functional:
            return
        if await call_if_there(backend, "_validate_runtime_credentials"):
            return
        errors = await call_if_there(backend, "get_validation_errors") or []
        raise BackendError(
            f"Backend '{instance}' is not functional: {'; '.join(map(str, errors)) or 'no reason'}",
            backend_name=instance,
            details={"validation_errors": list(errors)},
            status_code=503,
            code="backend_not_functional",
        )


async def _shut_down(instance: str, backend: Any) -> None:
    try:
        await asyncio.wait_for(call_if_there(backend, "shutdown"), _SHUTDOWN_SECONDS)
    except Exception as error:
        logger.warning("Backend '%s' did not shut down in order: %r", instance, error)


def is_unauthenticated(error: BaseException) -> bool:
    return isinstance(error, AuthenticationError) or getattr(error, "status_code", None) == 401
