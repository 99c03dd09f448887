"""Flags, environment, YAML and defaults become Settings, or one ConfigError with every problem."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from llm_proxy.backends.catalog import CATALOG
from llm_proxy.config import doubts, guards, originals
from llm_proxy.config.backends import SectionValues, make_backends, pick_default
from llm_proxy.config.environment import Environment
from llm_proxy.config.errors import ConfigError, Problem, nearest
from llm_proxy.config.reading import Reading
from llm_proxy.config.routes import engine_problem
from llm_proxy.config.setting import Value
from llm_proxy.config.settings import Origin, Settings
from llm_proxy.config.table import BACKEND_SETTINGS, SETTINGS, Setting
from llm_proxy.config.tree import Node, read

# Takes a value of the file: its path, the value, where it stands.
Put = Callable[[str, Value, Origin], None]


@dataclass(frozen=True)
class Sources:
    """What a configuration is made from. `reach` tells whether a local server answers at a URL."""

    flags: Mapping[str, tuple[str, Value]] = field(
        default_factory=dict
    )  # path → (flag as given, value)
    environment: Mapping[str, str] = field(default_factory=dict)
    env_file: Mapping[str, str] = field(default_factory=dict)  # below the environment proper
    config_file: Path | None = None
    plugin_backends: tuple[str, ...] = ()
    reach: Callable[[str], bool] = lambda url: False
    flag_variables: Mapping[str, tuple[str, str]] = field(
        default_factory=dict
    )  # variable → (flag that sets it, value)
    ignored_flags: tuple[str, ...] = ()  # flags of the originals that have no effect

    def variables(self) -> Environment:
        """Every variable that is set: by a flag, in the environment, or in the file below it."""
        flagged = {name: value for name, (_, value) in self.flag_variables.items()}
        places = {name: flag for name, (flag, _) in self.flag_variables.items()}
        return Environment(flagged, places).over(
            _environment(self.environment).over(_environment(self.env_file))
        )


def _environment(values: Mapping[str, str]) -> Environment:
    return values if isinstance(values, Environment) else Environment(values)


def load(sources: Sources) -> Settings:
    reading = Reading()
    if sources.config_file is not None:
        here = (*CATALOG, *sources.plugin_backends)
        _from_tree(read(sources.config_file), str(sources.config_file), here, reading)
    environment = sources.variables()
    _from_environment(environment, reading)
    for path, (flag, value) in sources.flags.items():
        reading.put(path, value, Origin("cli", flag))
    _instance_files(reading)
    _variables_in_values(reading, environment)
    _silence(reading)
    backends = make_backends(
        reading.sections, environment, sources.plugin_backends, reading.problems
    )
    wanted = str(reading.values["backends.default_backend"])
    choice = pick_default(
        backends,
        wanted,
        reading.origins["backends.default_backend"],
        environment,
        sources.plugin_backends,
        sources.reach,
        reading.problems,
    )
    if not wanted and choice.backend:
        reading.put("backends.default_backend", choice.backend, Origin("derived", choice.reason))
    guards.check(reading, backends)
    doubts.check(reading, choice.backends, choice.backend)
    _note_originals(sources, environment, reading)
    doubts.note_variables(environment, reading)
    if reading.problems:
        raise ConfigError(reading.problems)
    settings = Settings(
        reading.values,
        reading.origins,
        choice.backends,
        choice.backend,
        choice.model,
        tuple(reading.doubts),
        tuple(reading.notes),
    )
    if (problem := engine_problem(settings)) is not None:
        raise ConfigError([problem])
    return settings


def _note_originals(sources: Sources, environment: Environment, reading: Reading) -> None:
    """What flags and variables of the originals say that has no effect here."""
    reading.ignored((flag, flag, originals.of_flag(flag).why) for flag in sources.ignored_flags)
    variables = originals.variables()
    reading.ignored(
        (environment.place(name), name, variables[name].why)
        for name in environment
        if name in variables and environment[name].strip()
    )
    for name, (flag, _) in sources.flag_variables.items():
        if name.endswith("_API_KEY"):
            message = f"every user of this machine can read it there: set {name} in .env instead"
            reading.notes.append(Problem(flag, "", message))


def _from_tree(root: Node, file: str, here: Collection[str], reading: Reading) -> None:
    """`here`: the types of backends that there are."""
    places = {place: setting for setting in SETTINGS for place in (setting.path, *setting.also)}
    parts = [place.split(".") for place in places]
    whole_sections = {".".join(part[:depth]) for part in parts for depth in range(1, len(part))}
    ignored: list[tuple[str, str, str]] = []

    def walk(node: Node, prefix: str) -> None:
        for name, child in node.children():
            path = f"{prefix}{name}"
            where = f"{file}:{child.line}"
            if path in places:
                _take(places[path], path, child, where, _adding(places[path], reading), reading)
            elif (option := originals.of_path(path)) is not None:
                if child.value is not None:
                    ignored.append((where, path, option.why))
            elif path in whole_sections or originals.below(path):
                if child.value is None:
                    continue
                if isinstance(child.value, dict):
                    walk(child, path + ".")
                else:
                    reading.problem(where, path, "must hold settings, NAME: VALUE")
            elif prefix == "backends." and (why := _of_originals(name, child, here)):
                ignored.append((where, path, why))
            elif prefix == "backends.":
                reading.sections[name] = _section(name, child, file, reading)
            else:
                known = {
                    place[len(prefix) :].split(".")[0]
                    for place in places
                    if place.startswith(prefix)
                }
                close = nearest(name, known | originals.below(prefix.rstrip(".")))
                shown = close if "did you mean" in close else nearest(name, known)
                reading.problem(where, path, "no such setting" + shown)

    walk(root, "")
    reading.ignored(ignored)


def _of_originals(name: str, node: Node, here: Collection[str]) -> str:
    """Why a section's backend is not here, if it is one of the originals'; else nothing."""
    section = node.plain()
    given = section.get("type") or section.get("connector") if isinstance(section, dict) else None
    kind = str(given or name.split(".")[0])
    return "" if kind in here else originals.BACKENDS.get(kind.replace("_", "-"), "")


def _adding(setting: Setting, reading: Reading) -> Put:
    """Lists of one setting that stand at several places of the file are one list."""

    def put(path: str, value: Value, origin: Origin) -> None:
        before = reading.values[path]
        if setting.also and reading.origins[path].source == "config" and isinstance(value, tuple):
            assert isinstance(before, tuple)
            value = tuple(dict.fromkeys((*before, *value)))
        reading.put(path, value, origin)

    return put


INSTANCE_FILE = re.compile(r"^(?P<connector>[^.]+)\.(?P<name>.+)\.yaml$")


def _instance_files(reading: Reading) -> None:
    """One file for each instance: openai.work.yaml is the section `backends: openai.work:`."""
    path, sections = "backends.instances_dir", reading.sections
    folder = Path(str(reading.values[path]))
    if not os.path.isdir(folder):
        if reading.origins[path].source != "default":
            reading.wrong(path, f"there is no folder '{folder}'")
        return
    for file in sorted(folder.glob("*.yaml")):
        match = INSTANCE_FILE.match(file.name)
        name = file.name.removesuffix(".yaml")
        if match is None:
            message = "must be called BACKEND.NAME.yaml, such as openai.work.yaml"
            reading.problem(str(file), f"backends.{name}", message)
        elif name in sections:
            where = sections[name].origin
            message = f"is configured twice: here and in {where.where}"
            reading.problem(str(file), f"backends.{name}", message)
        else:
            sections[name] = _section(name, read(file), str(file), reading)
            wanted = sections[name].text("type") or match["connector"]
            if wanted != match["connector"]:
                message = f"the file's name says {match['connector']}, not {wanted}"
                reading.problem(str(file), f"backends.{name}.type", message)


VARIABLE = re.compile(r"^\$(?:\{(\w+)\}|(\w+))$")
_LITELLM = "os.environ/"
# What of a backend may be a variable of the environment: `api_url: ${MY_URL}`.
_MAY_BE_VARIABLES = ("api_key", "api_url", "headers")


def _variables_in_values(reading: Reading, environment: Environment) -> None:
    """Secrets, addresses and headers of the file may be variables: `api_key: ${MY_KEY}`."""

    def of(text: str, origin: Origin, path: str) -> str:
        if text.startswith(_LITELLM):
            name = text.removeprefix(_LITELLM)
            reading.problem(origin.where, path, f"'{text}' is not read here: write ${{{name}}}")
            return ""
        variable = VARIABLE.match(text)
        if variable is None:
            return text
        name = variable[1] or variable[2]
        found = environment.get(name, "").strip()
        if not found:
            reading.problem(origin.where, path, f"the environment has no {name}")
        return found

    def all_of(value: Value, origin: Origin, path: str) -> Value:
        if origin.source != "config":
            return value
        if isinstance(value, str):
            return of(value, origin, path)
        if isinstance(value, tuple):
            return tuple(filter(None, (of(text, origin, path) for text in value)))
        if isinstance(value, Mapping):
            return {name: of(str(text), origin, path) for name, text in value.items()}
        return value

    for setting in SETTINGS:
        if setting.secret and setting.kind in ("text", "texts"):
            path = setting.path
            value = all_of(reading.values[path], reading.origins[path], path)
            reading.put(path, value, reading.origins[path])
    for name, section in reading.sections.items():
        for key in _MAY_BE_VARIABLES:
            if key in section.origins:
                origin = section.origins[key]
                value = all_of(section.values[key], origin, f"backends.{name}.{key}")
                section.put(key, value, origin)


def _section(name: str, node: Node, file: str, reading: Reading) -> SectionValues:
    where = f"{file}:{node.line}"
    out = SectionValues(Origin("config", where))
    if node.value is None:
        return out
    if not isinstance(node.value, dict):
        reading.problem(where, f"backends.{name}", "must hold settings, such as api_url: URL")
        return out
    places = {
        place: setting for setting in BACKEND_SETTINGS for place in (setting.path, *setting.also)
    }
    for key, child in _with_extra(node, places):
        path, spot = f"backends.{name}.{key}", f"{file}:{child.line}"
        if key in originals.OF_BACKENDS:
            if child.value not in (None, [], {}):
                reading.ignored([(spot, path, originals.OF_BACKENDS[key])])
            continue
        if key not in places:
            reading.problem(spot, path, "no such setting" + nearest(key, places))
            continue
        _take(places[key], path, child, spot, out.put, reading)
    return out


def _with_extra(node: Node, places: Mapping[str, Setting]) -> Iterable[tuple[str, Node]]:
    """The settings of a backend; those that the originals keep under `extra` by themselves."""
    for key, child in node.children():
        if key != "extra" or not isinstance(child.value, dict):
            yield key, child
            continue
        own = [(f"extra.{inner}", part) for inner, part in child.children()]
        yield from ((path, part) for path, part in own if path in places)
        if not own or any(path not in places for path, _ in own):
            yield key, child


def _take(setting: Setting, path: str, node: Node, where: str, put: Put, reading: Reading) -> None:
    plain = node.plain()
    if plain is None:
        return  # `key:` with nothing behind it says nothing
    try:
        value = setting.from_tree(plain)
    except ValueError as error:
        reading.problem(where, path, str(error))
        return
    put(setting.path, value, Origin("config", where))
    file = where.rpartition(":")[0]
    reading.lines.update(
        (f"{path}.{name}", f"{file}:{part.line}") for name, part in node.children()
    )
    doubts.note_value(setting, path, plain, where, reading)


def _from_environment(environment: Environment, reading: Reading) -> None:
    for setting in SETTINGS:
        names = (*setting.env, *setting.off_env)
        given = [name for name in names if environment.get(name, "").strip()]
        if not given:
            continue
        first = given[0]
        try:
            value = setting.from_text(environment[first])
            if first in setting.off_env:
                value = not value
            elif setting.kind == "texts":
                lists = [setting.from_text(environment[name]) for name in given]
                value = tuple(dict.fromkeys(part for texts in lists for part in _texts(texts)))
            else:
                given = [first]
        except ValueError as error:
            reading.problem(environment.place(first), setting.path, str(error))
            continue
        reading.put(setting.path, value, environment.origin(*given))


def _texts(value: Value) -> Iterable[str]:
    assert isinstance(value, tuple)
    return value


def _silence(reading: Reading) -> None:
    """proxy_timeout stands for both waits on a provider, unless they are given themselves."""
    origins = reading.origins
    if origins["proxy_timeout"].source == "default":
        return
    for path in ("timeouts.first_byte", "timeouts.stream_idle"):
        if origins[path].source == "default":
            origin = Origin("derived", f"proxy_timeout: {origins['proxy_timeout']}")
            reading.put(path, reading.values["proxy_timeout"], origin)
