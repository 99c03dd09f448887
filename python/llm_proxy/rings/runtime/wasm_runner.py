"""WebAssembly plugins through Extism's ABI: a guest reaches nothing but the bytes it is given.

A guest exports `handle`; it gets `{body, metadata, session_id, config, response?}` as JSON and
answers `{action, body?, status_code?, error_type?, message?, reason?, clean_prompt?, response?}`.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_proxy import _core
from llm_proxy.cpus import usable_cpus
from llm_proxy.rings.context import Headers, PluginContext, Reply
from llm_proxy.rings.runtime.engine import sendable
from llm_proxy.rings.sdk import BasePlugin, PluginResponse
from llm_proxy.rings.services.chat import edit_texts, messages_of

logger = logging.getLogger("llm_proxy.plugins.wasm")

ENTRY = "handle"
INSTALL = "WASM plugins need Extism: pip install 'llm-interactive-proxy[wasm]'"
PAGE = 65_536
GRACE_MS = 20  # the engine's own limit comes first and is counted; this one frees the thread
_SYNONYMS = {"allow": "passthrough", "modified": "modify"}
_ACTIONS = frozenset(("passthrough", "modify", "block", "cache_hit"))
_CLEAN_PROMPT = "_wasm_clean_prompt"
_RESPONSE_KEYS = frozenset(("status_code", "headers", "body"))
_MAX_MESSAGE = 2_000
_MAX_DEPTH = 64

_extism_available: bool | None = None  # None: nobody has asked yet


class WasmError(RuntimeError):
    """A guest that cannot be loaded, trapped, hit a limit, or answered what is no answer."""


class WasmTimeout(WasmError):
    """A guest that was stopped because its time was over."""


@dataclass(frozen=True)
class WasmLimits:
    """What a guest may use. The cap covers its memory and what the host passes in and out."""

    memory_mb: float = 64.0
    timeout_ms: float = 500.0
    fuel: int | None = 2_000_000_000  # instructions a call; None: only the time counts
    # calls at once, each on a thread of its own
    instances: int = field(default_factory=lambda: min(4, usable_cpus().count))
    wasi: bool = False


def _check_extism() -> bool:
    """True if Extism is installed. Its 10 MB are loaded by the first guest, never before."""
    global _extism_available
    if _extism_available is None:
        try:
            importlib.import_module("extism_sys")
            _extism_available = True
        except Exception as error:
            logger.info("Extism is not available: %s", error)
            _extism_available = False
    return _extism_available


class GuestPool:
    """One compiled module and up to `limits.instances` instances of it.

    `call` may come from that many threads at once; it blocks and releases the GIL while the guest
    runs. An instance that failed is thrown away with all it remembers.
    """

    def __init__(self, module: bytes, limits: WasmLimits, config: Mapping[str, Any]) -> None:
        native: Any = importlib.import_module("extism_sys")
        self._lib, self._ffi = native.lib, native.ffi
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._compiled = self._ffi.NULL
        manifest = {
            "wasm": [{"data": base64.b64encode(module).decode()}],
            "memory": {
                "max_pages": max(1, int(limits.memory_mb * 1024 * 1024 / PAGE)),
                "max_http_response_bytes": 0,
                "max_var_bytes": 1024 * 1024,
            },
            "timeout_ms": int(limits.timeout_ms + GRACE_MS),
            "config": {k: v if isinstance(v, str) else json.dumps(v) for k, v in config.items()},
        }
        text = json.dumps(manifest).encode()
        problem = self._ffi.new("char**")
        nothing = (self._ffi.NULL, 0, limits.wasi)  # no host functions
        if limits.fuel is None:
            made = self._lib.extism_compiled_plugin_new(text, len(text), *nothing, problem)
        else:
            made = self._lib.extism_compiled_plugin_new_with_fuel_limit(
                text, len(text), *nothing, limits.fuel, problem
            )
        self._compiled = self._made(made, problem)
        try:
            self._idle.append(self._instance())
            if not self._lib.extism_plugin_function_exists(self._idle[0], ENTRY.encode()):
                raise WasmError(f"it exports no function '{ENTRY}'")
        except BaseException:
            self.close()
            raise

    def call(self, function: str, data: bytes) -> bytes:
        with self._lock:
            if self._compiled == self._ffi.NULL:
                raise WasmError("the guest is unloaded")
            instance = self._idle.pop() if self._idle else self._instance()
        code = self._lib.extism_plugin_call(instance, function.encode(), data, len(data))
        problem = self._lib.extism_plugin_error(instance)
        if code != 0 or problem != self._ffi.NULL:
            text = b"" if problem == self._ffi.NULL else self._ffi.string(problem, _MAX_MESSAGE)
            self._lib.extism_plugin_free(instance)
            if text == b"timeout":
                raise WasmTimeout("the guest timed out")
            raise WasmError(text.decode("utf-8", "replace") or f"the guest returned {code}")
        size = self._lib.extism_plugin_output_length(instance)
        output = bytes(self._ffi.buffer(self._lib.extism_plugin_output_data(instance), size))
        with self._lock:
            if self._compiled != self._ffi.NULL:
                self._idle.append(instance)
                return output
        self._lib.extism_plugin_free(instance)
        return output

    def close(self) -> None:
        """Frees the module and what is idle; a call under way frees its instance at its end."""
        with self._lock:
            idle, self._idle = self._idle, []
            compiled, self._compiled = self._compiled, self._ffi.NULL
        for instance in idle:
            self._lib.extism_plugin_free(instance)
        if compiled != self._ffi.NULL:
            self._lib.extism_compiled_plugin_free(compiled)

    def _instance(self) -> Any:
        problem = self._ffi.new("char**")
        return self._made(
            self._lib.extism_plugin_new_from_compiled(self._compiled, problem), problem
        )

    def _made(self, pointer: Any, problem: Any) -> Any:
        if pointer != self._ffi.NULL:
            return pointer
        text = self._ffi.string(problem[0], _MAX_MESSAGE).decode("utf-8", "replace")
        self._lib.extism_plugin_new_error_free(problem[0])
        raise WasmError(text)


class WasmRunner:
    """One guest: loaded, called with an exchange, unloaded. Lives on the lane."""

    def __init__(
        self,
        wasm_path: str | Path,
        config: Mapping[str, Any] | None = None,
        limits: WasmLimits | None = None,
        module: bytes | None = None,
    ) -> None:
        self.path = Path(wasm_path)
        self.config: dict[str, Any] = dict(config or {})
        self.limits = limits or WasmLimits()
        self._module = module  # the bytes that were pinned; else the file is read by `load`
        self._plugin: Any = None
        self._loaded = False
        self._threads: ThreadPoolExecutor | None = None

    async def load(self) -> bool:
        """False, with the reason in the log, if there is no runtime or no such module."""
        try:
            await self.prepare()
        except WasmError as error:
            logger.warning("%s is not loaded: %s", self.path, error)
            return False
        return True

    async def prepare(self) -> None:
        """Compiles the module on a thread of its own. Raises WasmError."""
        if not _check_extism():
            raise WasmError(INSTALL)
        try:
            module = self._module if self._module is not None else self.path.read_bytes()
        except OSError as error:
            raise WasmError(f"cannot be read: {error}") from error
        made = await self._in_thread(GuestPool, module, self.limits, self.config)
        self._plugin, self._loaded, self._module = made, True, None

    async def run(
        self,
        body: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        session_id: str = "default",
        response: Mapping[str, Any] | None = None,
    ) -> PluginResponse:
        """What the guest answers. Raises WasmError if it fails."""
        if not self._loaded or self._plugin is None:
            raise WasmError("the guest is not loaded")
        call: dict[str, Any] = {
            "body": body,
            "metadata": json_safe(metadata or {}),
            "session_id": session_id,
            "config": self.config,
        }
        if response is not None:
            call["response"] = response
        return parse_answer(await self._in_thread(self._plugin.call, ENTRY, encode(call)))

    async def execute(
        self,
        body: Mapping[str, Any],
        metadata: Mapping[str, Any] | None = None,
        session_id: str = "default",
    ) -> PluginResponse:
        """As `run`, but a guest that fails lets the exchange pass: there is no policy here."""
        if not self._loaded:
            return PluginResponse.passthrough()
        try:
            return await self.run(body, metadata, session_id)
        except Exception as error:
            logger.warning("%s failed: %s", self.path, error)
            return PluginResponse.passthrough()

    def _parse_result(self, raw: Any) -> PluginResponse:
        try:
            return parse_answer(raw)
        except WasmError as error:
            logger.warning("%s: %s", self.path, error)
            return PluginResponse.passthrough()

    async def unload(self) -> None:
        plugin, threads = self._plugin, self._threads
        self._plugin, self._loaded, self._threads = None, False, None
        if hasattr(plugin, "close"):
            plugin.close()
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, function: Any, *arguments: Any) -> Any:
        if self._threads is None:
            name = f"llm-proxy-wasm-{self.path.stem}"
            self._threads = ThreadPoolExecutor(max(1, self.limits.instances), name)
        return await asyncio.wrap_future(self._threads.submit(function, *arguments))


class WasmPlugin(BasePlugin):
    """A guest as a plugin of any ring. Its failures are raised: the engine applies the policy."""

    def __init__(self, runner: WasmRunner) -> None:
        super().__init__(runner.config)
        self.runner = runner

    async def on_load(self) -> None:
        await self.runner.prepare()

    async def on_unload(self) -> None:
        await self.runner.unload()

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        shown = None if ctx.response is None else _shown(ctx.response)
        try:
            answer = await self.runner.run(ctx.body, ctx.metadata, ctx.session_id, shown)
        except WasmTimeout:
            await asyncio.sleep(1)  # the engine's own limit is due before, and counts a timeout
            raise
        if answer.action == "modify":
            if answer.response is not None:
                ctx.response = _reply(answer.response, ctx.response)
            if answer.body is not None and set(answer.body) == {_CLEAN_PROMPT}:
                _replace_prompt(ctx, str(answer.body[_CLEAN_PROMPT]))
                answer.body = None
        elif answer.action == "cache_hit":
            answer.response = _reply(answer.response, None)
        return answer


# ---- in


def json_safe(value: Any, depth: int = 0) -> Any:
    """The part of a value that JSON can say; what plugins share as objects stays with the host."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None  # neither NaN nor infinite
    if depth >= _MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        rows = ((str(key), item) for key, item in value.items() if _sayable(item))
        return {key: json_safe(item, depth + 1) for key, item in rows}
    if isinstance(value, (list, tuple)):
        return [json_safe(item, depth + 1) for item in value if _sayable(item)]
    return None


