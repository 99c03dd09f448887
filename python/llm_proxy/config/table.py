"""Every setting, one row each: the command line, the environment, the YAML file, its schema and `--explain` come from here.

Precedence: command line, environment, YAML, default.
"""

from __future__ import annotations

from llm_proxy.backends.catalog import FORMATS, QUIRKS
from llm_proxy.config.setting import Setting, Value

__all__ = [
    "BACKEND_BY_PATH",
    "BACKEND_SETTINGS",
    "BY_PATH",
    "GROUPS",
    "SETTINGS",
    "Setting",
    "Value",
]

PREFERENCES = ("default_first", "round_robin", "cost", "priority")
KEY_POLICIES = ("round-robin", "fill-first", "least-recently-limited")


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
    Setting("port", "whole", 8000, "port to listen on; 0: any free one", ("--port",), ("APP_PORT",),
            at_least=0, at_most=65535),
    Setting("anthropic_port", "whole", -1, "second port, which serves Anthropic's API alone at its root; 0: any free one, "
            "-1: none", ("--anthropic-port",), ("ANTHROPIC_PORT",), at_least=-1, at_most=65535),
    Setting("io_threads", "whole", 0, "number of threads for network traffic; 0: one for each "
            "processor that the affinity mask and the cgroup's quota allow", ("--io-threads",),
            ("LLM_PROXY_IO_THREADS",), at_least=0, at_most=1024),
    Setting("auth.api_keys", "texts", (), "keys of clients: each request must carry one; empty: no key is required", (),
            ("API_KEYS", "LLM_INTERACTIVE_PROXY_API_KEY"), secret=True, also=("auth.auth_token",)),
    Setting("auth.admin_keys", "texts", (), "keys of the admin API (/api/v1/…), none of them a client's; empty: that API "
            "is open only while there are no client keys, and only on this machine", (),
            ("LLM_PROXY_ADMIN_KEYS", "ADMIN_API_KEYS"), secret=True),
    Setting("auth.disable_auth", "switch", False, "require no key, even if client keys are set; only allowed while the "
            "proxy listens on this machine alone", ("--disable-auth",), ("DISABLE_AUTH",), engine=False),
    Setting("auth.trusted_ips", "texts", (), "addresses and networks that need no key, such as 10.0.0.7 or 10.0.0.0/8; "
            "repeatable", ("--trusted-ip",), ("TRUSTED_IPS",)),
    Setting("auth.trusted_proxies", "texts", (), "addresses and networks of reverse proxies whose X-Forwarded-For, "
            "Forwarded or X-Real-IP names the client; repeatable", ("--trusted-proxy",), ("TRUSTED_PROXIES",)),
    Setting("allowed_hosts", "texts", (), "host names by which clients without a key may call this proxy, beside "
            "addresses, localhost and this machine's name; *: by any; repeatable", ("--allowed-host",), ("ALLOWED_HOSTS",)),
    Setting("auth.brute_force_protection.enabled", "switch", True, "block addresses that try one wrong key after the other; "
            "a client that repeats the same wrong key is not blocked", ("--enable-brute-force-protection",),
            ("BRUTE_FORCE_PROTECTION_ENABLED",), words=(("--disable-brute-force-protection", "false"),)),
    Setting("auth.brute_force_protection.max_failed_attempts", "whole", 5, "number of different wrong keys after which an "
            "address is blocked", ("--auth-max-failed-attempts",), ("BRUTE_FORCE_MAX_FAILED_ATTEMPTS",), at_least=1, at_most=1000),
    Setting("auth.brute_force_protection.ttl_seconds", "seconds", 900.0, "time after which a wrong key is forgotten",
            ("--auth-brute-force-ttl",), ("BRUTE_FORCE_TTL_SECONDS",), at_least=1, at_most=1_000_000),
    Setting("auth.brute_force_protection.initial_block_seconds", "seconds", 30.0, "length of the first block",
            ("--auth-brute-force-initial-block",), ("BRUTE_FORCE_INITIAL_BLOCK_SECONDS",), at_least=1, at_most=1_000_000),
    Setting("auth.brute_force_protection.block_multiplier", "number", 2.0, "factor by which each further block is longer",
            ("--auth-brute-force-multiplier",), ("BRUTE_FORCE_BLOCK_MULTIPLIER",), at_least=1, at_most=100),
    Setting("auth.brute_force_protection.max_block_seconds", "seconds", 3600.0, "length of the longest block",
            ("--auth-brute-force-max-block",), ("BRUTE_FORCE_MAX_BLOCK_SECONDS",), at_least=1, at_most=1_000_000),
    Setting("access_mode.mode", "text", "auto", "single_user: listen on this machine only; multi_user: require client keys, "
            "and never serve others with one user's personal login; auto: multi_user if the proxy listens beyond this machine",
            ("--access-mode",), ("LLM_PROXY_ACCESS_MODE",), choices=("auto", "single_user", "multi_user"),
            words=(("--single-user-mode", "single_user"), ("--multi-user-mode", "multi_user")), engine=False),
    Setting("cors.allow_origins", "texts", (), "web pages that may send requests, by origin: https://app.example, or * for "
            "every page; empty: only pages of this machine", (), ("CORS_ALLOW_ORIGINS",)),
    Setting("backends.default_backend", "text", "", "backend that answers when a model's name says no other: NAME or NAME:MODEL",
            ("--default-backend", "--backend"), ("LLM_BACKEND",), also=("default_backend",), engine=False),
    Setting("model_aliases", "aliases", {}, "model names that stand for others: NAME=MODEL, repeatable; "
            "NAME may be a regular expression, and MODEL may refer to its groups as \\1",
            ("--model-alias",), ("MODEL_ALIASES",)),
    Setting("backends.static_route", "text", "", "BACKEND:MODEL that answers every request that names no backend",
            ("--static-route",), ("STATIC_ROUTE",), also=("static_route",), engine=False),
    Setting("backends.instances_dir", "text", "config/backends/backend-instances",
            "folder with one file for each instance: openai.work.yaml holds what would stand under backends: openai.work:",
            ("--backend-instances-dir",), ("BACKEND_INSTANCES_DIR",), engine=False),
    Setting("failover_routes", "routes", {}, "backends to ask for a model, in order: MODEL: {elements: [BACKEND:MODEL, ...], "
            "first_token: SECONDS}; the route named 'default' is added to the end of every other", (), ("FAILOVER_ROUTES",)),
    Setting("routing.disable_backend_ids", "switch", False, "refuse requests that name an instance (openai.2:MODEL) with 403 "
            "policy_rejected", ("--disable-routing-with-backend-ids",), ("DISABLE_ROUTING_WITH_BACKEND_IDS",)),
    Setting("routing.disable_backend_names", "switch", False, "refuse requests that name a backend (openai:MODEL) in the same way",
            ("--disable-routing-with-backend-names",), ("DISABLE_ROUTING_WITH_BACKEND_NAMES",)),
    Setting("routing.disable_model_names", "switch", False, "refuse requests that name a model alone in the same way",
            ("--disable-routing-with-only-model-names",), ("DISABLE_ROUTING_WITH_ONLY_MODEL_NAMES",)),
    Setting("routing.model_only_preference_policy", "text", "default_first", "which backend is asked first for a model that "
            "several have: the default backend, each in turn, the lowest routing_cost or the highest routing_priority",
            ("--model-only-preference-policy",), ("MODEL_ONLY_PREFERENCE_POLICY",), choices=PREFERENCES),
    Setting("routing.model_only_model_overrides", "names", {}, "that policy for single models: MODEL: POLICY",
            choices=PREFERENCES),
    Setting("routing.model_only_backend_family_overrides", "names", {}, "that policy where every backend that has the model "
            "is an instance of the same one: BACKEND: POLICY", choices=PREFERENCES),
    Setting("routing.model_only_missing_cost", "number", 1e6, "routing_cost of backends that set none", engine=False),
    Setting("routing.model_only_missing_priority", "number", 0.0, "routing_priority of backends that set none", engine=False),
    Setting("failure_handling.enabled", "switch", True, "retry failed requests, on the same backend and on others, before "
            "the client is told", ("--disable-failure-handling",), ("LLM_PROXY_FAILURE_HANDLING",),
            flag_value=False, off_env=("DISABLE_FAILURE_HANDLING",),
            flag_help="make one attempt for each request, and pass on the provider's own error"),
    Setting("failure_handling.max_attempts", "whole", 3, "attempts on one backend for one request",
            ("--max-attempts",), ("LLM_PROXY_MAX_ATTEMPTS",), at_least=1, at_most=10),
    Setting("failure_handling.max_failover_hops", "whole", 5, "further backends asked for one request", ("--max-failover-hops",),
            ("FAILURE_HANDLING_MAX_FAILOVER_HOPS", "MAX_FAILOVER_HOPS"), at_least=0, at_most=20),
    Setting("failure_handling.max_silent_wait", "seconds", 5.0, "longest wait for a rate-limited key when no other is free",
            ("--max-silent-wait",), ("FAILURE_HANDLING_MAX_SILENT_WAIT", "MAX_SILENT_WAIT"), at_least=0, at_most=600),
    Setting("failure_handling.total_timeout_budget", "seconds", 90.0, "time after which no further attempt begins",
            ("--total-timeout-budget",), ("FAILURE_HANDLING_TOTAL_TIMEOUT_BUDGET", "TOTAL_TIMEOUT_BUDGET"), at_least=0, at_most=86400),
    Setting("failure_handling.min_retry_wait", "seconds", 0.3, "wait before a backend is asked again; it doubles with each "
            "attempt, with jitter", ("--min-retry-wait",), ("FAILURE_HANDLING_MIN_RETRY_WAIT",),
            at_least=0.05, at_most=30),
    Setting("resilience.circuit_breaker.enabled", "switch", True, "stop asking a backend for a while when it fails again "
            "and again", (), ("LLM_PROXY_CIRCUIT_BREAKER",)),
    Setting("resilience.circuit_breaker.failure_threshold", "whole", 5, "failures in a row that open the circuit breaker", (),
            ("LLM_PROXY_CIRCUIT_BREAKER_THRESHOLD",), at_least=1, at_most=10_000),
    Setting("resilience.circuit_breaker.open_cooldown_seconds", "seconds", 5.0, "time until one request tries the backend "
            "again; it doubles with each failure, up to 20", (), ("LLM_PROXY_CIRCUIT_BREAKER_COOLDOWN",),
            at_least=0.1, at_most=30),
    Setting("failure_handling.reply_headers", "switch", True, "tell clients in x-proxy-… headers which backend answered "
            "after how many attempts", ("--no-reply-headers",), ("LLM_PROXY_REPLY_HEADERS",),
            flag_value=False, flag_help="leave the x-proxy-… headers out of replies"),
    Setting("command_prefix", "text", "!/", "what in-chat commands begin with: 2 to 10 printable characters",
            ("--command-prefix",), ("COMMAND_PREFIX",)),
    Setting("session.disable_interactive_commands", "switch", False, "run no in-chat commands; they are still taken out of "
            "what is sent", ("--disable-interactive-commands",), ("DISABLE_INTERACTIVE_COMMANDS",)),
    Setting("session.ttl", "seconds", 3600.0, "time without a request after which a session's commands are forgotten",
            ("--session-ttl",), ("SESSION_TTL", "SESSION_MAX_AGE"), at_least=1, at_most=30 * 86400, also=("session.max_age",)),
    Setting("disable_stale_acp_agent_kills", "switch", False, "let the agent processes of ACP backends run on when they are "
            "idle", ("--disable-stale-acp-agent-kills",), ("DISABLE_STALE_ACP_AGENT_KILLS",), engine=False),
    Setting("stale_acp_agent_kill_idle_seconds", "seconds", 3600.0, "idle time after which the agent process of an ACP "
            "backend is ended", ("--stale-acp-agent-kill-idle-seconds",), ("STALE_ACP_AGENT_KILL_IDLE_SECONDS",),
            at_least=1, at_most=604800, engine=False),
    Setting("plugins.directory", "text", "", "folder with the manifest.yaml of your ring plugins; empty: none",
            ("--plugins-dir",), ("LLM_PROXY_PLUGINS_DIR",), engine=False),
    Setting("plugins.enabled", "texts", (), "names of built-in ring plugins to run; stock: the usual set, all: every one",
            ("--plugins",), ("LLM_PROXY_PLUGINS",), engine=False),
    Setting("plugins.on_load_error", "text", "auto", "what happens when a ring plugin cannot be loaded: refuse to start, skip "
            "it, or auto: refuse if you enabled it by name or in your manifest, skip if it was found among the installed packages",
            ("--plugins-on-load-error",), ("LLM_PROXY_PLUGINS_ON_LOAD_ERROR",), choices=("auto", "refuse", "skip"), engine=False),
    Setting("plugins.state_file", "text", "", "SQLite file for what ring plugins remember; empty: in memory, until the process ends",
            ("--plugins-state",), ("LLM_PROXY_PLUGINS_STATE",), engine=False),
    Setting("plugins.config", "mapping", {}, "settings that ring plugins share: pricing, blocked_domains, routing_cost_weight, priority_mode", engine=False),
    Setting("plugins.tenants", "mapping", {}, "roles and tier of clients by key or its hash: KEY: {roles: [admin], tier: premium}", secret=True, engine=False),
    Setting("plugins.unreadable", "text", "refuse", "what happens to requests and replies that ring plugins cannot read (token "
            "ids, streams of legacy completions) while a fail-closed plugin is on: refuse them, or pass them on",
            ("--plugins-unreadable",), ("LLM_PROXY_PLUGINS_UNREADABLE",), choices=("refuse", "pass")),
    Setting("plugins.guarded_body_bytes", "whole", 32 << 20, "largest request body while a fail-closed ring plugin is on, in bytes",
            ("--plugins-guarded-body-bytes",), ("LLM_PROXY_PLUGINS_GUARDED_BODY_BYTES",), at_least=1024, at_most=1 << 32),
    Setting("limits.head_bytes", "whole", 32 << 10, "largest request head, in bytes", ("--max-head-bytes",),
            ("LLM_PROXY_MAX_HEAD_BYTES",), at_least=1024, at_most=1 << 20),
    Setting("limits.body_bytes", "whole", 64 << 20, "largest request body, in bytes", ("--max-body-bytes",),
            ("LLM_PROXY_MAX_BODY_BYTES",), at_least=1024, at_most=1 << 32),
    Setting("limits.client_min_rate", "whole", 500, "bytes a second that a client must send of its body and read of its reply, "
            "over each timeouts.client_body and timeouts.client_write; 0: any rate", ("--client-min-rate",),
            ("LLM_PROXY_CLIENT_MIN_RATE",), at_least=0, at_most=1 << 30),
    Setting("limits.memory_bytes", "whole", 0, "memory that all requests under way may hold together, with their replies, in "
            "bytes; one client has half of it at most. 0: a quarter of what the machine or the cgroup has", ("--max-memory-bytes",),
            ("LLM_PROXY_MAX_MEMORY_BYTES",), at_least=0, at_most=1 << 50),
    Setting("network.http_proxy", "text", "", "proxy for providers at http:// URLs: http://, socks5:// or socks5h://, "
            "USER:PASSWORD@ before its host if it asks for them", (), ("http_proxy", "HTTP_PROXY"), secret=True),
    Setting("network.https_proxy", "text", "", "proxy for providers at https:// URLs, in the same form", (),
            ("https_proxy", "HTTPS_PROXY"), secret=True),
    Setting("network.all_proxy", "text", "", "proxy for providers that the two above do not cover", (),
            ("all_proxy", "ALL_PROXY"), secret=True),
    Setting("network.no_proxy", "texts", (), "providers that are reached directly: names with all below them (example.com), "
            "addresses, networks (10.0.0.0/8), each with :PORT if only that one is meant, or * for all", (),
            ("no_proxy", "NO_PROXY")),
    Setting("network.proxy_loopback", "switch", False, "reach providers on this machine through the proxy as well", (),
            ("LLM_PROXY_PROXY_LOOPBACK",)),
    Setting("proxy_timeout", "seconds", 300.0, "longest silence of a provider: sets timeouts.first_byte and "
            "timeouts.stream_idle where those are not given", ("--timeout",), ("PROXY_TIMEOUT",),
            at_least=0.001, at_most=86400, engine=False),
    _timeout("client_head", 30.0, "time for a client's request head, from its first byte"),
    _timeout("client_body", 60.0, "longest silence of a client that sends its body, or time it may send below limits.client_min_rate"),
    _timeout("client_idle", 120.0, "time a client's connection is kept open without a request"),
    _timeout("client_write", 60.0, "longest wait for a client to read its reply, or time it may read below limits.client_min_rate"),
    _timeout("connect", 5.0, "time to connect to a provider"),
    _timeout("first_byte", 300.0, "longest wait for a provider's first byte"),
    _timeout("stream_idle", 300.0, "longest silence in a provider's reply"),
    _timeout("first_token", 0.0, "longest wait for a stream's first output, after which the next backend is asked; 0: no limit"),
    _timeout("drain", 10.0, "time for requests under way when the proxy is told to stop; what is left then ends with an error"),
    _timeout("keep_alive", 10.0, "silence after which a streaming client is sent a keep-alive",
             ("--keepalive-interval",), ("FAILURE_HANDLING_KEEPALIVE_INTERVAL",), ("failure_handling.keepalive_interval",)),
    _timeout("upstream_idle", 60.0, "time an unused connection to a provider is kept open"),
    Setting("models.discovery", "switch", True, "ask providers for their models when a client lists them",
            ("--no-model-discovery",), ("LLM_PROXY_MODEL_DISCOVERY",), flag_value=False,
            flag_help="do not ask providers for their models; list those of the configuration"),
    Setting("models.cache_seconds", "seconds", 300.0, "time a provider's list of models is kept",
            ("--models-cache-seconds",), ("LLM_PROXY_MODELS_CACHE_SECONDS",), at_least=1, at_most=86400),
    Setting("responses.store_entries", "whole", 10_000, "number of responses kept for clients of /v1/responses whose provider "
            "keeps none; 0: none", ("--responses-store-entries",), ("LLM_PROXY_RESPONSES_STORE_ENTRIES",), at_least=0,
            at_most=10_000_000),
    Setting("responses.store_bytes", "whole", 64 << 20, "memory for those responses, in bytes", ("--responses-store-bytes",),
            ("LLM_PROXY_RESPONSES_STORE_BYTES",), at_least=0, at_most=1 << 40),
    Setting("responses.store_seconds", "seconds", 3600.0, "time each of them is kept", ("--responses-store-seconds",),
            ("LLM_PROXY_RESPONSES_STORE_SECONDS",), at_least=1, at_most=30 * 86400),
    Setting("counting.exact", "switch", False, "let providers count tokens where they can, instead of estimating here",
            ("--exact-token-counts",), ("LLM_PROXY_EXACT_TOKEN_COUNTS",)),
    Setting("logging.format", "text", "text", "text: readable lines; json: one object a line", ("--log-format",),
            ("LOG_FORMAT",), choices=("text", "json")),
    Setting("logging.level", "text", "INFO", "least severe message that is logged", ("--log-level",), ("LOG_LEVEL",),
            choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
            synonyms=(("warn", "warning"), ("err", "error"), ("fatal", "critical"), ("trace", "debug"), ("verbose", "debug")), engine=False),
    Setting("logging.log_file", "text", "", "file for the log; empty: standard error", ("--log",), ("LOG_FILE",), engine=False),
    Setting("logging.console_stream", "text", "stderr", "where the log goes without a file", ("--log-stream",), ("LOG_STREAM",),
            choices=("stderr", "stdout"), engine=False),
    Setting("logging.use_colors", "text", "auto", "colours in what is printed at the start; auto: on a terminal",
            (), ("LOG_USE_COLORS",), choices=("auto", "true", "false"),
            synonyms=(("1", "true"), ("yes", "true"), ("on", "true"), ("0", "false"), ("no", "false"), ("off", "false")),
            words=(("--log-colors", "true"), ("--no-log-colors", "false")), engine=False),
    Setting("logging.access_log", "switch", True, "write one line for each request",
            ("--no-access-log",), ("LLM_PROXY_ACCESS_LOG",), flag_value=False, flag_help="write no access log"),
    Setting("logging.access_log_file", "text", "", "file for those lines; empty: standard error",
            ("--access-log-file",), ("LLM_PROXY_ACCESS_LOG_FILE",)),
    Setting("logging.capture_file", "text", "", "file for what backend plugins send and receive, without credentials; empty: none",
            ("--capture-file",), ("CAPTURE_FILE",), engine=False),
    Setting("logging.capture_max_bytes", "whole", 100 << 20, "size at which that file is rotated; 0: never",
            ("--capture-max-bytes",), ("CAPTURE_MAX_BYTES",), at_least=0, engine=False),
    Setting("logging.capture_max_files", "whole", 5, "number of rotated files that are kept", ("--capture-max-files",),
            ("CAPTURE_MAX_FILES",), at_least=1, engine=False),
    Setting("logging.capture_truncate_bytes", "whole", 0, "bytes of a captured message that are kept; 0: all",
            ("--capture-truncate-bytes",), ("CAPTURE_TRUNCATE_BYTES",), at_least=0, engine=False),
)

