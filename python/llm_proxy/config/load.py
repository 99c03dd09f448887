"""Flags, environment, YAML and defaults become Settings, or one ConfigError with every problem."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from llm_proxy._core import ProxyRules
from llm_proxy.backends.catalog import PERSONAL_BACKENDS
from llm_proxy.backends.login_families import second_logins
from llm_proxy.config.backends import SectionValues, make_backends, pick_default
from llm_proxy.config.errors import ConfigError, Problem, nearest
from llm_proxy.config.routes import engine_problem
from llm_proxy.config.settings import DEFAULT, Backend, Origin, Settings
from llm_proxy.config.table import BACKEND_SETTINGS, SETTINGS, Setting, Value
from llm_proxy.config.tree import Node, read

HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


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


def load(sources: Sources) -> Settings:
    problems: list[Problem] = []
    values: dict[str, Value] = {setting.path: setting.default for setting in SETTINGS}
    origins: dict[str, Origin] = {setting.path: DEFAULT for setting in SETTINGS}
    sections: dict[str, SectionValues] = {}

    def put(path: str, value: Value, origin: Origin) -> None:
        values[path], origins[path] = value, origin

    if sources.config_file is not None:
        _from_tree(read(sources.config_file), str(sources.config_file), put, sections, problems)
    environment = {**sources.env_file, **sources.environment}
    _from_environment(environment, put, problems)
    for path, (flag, value) in sources.flags.items():
        put(path, value, Origin("cli", flag))

    _instance_files(values, origins, sections, problems)
    _keys_of_variables(values, origins, sections, environment, problems)
    _silence(values, origins)
    backends = make_backends(sections, environment, sources.plugin_backends, problems)
    choice = pick_default(
        backends,
        str(values["backends.default_backend"]),
        origins["backends.default_backend"],
        environment,
        sources.plugin_backends,
        sources.reach,
        problems,
    )
    if not str(values["backends.default_backend"]) and choice.backend:
        put("backends.default_backend", choice.backend, Origin("derived", choice.reason))
    _guard_address(values, origins, problems)
    _guard_prefix(values, origins, problems)
    _guard_trusted(values, origins, problems)
    _guard_hosts(values, origins, problems)
    _guard_admin_keys(values, origins, problems)
    _guard_proxies(values, origins, problems)
    _guard_access(values, origins, backends, problems)
    _guard_logins(sections, problems)
    _guard_routing(values, origins, problems)
    if problems:
        raise ConfigError(problems)
    settings = Settings(values, origins, choice.backends, choice.backend, choice.model)
    if (problem := engine_problem(settings)) is not None:
        raise ConfigError([problem])
    return settings


def _from_tree(
    root: Node,
    file: str,
    put: Callable[[str, Value, Origin], None],
    sections: dict[str, SectionValues],
    problems: list[Problem],
) -> None:
    places = {place: setting for setting in SETTINGS for place in (setting.path, *setting.also)}
    parts = [place.split(".") for place in places]
    whole_sections = {".".join(part[:depth]) for part in parts for depth in range(1, len(part))}

    def walk(node: Node, prefix: str) -> None:
        for name, child in node.children():
            path = f"{prefix}{name}"
            where = f"{file}:{child.line}"
            if path in places:
                _take(places[path], path, child, where, put, problems)
            elif path in whole_sections:
                if child.value is None:
                    continue
                if isinstance(child.value, dict):
                    walk(child, path + ".")
                else:
                    problems.append(Problem(where, path, "must hold settings, NAME: VALUE"))
            elif prefix == "backends.":
                sections[name] = _section(name, child, file, problems)
            else:
                known = {
                    place[len(prefix) :].split(".")[0]
                    for place in places
                    if place.startswith(prefix)
                }
                problems.append(Problem(where, path, "no such setting" + nearest(name, known)))

    walk(root, "")


INSTANCE_FILE = re.compile(r"^(?P<connector>[^.]+)\.(?P<name>.+)\.yaml$")


def _instance_files(
    values: dict[str, Value],
    origins: dict[str, Origin],
    sections: dict[str, SectionValues],
    problems: list[Problem],
) -> None:
    """One file an instance: openai.work.yaml is the section `backends: openai.work:`."""
    path = "backends.instances_dir"
    folder = Path(str(values[path]))
    if not folder.is_dir():
        if origins[path].source != "default":
            problems.append(Problem(origins[path].where, path, f"there is no folder '{folder}'"))
        return
    for file in sorted(folder.glob("*.yaml")):
        match = INSTANCE_FILE.match(file.name)
        name = file.name.removesuffix(".yaml")
        if match is None:
            message = "must be called BACKEND.NAME.yaml, such as openai.work.yaml"
            problems.append(Problem(str(file), f"backends.{name}", message))
        elif name in sections:
            where = sections[name].origin
            message = f"is configured twice: here and in {where.where}"
            problems.append(Problem(str(file), f"backends.{name}", message))
        else:
            sections[name] = _section(name, read(file), str(file), problems)
            wanted = sections[name].text("type") or match["connector"]
            if wanted != match["connector"]:
                message = f"the file's name says {match['connector']}, not {wanted}"
                problems.append(Problem(str(file), f"backends.{name}.type", message))


VARIABLE = re.compile(r"^\$(?:\{(\w+)\}|(\w+))$")


def _keys_of_variables(
    values: dict[str, Value],
    origins: dict[str, Origin],
    sections: Mapping[str, SectionValues],
    environment: Mapping[str, str],
    problems: list[Problem],
) -> None:
    """A key of the file may be a variable's: `api_key: ${MY_KEY}`."""

    def of(value: Value, origin: Origin, path: str) -> Value:
        if not isinstance(value, tuple) or origin.source != "config":
            return value
        out = []
        for text in value:
            variable = VARIABLE.match(text)
            name = (variable[1] or variable[2]) if variable else ""
            found = environment.get(name, "").strip() if name else text
            if name and not found:
                problems.append(Problem(origin.where, path, f"the environment has no {name}"))
            elif found:
                out.append(found)
        return tuple(out)

    for setting in SETTINGS:
        if setting.secret:
            path = setting.path
            values[path] = of(values[path], origins[path], path)
    for name, section in sections.items():
        if "api_key" in section.origins:
            origin = section.origins["api_key"]
            value = of(section.values["api_key"], origin, f"backends.{name}.api_key")
            section.put("api_key", value, origin)


