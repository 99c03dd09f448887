"""Every setting, one row each: the command line, the environment, the YAML file, its schema and `--explain` come from here.

Precedence: command line, environment, YAML, default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llm_proxy.backends.catalog import FORMATS, QUIRKS

Kind = Literal[
    "text", "whole", "number", "seconds", "switch", "texts", "names", "aliases", "routes", "mapping"
]
Value = str | int | float | bool | tuple[str, ...] | Mapping[str, object]

PREFERENCES = ("default_first", "round_robin", "cost", "priority")
KEY_POLICIES = ("round-robin", "fill-first", "least-recently-limited")
TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")


@dataclass(frozen=True)
class Setting:
    path: str  # where it stands in YAML: "auth.api_keys"
    kind: Kind
    default: Value
    help: str
    flags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    secret: bool = False
    flag_value: bool = True  # of a switch: what giving the flag means
    off_env: tuple[str, ...] = ()  # of a switch: variables that mean the contrary
    words: tuple[tuple[str, str], ...] = ()  # flags that stand for a value each
    also: tuple[str, ...] = ()  # other places in YAML that mean the same
    plugin_only: bool = False  # of a backend: nothing to a catalog row

    def from_text(self, text: str) -> Value:
        """The value of an environment variable or a flag. Raises ValueError saying what would be valid."""
        text = text.strip()
        if self.kind == "switch":
            word = text.lower()
            if word not in TRUE_WORDS + FALSE_WORDS:
                raise ValueError(
                    f"'{text}' is not a switch; use one of {', '.join(TRUE_WORDS + FALSE_WORDS)}"
                )
            return word in TRUE_WORDS
        if self.kind == "texts":
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if self.kind in ("names", "aliases", "routes", "mapping"):
            try:
                return self.from_tree(json.loads(text))
            except json.JSONDecodeError:
                raise ValueError(f"must be JSON, {self._expected()}") from None
        if self.kind in ("whole", "seconds", "number"):
            try:
                return self.from_tree(int(text) if self.kind == "whole" else float(text))
            except ValueError as error:
                if "invalid literal" in str(error) or "could not convert" in str(error):
                    raise ValueError(f"'{text}' is not {self._expected()}") from None
                raise
        return self.from_tree(text)

    def from_tree(self, value: object) -> Value:
        """The value as YAML or JSON gives it. Raises ValueError saying what would be valid."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if self.kind == "text" and (isinstance(value, str) or number):
            text = str(value)
            folded = {choice.lower(): choice for choice in self.choices}
            if self.choices and text.lower() not in folded:
                raise ValueError(f"'{text}' is not one of {', '.join(self.choices)}")
            return folded.get(text.lower(), text)
        if self.kind == "whole" and isinstance(value, int) and number:
            return int(self._in_range(value))
        if self.kind in ("seconds", "number") and isinstance(value, (int, float)) and number:
            return self._in_range(float(value))
        if self.kind == "switch" and isinstance(value, bool):
            return value
        if self.kind == "texts":
            if isinstance(value, str):
                return self.from_text(value)
            if isinstance(value, (list, tuple)) and all(
                isinstance(part, (str, int)) and not isinstance(part, bool) for part in value
            ):
                texts = tuple(str(part) for part in value)
                for text in texts:
                    if self.choices and text not in self.choices:
                        raise ValueError(f"'{text}' is not one of {', '.join(self.choices)}")
                return texts
        if self.kind == "aliases" and isinstance(value, (list, dict)):
            return _aliases(value)
        if self.kind == "routes" and isinstance(value, dict):
            return _routes(value)
        if (
            self.kind == "names"
            and isinstance(value, dict)
            and all(isinstance(part, (str, int, float)) for part in value.values())
        ):
            for part in value.values():
                if self.choices and part not in self.choices:
                    raise ValueError(f"'{part}' is not one of {', '.join(self.choices)}")
            return {str(name): str(part) for name, part in value.items()}
        if self.kind == "mapping" and isinstance(value, dict):
            return value
        shown = "nothing" if value is None else f"'{value}'" if not self.secret else "what is there"
        raise ValueError(f"{shown} is not {self._expected()}")

    def _in_range(self, number: float) -> float:
        low, high = self.at_least, self.at_most
        if (
            (low is not None and number < low)
            or (high is not None and number > high)
            or number != number
        ):
            raise ValueError(f"{number} is not {self._expected()}")
        return number

    def _expected(self) -> str:
        bounds = ""
        if self.at_least is not None and self.at_most is not None:
            bounds = f" from {self.at_least:g} to {self.at_most:.15g}"
        elif self.at_least is not None:
            bounds = f" of at least {self.at_least:g}"
        return {
            "text": f"one of {', '.join(self.choices)}" if self.choices else "a text",
            "whole": f"a whole number{bounds}",
            "number": f"a number{bounds}",
            "seconds": f"a number of seconds{bounds}",
            "switch": "true or false",
            "texts": "a list of texts",
            "names": "a mapping of names to texts",
            "aliases": "a mapping of model names, or a list of {pattern, replacement}",
            "routes": "a mapping of model names to {elements: [MODEL, ...]}",
            "mapping": "a mapping",
        }[self.kind]


