"""The plugin engine under the name that plugins import."""

from llm_proxy.rings.context import PluginContext, PluginState
from llm_proxy.rings.runtime.engine import (
    DEFAULT_TIMEOUT_MS,
    FAIL_CLOSED,
    FAIL_CLOSED_RINGS,
    FAIL_OPEN,
)
from llm_proxy.rings.runtime.gate import (
    ALLOWED_MODULES,
    FORBIDDEN_AST_NODES,
    FORBIDDEN_MODULES,
    PluginSecurityError,
    ast_scan,
    compute_plugin_sha256,
)
from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.runtime.wasm_runner import WasmRunner
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse, PluginResponseError

__all__ = [
    "ALLOWED_MODULES",
    "DEFAULT_TIMEOUT_MS",
    "FAIL_CLOSED",
    "FAIL_CLOSED_RINGS",
    "FAIL_OPEN",
    "FORBIDDEN_AST_NODES",
    "FORBIDDEN_MODULES",
    "BasePlugin",
    "PluginContext",
    "PluginHook",
    "PluginManager",
    "PluginResponse",
    "PluginResponseError",
    "PluginSecurityError",
    "PluginState",
    "WasmRunner",
    "ast_scan",
    "compute_plugin_sha256",
]
