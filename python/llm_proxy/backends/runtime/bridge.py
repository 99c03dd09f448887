"""Where the engine meets Python backends: one call per exchange, on the lane."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from types import AsyncGeneratorType
from typing import Any, Protocol

from llm_proxy.backends.app_config import AppConfig, BackendConfig
from llm_proxy.backends.cancellation import SessionCancellationCoordinator
from llm_proxy.backends.registry import BackendRegistry, backend_registry
from llm_proxy.backends.runtime import http_proxies
from llm_proxy.backends.runtime.capture.capture_file import open_capture
from llm_proxy.backends.runtime.discovery import discover_backends
from llm_proxy.backends.runtime.dispatch import ConnectorInvoker
from llm_proxy.backends.runtime.factory import BackendFactory, call_if_there
from llm_proxy.backends.runtime.failure import (
    BugLog,
    Failure,
    bug_of,
    failure_in_envelope,
    failure_of,
    redacted,
)
from llm_proxy.backends.runtime.http_client import build_backend_client
from llm_proxy.backends.runtime.lifecycle import BackendLifecycleManager, is_unauthenticated
from llm_proxy.backends.runtime.native_keys import NativeKeys, with_native_rows
from llm_proxy.backends.runtime.reply import (
    ChatStream,
    Envelope,
    as_envelope,
    completion,
    completion_chunks,
    encode,
    folded,
    reply_headers,
)
from llm_proxy.backends.runtime.services import ServiceCollection, ServiceProvider
from llm_proxy.backends.translation import TranslationService, begin_exchange, canonical_request
from llm_proxy.contracts.exceptions import InvalidRequestError
from llm_proxy.contracts.identity import IAppIdentityConfig, IConfig
from llm_proxy.contracts.requests import ConnectorChatCompletionsRequest, ConnectorRequestContext
from llm_proxy.contracts.responses import ResponseEnvelope, StreamingResponseEnvelope
from llm_proxy.contracts.session import (
    ClientTerminationReason,
    ISessionCancellationCoordinator,
    SessionKey,
)

logger = logging.getLogger(__name__)

_CLEANUP_SECONDS = 5.0
_START_SECONDS = 2.0  # of a backend that is only asked for its models
_SILENT_SECONDS = 60.0
# A backend that never suspends gives the loop back after so many chunks.
_CHUNKS_PER_TURN = 64


class ReplySink(Protocol):
    """Where a reply goes. Implemented by the engine; every call returns at once.

    `head data* (end | error)`, or `error` alone.
    """

    def head(
        self, status: int, streaming: bool, media_type: str, headers: list[tuple[str, str]]
    ) -> None: ...

    def data(self, chunk: bytes) -> bool:
        """True: above the high watermark; the next chunk waits for `Running.resume`."""
        ...

    def end(self) -> None: ...

    def error(
        self, status: int, type: str, code: str, message: str, retry_after: float | None
    ) -> None: ...


@dataclass(frozen=True)
class Call:
    """One request to a backend: an OpenAI chat body and who asked."""

    instance: str
    model: str
    body: bytes
    stream: bool = False
    request_id: str = ""
    session_id: str = ""
    client_host: str = ""
    headers: Sequence[tuple[str, str]] = field(default_factory=tuple)


class Running:
    """One running call, as the engine holds it.

    `cancel` and `resume` are called on the lane and return at once.
    """

    def __init__(self, key: SessionKey, coordinator: SessionCancellationCoordinator) -> None:
        self.cancelled = False
        self.key = key
        self.task: asyncio.Task[None] | None = None
        self._coordinator = coordinator
        self._gate = asyncio.Event()

    def cancel(self) -> None:
        """The client is gone: what the backend awaits is cancelled now, its stream closed."""
        if self.cancelled or self.task is None or self.task.done():
            return
        self.cancelled = True
        self._coordinator.mark_cancelled(self.key, ClientTerminationReason.CLIENT_DISCONNECTED)
        self.task.cancel()

    def resume(self) -> None:
        """The client has read on: below the low watermark again."""
        self._gate.set()

    async def drained(self) -> None:
        self._gate.clear()
        await self._gate.wait()


class BackendBridge:
    """Every Python backend of the process. Made by the server at start, lives on the lane.

    `start` is what the engine calls; the rest is for the server and for tests.
    """

    def __init__(
        self,
        config: AppConfig | Mapping[str, Any],
        registry: BackendRegistry = backend_registry,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]] = asyncio.create_task,
    ) -> None:
        """`spawn` starts a coroutine as a task: the lane's own way where there is a lane.

        With the process's own registry the installed plugins are found first, once.
        """
        if registry is backend_registry:
            discover_backends()
        self.config = config if isinstance(config, AppConfig) else AppConfig(config)
        self.translation = TranslationService()
        self._registry = registry
        self.coordinator = SessionCancellationCoordinator()
        proxies = http_proxies.DIRECT
        if isinstance(config, Mapping) and "network" in config:
            proxies = http_proxies.rules_of_config(config)
            http_proxies.use(proxies)  # plugins open clients of their own, too
        self.client = build_backend_client(proxies=proxies)
        self._capture = open_capture(self.config.logging)
        factory = BackendFactory(self.client, registry, self.config, self.translation)
        self.backends = BackendLifecycleManager(factory, self.config)
        self._invoker = ConnectorInvoker()
        self._spawn = spawn
        self.keys = NativeKeys(self.backends.acquire, spawn)
        self._bugs = BugLog()
        self._silent: dict[str, float] = {}  # could not be started to be asked; until then
        self._calls = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.services = self._build_services(factory, registry)

    def start(
        self,
        sink: ReplySink,
        instance: str,
        model: str,
        body: bytes,
        stream: bool,
        request_id: str,
        session_id: str,
        client_host: str,
        headers: Sequence[tuple[str, str]],
    ) -> Running:
        """Begins one call; its reply, or its error, goes to `sink`. Never raises."""
        call = Call(
            instance, model, body, stream, request_id, session_id, client_host, tuple(headers)
        )
        self._calls += 1
        key = SessionKey("openai", request_id or f"call-{self._calls}", session_id or None)
        running = Running(key, self.coordinator)
        running.task = self._keep(self._run(call, sink, running))
        return running

    def list_models(self, done: Callable[[list[tuple[str, list[str]]]], None]) -> None:
        """The same as `models`, for the engine: `done` is called once."""

        async def tell() -> None:
            done(list((await self.models()).items()))

        self._keep(tell())

    def key(
        self,
        instance: str,
        refused: str,
        done: Callable[[str, int], None],
        failed: Callable[[int, str, str], None],
    ) -> None:
        """The key of a backend that the engine drives, for the engine: one of `done` and `failed`
        is called, once."""

        async def tell() -> None:
            try:
                done(*await self.keys.key(instance, refused))
            except asyncio.CancelledError:
                failed(503, "stopping", "The proxy is stopping; ask again in a moment.")
                raise
            except Exception as error:
                secrets = self._secrets(instance)
                if bug := bug_of(error):
                    self._bugs.tell(instance, bug, secrets)
                failure = failure_of(error, secrets)
                failed(failure.status, failure.code, failure.message)

        self._keep(tell())

    @property
    def running_calls(self) -> int:
        return len(self._tasks)

    async def models(self) -> dict[str, list[str]]:
        """What each backend offers: it says so itself once it has started, until then its
        configuration does. One without a list there is started to be asked."""
        ours = set(self._registry.plugin_backends())
        offered = {
            name: list(config.models)
            for name, config in self.config.backends.get_named_backend_configs().items()
            if (config.connector or name.split(".", 1)[0]) in ours
        }
        for name in ours - {known.split(".", 1)[0] for known in offered}:
            offered[name] = []
        silent = (name for name, models in offered.items() if not models)
        await asyncio.gather(*map(self._started, silent))
        for name, backend in self.backends.started().items():
            try:
                offered[name] = await _models_of(backend) or offered.get(name, [])
            except Exception as error:
                logger.warning("Backend '%s' does not say what it offers: %r", name, error)
        return offered

    async def _started(self, instance: str) -> None:
        """Starts a backend, so that it can be asked for its models; not soon again if it fails."""
        now = asyncio.get_running_loop().time()
        if instance in self.backends.started() or now < self._silent.get(instance, now):
            return
        try:
            await asyncio.wait_for(self.backends.acquire(instance), _START_SECONDS)
        except Exception as error:
            self._silent[instance] = now + _SILENT_SECONDS
            logger.info("Backend '%s' does not say what it offers: %r", instance, error)

    async def idle(self, timeout: float | None = None) -> None:
        """Waits until every call that runs now has ended."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=timeout)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await self.idle(_CLEANUP_SECONDS)
        await self.backends.shutdown()
        await self.client.aclose()
        if self._capture is not None:
            self._capture.close()

    def with_native_rows(self, config: str) -> str:
        """The engine's configuration with the backends that it drives itself."""
        return with_native_rows(config, self._registry, self.config)

    def _keep(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self._spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a backend call ended outside its own error handling", exc_info=error)

    def _build_services(
        self, factory: BackendFactory, registry: BackendRegistry
    ) -> ServiceProvider:
        import httpx

        services = ServiceCollection()
        for kind, instance in (
            (AppConfig, self.config),
            (IConfig, self.config),
            (IAppIdentityConfig, self.config.identity),
            (httpx.AsyncClient, self.client),
            (BackendRegistry, registry),
            (BackendFactory, factory),
            (BackendLifecycleManager, self.backends),
            (TranslationService, self.translation),
            (ISessionCancellationCoordinator, self.coordinator),
        ):
            services.add_instance(kind, instance)
        return services.build_service_provider()

    async def _run(self, call: Call, sink: ReplySink, running: Running) -> None:
        begin_exchange()
        backend: Any = None
        try:
            backend = await self.backends.acquire(call.instance)
            request = self._request(call, running.key)
            envelope = as_envelope(await self._invoker.invoke(backend, request))
            await self._answer(call, envelope, sink, running)
        except asyncio.CancelledError as error:
            if not running.cancelled:
                self._fail(sink, call, failure_of(error))
        except Exception as error:
            if running.cancelled:
                return
            secrets = self._secrets(call.instance)
            if bug := bug_of(error):
                self._bugs.tell(call.instance, bug, secrets)
            self._fail(sink, call, failure_of(error, secrets))
            if backend is not None and is_unauthenticated(error):
                reason = redacted(str(error), self._secrets(call.instance))
                await self.backends.on_unauthenticated(call.instance, backend, reason)
        finally:
            if running.cancelled:
                await _within_reason(
                    self.coordinator.cancel_session(
                        running.key, ClientTerminationReason.CLIENT_DISCONNECTED
                    )
                )
            self.coordinator.cleanup(running.key)

    def _request(self, call: Call, key: SessionKey) -> ConnectorChatCompletionsRequest:
        try:
            body = json.loads(call.body)
        except ValueError as error:
            raise InvalidRequestError(f"The request is not JSON: {error}") from error
        if not isinstance(body, dict):
            raise InvalidRequestError("The request is not a JSON object.")
        body["stream"] = call.stream
        if call.session_id:
            body["session_id"] = call.session_id
        selector = str(body.get("model") or call.model)
        body["extra_body"] = {"model": selector, **(body.get("extra_body") or {})}
        request = canonical_request(body)
        options: dict[str, Any] = {"incoming_headers": dict(call.headers)}
        if call.session_id:
            options["session_id"] = call.session_id
        return ConnectorChatCompletionsRequest(
            request=request,
            processed_messages=request.messages,
            effective_model=call.model or request.model,
            identity=self._identity(call.instance),
            cancellation_token=key,
            cancellation_coordinator=self.coordinator,
            context=ConnectorRequestContext(
                call.request_id or None, call.session_id or None, call.client_host or None
            ),
            options=options,
        )

    def _identity(self, instance: str) -> IAppIdentityConfig:
        own: BackendConfig | None = self.backends.config_of(instance)
        return (
            own.identity if own is not None and own.identity is not None else self.config.identity
        )

    def _secrets(self, instance: str) -> list[str]:
        config = self.backends.config_of(instance)
        if config is None:
            return []
        named = [value for name, value in config.extra.items() if "key" in name or "token" in name]
        return [secret for secret in (config.api_key, *named) if isinstance(secret, str)]

    def _fail(self, sink: ReplySink, call: Call, failure: Failure) -> None:
        logger.info("backend '%s': %s (%d)", call.instance, failure.message, failure.status)
        sink.error(failure.status, failure.type, failure.code, failure.message, failure.retry_after)

    async def _answer(
        self, call: Call, envelope: Envelope, sink: ReplySink, running: Running
    ) -> None:
        """The reply in the manner the client asked for, whichever way the backend chose."""
        if isinstance(envelope, StreamingResponseEnvelope):
            async with _Closing(envelope, running):
                if failure := failure_in_envelope(envelope):
                    self._fail(sink, call, failure)
                elif call.stream:
                    await _pump(envelope, ChatStream(call.model), sink, running)
                else:
                    whole = ResponseEnvelope(await folded(envelope, call.model), envelope.headers)
                    _send_whole(call, whole, sink)
            return
        if running.cancelled:
            return
        if failure := failure_in_envelope(envelope):
            self._fail(sink, call, failure)
        elif call.stream:
            chunks = _replayed(completion(envelope, call.model))
            replayed = StreamingResponseEnvelope(chunks, headers=envelope.headers)
            await _pump(replayed, ChatStream(call.model), sink, running)
        else:
            _send_whole(call, envelope, sink)


class _Closing:
    """Closes a backend's stream however its call ends; the cancel callback only when it ended
    early."""

    def __init__(self, envelope: StreamingResponseEnvelope, running: Running) -> None:
        self._envelope = envelope
        self._running = running

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        early = kind is not None or self._running.cancelled
        if early and self._envelope.cancel_callback is not None:
            await _within_reason(self._envelope.cancel_callback())
        content = self._envelope.content
        if isinstance(content, AsyncGeneratorType) and content.ag_frame is None:
            return  # it ran to its end
        close = getattr(content, "aclose", None)
        if callable(close):
            await _within_reason(close())


async def _within_reason(cleanup: Any) -> None:
    """Awaits a clean-up of a plugin; neither its failure nor its length is anyone else's."""
    try:
        await asyncio.wait_for(cleanup, _CLEANUP_SECONDS)
    except Exception as error:
        logger.debug("a backend's clean-up failed: %r", error)


async def _pump(
    envelope: StreamingResponseEnvelope, stream: ChatStream, sink: ReplySink, running: Running
) -> None:
    """Moves chunks to the sink, no faster than the client reads.

    The head goes with the first bytes.
    """
    opened = False
    since_turn = 0

    def send(frames: bytes) -> bool:
        nonlocal opened
        if not opened:
            opened = True
            status = envelope.status_code
            sink.head(status, True, "text/event-stream", reply_headers(envelope.headers))
        return sink.data(frames)

    async for item in _nothing() if envelope.content is None else envelope.content:
        if running.cancelled:
            return
        frames = stream.feed(item)
        if frames and send(frames):
            await running.drained()
        since_turn += 1
        if since_turn >= _CHUNKS_PER_TURN:
            since_turn = 0
            await asyncio.sleep(0)
    if frames := stream.finish():
        send(frames)
    sink.end()


async def _nothing() -> AsyncIterator[Any]:
    return
    yield


async def _replayed(body: Mapping[str, Any]) -> AsyncIterator[Any]:
    for chunk in completion_chunks(body):
        yield chunk


def _send_whole(call: Call, envelope: ResponseEnvelope, sink: ReplySink) -> None:
    body = encode(completion(envelope, call.model))
    sink.head(envelope.status_code, False, "application/json", reply_headers(envelope.headers))
    sink.data(body)
    sink.end()


async def _models_of(backend: Any) -> list[str]:
    if hasattr(backend, "get_available_models_async"):
        return list(await call_if_there(backend, "get_available_models_async") or [])
    return list(await call_if_there(backend, "get_available_models") or [])
