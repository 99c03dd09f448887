"""A ring plugin inside a whole proxy, between a client and a provider that answers as told."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from llm_proxy.config.plan import plan
from llm_proxy.rings.runtime.manifest import ManifestEntry, parse_row
from llm_proxy.rings.runtime.ring_plugins import RingPlugins
from llm_proxy.rings.sdk import PluginHook
from llm_proxy.server import Server
from llm_proxy.testing.backends import chat
from llm_proxy.testing.proxy import Received, Reply, ScriptedUpstream, settings_for
from llm_proxy.testing.replies import deltas_of, events_of, object_of, text_of

_LOGGER = logging.getLogger("llm_proxy.plugins")


@dataclass
class Outcome:
    """What the client got of one exchange, what the provider was sent, what plugins did wrong.

    `sent`: the body of each request that reached the provider, in order. `complaints`: what the
    proxy logged of plugins that raised, answered nonsense or took too long until the client had
    its whole reply.
    """

    status: int
    headers: Mapping[str, str]
    raw: bytes
    streamed: bool
    sent: list[Any] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text of the reply, whole or streamed; what there is of it if the exchange failed."""
        return deltas_of(self.events) if self.streamed else text_of(object_of(self.raw))

    @property
    def events(self) -> list[str]:
        """The data of every event of a streamed reply, `[DONE]` included."""
        return events_of(self.raw) if self.streamed else []

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that the client got, as a reply or as a stream's end; None: there is none."""
        whole = [object_of(self.raw)] if not self.streamed else map(object_of, self.events)
        found = [body["error"] for body in whole if isinstance(body.get("error"), dict)]
        return found[-1] if found else None

    @property
    def blocked(self) -> bool:
        return self.status >= 400 or self.error is not None

    def assert_passed(self) -> None:
        """The client got a reply, whole, and no plugin failed on the way."""
        whole = not self.streamed or self.events[-1:] == ["[DONE]"]
        if self.blocked or self.complaints or not whole:
            raise AssertionError(f"The exchange did not pass. {self}")

    def assert_blocked(self, status: int | None = None, error_type: str | None = None) -> None:
        """A plugin refused the exchange, on purpose, with this status and error type.

        The status of a stream that is ended by `block` is not seen by anybody: it is 200.
        """
        if not self.blocked or self.complaints:
            raise AssertionError(f"No plugin refused the exchange. {self}")
        said = (self.error or {}).get("code")
        if status is not None and self.status != status:
            raise AssertionError(f"The status is {self.status}, not {status}. {self}")
        if error_type is not None and said != error_type:
            raise AssertionError(f"The error type is {said!r}, not {error_type!r}. {self}")

    def __str__(self) -> str:
        shown = self.raw.decode("utf-8", "replace")
        lines = [f"Status {self.status}, {len(self.sent)} requests reached the provider."]
        lines += [f"A plugin failed: {complaint}" for complaint in self.complaints]
        lines.append(f"The client got: {shown if len(shown) <= 2000 else shown[:2000] + '…'}")
        return "\n".join(lines)