def _section(name: str, node: Node, file: str, problems: list[Problem]) -> SectionValues:
    where = f"{file}:{node.line}"
    out = SectionValues(Origin("config", where))
    if node.value is None:
        return out
    if not isinstance(node.value, dict):
        problems.append(
            Problem(where, f"backends.{name}", "must hold settings, such as api_url: URL")
        )
        return out
    places = {
        place: setting for setting in BACKEND_SETTINGS for place in (setting.path, *setting.also)
    }
    for key, child in _with_extra(node, places):
        path, spot = f"backends.{name}.{key}", f"{file}:{child.line}"
        if key not in places:
            problems.append(Problem(spot, path, "no such setting" + nearest(key, places)))
            continue
        _take(places[key], path, child, spot, out.put, problems)
    return out


def _with_extra(node: Node, places: Mapping[str, Setting]) -> Iterable[tuple[str, Node]]:
    """The settings of a backend; those that the reference keeps under `extra` by themselves."""
    for key, child in node.children():
        if key != "extra" or not isinstance(child.value, dict):
            yield key, child
            continue
        own = [(f"extra.{inner}", part) for inner, part in child.children()]
        yield from ((path, part) for path, part in own if path in places)
        if not own or any(path not in places for path, _ in own):
            yield key, child


def _take(
    setting: Setting,
    path: str,
    node: Node,
    where: str,
    put: Callable[[str, Value, Origin], None],
    problems: list[Problem],
) -> None:
    plain = node.plain()
    if plain is None:
        return  # `key:` with nothing behind it says nothing
    try:
        put(setting.path, setting.from_tree(plain), Origin("config", where))
    except ValueError as error:
        problems.append(Problem(where, path, str(error)))


def _from_environment(
    environment: Mapping[str, str],
    put: Callable[[str, Value, Origin], None],
    problems: list[Problem],
) -> None:
    for setting in SETTINGS:
        names = (*setting.env, *setting.off_env)
        given = [name for name in names if environment.get(name, "").strip()]
        try:
            if given and given[0] in setting.off_env:
                put(
                    setting.path,
                    not setting.from_text(environment[given[0]]),
                    Origin("environment", given[0]),
                )
            elif setting.kind == "texts" and given:
                merged = [
                    part for name in given for part in _texts(setting.from_text(environment[name]))
                ]
                put(
                    setting.path,
                    tuple(dict.fromkeys(merged)),
                    Origin("environment", ", ".join(given)),
                )
            elif given:
                put(
                    setting.path,
                    setting.from_text(environment[given[0]]),
                    Origin("environment", given[0]),
                )
        except ValueError as error:
            problems.append(Problem(f"environment variable {given[0]}", setting.path, str(error)))


def _texts(value: Value) -> Iterable[str]:
    assert isinstance(value, tuple)
    return value


