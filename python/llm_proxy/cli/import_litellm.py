"""`llm-proxy import litellm FILE`: a LiteLLM configuration as one of this proxy.

Made from LiteLLM's public documentation of `config.yaml`: deployments become backends, model groups
become aliases and failover routes. What has no equal here is said, and never left out in silence.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_proxy.backends.catalog import CATALOG
from llm_proxy.config.errors import ConfigError, Problem
from llm_proxy.config.table import BY_PATH
from llm_proxy.config.tree import read

# Providers as LiteLLM calls them, where that is not the name of the catalog's row.
PROVIDERS = {
    "fireworks_ai": "fireworks",
    "together_ai": "together",
    "nvidia_nim": "nvidia",
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "llamafile": "llama.cpp",
    "openai_like": "openai-compatible",
    "custom_openai": "openai-compatible",
    "litellm_proxy": "openai-compatible",
    "moonshot": "openai-compatible",
    "minimax": "minimax",
    "zai": "zai",
}
# Models whose provider is known without a prefix, by how their names begin.
BARE = (("claude", "anthropic"), ("gemini", "gemini"))
# The variable in which LiteLLM looks for a key, where ours is another.
KEY_VARIABLES = {
    "azure": "AZURE_API_KEY",
    "together": "TOGETHERAI_API_KEY",
    "fireworks": "FIREWORKS_AI_API_KEY",
    "nvidia": "NVIDIA_NIM_API_KEY",
    "perplexity": "PERPLEXITYAI_API_KEY",
}
_OWN_PARAMETERS = ("model", "api_key", "api_base", "base_url", "custom_llm_provider")
_SHARES = ("weight", "rpm", "tpm")
_MOST_LEGS = 16


def import_litellm(file: Path, output: Path | None) -> int:
    """Prints or writes the configuration, and what has no equal. Raises ConfigError."""
    import yaml

    made = convert(read(file).plain(), str(file))
    head = f"# From {file.name} of LiteLLM. Check it: llm-proxy check-config --config FILE\n"
    lost = "".join(f"# no equal: {note}\n" for note in made.notes)
    text = head + lost + yaml.safe_dump(made.tree, sort_keys=False, allow_unicode=True, width=100)
    if output is None:
        print(text, end="")
    else:
        try:
            handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            message = f"{output} is there already: name a file that is not"
            raise ConfigError([Problem("--output", "", message)]) from None
        except OSError as error:
            problem = Problem("--output", "", f"cannot write {output}: {error.strerror}")
            raise ConfigError([problem]) from None
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
    for note in made.notes:
        print(f"no equal: {note}", file=sys.stderr)
    return 0


@dataclass
class Converted:
    """`tree` is the YAML of this proxy; `notes` say what was not taken over, and what to do."""

    tree: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Deployment:
    """One member of a model group: the instance that serves it, and the model's name there."""

    group: str
    instance: str
    model: str
    share: float

    @property
    def leg(self) -> str:
        return f"{self.instance}:{self.model}"