class RingProbe:
    """Runs plugins on exchanges, each through a real proxy on a free port of this machine.

    async with RingProbe(WordGuard, {"words": ["swordfish"]}) as probe:
        (await probe.ask("Hello")).assert_passed()
        (await probe.ask("swordfish")).assert_blocked(403, "forbidden_word")

    `plugin`: a BasePlugin class, an async function, or a folder with a `manifest.yaml`. `config` is
    what the plugin is configured with, and `row` holds further keys of its manifest row
    (`timeout_ms`, `fail_policy`, `stream`, `hook`, ...); a folder's manifest says both itself.
    `options` are those of the proxy's configuration under `plugins` (`config`, `tenants`,
    `state_file`). Entering raises RequiredPluginMissing, with the reason, if a plugin cannot be
    loaded. Lives on the event loop of the test. A provider's failure rests its key here as in
    service: what is to be asked after one is asked of a new probe.
    """

    def __init__(
        self,
        plugin: Any,
        config: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        **row: Any,
    ) -> None:
        self._options = {**(options or {}), "on_load_error": "refuse"}
        if isinstance(plugin, (str, Path)):
            if config is not None or row:
                raise ValueError("the manifest of a folder says how its plugins are configured")
            if not (Path(plugin) / "manifest.yaml").is_file():
                raise FileNotFoundError(f"{plugin} holds no manifest.yaml")
            self._rings: RingPlugins = RingPlugins(plugin, (), self._options)
        else:
            entry = _entry(plugin, {**row, "config": dict(config or {})})
            self._rings = RingPlugins(None, (), {**self._options, "rows": [entry]})
        self._reply: Reply = Reply()
        self._complaints = _Complaints()
        self._open = AsyncExitStack()
        self._provider = ScriptedUpstream(lambda request: self._reply)
        self._client: httpx.AsyncClient | None = None

    @property
    def instances(self) -> list[Any]:
        """The plugins that are classes, as the proxy made them."""
        manager = self._rings.manager
        entries = manager.generation.entries if manager is not None else []
        return [entry.instance for entry in entries if entry.instance is not None]

    async def ask(
        self,
        prompt: str | Mapping[str, Any],
        *,
        stream: bool = False,
        reply: str | Sequence[str] | Mapping[str, Any] | Reply = "OK",
        headers: Mapping[str, str] | None = None,
    ) -> Outcome:
        """One chat completion.

        `prompt`: what the user says, or a whole request body. `reply`: what the provider says: a
        text, its pieces (one event each if the reply is streamed), a whole chat completion, or a
        Reply that is sent as it is.
        """
        if self._client is None:
            raise RuntimeError("use `async with RingProbe(...) as probe:` and ask inside it")
        self._reply = _reply(reply, stream)
        before, said = len(self._provider.requests), len(self._complaints.texts)
        body = {**chat(prompt), **({"stream": True} if stream else {})}
        raw = bytearray()
        request = self._client.stream(
            "POST", "/v1/chat/completions", json=body, headers=dict(headers or {})
        )
        async with request as got:
            try:
                async for piece in got.aiter_bytes():
                    raw += piece
            except httpx.HTTPError:
                pass  # a stream that is ended by a plugin has an unclean end; `raw` says how
        return Outcome(
            got.status_code,
            got.headers,
            bytes(raw),
            got.headers.get("content-type", "").startswith("text/event-stream"),
            [_sent(request) for request in self._provider.requests[before:]],
            self._complaints.texts[said:],
        )

    async def __aenter__(self) -> RingProbe:
        try:
            provider = await self._open.enter_async_context(self._provider)
            backend = {"api_url": f"{provider.url}/v1", "api_key": "test-key"}
            config = {"default_backend": "openai", "backends": {"openai": backend}}
            made = plan(settings_for(config))
            server = Server(made.config, rings=self._rings, app_config=made.app_config)
            await self._open.enter_async_context(server)
            url = f"http://127.0.0.1:{server.port}"
            # Not through a proxy that the environment names: the address is this machine's.
            client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=60)
            self._client = await self._open.enter_async_context(client)
            _LOGGER.addHandler(self._complaints)
            self._open.callback(_LOGGER.removeHandler, self._complaints)
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client = None
        await self._open.aclose()


class _Complaints(logging.Handler):
    """Keeps what the proxy says of plugins that fail."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        raised = record.exc_info and "".join(traceback.format_exception(*record.exc_info))
        self.texts.append(record.getMessage() + (f"\n{raised}" if raised else ""))


@dataclass(frozen=True)
class _Given:
    """A plugin that a test already holds."""

    plugin: Any

    def load(self) -> Any:
        return self.plugin


def _entry(plugin: Any, row: Mapping[str, Any]) -> ManifestEntry:
    """The manifest row of a plugin that no file has. Raises ValueError for a wrong key or value."""
    own = getattr(plugin, "__name__", type(plugin).__name__)
    hook = getattr(plugin, "hook", None)
    ring = {"hook": hook.value} if isinstance(hook, PluginHook) else {}
    entry = parse_row({"name": own, "entrypoint": f"test:{own}", **ring, **row}, "package")
    if entry.problem or entry.oddity:
        raise ValueError(entry.problem or entry.oddity)
    entry.point = _Given(plugin)
    return entry


def _reply(reply: str | Sequence[str] | Mapping[str, Any] | Reply, stream: bool) -> Reply:
    if isinstance(reply, Reply):
        return reply
    if isinstance(reply, Mapping):
        return Reply(reply)
    pieces = [reply] if isinstance(reply, str) else list(reply)
    head = {"id": "chatcmpl-test", "created": 1, "model": "test-model"}
    if not stream:
        message = {"role": "assistant", "content": "".join(pieces)}
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
        return Reply({**head, "object": "chat.completion", "choices": [choice], "usage": usage})

    def event(delta: Mapping[str, Any], finish: str | None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n"

    events = [event({"role": "assistant", "content": piece}, None) for piece in pieces]
    return Reply([*events, event({}, "stop"), "data: [DONE]\n\n"])


def _sent(request: Received) -> Any:
    return object_of(request.body)
