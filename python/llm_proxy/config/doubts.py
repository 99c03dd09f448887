"""What a configuration says that can be read and still cannot work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from llm_proxy.backends.catalog import CATALOG, NO_AUTH
from llm_proxy.config.environment import Environment, known_variables, misspelt
from llm_proxy.config.errors import Problem
from llm_proxy.config.reading import Reading
from llm_proxy.config.setting import Setting
from llm_proxy.config.settings import Backend
from llm_proxy.config.table import SETTINGS

# A model's name may hold a colon: `ft:gpt-4.1:org::id`, `vendor/model:free`.
_NO_BACKENDS = ("ft", "alias", "auto")


def note_variables(environment: Environment, reading: Reading) -> None:
    """Variables that are one slip away from one that is read."""
    own = {name for setting in SETTINGS for name in (*setting.env, *setting.off_env)}
    reading.doubts += misspelt(environment, known_variables(own))


def note_value(setting: Setting, path: str, plain: object, where: str, reading: Reading) -> None:
    """A key that YAML reads as a number is one only by luck: the next one begins with a zero."""
    values = plain if isinstance(plain, list) else [plain]
    if setting.secret and any(isinstance(value, (int, float)) for value in values):
        message = "this key is a number to YAML: quote it, so that it stays as it is written"
        reading.doubts.append(Problem(where, path, message))


def check(reading: Reading, backends: Sequence[Backend], default: str) -> None:
    """Keys that are none, and aliases and routes that lead nowhere."""
    reading.doubts += _keys(reading, backends)
    reading.doubts += _alias_chains(reading)
    answering = next((backend for backend in backends if backend.name == default), None)
    row = CATALOG.get(answering.type) if answering is not None else None
    # A server on this machine may have models of any name: `mistral:7b`.
    local = row is not None and row.keyless and row.kind == "http"
    for problem in _unknown_backends(reading, backends):
        slip = "did you mean" in problem.message
        (reading.notes if local and not slip else reading.doubts).append(problem)


def _keys(reading: Reading, backends: Iterable[Backend]) -> Iterator[Problem]:
    for backend in backends:
        row = CATALOG.get(backend.type)
        key = f"backends.{backend.name}.api_key"
        if row is None or backend.kind != "http":
            continue
        if any(len(text) == 1 for text in backend.keys):
            message = "is a single letter: a list of keys is written [KEY, KEY] or KEY,KEY"
            yield Problem(backend.origin.where, key, message)
        needed = not row.keyless and backend.auth != NO_AUTH
        if needed and not backend.keys and backend.base_url == row.base_url:
            variable = f"set {row.key_env} in the environment or in .env, or " * bool(row.key_env)
            message = f"'{backend.name}' has no key: {variable}api_key in the file"
            yield Problem(backend.origin.where, key, message)
    for path in ("auth.api_keys", "auth.admin_keys"):
        if any(len(text) == 1 for text in reading.texts(path)):
            message = "a key is a single letter: a list of keys is written [KEY, KEY] or KEY,KEY"
            yield Problem(reading.origins[path].where, path, message)


def _alias_chains(reading: Reading) -> Iterator[Problem]:
    """An alias is replaced once: one that leads to another alias leads nowhere."""
    aliases = reading.values["model_aliases"]
    assert isinstance(aliases, Mapping)
    for name, target in aliases.items():
        if target not in aliases or target == name:
            continue
        chain = [name, str(target)]
        while chain[-1] in aliases and str(aliases[chain[-1]]) not in chain:
            chain.append(str(aliases[chain[-1]]))
        if chain[-1] in aliases:
            message = f"{' → '.join([*chain, str(aliases[chain[-1]])])} is a loop: name a model"
        else:
            message = f"'{target}' is an alias too, and only one is replaced: write {chain[-1]}"
        yield Problem(_place(reading, "model_aliases", name), f"model_aliases.{name}", message)


def _unknown_backends(reading: Reading, backends: Iterable[Backend]) -> Iterator[Problem]:
    """Aliases and routes whose backend nobody configured: the whole is taken for a model's name."""
    names = {backend.name for backend in backends} | {backend.type for backend in backends}
    families = {name.split(".")[0] for name in names}
    for section, name, selector in _selectors(reading):
        for leg in _legs(selector):
            prefix, colon, _ = leg.partition(":")
            if not colon or "/" in prefix or "\\" in prefix or prefix in _NO_BACKENDS:
                continue
            if prefix in names or prefix in families:
                continue
            yield Problem(
                _place(reading, section, name),
                f"{section}.{name}" if name else section,
                _unknown(prefix, leg, [*names, *CATALOG]),
            )


def _unknown(prefix: str, leg: str, known: list[str]) -> str:
    row = CATALOG.get(prefix.split(".")[0])
    taken = f"so '{leg}' is a model's name to the default backend"
    if row is not None:
        variable = f"; set {row.key_env}" if row.key_env else ""
        return f"'{prefix}' is not configured, {taken}{variable}"
    close = get_close_matches(prefix, known, n=1, cutoff=0.85)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"no backend is called '{prefix}', {taken}{hint}"


def _place(reading: Reading, section: str, name: str) -> str:
    return reading.lines.get(f"{section}.{name}") or reading.origins[section].where


def _selectors(reading: Reading) -> Iterator[tuple[str, str, str]]:
    """(section, name in it, selector) of everything that leads to a model."""
    values = reading.values
    if route := str(values["backends.static_route"]):
        yield "backends.static_route", "", route
    aliases, routes = values["model_aliases"], values["failover_routes"]
    assert isinstance(aliases, Mapping) and isinstance(routes, Mapping)
    for name, target in aliases.items():
        yield "model_aliases", name, str(target)
    for model, chain in routes.items():
        assert isinstance(chain, dict)
        for element in chain["elements"]:
            yield "failover_routes", model, str(element)


def _legs(selector: str) -> Iterator[str]:
    for operator in "^!":
        selector = selector.replace(operator, "|")
    for leg in selector.split("|"):
        yield leg.rpartition("]")[2].rpartition("}")[2].partition("?")[0]
