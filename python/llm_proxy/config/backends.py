"""Catalog rows, keys in the environment and sections of the file become backend instances."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from urllib.parse import urlsplit

from llm_proxy.backends.catalog import (
    AUTH_OF_FORMAT,
    CATALOG,
    FORMATS,
    INSTALL_OAUTH,
    NO_AUTH,
    OAUTH_PACKAGE_BACKENDS,
    Auth,
    Format,
    OtherFormat,
    Row,
)
from llm_proxy.backends.login_families import is_login_family
from llm_proxy.config.environment import Environment
from llm_proxy.config.errors import Problem, nearest
from llm_proxy.config.setting import Value
from llm_proxy.config.settings import Backend, Origin
from llm_proxy.config.table import BACKEND_BY_PATH, BACKEND_SETTINGS

LAST_NUMBERED_KEY = 99
NAME = re.compile(r"^\w[\w.-]*$", re.ASCII)
PLUGIN_ROWS = tuple(row for row in BACKEND_SETTINGS if row.plugin_only)


@dataclass
class SectionValues:
    """What stands under one `backends: NAME:` of the file."""

    origin: Origin
    values: dict[str, Value] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def put(self, path: str, value: Value, origin: Origin) -> None:
        self.values[path], self.origins[path] = value, origin

    def text(self, key: str) -> str:
        return str(self.values.get(key, ""))

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key, ())
        assert isinstance(value, tuple)
        return value

    def number(self, key: str) -> float | None:
        value = self.values.get(key)
        return float(value) if isinstance(value, (int, float)) else None

    def mapping(self, key: str) -> Mapping[str, object]:
        value = self.values.get(key, {})
        assert isinstance(value, Mapping)
        return value


def numbered_keys(row: Row, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """(variable, key) of KEY, KEY_1, KEY_2, ...; gaps are no end."""
    if not row.key_env:
        return []
    names = [row.key_env, *(f"{row.key_env}_{n}" for n in range(1, LAST_NUMBERED_KEY + 1))]
    found = [name for name in names if environment.get(name, "").strip()]
    if not found and environment.get(row.spare_key_env, "").strip():
        found = [row.spare_key_env]
    return [(name, environment[name].strip().removeprefix("Bearer ").strip()) for name in found]


def make_backends(
    sections: Mapping[str, SectionValues],
    environment: Environment,
    plugins: tuple[str, ...],
    problems: list[Problem],
) -> list[Backend]:
    """Every configured instance: catalog order first, then the file's own, then plugins."""
    out: dict[str, Backend] = {}
    empty = SectionValues(Origin("default"))
    for row in CATALOG.values():
        keys = numbered_keys(row, environment)
        url_variable = next((name for name in row.url_env if environment.get(name, "").strip()), "")
        if not keys and not url_variable and row.type not in sections:
            continue
        section = sections.get(row.type, empty)
        if row.type in sections:
            origin = section.origin
        else:
            origin = environment.origin(keys[0][0] if keys else url_variable)
        out[row.type] = _instance(row.type, row, section, environment, origin, problems)
        for variable, key in keys:
            number = variable.removeprefix(row.key_env).removeprefix("_")
            if number.isdigit():
                name = f"{row.type}.{number}"
                own = SectionValues(environment.origin(variable), dict(section.values))
                own.values["api_key"] = (key,)
                out[name] = _instance(name, row, own, environment, own.origin, problems)
    for name, section in sections.items():
        if name in CATALOG:
            continue
        wanted = section.text("type") or name.split(".")[0]
        origin = section.origins.get("type", section.origin)
        if not NAME.match(name):
            message = (
                "a name holds letters, digits, '-', '_' and '.' only: models are named after it"
            )
            problems.append(Problem(section.origin.where, f"backends.{name}", message))
        elif wanted in plugins:
            out[name] = _plugin(name, wanted, section)
        elif wanted in CATALOG:
            out[name] = _instance(name, CATALOG[wanted], section, environment, origin, problems)
        elif section.text("type"):
            message = unknown_backend(wanted, plugins)
            problems.append(Problem(origin.where, f"backends.{name}.type", message))
        else:
            message = without_type(name, wanted, section, plugins)
            problems.append(Problem(origin.where, f"backends.{name}", message))
    taken = {backend.type for backend in out.values()}
    for name in plugins:
        if not (is_login_family(name) and name in taken):
            out.setdefault(name, _plugin(name, name, empty))
    return list(out.values())


