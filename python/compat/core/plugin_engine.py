"""The plugin engine under the name that plugins import."""

from llm_proxy.plugins.context import PluginContext, PluginState
from llm_proxy.plugins.engine import (
    DEFAULT_TIMEOUT_MS,
    FAIL_CLOSED,
    FAIL_CLOSED_RINGS,
    FAIL_OPEN,
)
from llm_proxy.plugins.gate import (
    ALLOWED_MODULES,
    FORBIDDEN_AST_NODES,
    FORBIDDEN_MODULES,
    PluginSecurityError,
    ast_scan,
    compute_plugin_sha256,
)
from llm_proxy.plugins.manager import PluginManager
from llm_proxy.plugins.sdk import BasePlugin, PluginHook, PluginResponse, PluginResponseError
from llm_proxy.plugins.wasm_runner import WasmRunner

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
