"""What only the engine can say of a configuration."""

from __future__ import annotations

from llm_proxy import _core
from llm_proxy.config.errors import Problem
from llm_proxy.config.settings import Settings
from llm_proxy.config.snapshot import snapshot

# What the engine calls them, where that is not what the file does.
_PATHS = {"static_route": "backends.static_route", "default_backend": "backends.default_backend"}


def engine_problem(settings: Settings) -> Problem | None:
    """What the engine would refuse to start with, at the place in the file."""
    said = _core.check_config(snapshot(settings))
    if not said:
        return None
    key, _, message = said.partition(": ")
    name = key.split(".")[0]
    path = _PATHS.get(name, name)
    if path not in settings.origins:
        return Problem("", "", said)
    return Problem(settings.origins[path].where, key if key != name else path, message)