def unknown_backend(name: str, plugins: tuple[str, ...]) -> str:
    if name in OAUTH_PACKAGE_BACKENDS:
        return f"backend '{name}' comes with the optional package: {INSTALL_OAUTH}"
    return f"no backend is called '{name}'" + nearest(name, [*CATALOG, *plugins])


def without_type(name: str, wanted: str, section: SectionValues, plugins: tuple[str, ...]) -> str:
    """What to say of an instance that names no row: its name is a slip, or its type is missing."""
    known = [*CATALOG, *plugins]
    slip = get_close_matches(wanted, known, n=1, cutoff=0.75)
    if wanted in OAUTH_PACKAGE_BACKENDS or (slip and not section.text("api_url")):
        return unknown_backend(wanted, plugins)
    formats: dict[str, str] = {
        row.format: row.type for row in CATALOG.values() if row.type.endswith("-compatible")
    }
    meant = formats.get(section.text("format"), "openai-compatible")
    return (
        f"no backend is called '{wanted}': give it a type, which kind of server it is, such "
        f"as type: {meant}. Known: {', '.join(sorted(known))}"
    )


def _plugin(name: str, plugin: str, section: SectionValues) -> Backend:
    return Backend(
        name,
        plugin,
        "python",
        "openai-chat",
        section.text("api_url"),
        NO_AUTH,
        section.origin,
        keys=section.texts("api_key"),
        models=section.texts("models"),
        routing_cost=section.number("routing_cost"),
        routing_priority=section.number("routing_priority"),
        own={
            path: section.values[path]
            for path in ("timeout", *(row.path for row in PLUGIN_ROWS))
            if path in section.values
        },
    )


def _instance(
    name: str,
    row: Row,
    section: SectionValues,
    environment: Environment,
    origin: Origin,
    problems: list[Problem],
) -> Backend:
    """The row, overridden by the file, and that by the environment where it means this instance."""
    plain = name == row.type
    keys = section.texts("api_key")
    if plain and (from_environment := numbered_keys(row, environment)):
        keys = tuple(dict.fromkeys(key for _, key in from_environment))
    elif not keys and not plain:
        keys = tuple(dict.fromkeys(key for _, key in numbered_keys(row, environment)))
    url, url_origin = row.base_url, origin
    if section.text("api_url"):
        url, url_origin = section.text("api_url"), section.origins.get("api_url", origin)
    own_url = name in ("", row.type) or not section.text("api_url")
    variable = next((v for v in row.url_env if environment.get(v, "").strip()), "")
    if variable and own_url:
        url, url_origin = environment[variable].strip(), environment.origin(variable)
    base_url = _base_url(name, url, row, url_origin, problems) if row.kind == "http" else ""
    _check_instance(name, row, section, keys, origin, problems)
    return Backend(
        name,
        row.type,
        row.kind,
        section.text("format") or row.format,
        base_url,
        _auth(row, section),
        origin,
        keys=keys or ((row.no_key,) if row.no_key else ()),
        key_policy=section.text("key_policy") or "round-robin",
        headers=_headers(row, section),
        models=section.texts("models") or row.models,
        models_path=section.text("models_path") or row.models_path,
        cloud_models_url=_cloud_list(name, row, section, problems),
        quirks=section.texts("quirks") if "quirks" in section.values else row.quirks,
        vendors=section.texts("vendors") if "vendors" in section.values else row.vendors,
        model_names={
            **dict(row.model_names),
            **{old: str(new) for old, new in section.mapping("model_names").items()},
        },
        others=_other_formats(name, row, section, problems),
        timeout=_timeout(row, section, environment, problems),
        client_headers=bool(section.values.get("client_headers", row.client_headers)),
        loop_guard=bool(section.values.get("loop_guard", row.loop_guard)),
        routing_cost=section.number("routing_cost"),
        routing_priority=section.number("routing_priority"),
        example_model=row.default_model,
    )


