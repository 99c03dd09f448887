"""The plugin routes of the admin API: a manager and what was asked, to status and JSON.

`llm_proxy.admin.plugins` serves them, and says who may ask. A plugin's name may hold any character.
How other parts of the proxy add routes is told in `llm_proxy.admin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_proxy.rings.runtime.manager import PluginManager
from llm_proxy.rings.runtime.swap import SwapRefused

Answer = tuple[int, dict[str, Any]]


def list_plugins(manager: PluginManager) -> Answer:
    return 200, {"plugins": manager.list_plugins()}


def plugin_stats(manager: PluginManager) -> Answer:
    return 200, manager.get_plugin_stats()


def latency(manager: PluginManager) -> Answer:
    return 200, manager.get_ring_latency()


def ring_timeline(manager: PluginManager) -> Answer:
    traces = manager.get_ring_traces()
    return 200, {"traces": traces, "count": len(traces)}


async def toggle(manager: PluginManager, asked: Mapping[str, Any]) -> Answer:
    name, enabled = asked.get("name"), asked.get("enabled")
    if not isinstance(name, str) or not isinstance(enabled, bool):
        return 400, {"detail": "'name' must be a text and 'enabled' true or false"}
    try:
        if not await manager.toggle_plugin(name, enabled):
            return _unknown(name)
    except SwapRefused as error:
        return 422, {"detail": str(error)}
    return 200, {"name": name, "enabled": enabled}


async def install(manager: PluginManager, asked: Mapping[str, Any]) -> Answer:
    try:
        await manager.install_plugin(asked)
    except ValueError as error:
        return 400, {"detail": str(error)}
    except SwapRefused as error:
        return 422, {"detail": str(error)}
    return 200, {"status": "installed", "name": asked["name"]}


async def uninstall(manager: PluginManager, name: str) -> Answer:
    try:
        if not await manager.uninstall_plugin(name):
            return _unknown(name)
    except SwapRefused as error:
        return 422, {"detail": str(error)}
    return 200, {"status": "uninstalled", "name": name}


async def hot_swap(manager: PluginManager) -> Answer:
    try:
        await manager.hot_swap()
    except SwapRefused as error:
        return 200, {"status": "rolled_back", "error": str(error)}
    return 200, {"status": "success", "message": "The plugins have been loaded anew."}


async def rollback(manager: PluginManager) -> Answer:
    try:
        if await manager.rollback():
            return 200, {"status": "rolled_back"}
    except SwapRefused as error:
        return 422, {"detail": str(error)}
    return 409, {"detail": "there is no earlier generation"}


def one_plugin(manager: PluginManager, name: str) -> Answer:
    meta = manager.get_plugin(name)
    if meta is None:
        return _unknown(name)
    return 200, {**meta, "stats": manager.get_plugin_stats(name)}


def plugin_config(manager: PluginManager, name: str) -> Answer:
    meta = manager.get_plugin(name)
    if meta is None:
        return _unknown(name)
    config = manager.get_plugin_config(name)
    return 200, {"name": name, "config": config, "ui_schema": meta["ui_schema"]}


def validate(manager: PluginManager, name: str, config: Mapping[str, Any]) -> Answer:
    meta = manager.get_plugin(name)
    if meta is None:
        return _unknown(name)
    fields = {row["key"]: row for row in meta["ui_schema"] if isinstance(row, Mapping)}
    problems = [
        problem
        for key, value in config.items()
        if (problem := _problem(fields.get(key), key, value))
    ]
    if problems:
        return 422, {"detail": "; ".join(problems)}
    return 200, {"status": "valid", "name": name}


async def configure(manager: PluginManager, name: str, config: Mapping[str, Any]) -> Answer:
    """Merges `config` over the plugin's own; what `ui_schema` refuses changes nothing."""
    answer = validate(manager, name, config)
    if answer[0] != 200:
        return answer
    try:
        await manager.configure_plugin(name, config)
    except SwapRefused as error:
        return 422, {"detail": str(error)}
    return 200, {"status": "configured", "name": name}


_KINDS: dict[str, tuple[type, ...]] = {
    "number": (int, float),
    "boolean": (bool,),
    "text": (str,),
    "string": (str,),
    "textarea": (str,),
    "select": (str,),
    "array": (list,),
    "object": (dict,),
}


def _problem(field: Mapping[str, Any] | None, key: str, value: Any) -> str | None:
    """What `ui_schema` has against a value; a key it does not name is the plugin's own business."""
    if field is None:
        return None
    kind = str(field.get("type"))
    wanted = _KINDS.get(kind, (object,))
    if not isinstance(value, wanted) or (kind == "number" and isinstance(value, bool)):
        return f"'{key}' must be a {kind}"
    if kind == "select" and value not in (field.get("options") or [value]):
        return f"'{key}' must be one of {', '.join(map(str, field['options']))}"
    if kind == "number" and not field.get("min", value) <= value <= field.get("max", value):
        return f"'{key}' must be from {field.get('min', 'any')} to {field.get('max', 'any')}"
    return None


def _unknown(name: str) -> Answer:
    return 404, {"detail": f"there is no plugin '{name}'"}