def _sayable(value: Any) -> bool:
    return value is None or isinstance(value, (str, bool, int, float, list, tuple, Mapping))


def encode(call: dict[str, Any]) -> bytes:
    try:
        return _core.dumps(call)
    except (TypeError, ValueError, RecursionError):  # another plugin left an object in the body
        return _core.dumps(json_safe(call))


def _shown(response: Any) -> dict[str, Any]:
    """A reply as guests see it: its JSON as JSON, anything else as text."""
    if isinstance(response, dict):
        return {"status_code": 200, "headers": {}, "body": response}
    raw = getattr(response, "body", b"")
    raw = raw.encode() if isinstance(raw, str) else bytes(raw or b"")
    try:
        body: Any = _core.loads(raw)
    except (ValueError, RecursionError):
        body = raw.decode("utf-8", "replace")
    headers = {str(k): str(v) for k, v in dict(getattr(response, "headers", None) or {}).items()}
    status = int(getattr(response, "status_code", 200))
    return {"status_code": status, "headers": headers, "body": body}


# ---- out: nothing of what a guest says is trusted


def parse_answer(raw: Any) -> PluginResponse:
    """A guest's output as an answer. Raises WasmError for what is none."""
    if isinstance(raw, str):
        raw = raw.encode("utf-8", "surrogatepass")
    try:
        said = _core.loads(bytes(raw))
        _core.dumps(said)  # what cannot be written again must not get into a body
    except (ValueError, TypeError, RecursionError) as error:
        raise WasmError(f"the answer is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise WasmError(f"the answer is {type(said).__name__}, not an object")
    named = said.get("action")
    action = named.strip().lower() if isinstance(named, str) else "passthrough"
    action = _SYNONYMS.get(action, action)
    if action not in _ACTIONS:
        logger.debug("A guest answered with the unknown action %r; it passes.", named)
        action = "passthrough"
    if action == "block":
        why = _text(said.get("message")) or _text(said.get("reason"))
        status = said.get("status_code")
        known = isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599
        return PluginResponse.block(
            status if known else 403,  # type: ignore[arg-type]
            _text(said.get("error_type"))[:64] or "wasm_block",
            why or "Blocked by WASM plugin",
        )
    if action == "modify":
        body = said.get("body")
        if not isinstance(body, dict):
            clean = said.get("clean_prompt")
            body = {_CLEAN_PROMPT: clean} if isinstance(clean, str) else None
        response = said.get("response")
        if body is None and response is None:
            raise WasmError("'modify' without 'body', 'clean_prompt' or 'response'")
        message = _text(said.get("message")) or None
        return PluginResponse("modify", message=message, body=body, response=response)
    if action == "cache_hit":
        response = said.get("response", said.get("body"))
        if response is None:
            raise WasmError("'cache_hit' without 'response'")
        return PluginResponse.cache_hit(response)
    return PluginResponse.passthrough()


def _text(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return value[:_MAX_MESSAGE].encode("utf-8", "replace").decode()


def _reply(said: Any, old: Any) -> Reply:
    """A reply from `{status_code, headers, body}`, or from the body alone; `old` gives the rest."""
    headers = dict(getattr(old, "headers", None) or {})
    status: Any = getattr(old, "status_code", 200)
    body = said
    if (
        isinstance(said, dict)
        and "body" in said
        and set(said) <= {"status_code", "headers", "body"}
    ):
        body = said["body"]
        status = said.get("status_code", status)
        more = said.get("headers")
        headers.update(more if isinstance(more, dict) else {})
    if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
        raise WasmError("'response.status_code' is no status")
    kept = Headers(sendable(headers))
    if isinstance(body, str):
        raw = body.encode("utf-8", "replace")
    else:
        raw = _core.dumps(body)
        kept.setdefault("content-type", "application/json")
    return Reply(raw, status, kept, kept.get("content-type"))


def _first(text: str) -> Callable[[str], str]:
    """The text for the first part, nothing for the parts after it."""
    left = [text]
    return lambda _: left.pop() if left else ""


def _replace_prompt(ctx: PluginContext, prompt: str) -> None:
    """`clean_prompt` is the text the last user message should have had."""
    for message in reversed(messages_of(ctx.body)):
        if message.get("role") == "user":
            if isinstance(message.get("content"), list):
                edit_texts(message, _first(prompt))
            else:
                message["content"] = prompt
            break
    ctx.metadata[_CLEAN_PROMPT] = prompt
