"""What only the engine can say of a configuration."""

from __future__ import annotations

from llm_proxy import _core
from llm_proxy.config.errors import Problem
from llm_proxy.config.settings import Settings
from llm_proxy.config.snapshot import snapshot

# Made from several settings, so that the engine has them at another place than the file.
_PATHS = {"static_route": "backends.static_route", "default_backend": "backends.default_backend"}


def engine_problem(settings: Settings) -> Problem | None:
    """What the engine would refuse to start with, at the place in the file."""
    said = _core.check_config(snapshot(settings))
    if not said:
        return None
    key, _, message = said.partition(": ")
    key = _PATHS.get(key, key)
    path = next((path for path in settings.origins if f"{key}.".startswith(f"{path}.")), None)
    if path is None:
        return Problem("", "", said)
    return Problem(settings.origins[path].where, key, message)
