"""What only the engine can say of a configuration, and what a reader of its routes should know."""

from __future__ import annotations

from collections.abc import Iterator

from llm_proxy import _core
from llm_proxy.backends.catalog import CATALOG
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


def unconfigured(settings: Settings) -> Iterator[str]:
    """One line for each route that names a provider nobody configured: it is taken for a model."""
    instances = {backend.name.split(".")[0] for backend in settings.backends}
    for path, selector in _selectors(settings):
        for leg in _legs(selector):
            name = leg.partition(":")[0].split(".")[0]
            if ":" in leg and "/" not in name and name in CATALOG and name not in instances:
                key = CATALOG[name].key_env
                yield (
                    f"{path}: '{name}' is not configured, so '{leg}' is a model's name to the "
                    f"default backend" + (f"; set {key}" if key else "")
                )


def _selectors(settings: Settings) -> Iterator[tuple[str, str]]:
    if route := settings.text("backends.static_route"):
        yield "static_route", route
    for name, target in settings.names("model_aliases").items():
        yield f"model_aliases.{name}", target
    for model, chain in settings.mapping("failover_routes").items():
        assert isinstance(chain, dict)
        for element in chain["elements"]:
            yield f"failover_routes.{model}", str(element)


def _legs(selector: str) -> Iterator[str]:
    for operator in "^!":
        selector = selector.replace(operator, "|")
    for leg in selector.split("|"):
        yield leg.rpartition("]")[2].rpartition("}")[2].partition("?")[0]