def convert(tree: Any, file: str = "config.yaml") -> Converted:
    """The configuration of LiteLLM, as YAML gives it. Raises ConfigError if it is none."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("model_list", []), list):
        message = "is no configuration of LiteLLM: model_list must be a list"
        raise ConfigError([Problem(file, "model_list", message)])
    return _Conversion(tree).run()


class _Conversion:
    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source
        self._out = Converted()
        self._backends: dict[str, dict[str, Any]] = {}
        self._by_target: dict[tuple[Any, ...], str] = {}

    def run(self) -> Converted:
        deployments = [
            made
            for index, row in enumerate(self._source.get("model_list") or [])
            if (made := self._deployment(index, row)) is not None
        ]
        router, module = self._section("router_settings"), self._section("litellm_settings")
        groups: dict[str, list[Deployment]] = {}
        for made in deployments:
            groups.setdefault(made.group, []).append(made)
        self._groups(groups, _fallbacks(router, module), _default_fallbacks(router, module))
        self._group_aliases(router, groups)
        self._reliability(router, module)
        self._general()
        self._variables()
        for name in self._source:
            known = ("model_list", "router_settings", "litellm_settings", "general_settings")
            if name not in (*known, "environment_variables"):
                self._lost(str(name))
        self._out.tree = {
            **({"backends": self._backends} if self._backends else {}),
            **self._out.tree,
        }
        return self._out

    def _lost(self, what: str, why: str = "") -> None:
        note = f"{what}: {why}" if why else what
        if note not in self._out.notes:
            self._out.notes.append(note)

    def _section(self, name: str) -> dict[str, Any]:
        section = self._source.get(name) or {}
        if not isinstance(section, Mapping):
            self._lost(name, "it is no mapping")
            return {}
        return dict(section)

    def _put(self, path: str, value: Any) -> None:
        *sections, name = path.split(".")
        target = self._out.tree
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value

    # ---- deployments become backends

    def _deployment(self, index: int, row: Any) -> Deployment | None:
        place = f"model_list[{index}]"
        if not isinstance(row, Mapping) or not isinstance(row.get("litellm_params"), Mapping):
            self._lost(place, "it has no litellm_params")
            return None
        params, group = dict(row["litellm_params"]), str(row.get("model_name") or "")
        place = f"{place} ({group})"
        named = str(params.get("model") or "")
        if not named or not group:
            self._lost(place, "it names no model")
            return None
        kind, model = _provider(named, params)
        if kind not in CATALOG:
            self._lost(place, f"no backend here speaks to '{kind}'; a backend plugin may")
            return None
        for name in params:
            if name not in (
                *_OWN_PARAMETERS,
                *_SHARES,
                "extra_headers",
                "stream_timeout",
                "timeout",
            ):
                why = "the proxy changes no parameters: let the client send it"
                self._lost(f"{place}.{name}", why if name != "api_version" else "not needed")
        instance = self._instance(kind, params)
        shares = [params[name] for name in _SHARES if isinstance(params.get(name), (int, float))]
        return Deployment(group, instance, model, float(shares[0]) if shares else 0.0)

    def _instance(self, kind: str, params: Mapping[str, Any]) -> str:
        """The name of the backend for one provider, address and key; made if it is new."""
        section: dict[str, Any] = {}
        url, key = params.get("api_base") or params.get("base_url"), params.get("api_key")
        if url:
            section["api_url"] = _variable(url)
        if key and _variable(key) != f"${{{CATALOG[kind].key_env}}}":  # read from there anyway
            section["api_key"] = _variable(key)
        elif not key and kind in KEY_VARIABLES:
            section["api_key"] = f"${{{KEY_VARIABLES[kind]}}}"
        headers = params.get("extra_headers")
        if isinstance(headers, Mapping):
            section["headers"] = {str(name): _variable(text) for name, text in headers.items()}
        timeout = params.get("timeout")
        if isinstance(timeout, (int, float)) and timeout > 0:
            section["timeout"] = timeout
        target = (kind, *(f"{name}={section[name]}" for name in sorted(section)))
        if target not in self._by_target:
            name, number = kind, 2
            while name in self._backends:
                name, number = f"{kind}-{number}", number + 1
            own = {"type": kind, **section} if name != kind else section
            self._by_target[target], self._backends[name] = name, own
        return self._by_target[target]

    # ---- groups become aliases and routes

    def _groups(
        self,
        groups: Mapping[str, list[Deployment]],
        fallbacks: Mapping[str, list[str]],
        default: list[str],
    ) -> None:
        aliases: dict[str, str] = {}
        routes: dict[str, Any] = {}
        for group, members in groups.items():
            behind = [
                member.leg for name in fallbacks.get(group, ()) for member in groups.get(name, ())
            ]
            for name in fallbacks.get(group, ()):
                if name not in groups:
                    self._lost(f"fallbacks.{group}", f"model_list has no '{name}'")
            if "*" in group:
                aliases |= self._wildcard(group, members[0])
            elif behind:
                routes[group] = {"elements": [*(member.leg for member in members), *behind]}
                if len(members) > 1:
                    why = "with fallbacks its deployments are asked in order, not in turn"
                    self._lost(f"model_list ({group})", why)
            else:
                aliases[group] = self._in_turn(group, members)
        if elements := [member.leg for name in default for member in groups.get(name, ())]:
            routes["default"] = {"elements": elements}
        if aliases:
            self._put("model_aliases", aliases)
        if routes:
            self._put("failover_routes", routes)

    def _in_turn(self, group: str, members: list[Deployment]) -> str:
        """One deployment, or several by chance, as their weights or rates say."""
        if len(members) > _MOST_LEGS:
            self._lost(
                f"model_list ({group})", f"only its first {_MOST_LEGS} deployments are asked"
            )
        legs = []
        least = min((member.share for member in members if member.share > 0), default=0.0)
        for member in members[:_MOST_LEGS]:
            weight = max(1, round(member.share / least)) if least and member.share else 1
            legs.append(f"[weight={weight}]{member.leg}" if weight > 1 else member.leg)
        return "^".join(legs)

    def _wildcard(self, group: str, member: Deployment) -> dict[str, str]:
        pattern = re.escape(group).replace(r"\*", "(.*)").replace(r"\/", "/").replace(r"\-", "-")
        target = member.leg.replace("*", r"\1", 1)
        return {f"^{pattern}$": target}

    def _group_aliases(
        self, router: Mapping[str, Any], groups: Mapping[str, list[Deployment]]
    ) -> None:
        given = router.get("model_group_alias")
        if not isinstance(given, Mapping):
            return
        aliases = self._out.tree.setdefault("model_aliases", {})
        for name, target in given.items():
            group = str(target.get("model", "")) if isinstance(target, Mapping) else str(target)
            if group not in groups:
                self._lost(
                    f"router_settings.model_group_alias.{name}", f"model_list has no '{group}'"
                )
                continue
            aliases[str(name)] = aliases.get(group, group)

    # ---- the rest

    def _reliability(self, router: dict[str, Any], module: dict[str, Any]) -> None:
        """What both sections may say counts from router_settings."""
        said = {**module, **router}
        numbers: dict[str, tuple[str, float]] = {  # the setting, and what is added
            "num_retries": ("failure_handling.max_attempts", 1),
            "request_timeout": ("proxy_timeout", 0),
            "timeout": ("proxy_timeout", 0),
            "allowed_fails": ("resilience.circuit_breaker.failure_threshold", 1),
            "cooldown_time": ("resilience.circuit_breaker.open_cooldown_seconds", 0),
        }
        for name, (path, more) in numbers.items():
            value = said.pop(name, None)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                self._lost(name, f"'{value}' is no number")
                continue
            self._put(path, self._bounded(name, path, value + more))
        for name in ("fallbacks", "default_fallbacks", "model_group_alias"):
            said.pop(name, None)
        if said.get("routing_strategy") in (None, "simple-shuffle"):
            said.pop("routing_strategy", None)
        for name in said:
            section = "router_settings" if name in router else "litellm_settings"
            self._lost(f"{section}.{name}", _ADVICE.get(name, ""))

    def _bounded(self, name: str, path: str, value: float) -> float:
        setting = BY_PATH[path]
        low, high = setting.at_least, setting.at_most
        kept = min(
            max(value, low if low is not None else value), high if high is not None else value
        )
        if kept != value:
            self._lost(
                f"{name}: {value:g}", f"{path} goes from {low:g} to {high:g}: it is {kept:g}"
            )
        return int(kept) if setting.kind == "whole" else kept

    def _general(self) -> None:
        for name, value in self._section("general_settings").items():
            if name == "master_key":
                self._put("auth.api_keys", [_variable(value)])
                why = "as a key of clients; keys of the admin API stand in auth.admin_keys"
                self._lost("general_settings.master_key", f"taken {why}")
            else:
                self._lost(f"general_settings.{name}", _ADVICE.get(name, ""))

    def _variables(self) -> None:
        names = self._section("environment_variables")
        if names:
            self._lost("environment_variables", f"put {', '.join(map(str, names))} into .env")


_ADVICE = {
    "database_url": "the proxy needs no database",
    "drop_params": "a translation always leaves out what the other format lacks, and logs it",
    "cache": "the ring plugin 'Cache Check' answers repeated requests",
    "context_window_fallbacks": "write [max_context=N]a|b as the model of an alias",
    "routing_strategy": "the deployments of a group are drawn by chance",
    "set_verbose": "use logging.level: DEBUG",
    "json_logs": "use logging.format: json",
    "port": "use port",
}


def _provider(named: str, params: Mapping[str, Any]) -> tuple[str, str]:
    """The catalog's row, or LiteLLM's own name of what is not there, and the model's name."""
    prefix, slash, rest = named.partition("/")
    given = params.get("custom_llm_provider")
    if given:
        prefix, rest = str(given), rest if slash and prefix == given else named
    elif not slash:
        prefix, rest = (
            next((kind for start, kind in BARE if named.startswith(start)), "openai"),
            named,
        )
    kind = PROVIDERS.get(prefix, prefix)
    if kind == "openai" and rest.startswith("responses/"):
        kind, rest = "openai-responses", rest.removeprefix("responses/")
    base = params.get("api_base") or params.get("base_url")
    if kind == "openai" and base and "api.openai.com" not in str(base):
        kind = "openai-compatible"
    return kind, rest


def _variable(value: Any) -> str:
    """`os.environ/NAME` as `${NAME}`."""
    text = str(value)
    return f"${{{text.removeprefix('os.environ/')}}}" if text.startswith("os.environ/") else text


def _fallbacks(*sections: Mapping[str, Any]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for section in sections:
        for row in _list(section.get("fallbacks")):
            if isinstance(row, Mapping):
                for group, names in row.items():
                    out.setdefault(str(group), [str(name) for name in _list(names)])
    return out


def _default_fallbacks(*sections: Mapping[str, Any]) -> list[str]:
    for section in sections:
        if section.get("default_fallbacks"):
            return [str(name) for name in _list(section["default_fallbacks"])]
    return []


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else []