def _cloud_list(name: str, row: Row, section: SectionValues, problems: list[Problem]) -> str:
    given = section.text("cloud_models_url")
    if not given:
        return row.cloud_models_url
    if given.lower() == "none":
        return ""
    key = f"backends.{name}.cloud_models_url"
    place = section.origins.get("cloud_models_url", section.origin).where
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path:
        problems.append(Problem(place, key, f"'{given}' is not a URL like https://host/api/tags"))
    return given


def _auth(row: Row, section: SectionValues) -> Auth:
    if "auth_header" in section.values or "auth_prefix" in section.values:
        header = section.text("auth_header").lower() or row.auth.header
        return Auth(header, section.text("auth_prefix"))
    if section.text("format") and section.text("format") != row.format and row.auth != NO_AUTH:
        return AUTH_OF_FORMAT[as_format(section.text("format"))]
    return row.auth


def as_format(name: str) -> Format:
    return next(known for known in FORMATS if known == name)


def _headers(row: Row, section: SectionValues) -> dict[str, str]:
    """The row's, with the file's own; a header that the file leaves empty is not sent."""
    out = {name.lower(): (name, value) for name, value in row.headers}
    for name, value in section.mapping("headers").items():
        out[name.lower()] = (name, str(value))
    return {name: value for name, value in out.values() if value}


def _other_formats(
    name: str, row: Row, section: SectionValues, problems: list[Problem]
) -> tuple[OtherFormat, ...]:
    """What the file says under `formats`, else the row's own."""
    if "formats" not in section.values:
        return (row.other,) if row.other else ()
    out = []
    for spoken, models in section.mapping("formats").items():
        if spoken not in FORMATS or not isinstance(models, list) or not models:
            where = section.origins["formats"].where
            problems.append(
                Problem(
                    where,
                    f"backends.{name}.formats",
                    f"must be {{FORMAT: [MODEL, ...]}}, FORMAT one of {', '.join(FORMATS)}",
                )
            )
            continue
        own = row.other.quirks if row.other and row.other.format == spoken else ()
        out.append(OtherFormat(as_format(spoken), tuple(map(str, models)), own))
    return tuple(out)


def _timeout(
    row: Row, section: SectionValues, environment: Environment, problems: list[Problem]
) -> float:
    text = environment.get(row.timeout_env, "").strip() if row.timeout_env else ""
    if not text:
        value = section.values.get("timeout", 0.0)
        return float(value) if isinstance(value, (int, float)) else 0.0
    try:
        value = BACKEND_BY_PATH["timeout"].from_text(text)
        assert isinstance(value, float)
        return value
    except ValueError as error:
        place = environment.place(row.timeout_env)
        problem = Problem(place, f"backends.{row.type}.timeout", str(error))
        if problem not in problems:
            problems.append(problem)
        return 0.0


def _check_instance(
    name: str,
    row: Row,
    section: SectionValues,
    keys: tuple[str, ...],
    origin: Origin,
    problems: list[Problem],
) -> None:
    for header, value in _headers(row, section).items():
        if (
            not header.isascii()
            or any(c in "\r\n\0 :" for c in header)
            or any(c in "\r\n\0" for c in value)
        ):
            problems.append(
                Problem(origin.where, f"backends.{name}.headers", f"{header!r} is no valid header")
            )
            continue
        where = section.origins.get("headers", origin).where
        if header.lower() in _FRAMING:
            message = f"{header} is the connection's own: leave it out"
            problems.append(Problem(where, f"backends.{name}.headers", message))
        elif header.lower() in _CREDENTIALS:
            problems.append(
                Problem(
                    where,
                    f"backends.{name}.headers",
                    f"{header} carries a key: use api_key, auth_header and auth_prefix, "
                    "so that it is kept out of every log",
                )
            )
    for plugin_row in PLUGIN_ROWS:
        if section.values.get(plugin_row.path):
            problems.append(
                Problem(
                    section.origins[plugin_row.path].where,
                    f"backends.{name}.{plugin_row.path}",
                    f"means something to plugin backends only, and '{row.type}' is none",
                )
            )
    for key in keys:
        if not key.isascii() or not key.isprintable() or " " in key:
            problems.append(
                Problem(
                    origin.where,
                    f"backends.{name}.api_key",
                    "holds a blank or a character no key has",
                )
            )


