"""Checks a JSON answer against the schema the client expects."""

from __future__ import annotations

import json
from typing import Any

from llm_proxy.rings.context import PluginContext
from llm_proxy.rings.sdk import BasePlugin, PluginHook, PluginResponse
from llm_proxy.rings.services.chat import reply_text

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return bool(kind == "boolean")
    return isinstance(value, _TYPES.get(kind, (object,)))


def violations(value: Any, schema: Any, path: str = "$", depth: int = 0) -> list[str]:
    """What `value` does that `schema` does not allow."""
    if not isinstance(schema, dict) or depth > 64:
        return []
    kind = schema.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if kind is not None and not any(_is(value, one) for one in kinds):
        return [f"{path}: expected {kind}, got {type(value).__name__}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r} is not one of {schema['enum']}")
    limits: list[tuple[str, Any, int]] = []
    if isinstance(value, dict):
        missing = [key for key in schema.get("required") or () if key not in value]
        found += [f"{path}: missing required '{key}'" for key in missing]
        for key, part in (schema.get("properties") or {}).items():
            if key in value:
                found += violations(value[key], part, f"{path}.{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += violations(item, schema.get("items"), f"{path}[{index}]", depth + 1)
    elif isinstance(value, str):
        limits = [("minLength", len(value), 1), ("maxLength", len(value), -1)]
    elif not isinstance(value, bool) and isinstance(value, (int, float)):
        limits = [("minimum", value, 1), ("maximum", value, -1)]
    for key, size, sign in limits:
        if key in schema and (size - schema[key]) * sign < 0:
            found.append(f"{path}: {size} against {key} {schema[key]}")
    return found


class SchemaEnforcer(BasePlugin):
    name = "schema_enforcer"
    hook = PluginHook.POST_FLIGHT
    version = "1.0.0"
    timeout_ms = 5
    also = {PluginHook.PRE_FLIGHT: "take"}  # noqa: RUF012

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        self.action = self.config.get("action", "warn")
        self.max_size = int(self.config.get("max_schema_size", 8192))

    async def take(self, ctx: PluginContext) -> None:
        """The schema out of the request: it is for us, not for the provider."""
        if "_expected_schema" in ctx.body:
            ctx.metadata["_expected_schema"] = ctx.body.pop("_expected_schema")

    def _schema(self, given: Any) -> dict[str, Any] | None:
        if isinstance(given, str):
            if len(given.encode()) > self.max_size:
                return None
            try:
                given = json.loads(given)
            except ValueError:
                self.logger.warning("The expected schema is no JSON.")
        return given if isinstance(given, dict) else None

    async def execute(self, ctx: PluginContext) -> PluginResponse:
        schema = self._schema(ctx.metadata.get("_expected_schema"))
        text = reply_text(ctx)
        if schema is None or text is None:
            return PluginResponse.passthrough()
        try:
            problems = violations(json.loads(text), schema)
        except ValueError as error:
            problems = [f"$: not JSON: {error}"]
        ctx.metadata["_schema_valid"] = not problems
        ctx.metadata["_schema_errors"] = problems
        if problems and self.action == "block":
            message = "The answer does not follow the schema: " + "; ".join(problems[:5])
            return PluginResponse.block(422, "schema_validation_failed", message)
        if problems:
            self.logger.warning("An answer does not follow its schema: %s", "; ".join(problems[:5]))
        return PluginResponse.passthrough()
