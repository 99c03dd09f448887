"""What plugins' answers mean.

The chain itself runs in C++ (`cpp/python/py_rings`), which deals with a plain passthrough alone and
calls one of the functions here for everything else: an answer that does something, a failure, the
end of a stopped chain.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from llm_proxy import _core
from llm_proxy.rings.context import ClientRequest, Headers, PluginContext, PluginState, Reply
from llm_proxy.rings.runtime.tiers import is_direct
from llm_proxy.rings.sdk import PluginHook, PluginResponse, PluginResponseError
from llm_proxy.rings.services.host import Rotator, Services

logger = logging.getLogger("llm_proxy.plugins")

DEFAULT_TIMEOUT_MS = 500.0
CLASS_TIMEOUT_MS = 50.0
FAIL_OPEN = "open"
FAIL_CLOSED = "closed"
# Where a failure stops the exchange unless the manifest says otherwise.
FAIL_CLOSED_RINGS = frozenset((PluginHook.INGRESS, PluginHook.ROUTING))

_FRAMING = frozenset(("connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"))
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,128}")
_LINE = re.compile(r"[\t\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]{0,8192}")
_BLOCK_STATUS = {PluginHook.ROUTING: 503}


def default_fail_policy(ring: PluginHook) -> str:
    return FAIL_CLOSED if ring in FAIL_CLOSED_RINGS else FAIL_OPEN


def own_fail_policy(plugin: Any) -> str | None:
    """What a plugin says of itself in its attribute `fail_policy`; None: nothing."""
    said = getattr(plugin, "fail_policy", None)
    return said if said in (FAIL_OPEN, FAIL_CLOSED) else None


OBSERVE = "observe"  # sees a stream when it has been sent, all but its end
BUFFER = "buffer"  # holds a stream back until it has spoken, and may replace it
CHUNK = "chunk"  # not a plugin's own word: the entry of an `on_chunk`
CUT_LOOPS = "cut_loops"  # has the engine cut a stream that repeats itself; sees it like OBSERVE


def stream_mode(plugin: Any) -> str:
    said = getattr(plugin, "stream", OBSERVE)
    return said if said in (OBSERVE, BUFFER, CUT_LOOPS) else OBSERVE


@dataclass(slots=True)
class RingEntry:
    """One plugin in a ring."""

    name: str
    ring: PluginHook
    kind: str  # "class", "python" (a function) or "wasm"
    call: Callable[[PluginContext], Awaitable[Any]]
    timeout_ms: float
    fail_policy: str
    instance: Any = None
    stream: str = ""  # what its place in the reply ring does to streams; empty: what it says itself
    host_steps: list[RingEntry] = field(default_factory=list)  # that the host adds for it
    module: ModuleType | None = None  # made for this entry alone; forgotten with it
    record: _core.PluginRecord = field(default_factory=_core.PluginRecord)

    @property
    def closed(self) -> bool:
        return self.fail_policy == FAIL_CLOSED

    @property
    def stream_mode(self) -> str:
        return self.stream or stream_mode(self.instance or self.call)

    def native(self, step: str = "") -> tuple[Any, ...]:
        """As the C++ engine takes it; `step` names the native plugin that does the same."""
        return (
            self.ring.value,
            self.name,
            self.call,
            self,
            self.timeout_ms,
            self.closed,
            is_direct(self.call),
            self.record,
            self.stream_mode,
            step,
        )


class RingEngine:
    """The contract, as the functions C++ calls. One per lane; `state` is shared by all contexts."""

    context_type = PluginContext

    def __init__(
        self,
        state: PluginState,
        services: Services | None = None,
        tenants: Mapping[str, Any] | None = None,
    ) -> None:
        self.state = state
        self.services = services or Services(state)
        self.set_tenants(tenants or {})

    def set_tenants(self, tenants: Mapping[str, Any]) -> None:
        self._tenants = _by_hash(tenants)

    # ---- what a context learns

    def fill(self, name: str, facts: dict[str, Any]) -> Any:
        if name == "session_id":
            return _session_of(facts)
        if name == "request":
            return ClientRequest.of(facts)
        headers = facts["headers"]
        tenant = self._tenants.get(facts["key_hash"], {})
        metadata = {
            "rotator": Rotator(self.services, facts["key_hash"] or _session_of(facts)),
            "req_id": facts["request_id"],
            "_frontend": facts["frontend"],
            "_operation": facts["operation"],
            "_cache_control": headers.get("cache-control", ""),
            "_request_start_time": facts["arrived_at"],
            "_user_roles": list(tenant.get("roles") or ()),
        }
        if facts["key_hash"]:
            # Left out without a key: plugins ask for it with the session as what else to take.
            metadata["api_key"] = facts["key_hash"]
            metadata["_key_prefix"] = facts["key_hash"][:8]
        if tenant.get("tier"):
            metadata["_tenant_tier"] = tenant["tier"]
        if "x-expected-schema" in headers:
            metadata["_expected_schema"] = headers["x-expected-schema"]
        return metadata

    def adopt(
        self, ctx: PluginContext, notes: dict[str, Any], placeholders: dict[str, str]
    ) -> None:
        """What native plugins have noted, for the plugins in Python behind them."""
        metadata = _notes(ctx)
        target = notes.pop("target_endpoint", None)
        metadata.update(notes)
        if target is not None:
            known = self.services.store.endpoints
            metadata["target_endpoint"] = next((e for e in known if e.id == target), None)
        if placeholders:
            vault = metadata["rotator"].security.pii_vault
            vault.update(placeholders)
            ctx.placeholders = vault

    def begin(self, ctx: PluginContext, phase: str, facts: Any) -> None:
        if phase == "chunk":
            ctx.__dict__["_chunk"] = facts
            return
        metadata = _notes(ctx)
        if facts.get("duration", -1) >= 0:
            metadata["duration"] = facts["duration"]
        if facts.get("first_token", -1) >= 0:
            metadata["ttft_ms"] = facts["first_token"] * 1000
            metadata["_ttft_time"] = metadata.get("_request_start_time", 0) + facts["first_token"]
        if phase == "background":
            metadata["_status"] = facts["status"]
            metadata["_provider"] = facts["backend"]
            metadata["_model"] = facts["model"]
            if facts["input_tokens"] >= 0:
                metadata["_usage"] = {
                    "prompt_tokens": facts["input_tokens"],
                    "completion_tokens": max(facts["output_tokens"], 0),
                }
        if "body" in facts:
            headers = Headers(facts["headers"])
            reply = Reply(facts["body"], facts["status"], headers, headers.get("content-type"))
            ctx.response = reply
            ctx.error = None
            metadata["_streamed"] = facts["streamed"]
            ctx._reply = (reply, reply.body, reply.status_code, dict(headers))

    # ---- what an answer does

    def settle(self, ctx: PluginContext, entry: RingEntry, result: Any) -> str | None:
        if not isinstance(result, PluginResponse):
            if entry.kind != "class":
                return None  # a function may return what it likes
            self._fail(ctx, entry, f"Plugin {entry.name} answered with {type(result).__name__}")
            return "error"
        metadata = _notes(ctx)
        if result.action == "modify":
            if result.body:
                ctx.body = result.body
            if result.message:
                metadata["_plugin_message"] = result.message
        elif result.action == "block":
            ctx.stop_chain = True
            ctx.error = result.message or "Blocked by plugin"
            metadata["_block_status"] = result.status_code
            metadata["_block_error_type"] = result.error_type or "plugin_block"
            return "block"
        elif result.action == "cache_hit":
            ctx.stop_chain = True
            ctx.response = result.response
            metadata["_cache_hit"] = True
        return None

    def failed(self, ctx: PluginContext, entry: RingEntry, error: BaseException) -> None:
        logger.error("Plugin %s failed in %s.", entry.name, entry.ring.value, exc_info=error)
        text = None if isinstance(error, PluginResponseError) else str(error) or repr(error)
        self._fail(ctx, entry, text)

    def timed_out(self, ctx: PluginContext, entry: RingEntry) -> None:
        logger.warning("Plugin %s took more than %g ms.", entry.name, entry.timeout_ms)
        ctx.error = f"Plugin {entry.name} timed out"
        if entry.closed:
            self._stop(ctx, 504, "plugin_timeout", ctx.error)

    def quarantined(self, ctx: PluginContext, entry: RingEntry) -> None:
        ctx.error = f"Plugin {entry.name} is quarantined after repeated failures"
        self._stop(ctx, 503, "plugin_quarantined", ctx.error)

    def _fail(self, ctx: PluginContext, entry: RingEntry, text: str | None) -> None:
        if text is not None:
            ctx.error = text
        if entry.closed:
            ctx.error = ctx.error or f"Plugin {entry.name} failed"
            # The client is told who failed, not what Python said about it.
            self._stop(ctx, 500, "plugin_error", f"Plugin {entry.name} failed")

    @staticmethod
    def _stop(ctx: PluginContext, status: int, error_type: str, message: str) -> None:
        ctx.stop_chain = True
        metadata = _notes(ctx)
        metadata["_block_status"] = status
        metadata["_block_error_type"] = error_type
        metadata["_block_message"] = message

    def unsendable(self, ctx: PluginContext, error: Any) -> None:
        logger.error("Plugins have left a request body that is not JSON: %s", error)

    # ---- what a chain's end means

    def stopped(self, ctx: PluginContext, entry: RingEntry) -> bool:
        """`stop_chain` is set. With an error or a reply the chain ends, else only this ring."""
        if entry.ring in (PluginHook.POST_FLIGHT, PluginHook.BACKGROUND):
            return ctx.error is not None
        return ctx.error is not None or ctx.response is not None

    def verdict(
        self, ctx: PluginContext, entry: RingEntry
    ) -> tuple[str, int, str, str, dict[str, str], bytes]:
        metadata = _notes(ctx)
        if ctx.error is None:
            reply = _as_reply(ctx.response)
            if reply is not None:
                return ("answer", reply[0], "", "", reply[1], reply[2])
            message = f"Plugin {entry.name} gave a reply that cannot be sent"
            return ("block", 500, "plugin_error", message, {}, b"")
        usual = _BLOCK_STATUS.get(entry.ring, 403)
        status = _number(metadata.get("_block_status", usual))
        if status is None or not 400 <= status <= 599:
            status = usual
        error_type = metadata.get("_block_error_type") or "plugin_block"
        message = metadata.get("_block_message") or str(ctx.error)
        return ("block", status, _words(error_type), _words(message), {}, b"")

    def reply_change(self, ctx: PluginContext) -> tuple[int, dict[str, str], bytes] | None:
        reply, body, status, headers = ctx._reply
        now = ctx.response
        if now is None:
            return None
        untouched = now is reply and reply.body is body and reply.status_code == status
        if untouched and dict(reply.headers) == headers:
            return None
        taken = _as_reply(now)
        if taken is None:
            logger.error("A plugin left a response of type %s; it is ignored.", type(now).__name__)
            return None
        return taken if taken != (status, headers, body) else None


def _session_of(facts: Mapping[str, Any]) -> str:
    """The client's session: named by it, else its key, else where and what it is."""
    headers = facts["headers"]
    named = facts["session_id"] or headers.get("x-session-id") or facts["key_hash"]
    if named:
        return str(named)
    who = (facts["client_host"], headers.get("user-agent", ""), headers.get("accept-language", ""))
    return hashlib.sha256(":".join(who).encode()).hexdigest()[:16]