def _aliases(value: list[object] | dict[object, object]) -> Mapping[str, object]:
    pairs: list[tuple[object, object]] = []
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        for item in value:
            if not isinstance(item, dict) or set(item) != {"pattern", "replacement"}:
                raise ValueError("each alias of a list needs exactly 'pattern' and 'replacement'")
            pairs.append((item["pattern"], item["replacement"]))
    out: dict[str, object] = {}
    for name, target in pairs:
        if not isinstance(name, str) or not isinstance(target, str) or not name or not target:
            raise ValueError("an alias maps one model name to another")
        try:
            re.compile(name)
        except re.error as error:
            raise ValueError(f"'{name}' is no regular expression: {error}") from None
        plain = name.removeprefix("^").removesuffix("$")
        pattern = any(character in plain for character in r"*+?()[]{}|^$\\")
        out[name if pattern else plain] = target
    return out


def _routes(value: dict[object, object]) -> Mapping[str, object]:
    """{model: {elements, first_token}}. `policy` is taken and means nothing: the order counts."""
    out: dict[str, object] = {}
    for model, route in value.items():
        name = f"the route of '{model}'"
        if not isinstance(route, dict):
            raise ValueError(f"{name} must be {{elements: [MODEL, ...]}}")
        unknown = set(map(str, route)) - {"elements", "first_token", "policy"}
        if unknown:
            raise ValueError(f"{name} knows elements and first_token, not '{min(unknown)}'")
        elements = route.get("elements")
        if not isinstance(elements, list) or not elements:
            raise ValueError(f"{name} needs elements, a list of models in the order to try")
        if not all(isinstance(element, str) and element.strip() for element in elements):
            raise ValueError(f"{name}: each element must be a model, such as openai:gpt-4.1")
        first_token = route.get("first_token", 0)
        if isinstance(first_token, bool) or not isinstance(first_token, (int, float)):
            raise ValueError(f"{name}: first_token must be a number of seconds")
        if not 0 <= first_token <= 86400:
            raise ValueError(f"{name}: first_token must be from 0 to 86400")
        out[str(model)] = {
            "elements": [element.strip() for element in elements],
            "first_token": first_token,
        }
    return out


def _timeout(
    name: str,
    default: float,
    text: str,
    flags: tuple[str, ...] = (),
    env: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
) -> Setting:
    return Setting(
        f"timeouts.{name}",
        "seconds",
        default,
        text,
        flags=(f"--timeout-{name.replace('_', '-')}", *flags),
        env=(f"LLM_PROXY_TIMEOUT_{name.upper()}", *env),
        also=also,
        at_least=0,
        at_most=86400,
    )


