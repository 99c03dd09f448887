"""The YAML file's JSON schema, made from the table, for editors."""

from __future__ import annotations

from collections.abc import Iterable

from llm_proxy.backends.catalog import CATALOG
from llm_proxy.config.table import BACKEND_SETTINGS, SETTINGS, Setting

_TEXT: dict[str, object] = {"type": ["string", "number"]}
_NAMES: dict[str, object] = {"type": "object", "additionalProperties": _TEXT}
_TYPES: dict[str, dict[str, object]] = {
    "text": _TEXT,
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "seconds": {"type": "number"},
    "switch": {"type": "boolean"},
    "texts": {"type": ["array", "string"], "items": {"type": ["string", "integer"]}},
    "names": _NAMES,
    "aliases": {"type": ["object", "array"]},
    "routes": {
        "type": "object",
        "additionalProperties": {
            "type": "object",
            "additionalProperties": False,
            "required": ["elements"],
            "properties": {
                "elements": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "first_token": {"type": "number", "minimum": 0, "maximum": 86400},
                "policy": {"type": "string"},
            },
        },
    },
    "mapping": {"type": "object"},
}


def _of(setting: Setting) -> dict[str, object]:
    out: dict[str, object] = dict(_TYPES[setting.kind])
    if setting.help:
        out["description"] = setting.help
    if setting.choices and setting.kind == "text":
        switch = [True, False] if "true" in setting.choices else []
        out = {**out, "type": ["string", "boolean"] if switch else "string"}
        out["enum"] = [*setting.choices, *switch]
    if setting.choices and setting.kind == "names":
        out["additionalProperties"] = {"enum": list(setting.choices)}
    if setting.choices and setting.kind == "texts":
        out["items"] = {"enum": list(setting.choices)}
    if setting.at_least is not None:
        out["minimum"] = setting.at_least
    if setting.at_most is not None:
        out["maximum"] = setting.at_most
    if setting.default not in ("", (), {}) and not setting.secret:
        out["default"] = setting.default
    return out


def _object(settings: Iterable[Setting]) -> dict[str, object]:
    properties: dict[str, object] = {}
    for setting in settings:
        for place in (setting.path, *setting.also):
            target = properties
            *sections, name = place.split(".")
            for section in sections:
                made = target.setdefault(
                    section, {"type": "object", "additionalProperties": False, "properties": {}}
                )
                assert isinstance(made, dict)
                target = made["properties"]
            target[name] = _of(setting)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def schema() -> dict[str, object]:
    out = _object(SETTINGS)
    properties = out["properties"]
    assert isinstance(properties, dict)
    backend = _object(BACKEND_SETTINGS)
    backend["description"] = "One backend instance; rows of the catalog: " + ", ".join(CATALOG)
    properties["backends"]["additionalProperties"] = backend
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "llm-proxy configuration",
        **out,
    }