# The groups of `llm-proxy --help`: a title, and how the paths of its settings begin.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("listening", ("host", "port", "anthropic_port", "io_threads")),
    ("access", ("auth.", "access_mode.", "cors.", "allowed_hosts")),
    ("backends and routing", ("backends.", "model_aliases", "failover_routes", "routing.", "models.", "network.")),
    ("failures", ("failure_handling.", "resilience.")),
    ("sessions and commands", ("command_prefix", "session.", "responses.", "counting.")),
    ("agents", ("disable_stale_acp_agent_kills", "stale_acp_agent_kill_idle_seconds")),
    ("plugins", ("plugins.",)),
    ("limits and timeouts", ("limits.", "proxy_timeout", "timeouts.")),
    ("logs", ("logging.",)),
)

# What stands under `backends: NAME:` in YAML. Unset: the catalog row's own.
BACKEND_SETTINGS: tuple[Setting, ...] = (
    Setting("type", "text", "", "row of the catalog, or an installed plugin; unset: the instance's name up to its first dot",
            also=("connector",)),
    Setting("api_key", "texts", (), "key, or a list of keys", secret=True, also=("api_keys",)),
    Setting("api_url", "text", "", "base URL", also=("base_url", "api_base_url")),
    Setting("key_policy", "text", "round-robin", "which of several keys a request takes", choices=KEY_POLICIES),
    Setting("format", "text", "", "wire format", choices=FORMATS),
    Setting("auth_header", "text", "", "name of the header that carries the key"),
    Setting("auth_prefix", "text", "", "text before the key in that header"),
    Setting("headers", "names", {}, "headers sent with every request"),
    Setting("models", "texts", (), "the models it has; empty: any"),
    Setting("models_path", "text", "", "where it lists its models, as a path with query; unset: the format's own place"),
    Setting("cloud_models_url", "text", "", "URL that lists the models it passes on to its maker's cloud; none: there are none"),
    Setting("formats", "mapping", {}, "further formats of the same server by model: FORMAT: [MODEL, ...]"),
    Setting("model_names", "names", {}, "models it knows by another name: NAME: NAME-SENT"),
    Setting("vendors", "texts", (), "vendor names before a slash in a model's name that are not sent: VENDOR/MODEL"),
    Setting("quirks", "texts", (), "deviations from the format", choices=tuple(QUIRKS)),
    Setting("timeout", "seconds", 0.0, "longest silence of it; 0: as timeouts says", at_least=0, at_most=86400),
    Setting("routing_cost", "number", 0.0, "its cost, for routing.model_only_preference_policy: cost",
            also=("extra.routing_cost",)),
    Setting("routing_priority", "number", 0.0, "its priority, for routing.model_only_preference_policy: priority",
            also=("extra.routing_priority",)),
    Setting("client_headers", "switch", True, "pass on the headers of clients that speak its format"),
    Setting("loop_guard", "switch", True, "tell it that a proxy asks; set false to chain two of these proxies"),
    Setting("credentials_path", "text", "", "where a plugin backend finds its credentials", plugin_only=True),
    Setting("extra", "mapping", {}, "passed to a plugin backend's initialize() as it is", plugin_only=True),
)
# fmt: on

BY_PATH = {setting.path: setting for setting in SETTINGS}
BACKEND_BY_PATH = {setting.path: setting for setting in BACKEND_SETTINGS}
