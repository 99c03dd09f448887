"""Takes dangerous tools out of a request, or refuses it."""

from __future__ import annotations

from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse


def _name(tool: Any) -> Any:
    if not isinstance(tool, dict):
        return None
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else tool.get("name")


class ToolGuard(BasePlugin):
    name = "tool_guard"
    hook = PluginHook.PRE_FLIGHT
    version = "1.0.0"
    timeout_ms = 2

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.restricted = frozenset(self.config.get("restricted_tools") or ())
        self.action = self.config.get("action", "strip")
        self.admin_roles = frozenset(self.config.get("admin_roles", ["admin"]))

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        body = ctx.body
        if not self.restricted:
            return PluginResponse.passthrough()
        if self.admin_roles.intersection(ctx.metadata.get("_user_roles") or ()):
            return PluginResponse.passthrough()
        lists = {key: body[key] for key in ("tools", "functions") if body.get(key)}
        hit = {
            key: [n for t in tools if (n := _name(t)) in self.restricted]
            for key, tools in lists.items()
        }
        removed = [name for names in hit.values() for name in names]
        if not removed:
            return PluginResponse.passthrough()
        names = ", ".join(removed)
        if self.action == "block":
            return PluginResponse.block(403, "restricted_tools", f"Restricted tools: {names}")
        for key in (key for key in lists if hit[key]):
            kept = [tool for tool in lists[key] if _name(tool) not in self.restricted]
            self._write(body, key, kept, hit[key])
        ctx.metadata["_tool_guard_stripped"] = removed
        return PluginResponse.modify(body, f"Removed restricted tools: {names}")

    @staticmethod
    def _write(body: dict[str, Any], key: str, kept: list[Any], removed: list[Any]) -> None:
        choice_key = "tool_choice" if key == "tools" else "function_call"
        choice = body.get(choice_key)
        if kept:
            body[key] = kept
            if _name(choice) in removed:
                body[choice_key] = "auto"
            return
        body.pop(key)  # providers refuse an empty list, and a choice without tools
        body.pop(choice_key, None)
        body.pop("parallel_tool_calls", None)
