"""The plugin SDK under the name that plugins import."""

from llm_proxy.rings.sdk import (
    BasePlugin,
    PluginAction,
    PluginHook,
    PluginResponse,
    PluginResponseError,
    logger,
)

__all__ = [
    "BasePlugin",
    "PluginAction",
    "PluginHook",
    "PluginResponse",
    "PluginResponseError",
    "logger",
]