def _by_hash(tenants: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Tenants may be configured by their key or by its hash; only the hash is kept."""
    rows: dict[str, Mapping[str, Any]] = {}
    for name, row in tenants.items():
        if isinstance(row, Mapping):
            rows[name] = row
            rows[hashlib.sha256(name.encode()).hexdigest()[:16]] = row
    return rows


def _as_reply(response: Any) -> tuple[int, dict[str, str], bytes] | None:
    """Status, headers and body of whatever plugins use as a response; None if it is none."""
    if isinstance(response, dict):
        try:
            return 200, {"content-type": "application/json"}, _core.dumps(response)
        except (TypeError, ValueError, RecursionError):
            return None
    body = getattr(response, "body", None)
    if isinstance(body, str):
        body = body.encode("utf-8", "replace")
    if not isinstance(body, (bytes, bytearray, memoryview)):
        return None
    status = _number(getattr(response, "status_code", 200))
    if status is None or not 200 <= status <= 599:
        return None
    return status, sendable(getattr(response, "headers", None)), bytes(body)


def sendable(headers: Any) -> dict[str, str]:
    """The headers that may go to a client, in lower case: no line breaks, no framing."""
    try:
        rows = dict(headers or {}).items()
    except (TypeError, ValueError):
        rows = {}.items()
    named = ((str(name).lower(), str(value)) for name, value in rows)
    return {
        name: value
        for name, value in named
        if name not in _FRAMING and _TOKEN.fullmatch(name) and _LINE.fullmatch(value)
    }


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _words(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _notes(ctx: PluginContext) -> dict[str, Any]:
    """`ctx.metadata`, whatever a plugin has put in its place."""
    if not isinstance(ctx.metadata, dict):
        ctx.metadata = {}
    return ctx.metadata