# fmt: off
SETTINGS: tuple[Setting, ...] = (
    Setting("host", "text", "127.0.0.1", "address to listen on", ("--host",), ("APP_HOST",)),
    Setting("port", "whole", 8000, "port to listen on; 0 takes any free one", ("--port",), ("APP_PORT",),
            at_least=0, at_most=65535),
    Setting("anthropic_port", "whole", -1, "second port, with Anthropic's API alone at its root; 0 takes any free one, "
            "-1: none", ("--anthropic-port",), ("ANTHROPIC_PORT",), at_least=-1, at_most=65535),
    Setting("io_threads", "whole", 0, "threads that move bytes; 0: one per core", ("--io-threads",),
            ("LLM_PROXY_IO_THREADS",), at_least=0, at_most=1024),
    Setting("auth.api_keys", "texts", (), "keys clients must present; none: no key is asked for", (),
            ("API_KEYS", "LLM_INTERACTIVE_PROXY_API_KEY"), secret=True),
    Setting("auth.admin_keys", "texts", (), "keys of the admin API (/api/v1/…), none of them a client's; none: only a "
            "proxy without client keys can be changed, from this machine", (), ("LLM_PROXY_ADMIN_KEYS", "ADMIN_API_KEYS"),
            secret=True),
    Setting("auth.disable_auth", "switch", False, "ask no key of anybody; host must be an address of this machine alone",
            ("--disable-auth",), ("DISABLE_AUTH",)),
    Setting("auth.trusted_ips", "texts", (), "addresses and networks that need no key, such as 10.0.0.7 or 10.0.0.0/8; "
            "repeatable", ("--trusted-ip",), ("TRUSTED_IPS",)),
    Setting("auth.trusted_proxies", "texts", (), "addresses and networks of reverse proxies whose X-Forwarded-For, "
            "Forwarded or X-Real-IP names the client; repeatable", ("--trusted-proxy",), ("TRUSTED_PROXIES",)),
    Setting("allowed_hosts", "texts", (), "host names by which clients without a key may call this proxy, beside "
            "addresses, localhost and this machine's name; * for any; repeatable", ("--allowed-host",), ("ALLOWED_HOSTS",)),
    Setting("auth.brute_force_protection.enabled", "switch", True, "make an address wait that has sent several wrong keys; "
            "different ones count, not the repetition of one", ("--enable-brute-force-protection",), ("BRUTE_FORCE_PROTECTION_ENABLED",),
            words=(("--disable-brute-force-protection", "false"),)),
    Setting("auth.brute_force_protection.max_failed_attempts", "whole", 5, "wrong keys an address has before it waits",
            ("--auth-max-failed-attempts",), ("BRUTE_FORCE_MAX_FAILED_ATTEMPTS",), at_least=1, at_most=1000),
    Setting("auth.brute_force_protection.ttl_seconds", "seconds", 900.0, "after which its wrong keys are forgotten",
            ("--auth-brute-force-ttl",), ("BRUTE_FORCE_TTL_SECONDS",), at_least=1, at_most=1_000_000),
    Setting("auth.brute_force_protection.initial_block_seconds", "seconds", 30.0, "its first wait",
            ("--auth-brute-force-initial-block",), ("BRUTE_FORCE_INITIAL_BLOCK_SECONDS",), at_least=1, at_most=1_000_000),
    Setting("auth.brute_force_protection.block_multiplier", "number", 2.0, "how many times longer each next wait is",
            ("--auth-brute-force-multiplier",), ("BRUTE_FORCE_BLOCK_MULTIPLIER",), at_least=1, at_most=100),
    Setting("auth.brute_force_protection.max_block_seconds", "seconds", 3600.0, "its longest wait",
            ("--auth-brute-force-max-block",), ("BRUTE_FORCE_MAX_BLOCK_SECONDS",), at_least=1, at_most=1_000_000),
    Setting("cors.allow_origins", "texts", (), "web pages that may ask, by origin: https://app.example, or * for every "
            "page; none: only pages of this machine", (), ("CORS_ALLOW_ORIGINS",)),
    Setting("backends.default_backend", "text", "", "who answers when the model names nobody: NAME or NAME:MODEL",
            ("--default-backend", "--backend"), ("LLM_BACKEND",), also=("default_backend",)),
    Setting("model_aliases", "aliases", {}, "model names that stand for others: NAME=MODEL, repeatable; "
            "NAME may be a regular expression, and MODEL use its groups as \\1",
            ("--model-alias",), ("MODEL_ALIASES",)),
    Setting("backends.static_route", "text", "", "who answers whenever a request names no backend: BACKEND:MODEL",
            ("--static-route",), ("STATIC_ROUTE",), also=("static_route",)),
    Setting("backends.instances_dir", "text", "config/backends/backend-instances",
            "folder with a file an instance: openai.work.yaml holds what stands under backends: openai.work:",
            ("--backend-instances-dir",), ("BACKEND_INSTANCES_DIR",)),
    Setting("failover_routes", "routes", {}, "who is asked for a model, in order: MODEL: {elements: [BACKEND:MODEL, ...], "
            "first_token: SECONDS}; 'default' is appended to every other model's own", (), ("FAILOVER_ROUTES",)),
    Setting("routing.disable_backend_ids", "switch", False, "refuse requests that name an instance, openai.2:MODEL: 403 "
            "policy_rejected", ("--disable-routing-with-backend-ids",), ("DISABLE_ROUTING_WITH_BACKEND_IDS",)),
    Setting("routing.disable_backend_names", "switch", False, "the same for those that name a backend, openai:MODEL",
            ("--disable-routing-with-backend-names",), ("DISABLE_ROUTING_WITH_BACKEND_NAMES",)),
    Setting("routing.disable_model_names", "switch", False, "the same for those that name a model alone",
            ("--disable-routing-with-only-model-names",), ("DISABLE_ROUTING_WITH_ONLY_MODEL_NAMES",)),
    Setting("routing.model_only_preference_policy", "text", "default_first", "who is asked first for a model that several "
            "backends have: default_first, each in turn, the lowest routing_cost or the highest routing_priority",
            ("--model-only-preference-policy",), ("MODEL_ONLY_PREFERENCE_POLICY",), choices=PREFERENCES),
    Setting("routing.model_only_model_overrides", "names", {}, "the same for single models: MODEL: POLICY",
            choices=PREFERENCES),
    Setting("routing.model_only_backend_family_overrides", "names", {}, "the same where all who have the model are "
            "instances of one backend: BACKEND: POLICY", choices=PREFERENCES),
    Setting("routing.model_only_missing_cost", "number", 1e6, "routing_cost of who names none"),
    Setting("routing.model_only_missing_priority", "number", 0.0, "routing_priority of who names none"),
    Setting("failure_handling.enabled", "switch", True, "try again and elsewhere before a client hears of a failure; "
            "the flag switches it off: one attempt then, and what it said, as it came where the client speaks "
            "the same format", ("--disable-failure-handling",), ("LLM_PROXY_FAILURE_HANDLING",),
            flag_value=False, off_env=("DISABLE_FAILURE_HANDLING",)),
    Setting("failure_handling.max_attempts", "whole", 3, "attempts on one provider for one request",
            ("--max-attempts",), ("LLM_PROXY_MAX_ATTEMPTS",), at_least=1, at_most=10),
    Setting("failure_handling.max_failover_hops", "whole", 5, "providers asked after the first", ("--max-failover-hops",),
            ("FAILURE_HANDLING_MAX_FAILOVER_HOPS", "MAX_FAILOVER_HOPS"), at_least=0, at_most=10),
    Setting("failure_handling.max_silent_wait", "seconds", 5.0, "longest wait for a limited key when nobody else is free",
            ("--max-silent-wait",), ("FAILURE_HANDLING_MAX_SILENT_WAIT", "MAX_SILENT_WAIT"), at_least=0, at_most=600),
    Setting("failure_handling.total_timeout_budget", "seconds", 90.0, "after it no further attempt begins",
            ("--total-timeout-budget",), ("FAILURE_HANDLING_TOTAL_TIMEOUT_BUDGET", "TOTAL_TIMEOUT_BUDGET"), at_least=0, at_most=86400),
    Setting("failure_handling.min_retry_wait", "seconds", 0.3, "before a provider is asked a second time; then twice as "
            "long each time, with jitter", ("--min-retry-wait",), ("FAILURE_HANDLING_MIN_RETRY_WAIT",),
            at_least=0.05, at_most=30),
    Setting("resilience.circuit_breaker.enabled", "switch", True, "leave a provider alone for a while that has failed again "
            "and again", (), ("LLM_PROXY_CIRCUIT_BREAKER",)),
    Setting("resilience.circuit_breaker.failure_threshold", "whole", 5, "failures in a row that open it", (),
            ("LLM_PROXY_CIRCUIT_BREAKER_THRESHOLD",), at_least=1, at_most=10_000),
    Setting("resilience.circuit_breaker.open_cooldown_seconds", "seconds", 5.0, "until one request finds out whether it works "
            "again; twice as long after each that fails, up to 20", (), ("LLM_PROXY_CIRCUIT_BREAKER_COOLDOWN",),
            at_least=0.1, at_most=30),
    Setting("failure_handling.reply_headers", "switch", True, "tell clients in x-proxy-… headers who answered after how "
            "many attempts; the flag switches it off", ("--no-reply-headers",), ("LLM_PROXY_REPLY_HEADERS",),
            flag_value=False),
    Setting("command_prefix", "text", "!/", "what in-chat commands begin with: 2 to 10 printable characters",
            ("--command-prefix",), ("COMMAND_PREFIX",)),
    Setting("session.disable_interactive_commands", "switch", False, "run no in-chat commands; they are taken out of what is "
            "sent all the same", ("--disable-interactive-commands",), ("DISABLE_INTERACTIVE_COMMANDS",)),
    Setting("session.ttl", "seconds", 3600.0, "what a session's commands have set is forgotten after so long without a request",
            ("--session-ttl",), ("SESSION_TTL",), at_least=1, at_most=30 * 86400),
    Setting("plugins.directory", "text", "", "folder with manifest.yaml of the ring plugins; empty: none",
            ("--plugins-dir",), ("LLM_PROXY_PLUGINS_DIR",)),
    Setting("plugins.enabled", "texts", (), "built-in ring plugins to run, by name; stock: the usual set, all: every one",
            ("--plugins",), ("LLM_PROXY_PLUGINS",)),
    Setting("plugins.state_file", "text", "", "SQLite file of what ring plugins remember; empty: until the process ends",
            ("--plugins-state",), ("LLM_PROXY_PLUGINS_STATE",)),
    Setting("plugins.config", "mapping", {}, "what ring plugins share: pricing, blocked_domains, routing_cost_weight, priority_mode"),
    Setting("plugins.tenants", "mapping", {}, "roles and tier by client key or its hash: KEY: {roles: [admin], tier: premium}", secret=True),
    Setting("plugins.unreadable", "text", "refuse", "requests and replies that ring plugins cannot read (token ids, streams of legacy "
            "completions): refuse them while a fail-closed plugin is on, or pass them", ("--plugins-unreadable",),
            ("LLM_PROXY_PLUGINS_UNREADABLE",), choices=("refuse", "pass")),
    Setting("plugins.guarded_body_bytes", "whole", 32 << 20, "largest request body while a fail-closed ring plugin is on",
            ("--plugins-guarded-body-bytes",), ("LLM_PROXY_PLUGINS_GUARDED_BODY_BYTES",), at_least=1024, at_most=1 << 32),
    Setting("limits.head_bytes", "whole", 32 << 10, "largest request head", ("--max-head-bytes",),
            ("LLM_PROXY_MAX_HEAD_BYTES",), at_least=1024, at_most=1 << 20),
    Setting("limits.body_bytes", "whole", 64 << 20, "largest request body", ("--max-body-bytes",),
            ("LLM_PROXY_MAX_BODY_BYTES",), at_least=1024, at_most=1 << 32),
    Setting("limits.client_min_rate", "whole", 500, "bytes a second that a client must send of its body, and take of its answer, "
            "in each timeouts.client_body and timeouts.client_write; 0: any", ("--client-min-rate",),
            ("LLM_PROXY_CLIENT_MIN_RATE",), at_least=0, at_most=1 << 30),
    Setting("limits.memory_bytes", "whole", 0, "memory that all requests under way may hold together, with their replies; one "
            "client has half of it at most. 0: a quarter of what the machine or the cgroup has", ("--max-memory-bytes",),
            ("LLM_PROXY_MAX_MEMORY_BYTES",), at_least=0, at_most=1 << 50),
    Setting("network.http_proxy", "text", "", "proxy for providers at http:// URLs: http://, socks5:// or socks5h://, "
            "USER:PASSWORD@ before its host if it asks for them", (), ("http_proxy", "HTTP_PROXY"), secret=True),
    Setting("network.https_proxy", "text", "", "the same for providers at https:// URLs", (), ("https_proxy", "HTTPS_PROXY"),
            secret=True),
    Setting("network.all_proxy", "text", "", "the same for those that the two above say nothing of", (),
            ("all_proxy", "ALL_PROXY"), secret=True),
    Setting("network.no_proxy", "texts", (), "providers that are reached directly: names with all below them (example.com), "
            "addresses, networks (10.0.0.0/8), each with :PORT if only that one is meant, or * for all", (),
            ("no_proxy", "NO_PROXY")),
    Setting("network.proxy_loopback", "switch", False, "reach providers on this machine through the proxy as well", (),
            ("LLM_PROXY_PROXY_LOOPBACK",)),
    Setting("proxy_timeout", "seconds", 300.0, "how long a silent provider is waited for: sets timeouts.first_byte "
            "and timeouts.stream_idle where those are not given", ("--timeout",), ("PROXY_TIMEOUT",),
            at_least=0.001, at_most=86400),
    _timeout("client_head", 30.0, "a client's request head, from its first byte"),
    _timeout("client_body", 60.0, "silence while a client sends its body; a body slower than limits.client_min_rate for that long"),
    _timeout("client_idle", 120.0, "a kept connection without a request"),
    _timeout("client_write", 60.0, "a client that does not read its answer, or slower than limits.client_min_rate"),
    _timeout("connect", 5.0, "connecting to a provider"),
    _timeout("first_byte", 300.0, "a provider's first byte"),
    _timeout("stream_idle", 300.0, "silence inside a provider's answer"),
    _timeout("first_token", 0.0, "a stream's first output, after which the next provider is asked; 0: any time"),
    _timeout("drain", 30.0, "requests under way when the proxy is told to stop"),
    _timeout("keep_alive", 10.0, "silence after which a streaming client gets a sign of life",
             ("--keepalive-interval",), ("FAILURE_HANDLING_KEEPALIVE_INTERVAL",), ("failure_handling.keepalive_interval",)),
    _timeout("upstream_idle", 60.0, "a kept connection to a provider that nobody uses"),
    Setting("models.discovery", "switch", True, "ask providers what models they have, when a client lists them; the flag "
            "switches it off", ("--no-model-discovery",), ("LLM_PROXY_MODEL_DISCOVERY",), flag_value=False),
    Setting("models.cache_seconds", "seconds", 300.0, "how long a provider's list of models is believed",
            ("--models-cache-seconds",), ("LLM_PROXY_MODELS_CACHE_SECONDS",), at_least=1, at_most=86400),
    Setting("responses.store_entries", "whole", 10_000, "responses kept for clients of /v1/responses whose provider keeps "
            "none; 0: none", ("--responses-store-entries",), ("LLM_PROXY_RESPONSES_STORE_ENTRIES",), at_least=0,
            at_most=10_000_000),
    Setting("responses.store_bytes", "whole", 64 << 20, "memory for them", ("--responses-store-bytes",),
            ("LLM_PROXY_RESPONSES_STORE_BYTES",), at_least=0, at_most=1 << 40),
    Setting("responses.store_seconds", "seconds", 3600.0, "how long each is kept", ("--responses-store-seconds",),
            ("LLM_PROXY_RESPONSES_STORE_SECONDS",), at_least=1, at_most=30 * 86400),
    Setting("counting.exact", "switch", False, "ask providers that can to count tokens, instead of estimating here",
            ("--exact-token-counts",), ("LLM_PROXY_EXACT_TOKEN_COUNTS",)),
    Setting("access_mode.mode", "text", "auto", "single_user: listens on this machine only; multi_user: client keys are "
            "required and nobody's personal login serves others; auto: multi_user beyond this machine", ("--access-mode",),
            ("LLM_PROXY_ACCESS_MODE",), choices=("auto", "single_user", "multi_user"),
            words=(("--single-user-mode", "single_user"), ("--multi-user-mode", "multi_user"))),
    Setting("logging.format", "text", "text", "text: readable lines; json: one object a line", ("--log-format",),
            ("LOG_FORMAT",), choices=("text", "json")),
    Setting("logging.level", "text", "INFO", "least severe message that is logged", ("--log-level",), ("LOG_LEVEL",),
            choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    Setting("logging.log_file", "text", "", "file for the log; empty: standard error", ("--log",), ("LOG_FILE",)),
    Setting("logging.access_log", "switch", True, "one line a request; the flag switches it off",
            ("--no-access-log",), ("LLM_PROXY_ACCESS_LOG",), flag_value=False),
    Setting("logging.access_log_file", "text", "", "file for those lines; empty: standard error",
            ("--access-log-file",), ("LLM_PROXY_ACCESS_LOG_FILE",)),
    Setting("logging.capture_file", "text", "", "file for what backend plugins send and get, without credentials; empty: none",
            ("--capture-file",), ("CAPTURE_FILE",)),
    Setting("logging.capture_max_bytes", "whole", 100 << 20, "size past which that file is rotated; 0: never",
            ("--capture-max-bytes",), ("CAPTURE_MAX_BYTES",), at_least=0),
    Setting("logging.capture_max_files", "whole", 5, "rotated files that are kept", ("--capture-max-files",),
            ("CAPTURE_MAX_FILES",), at_least=1),
    Setting("logging.capture_truncate_bytes", "whole", 0, "what is kept of a captured message; 0: all of it",
            ("--capture-truncate-bytes",), ("CAPTURE_TRUNCATE_BYTES",), at_least=0),
)

# What stands under `backends: NAME:` in YAML. Unset: the catalog row's own.
BACKEND_SETTINGS: tuple[Setting, ...] = (
    Setting("type", "text", "", "catalog row or installed plugin; the name up to its first dot when unset",
            also=("connector",)),
    Setting("api_key", "texts", (), "key, or a list of keys", secret=True, also=("api_keys",)),
    Setting("api_url", "text", "", "base URL", also=("base_url", "api_base_url")),
    Setting("key_policy", "text", "round-robin", "which of several keys a request takes", choices=KEY_POLICIES),
    Setting("format", "text", "", "wire format", choices=FORMATS),
    Setting("auth_header", "text", "", "header that carries the key"),
    Setting("auth_prefix", "text", "", "what stands before the key in it"),
    Setting("headers", "names", {}, "headers sent with every request"),
    Setting("models", "texts", (), "the models it has; empty: any"),
    Setting("models_path", "text", "", "where it lists its models, as a path with query; unset: the format's own place"),
    Setting("cloud_models_url", "text", "", "where the models are listed that it passes on to its maker's cloud; none: none"),
    Setting("formats", "mapping", {}, "further formats of the same server by model: FORMAT: [MODEL, ...]"),
    Setting("model_names", "names", {}, "models it knows under another name: NAME: NAME-SENT"),
    Setting("vendors", "texts", (), "what may stand before a model's name and a slash, and is not sent"),
    Setting("quirks", "texts", (), "deviations from the format", choices=tuple(QUIRKS)),
    Setting("timeout", "seconds", 0.0, "how long its silence is borne; 0: as timeouts says", at_least=0, at_most=86400),
    Setting("routing_cost", "number", 0.0, "what it costs; counts under routing.model_only_preference_policy: cost",
            also=("extra.routing_cost",)),
    Setting("routing_priority", "number", 0.0, "how much it is preferred; counts under priority",
            also=("extra.routing_priority",)),
    Setting("client_headers", "switch", True, "clients of its format may send it headers of their own"),
    Setting("loop_guard", "switch", True, "it is told that a proxy asks; false to chain two of these proxies"),
    Setting("credentials_path", "text", "", "where a plugin backend finds its credentials", plugin_only=True),
    Setting("extra", "mapping", {}, "passed to a plugin backend's initialize() as it is", plugin_only=True),
)
# fmt: on

BY_PATH = {setting.path: setting for setting in SETTINGS}
BACKEND_BY_PATH = {setting.path: setting for setting in BACKEND_SETTINGS}
