"""Backends that the engine drives itself: their rows of the configuration, and their keys."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from llm_proxy.backends.catalog import AUTH_OF_FORMAT, Format
from llm_proxy.contracts.exceptions import APITimeoutError, BackendError

if TYPE_CHECKING:
    from llm_proxy.backends.app_config import AppConfig
    from llm_proxy.backends.registry import BackendRegistry
    from llm_proxy.native import Credentials, NativeSpec

logger = logging.getLogger(__name__)

# The engine renews a key that ends sooner, and so do we.
MARGIN_SECONDS = 10.0
# A backend that has not lent its key by then is asked anew by the next request.
ANSWER_SECONDS = 60.0
_LATEST_MILLIS = 2**53


def with_native_rows(config: str, registry: BackendRegistry, app_config: AppConfig) -> str:
    """The engine's configuration in which declared backends are upstreams of the engine's own.

    A declaration that fails is warned about; that backend stays a Python backend.
    """
    tree = json.loads(config)
    declared = False
    for row in tree.get("backends") or ():
        if row.get("kind") != "python":
            continue
        try:
            spec = _spec_of(row, registry, app_config)
            if spec is not None:
                row.update(_row(spec))
                declared = True
        except Exception as error:
            logger.warning(
                "Backend '%s' declares itself native in vain: native_spec() gave %r",
                row.get("name"),
                error,
            )
    return json.dumps(tree, ensure_ascii=False) if declared else config


def _spec_of(
    row: dict[str, Any], registry: BackendRegistry, app_config: AppConfig
) -> NativeSpec | None:
    kind = row.get("type") or str(row["name"]).split(".", 1)[0]
    if kind not in registry.get_registered_backends():
        return None
    declare = getattr(registry.get_backend_factory(kind), "native_spec", None)
    if declare is None:
        return None
    spec: NativeSpec = declare(app_config.backends.lookup(row["name"]))
    return spec


def _row(spec: NativeSpec) -> dict[str, Any]:
    if spec.wire_format not in AUTH_OF_FORMAT:
        raise ValueError(f"wire_format is '{spec.wire_format}', not {', '.join(AUTH_OF_FORMAT)}")
    auth = AUTH_OF_FORMAT[cast(Format, spec.wire_format)]
    return {
        "kind": "http",
        "format": spec.wire_format,
        "base_url": spec.base_url.rstrip("/"),
        "auth_header": auth.header if spec.auth_header is None else spec.auth_header,
        "auth_prefix": auth.prefix if spec.auth_prefix is None else spec.auth_prefix,
        "headers": dict(spec.headers),
        "hosted_key": True,
        "keys": [],
        **({"models": list(spec.models)} if spec.models else {}),
    }


class NativeKeys:
    """The keys that backends lent, one per instance: for every worker of the engine the same.

    Lane only. A backend is asked once, however many wait, and again when its key has ended or was
    refused.
    """

    def __init__(
        self,
        acquire: Callable[[str], Awaitable[Any]],
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._acquire = acquire
        self._spawn = spawn
        self._now = now
        self._held: dict[str, Credentials] = {}
        self._asking: dict[str, asyncio.Task[Credentials]] = {}

    async def key(self, instance: str, refused: str) -> tuple[str, int]:
        """The key and its end in Unix milliseconds, 0: not to be kept."""
        held = self._held.get(instance)
        if held is None or held.token == refused or self._ends(held):
            held = await self._asked(instance, refused)
        if held.expires_at is None:
            return held.token, 0
        ends = held.expires_at * 1000
        return held.token, _LATEST_MILLIS if math.isinf(ends) else int(ends)

    def _ends(self, held: Credentials) -> bool:
        return held.expires_at is None or held.expires_at - MARGIN_SECONDS <= self._now()

    async def _asked(self, instance: str, refused: str) -> Credentials:
        task = self._asking.get(instance)
        if task is None:
            task = self._asking[instance] = self._spawn(self._ask(instance, refused))
            task.add_done_callback(lambda done: self._asked_done(instance, done))
        return await asyncio.shield(task)

    def _asked_done(self, instance: str, task: asyncio.Task[Credentials]) -> None:
        self._asking.pop(instance, None)
        if not task.cancelled():
            task.exception()  # whoever waits has been told

    async def _ask(self, instance: str, refused: str) -> Credentials:
        backend = await self._acquire(instance)
        asked = backend.credentials(refused or None)
        try:
            credentials: Credentials = await asyncio.wait_for(asked, ANSWER_SECONDS)
        except asyncio.TimeoutError as error:
            raise APITimeoutError(f"Backend '{instance}' did not lend its key in time.") from error
        token = getattr(credentials, "token", None)
        if not isinstance(token, str) or not token or not token.isprintable():
            raise BackendError(
                f"Backend '{instance}' lends no usable key: credentials() gave "
                f"{type(credentials).__name__}.",
                instance,
                code="no_credentials",
            )
        self._held[instance] = credentials
        return credentials