def _silence(values: dict[str, Value], origins: dict[str, Origin]) -> None:
    """proxy_timeout stands for both waits on a provider, unless they are given themselves."""
    if origins["proxy_timeout"].source == "default":
        return
    for path in ("timeouts.first_byte", "timeouts.stream_idle"):
        if origins[path].source == "default":
            values[path] = values["proxy_timeout"]
            origins[path] = Origin("derived", f"proxy_timeout: {origins['proxy_timeout']}")


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _guard_prefix(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    """What every word begins with would make a command of every word."""
    prefix = str(values["command_prefix"])
    printable = all("!" <= c <= "~" and not c.isalnum() and c not in '-_"\\()<>' for c in prefix)
    if not printable or not 2 <= len(prefix) <= 10 or (len(prefix) == 2 and len(set(prefix)) == 1):
        message = (
            f"'{prefix}' is not 2 to 10 signs such as !/ (no blanks, letters, quotes, brackets)"
        )
        problems.append(Problem(origins["command_prefix"].where, "command_prefix", message))


def _guard_trusted(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    for path in ("auth.trusted_ips", "auth.trusted_proxies"):
        addresses = values[path]
        assert isinstance(addresses, tuple)
        for address in addresses:
            try:
                ip_network(address, strict=False)
            except ValueError:
                message = f"'{address}' is not an address: write 10.0.0.7 or 10.0.0.0/8"
                problems.append(Problem(origins[path].where, path, message))


def _guard_hosts(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    names = values["allowed_hosts"]
    assert isinstance(names, tuple)
    for name in names:
        if name != "*" and not HOST_NAME.fullmatch(name):
            message = f"'{name}' is no name of a host: write proxy.example, without scheme and port"
            problems.append(Problem(origins["allowed_hosts"].where, "allowed_hosts", message))


def _guard_address(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    """Nobody serves strangers by accident: beyond this machine only with client keys."""
    host = str(values["host"])
    if is_loopback(host):
        return
    if values["auth.disable_auth"]:
        problems.append(
            Problem(
                origins["host"].where,
                "host",
                f"{host} is open to other machines, and auth.disable_auth lets in whoever comes; "
                "listen on 127.0.0.1, or leave auth.disable_auth off and set "
                "API_KEYS=KEY[,KEY...] (or auth.api_keys)",
            )
        )
    elif not values["auth.api_keys"]:
        problems.append(
            Problem(
                origins["host"].where,
                "host",
                f"{host} is open to other machines and no client key is set; "
                "set API_KEYS=KEY[,KEY...] (or auth.api_keys), or listen on 127.0.0.1",
            )
        )


def _guard_admin_keys(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    clients, admins = values["auth.api_keys"], values["auth.admin_keys"]
    assert isinstance(clients, tuple) and isinstance(admins, tuple)
    if set(clients) & set(admins):
        problems.append(
            Problem(
                origins["auth.admin_keys"].where,
                "auth.admin_keys",
                "holds a key of auth.api_keys; whoever uses the proxy could change it",
            )
        )


def _guard_proxies(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    """A proxy that cannot be used is found out now, not with the first request."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        path = f"network.{name}"
        url: dict[str, Any] = {name: str(values[path])}
        try:
            ProxyRules(**url)
        except ValueError as error:
            problems.append(Problem(origins[path].where, path, str(error)))


def _guard_logins(sections: Mapping[str, SectionValues], problems: list[Problem]) -> None:
    """A connector that is a personal login may be configured once."""
    connectors = {name: section.text("type") or name for name, section in sections.items()}
    for name, kept in second_logins(connectors):
        message = f"is a personal login, and '{kept}' is one already: keep one of the two"
        problems.append(Problem(sections[name].origin.where, f"backends.{name}", message))


def _guard_routing(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    """Some way to name a model must be left."""
    paths = [f"routing.disable_{form}" for form in ("backend_ids", "backend_names", "model_names")]
    if all(values[path] for path in paths):
        message = "all three are switched off: clients could name nothing; leave one of them"
        problems.append(Problem(origins[paths[-1]].where, paths[-1], message))


def _guard_access(
    values: dict[str, Value],
    origins: dict[str, Origin],
    backends: list[Backend],
    problems: list[Problem],
) -> None:
    """One user on this machine, or many with keys and nobody's own login."""
    mode, where = str(values["access_mode.mode"]), origins["access_mode.mode"].where
    local = is_loopback(str(values["host"]))
    if mode == "auto":
        mode = "single_user" if local else "multi_user"
    elif mode == "single_user" and not local:
        problems.append(
            Problem(
                origins["host"].where or where,
                "host",
                f"{values['host']} is open to other machines, which single_user mode is not; "
                "listen on 127.0.0.1 or choose multi_user",
            )
        )
    elif mode == "multi_user" and (values["auth.disable_auth"] or not values["auth.api_keys"]):
        problems.append(
            Problem(
                where,
                "access_mode.mode",
                "multi_user needs client keys: set API_KEYS=KEY[,KEY...] (or auth.api_keys), "
                "and leave auth.disable_auth off",
            )
        )
    if mode != "multi_user":
        return
    for backend in backends:
        if backend.type in PERSONAL_BACKENDS and backend.origin.source != "default":
            problems.append(
                Problem(
                    backend.origin.where,
                    f"backends.{backend.name}",
                    f"'{backend.type}' acts for whoever logged in on this machine and serves in "
                    "single_user mode only",
                )
            )