_FRAMING = ("host", "content-length", "transfer-encoding", "connection", "expect", "te", "upgrade")
_CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key", "api-key", "proxy-authorization")


def _base_url(name: str, url: str, row: Row, origin: Origin, problems: list[Problem]) -> str:
    key = f"backends.{name}.api_url"
    if not url:
        hint = f" or {row.url_env[0]}" if row.url_env else ""
        problems.append(
            Problem(origin.where, key, f"'{row.type}' has no address of its own: set api_url{hint}")
        )
        return ""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or any(c.isspace() for c in url) or parts.query or parts.fragment:
        shown = url.partition("?")[0].rpartition("@")[2]  # the rest may be a key
        problems.append(
            Problem(origin.where, key, f"'{shown}' is not a URL like https://host[:port]/v1")
        )
        return ""
    if parts.username or parts.password:
        problems.append(Problem(origin.where, key, "must not hold a password; use api_key"))
        return ""
    return url.rstrip("/") + (row.version_path if parts.path in ("", "/") else "")


@dataclass
class Choice:
    """Who answers when a model names nobody."""

    backends: tuple[Backend, ...]
    backend: str
    model: str = ""
    reason: str = ""


def pick_default(
    backends: list[Backend],
    wanted: str,
    origin: Origin,
    environment: Environment,
    plugins: tuple[str, ...],
    reach: Callable[[str], bool],
    problems: list[Problem],
) -> Choice:
    """The one named; else the first configured; else a local Ollama; else the built-in answerer."""
    ready = [b for b in backends if b.keys or b.kind != "http" or CATALOG[b.type].keyless]
    if wanted:
        name, _, model = wanted.partition(":")
        return _named(backends, name, model, origin, environment, plugins, problems)
    real = [b for b in backends if b.kind == "http"]
    first = next((b for b in ready if b.kind == "http"), real[0] if real else None)
    if first is not None:
        return Choice(tuple(backends), first.name, reason=f"first configured: {first.origin}")
    for row, why in (
        (CATALOG["ollama"], "an Ollama answers on this machine"),
        (CATALOG["echo"], "no provider is configured"),
    ):
        if row.kind == "echo" or reach(row.base_url):
            found = next((b for b in backends if b.name == row.type), None) or _instance(
                row.type,
                row,
                SectionValues(Origin("derived", why)),
                environment,
                Origin("derived", why),
                problems,
            )
            others = [b for b in backends if b.name != row.type]
            return Choice((found, *others), found.name, reason=why)
    raise AssertionError("echo is always there")


def _named(
    backends: list[Backend],
    name: str,
    model: str,
    origin: Origin,
    environment: Environment,
    plugins: tuple[str, ...],
    problems: list[Problem],
) -> Choice:
    where = origin.where
    found = next((b for b in backends if b.name == name), None)
    if found is None and name in CATALOG:
        row = CATALOG[name]
        if not row.keyless:
            problems.append(
                Problem(
                    where,
                    "backends.default_backend",
                    f"'{name}' needs a key: set {row.key_env} in the environment or in .env",
                )
            )
            return Choice((), "")
        found = _instance(name, row, SectionValues(origin), environment, origin, problems)
        backends = [found, *backends]
    if found is None:
        known = [b.name for b in backends]
        message = unknown_backend(name, (*plugins, *known))
        problems.append(Problem(where, "backends.default_backend", message))
        return Choice((), "")
    return Choice(tuple(backends), name, model)
