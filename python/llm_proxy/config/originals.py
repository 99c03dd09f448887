"""The flags, variables and YAML keys of the proxies that this one replaces, and what each means here.

Those that mean the same here are settings of `llm_proxy.config.table` under their own names. The
others are taken with a warning that says why they have no effect, so that an existing command line
and file start this proxy. A name that stands neither there nor here is a mistake and refused.
docs/compatibility.md is made from this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Option:
    """One thing that the originals can be told and that has no effect here."""

    path: str  # where it stands in YAML, or "(name)" if it has no place there
    flags: tuple[str, ...]  # without the "=" of those that take a value
    variables: tuple[str, ...]
    why: str


@dataclass(frozen=True)
class Area:
    """Options that have no effect here for one reason."""

    title: str
    why: str
    lines: str

    def options(self) -> Iterator[Option]:
        for line in filter(str.strip, self.lines.splitlines()):
            path, flags, variables = (line + " | | ").split("|")[:3]
            names = tuple(flag.removesuffix("=") for flag in flags.split())
            yield Option(path.strip(), names, tuple(variables.split()), self.why)


# Flags that set a variable: keys and addresses of providers.
AS_VARIABLE = {
    "--openrouter-api-key": "OPENROUTER_API_KEY",
    "--openrouter-api-base-url": "OPENROUTER_API_BASE_URL",
    "--gemini-api-key": "GEMINI_API_KEY",
    "--gemini-api-base-url": "GEMINI_API_BASE_URL",
    "--zai-api-key": "ZAI_API_KEY",
    "--zai-coding-plan-api-key": "ZAI_CODING_PLAN_API_KEY",
    "--zenmux-api-base-url": "ZENMUX_API_BASE_URL",
}

# Flags that are settings here under the same name.
SAME = [
    "--default-backend",
    "--backend",
    "--static-route",
    "--model-alias",
    "--host",
    "--port",
    "--anthropic-port",
    "--timeout",
    "--command-prefix",
    "--log",
    "--capture-file",
    "--capture-max-bytes",
    "--capture-truncate-bytes",
    "--capture-max-files",
    "--config",
    "--log-level",
    "--log-stream",
    "--log-colors",
    "--no-log-colors",
    "--disable-stale-acp-agent-kills",
    "--stale-acp-agent-kill-idle-seconds",
    "--disable-auth",
    "--disable-interactive-commands",
    "--enable-brute-force-protection",
    "--disable-brute-force-protection",
    "--auth-max-failed-attempts",
    "--auth-brute-force-ttl",
    "--auth-brute-force-initial-block",
    "--auth-brute-force-multiplier",
    "--auth-brute-force-max-block",
    "--trusted-ip",
    "--single-user-mode",
    "--multi-user-mode",
    "--disable-routing-with-backend-ids",
    "--disable-routing-with-backend-names",
    "--disable-routing-with-only-model-names",
    "--disable-failure-handling",
    "--max-silent-wait",
    "--total-timeout-budget",
    "--keepalive-interval",
    "--max-failover-hops",
    "--min-retry-wait",
]

# Backends of the originals that are not here, with what to use instead.
BACKENDS = {
    "hybrid": "no backend asks two models at once: name one, or several in failover_routes",
    "openai-codex": "use openai-responses with an API key",
    "gemini-cli-acp": "use gemini with an API key",
    "gemini-cli-cloud-project": "use gemini with an API key",
    "cursor-cli-acp": "no backend starts this agent",
}
# Keys of a backend's section that only mean something to the originals.
OF_BACKENDS = {
    "identity": "headers for one backend stand under its headers",
    "allow_concurrent_use": "every backend is used by many clients at once",
    "supported_input_types": "what a model can read is left to its provider",
    "capability_descriptor": "what a model can do is left to its provider",
    "health_check_enabled": "a backend's failures are counted by its own requests",
}

# Names that other programs use too: set, they need not be meant for this one.
_COMMON = ("APP_URL", "APP_URL_MODE", "APP_TITLE", "APP_TITLE_MODE", "THINKING_BUDGET")


# One line an option: YAML PATH | FLAGS | VARIABLES. A flag that ends in "=" takes a value; a path
# that ends in ".*" stands for everything below it. A path in parentheses has no place in YAML.
# fmt: off
AREAS: tuple[Area, ...] = (
    Area(
        "Hybrid backend",
        "there is no hybrid backend: name the model you want, or list several in failover_routes",
        """
            backends.disable_hybrid_backend | --disable-hybrid-backend | DISABLE_HYBRID_BACKEND
            backends.hybrid_backend_repeat_messages | --hybrid-backend-repeat-messages | HYBRID_BACKEND_REPEAT_MESSAGES
            backends.reasoning_injection_probability | --reasoning-injection-probability= --reasoning_injection_probability= | REASONING_INJECTION_PROBABILITY
            backends.hybrid_reasoning_model_timeout | --hybrid-reasoning-model-timeout= | HYBRID_REASONING_MODEL_TIMEOUT
            backends.hybrid_reasoning_force_initial_turns | --hybrid-reasoning-force-initial-turns= | HYBRID_REASONING_FORCE_INITIAL_TURNS
            backends.hybrid_execution_model_timeout | | HYBRID_EXECUTION_MODEL_TIMEOUT
            backends.hybrid_reasoning_latency_threshold
            backends.hybrid_reasoning_backoff_turns
        """,
    ),
    Area(
        "Interleaved thinking",
        "no second model thinks between turns: name the thinking model as the model",
        """
            backends.interleaved_thinking_instructions_file | --interleaved-thinking-instructions-file= | INTERLEAVED_THINKING_INSTRUCTIONS_FILE
            backends.interleaved_thinking_stream_to_client | --interleaved-thinking-stream-to-client | INTERLEAVED_THINKING_STREAM_TO_CLIENT
            backends.interleaved_thinking_regular_turns_remaining | | INTERLEAVED_THINKING_REGULAR_TURNS_REMAINING
        """,
    ),
    Area(
        "Gemini OAuth",
        "the installed OAuth package decides this by itself",
        """
            backends.disable_gemini_oauth_fallback | --disable-gemini-oauth-fallback | DISABLE_GEMINI_OAUTH_FALLBACK
            backends.disable_gemini_oauth_reasoning_prompt_injection | --disable-gemini-oauth-reasoning-prompt-injection | DISABLE_GEMINI_OAUTH_REASONING_PROMPT_INJECTION
        """,
    ),
    Area(
        "Quality verifier",
        "replies are not checked by a second model",
        """
            session.quality_verifier_model | --quality-verifier-model= | QUALITY_VERIFIER_MODEL
            session.quality_verifier_frequency | --quality-verifier-frequency= | QUALITY_VERIFIER_FREQUENCY
            session.quality_verifier_max_history | --quality-verifier-max-history= | QUALITY_VERIFIER_MAX_HISTORY
            session.quality_verifier_max_consecutive_failures | --quality-verifier-max-consecutive-failures= | QUALITY_VERIFIER_MAX_CONSECUTIVE_FAILURES
            session.quality_verifier_cooldown_seconds | --quality-verifier-cooldown-seconds= | QUALITY_VERIFIER_COOLDOWN_SECONDS
            session.quality_verifier_ttft_timeout_seconds | --quality-verifier-ttft-timeout-seconds= | QUALITY_VERIFIER_TTFT_TIMEOUT_SECONDS
            session.quality_verifier_tool_followup_weight | --quality-verifier-tool-followup-weight= | QUALITY_VERIFIER_TOOL_FOLLOWUP_WEIGHT
        """,
    ),
    Area(
        "Context window",
        "the proxy does not compare requests with a model's context window: the provider refuses what is too long",
        """
            context_window_override | --force-context-window= | FORCE_CONTEXT_WINDOW
            model_registry.download_enabled | --disable-model-registry-download
            model_registry.url | --model-registry-url=
            model_registry.update_interval_seconds | --model-registry-update-interval=
            model_limit_enforcement.enabled | --disable-model-limit-enforcement
            model_registry.cache_path
            model_registry.bootstrap_path
            reasoning_model_token_floor.*
        """,
    ),
    Area(
        "Planning phase",
        "there is no planning phase: choose models with model_aliases and routes",
        """
            session.planning_phase.overrides.thinking_budget | --thinking-budget= | THINKING_BUDGET
            session.planning_phase.enabled | --enable-planning-phase | PLANNING_PHASE_ENABLED
            session.planning_phase.strong_model | --planning-phase-strong-model= | PLANNING_PHASE_STRONG_MODEL
            session.planning_phase.max_turns | --planning-phase-max-turns= | PLANNING_PHASE_MAX_TURNS
            session.planning_phase.max_file_writes | --planning-phase-max-file-writes= | PLANNING_PHASE_MAX_FILE_WRITES
            session.planning_phase.overrides.temperature | --planning-phase-temperature= | PLANNING_PHASE_TEMPERATURE
            session.planning_phase.overrides.top_p | --planning-phase-top-p= | PLANNING_PHASE_TOP_P
            session.planning_phase.overrides.reasoning_effort | --planning-phase-reasoning-effort= | PLANNING_PHASE_REASONING_EFFORT
            session.planning_phase.overrides.thinking_budget | --planning-phase-thinking-budget= | PLANNING_PHASE_THINKING_BUDGET
            session.planning_phase.overrides.*
        """,
    ),
    Area(
        "Capture",
        "the capture is a file of JSON lines, bounded by logging.capture_max_bytes and logging.capture_max_files",
        """
            logging.capture_rotate_interval_seconds | --capture-rotate-interval= | CAPTURE_ROTATE_INTERVAL_SECONDS
            logging.capture_total_max_bytes | --capture-total-max-bytes= | CAPTURE_TOTAL_MAX_BYTES
            logging.cbor_capture_dir | --cbor-capture-dir=
            logging.cbor_capture_session_id | --cbor-capture-session=
            logging.capture_buffer_size | | CAPTURE_BUFFER_SIZE
            logging.capture_flush_interval | | CAPTURE_FLUSH_INTERVAL
            logging.capture_max_entries_per_flush | | CAPTURE_MAX_ENTRIES_PER_FLUSH
            logging.cbor_capture_flush_interval | | CBOR_CAPTURE_FLUSH_INTERVAL
        """,
    ),
    Area(
        "In-chat commands",
        "commands are recognised in one way only: session.disable_interactive_commands switches them off",
        """
            session.default_interactive_mode | --disable-interactive-mode | DEFAULT_INTERACTIVE_MODE
            strict_command_detection | --strict-command-detection
        """,
    ),
    Area(
        "Redaction",
        "keys in prompts are neither looked for nor hidden: a ring plugin can do that (docs/plugins_builtin.md)",
        """
            auth.redact_api_keys_in_prompts | --disable-redact-api-keys-in-prompts
        """,
    ),
    Area(
        "Single sign-on",
        "clients sign in with keys: set auth.api_keys",
        """
            sso.captcha.enabled | --disable-sso-captcha | SSO_CAPTCHA_ENABLED
            sso.enabled | --enable-sso | SSO_ENABLED
            sso | --sso-config=
            sso.providers | --sso-provider=
            sso.authorization.mode | --sso-auth-mode= | SSO_AUTH_MODE
            sso.* | | SSO_AUTH_API_TIMEOUT SSO_AUTH_API_URL SSO_CONFIRMATION_CODE_EXPIRY_MINUTES SSO_MAX_CONFIRMATION_ATTEMPTS SSO_CAPTCHA_PROVIDER SSO_CAPTCHA_SECRET_KEY SSO_CAPTCHA_SITE_KEY SSO_CAPTCHA_TIMEOUT_SECONDS SSO_CAPTCHA_VERIFY_URL SSO_CAPTCHA_WIDGET_MODE SSO_DATABASE_PATH SSO_SESSION_LIFETIME_HOURS
        """,
    ),
    Area(
        "Project folders",
        "the proxy does not need to know the project's folder",
        """
            session.force_set_project | --force-set-project | FORCE_SET_PROJECT
            session.project_dir_resolution_model | --project-dir-resolution-model= | PROJECT_DIR_RESOLUTION_MODEL
            session.project_dir_resolution_mode | --project-dir-resolution-mode= | PROJECT_DIR_RESOLUTION_MODE
            session.project_dir_resolution_filesystem_mode | --project-dir-resolution-filesystem-mode= | PROJECT_DIR_RESOLUTION_FILESYSTEM_MODE
            session.disable_default_openrouter_project_dir_resolution_fallback | --disable-default-openrouter-project-dir-resolution-fallback | DISABLE_DEFAULT_OPENROUTER_PROJECT_DIR_RESOLUTION_FALLBACK
        """,
    ),
    Area(
        "Usage",
        "the tokens of each request are in the access log: logging.access_log switches that off",
        """
            accounting | --disable-accounting --no-accounting | DISABLE_ACCOUNTING
            usage_tracking.enabled
            usage_tracking.persistence_path
            usage_tracking.flush_interval_seconds
            usage_tracking.max_records_in_memory
            usage_window_warmup.enabled
            usage_window_warmup.entries
        """,
    ),
    Area(
        "Notifications",
        "the proxy shows no desktop notifications",
        """
            notifications.enabled | --enable-notifications --disable-notifications
            notifications.*
        """,
    ),
    Area(
        "Tool control",
        "the proxy does not judge the tool calls of agents: use the agent's own permissions, or a ring plugin",
        """
            sandboxing.enabled | --enable-sandboxing | ENABLE_SANDBOXING
            session.dangerous_command_prevention_enabled | --disable-dangerous-git-commands-protection | DANGEROUS_COMMAND_PREVENTION_ENABLED
            session.tool_access_global_overrides.allowed_patterns | --allowed-tools=
            session.tool_access_global_overrides.blocked_patterns | --blocked-tools=
            session.tool_access_global_overrides.default_policy | --default-policy=
            sandboxing.allow_parent_access | | SANDBOXING_ALLOW_PARENT_ACCESS
            sandboxing.strict_mode | | SANDBOXING_STRICT_MODE
            sandboxing.custom_tool_patterns
            sandboxing.excluded_tools
            sandboxing.default_tool_patterns
            sandboxing.path_parameter_names
            session.dangerous_command_steering_message | | DANGEROUS_COMMAND_STEERING_MESSAGE
            session.tool_access_global_overrides.*
            session.tool_progress_loop_*
        """,
    ),
    Area(
        "Steering",
        "the proxy does not change the tool calls and prompts of agents",
        """
            session.pytest_full_suite_steering_enabled | --enable-pytest-full-suite-steering --disable-pytest-full-suite-steering | PYTEST_FULL_SUITE_STEERING_ENABLED
            session.cat_file_edits_steering_enabled | --enable-cat-file-edits-steering | CAT_FILE_EDITS_STEERING_ENABLED
            session.tool_call_reactor.pytest_context_saving_enabled | --enable-pytest-context-saving
            session.tool_call_reactor.binary_file_edit_steering_enabled | --disable-binary-file-edit-steering | DISABLE_BINARY_FILE_EDIT_STEERING
            session.test_execution_reminder_enabled | --test-execution-reminder-enabled --no-test-execution-reminder-enabled | TEST_EXECUTION_REMINDER_ENABLED
            session.double_ampersand_fixes_for_windows_enabled | --disable-double-ampersand-fixes-for-windows | DOUBLE_AMPERSAND_FIXES_FOR_WINDOWS_ENABLED
            session.auto_continue_removal_enabled | --disable-auto-continue-removal | AUTO_CONTINUE_REMOVAL_ENABLED
            session.droid_path_fix_enabled | --enable-droid-path-fix
            session.cat_file_edits_steering_message | | CAT_FILE_EDITS_STEERING_MESSAGE
            session.pytest_full_suite_steering_message | | PYTEST_FULL_SUITE_STEERING_MESSAGE
            session.pytest_context_saving_enabled
            session.test_execution_reminder_message | | TEST_EXECUTION_REMINDER_MESSAGE
            session.tool_call_reactor.* | | BINARY_FILE_EDIT_STEERING_MESSAGE
            session.binary_file_edit_steering_enabled
        """,
    ),
    Area(
        "Repairing replies",
        "replies are passed on as the provider sends them: ring plugins can repair them (docs/plugins_builtin.md)",
        """
            session.fix_think_tags_enabled | --fix-think-tags | FIX_THINK_TAGS_ENABLED
            session.streaming_loop_detection_enabled | --enable-loop-detection | LOOP_DETECTION_ENABLED
            empty_response.count_reasoning_for_empty_stream | | EMPTY_RESPONSE_COUNT_REASONING_FOR_EMPTY_STREAM
            empty_response.enabled | | EMPTY_RESPONSE_HANDLING_ENABLED
            empty_response.max_retries | | EMPTY_RESPONSE_MAX_RETRIES
            session.fix_think_tags_streaming_buffer_size | | FIX_THINK_TAGS_STREAMING_BUFFER_SIZE
            session.force_reprocess_tool_calls | | FORCE_REPROCESS_TOOL_CALLS
            session.json_repair_buffer_cap_bytes | | JSON_REPAIR_BUFFER_CAP_BYTES
            session.json_repair_enabled | | JSON_REPAIR_ENABLED
            session.json_repair_schema | | JSON_REPAIR_SCHEMA
            session.json_repair_strict_mode
            session.log_skipped_tool_calls | | LOG_SKIPPED_TOOL_CALLS
            session.streaming_sampler.* | | STREAMING_SAMPLER_ENABLED STREAMING_SAMPLER_MAX_SAMPLES STREAMING_SAMPLER_RATE
            session.tool_call_repair_buffer_cap_bytes | | TOOL_CALL_REPAIR_BUFFER_CAP_BYTES
            session.tool_call_repair_enabled | | TOOL_CALL_REPAIR_ENABLED
            session.client_compatibility.*
            streaming_yield_interval
            canonical_request_processing.*
        """,
    ),
    Area(
        "Sampling parameters",
        "the proxy does not change a request's temperature, reasoning or other parameters",
        """
            edit_precision.enabled | --enable-edit-precision --disable-edit-precision | EDIT_PRECISION_ENABLED
            edit_precision.temperature | --edit-precision-temperature= | EDIT_PRECISION_TEMPERATURE
            edit_precision.min_top_p | --edit-precision-min-top-p= | EDIT_PRECISION_MIN_TOP_P
            edit_precision.override_top_p | --edit-precision-override-top-p | EDIT_PRECISION_OVERRIDE_TOP_P
            edit_precision.target_top_k | --edit-precision-target-top-k= | EDIT_PRECISION_TARGET_TOP_K
            edit_precision.override_top_k | --edit-precision-override-top-k | EDIT_PRECISION_OVERRIDE_TOP_K
            edit_precision.exclude_agents_regex | --edit-precision-exclude-agents= | EDIT_PRECISION_EXCLUDE_AGENTS_REGEX
            model_defaults.*
            reasoning_aliases.*
        """,
    ),
    Area(
        "Activity",
        "requests are not listed while they run: see the access log",
        """
            enable_activity_tracking | --enable-activity-tracking | ENABLE_ACTIVITY_TRACKING
        """,
    ),
    Area(
        "Repeated requests",
        "a request that is sent twice is answered twice",
        """
            request_dedup_window | --request-dedup-window= | LLM_REQUEST_DEDUP_WINDOW
            request_dedup_window | --disable-request-dedup | LLM_REQUEST_DEDUP_WINDOW
            request_dedup_max_cache | | LLM_REQUEST_DEDUP_MAX_CACHE
        """,
    ),
    Area(
        "Shortening of histories",
        "requests are sent as long as they are: ring plugins can shorten them (docs/plugins_builtin.md)",
        """
            compaction.enabled | --enable-context-compaction | ENABLE_CONTEXT_COMPACTION
            compaction.token_threshold | --compaction-min-tokens= | COMPACTION_MIN_TOKENS
            dynamic_compression.enabled | --enable-dynamic-compression | ENABLE_DYNAMIC_COMPRESSION
            dynamic_compression.level | --dynamic-compression-level= | DYNAMIC_COMPRESSION_LEVEL
            dynamic_compression.max_level | --dynamic-compression-max-level= | DYNAMIC_COMPRESSION_MAX_LEVEL
            dynamic_compression.min_bytes | --dynamic-compression-min-bytes= | DYNAMIC_COMPRESSION_MIN_BYTES
            dynamic_compression.per_output_evaluation_log_level | --dynamic-compression-per-output-evaluation-log-level= | DYNAMIC_COMPRESSION_PER_OUTPUT_EVALUATION_LOG_LEVEL
            dynamic_compression.file_detail_include_line_numbers | --dynamic-compression-file-detail-include-line-numbers --dynamic-compression-file-detail-exclude-line-numbers | DYNAMIC_COMPRESSION_FILE_DETAIL_INCLUDE_LINE_NUMBERS
            dynamic_compression.disable_categories | --dynamic-compression-disable-categories= | DYNAMIC_COMPRESSION_DISABLE_CATEGORIES
            dynamic_compression.disable_methods | --dynamic-compression-disable-methods= | DYNAMIC_COMPRESSION_DISABLE_METHODS
            dynamic_compression.disable_tools | --dynamic-compression-disable-tools= | DYNAMIC_COMPRESSION_DISABLE_TOOLS
            dynamic_compression.disable_command_prefixes | --dynamic-compression-disable-command-prefixes= | DYNAMIC_COMPRESSION_DISABLE_COMMAND_PREFIXES
            dynamic_compression.disable_tool_name_substrings | --dynamic-compression-disable-tool-name-substrings= | DYNAMIC_COMPRESSION_DISABLE_TOOL_NAME_SUBSTRINGS
            dynamic_compression.* | | DYNAMIC_COMPRESSION_EXPLICIT_FORMAT_FLAGS
            compaction.max_tokens
            compaction.allowed_tool_categories
            compaction.denied_tool_categories
            compaction.max_stubs_per_resource
            compaction.preserve_last_n_results
            compaction.stub_template
            compaction.redact_resource_identifiers
            compaction.min_tool_output_tokens_to_compact
        """,
    ),
    Area(
        "Rewriting prompts",
        "prompts are sent as the client wrote them: a ring plugin can change them",
        """
            auto_append_first_prompt_filename | --auto-append-first-prompt-filename= | AUTO_APPEND_FIRST_PROMPT_FILENAME
            rewriting.config_path | | REWRITING_CONFIG_PATH
            rewriting.enabled | | REWRITING_ENABLED
        """,
    ),
    Area(
        "Backend debugging overrides",
        "backends of installed packages run here without an override",
        """
            (backends.cline.extra) | --enable-cline-backend-debugging-override
            (backends.antigravity.extra) | --enable-antigravity-backend-debugging-override
            (backends.gemini_oauth_free.extra) | --enable-gemini-oauth-free-backend-debugging-override
            (backends.gemini_oauth_plan.extra) | --enable-gemini-oauth-plan-backend-debugging-override
            (backends.gemini_oauth_auto.extra) | --enable-gemini-oauth-auto-backend-debugging-override
            (backends.qwen_oauth.extra) | --enable-qwen-oauth-backend-debugging-override
            (backends.opencode_zen.extra) | --enable-opencode-zen-backend-debugging-override
            (backends.kiro_oauth_auto.extra) | --enable-kiro-oauth-auto-backend-debugging-override
            (backends.openai_codex.extra) | --enable-openai-codex-backend-debugging-override
        """,
    ),
    Area(
        "Sessions",
        "sessions are recognised by the client's key and headers, and end after session.ttl",
        """
            session.b2bua.enabled | --enable-b2bua-session-handling --disable-b2bua-session-handling | SESSION_B2BUA_ENABLED
            session.b2bua.continuity_max_age_seconds | --b2bua-continuity-max-age-seconds= | SESSION_B2BUA_CONTINUITY_MAX_AGE_SECONDS
            session.b2bua.continuity_sliding_expiration | --b2bua-continuity-sliding-expiration --b2bua-continuity-fixed-expiration | SESSION_B2BUA_CONTINUITY_SLIDING_EXPIRATION
            session.b2bua.persistent_mapping_store_enabled | --enable-b2bua-persistent-mapping-store --disable-b2bua-persistent-mapping-store | SESSION_B2BUA_PERSISTENT_MAPPING_STORE_ENABLED
            session.b2bua.echo_enabled | --enable-b2bua-session-echo --disable-b2bua-session-echo | SESSION_B2BUA_ECHO_ENABLED
            session.b2bua.echo_header_name | --b2bua-session-echo-header-name= | SESSION_B2BUA_ECHO_HEADER_NAME
            session.b2bua.enable_unsafe_heuristic_session_inference | --enable-unsafe-legacy-session-inference --disable-unsafe-legacy-session-inference | SESSION_B2BUA_ENABLE_UNSAFE_HEURISTIC_SESSION_INFERENCE
            session.b2bua.deployment_mode | --b2bua-deployment-mode= | SESSION_B2BUA_DEPLOYMENT_MODE
            session.cleanup_enabled | | SESSION_CLEANUP_ENABLED
            session.cleanup_interval | | SESSION_CLEANUP_INTERVAL
            session.session_continuity.*
            session.max_per_session_backends
            session.b2bua.*
        """,
    ),
    Area(
        "Auxiliary requests",
        "small requests of an agent go where its others go: use model_aliases for the model that it names in them",
        """
            auxiliary_routing.enabled | --enable-auxiliary-routing
            auxiliary_routing.model | --auxiliary-routing-model=
            auxiliary_routing.max_message_count | --auxiliary-routing-max-messages=
            auxiliary_routing.disable | --disable-auxiliary-routing | DISABLE_AUXILIARY_ROUTING
            auxiliary_routing.disable_default_openrouter | --disable-default-open-router-auxiliary-routing
            auxiliary_routing.*
        """,
    ),
    Area(
        "Identity",
        "the proxy names itself truthfully: headers for one backend stand under backends.NAME.headers",
        """
            identity.user_agent.override_value | --identity-user-agent= | APP_USER_AGENT APP_USER_AGENT_MODE
            identity.url.override_value | --identity-url= | APP_URL APP_URL_MODE
            identity.title.override_value | --identity-title= | APP_TITLE APP_TITLE_MODE
            identity.*
        """,
    ),
    Area(
        "Memory",
        "the proxy remembers nothing of one session for the next",
        """
            memory.available | --memory-available | MEMORY_AVAILABLE
            memory.default_enabled | --memory-default-enabled | MEMORY_DEFAULT_ENABLED
            memory.summary_model | --memory-summary-model= | MEMORY_SUMMARY_MODEL
            memory.context_model | --memory-context-model= | MEMORY_CONTEXT_MODEL
            memory.summary_prompt | --memory-summary-prompt= | MEMORY_SUMMARY_PROMPT
            memory.context_prompt | --memory-context-prompt= | MEMORY_CONTEXT_PROMPT
            memory.database_path | --memory-database-path= | MEMORY_DATABASE_PATH
            memory.session_timeout_minutes | --memory-session-timeout= | MEMORY_SESSION_TIMEOUT_MINUTES MEMORY_SESSION_TIMEOUT
            memory.summarization_delay_seconds | --memory-summarization-delay= | MEMORY_SUMMARIZATION_DELAY_SECONDS
            memory.max_sessions_to_consider | --memory-max-sessions-to-consider= | MEMORY_MAX_SESSIONS_TO_CONSIDER
            memory.retention_days | --memory-retention-days= | MEMORY_RETENTION_DAYS
            memory.max_context_tokens | --memory-max-context-tokens= | MEMORY_MAX_CONTEXT_TOKENS
            memory.max_summary_tokens | --memory-max-summary-tokens= | MEMORY_MAX_SUMMARY_TOKENS
            memory.max_transcript_chars | --memory-max-transcript-chars= | MEMORY_MAX_TRANSCRIPT_CHARS
            memory.summary_completion_tokens | --memory-summary-completion-tokens= | MEMORY_SUMMARY_COMPLETION_TOKENS
            memory.context_relevance_threshold | --memory-context-relevance-threshold= | MEMORY_CONTEXT_RELEVANCE_THRESHOLD
            memory.max_buffer_size_bytes | --memory-max-buffer-size-bytes= | MEMORY_MAX_BUFFER_SIZE_BYTES
            memory.analysis_queue_maxsize | --memory-analysis-queue-maxsize= | MEMORY_ANALYSIS_QUEUE_MAXSIZE
            memory.analysis_timeout_seconds | --memory-analysis-timeout= | MEMORY_ANALYSIS_TIMEOUT_SECONDS
            memory.max_concurrent_analyses | --memory-max-concurrent-analyses= | MEMORY_MAX_CONCURRENT_ANALYSES
            memory.context_template | --memory-context-template= | MEMORY_CONTEXT_TEMPLATE
            memory.single_user_mode | --memory-single-user-mode | MEMORY_SINGLE_USER_MODE
            memory.fixed_user_id | --memory-fixed-user-id= | MEMORY_FIXED_USER_ID
            memory.persist_transcript | --memory-persist-transcript | MEMORY_PERSIST_TRANSCRIPT
            memory.redaction_patterns | --memory-redaction-pattern= | MEMORY_REDACTION_PATTERNS
            memory.disabled_users | --memory-disable-user= | MEMORY_DISABLED_USERS
            memory.disabled_clients | --memory-disable-client= | MEMORY_DISABLED_CLIENTS
            memory.summary_prompt_version | --memory-summary-prompt-version= | MEMORY_SUMMARY_PROMPT_VERSION
            memory.summary_schema_version | --memory-summary-schema-version= | MEMORY_SUMMARY_SCHEMA_VERSION
            memory.require_project_discovery | --memory-require-project-discovery --memory-allow-missing-project | MEMORY_REQUIRE_PROJECT_DISCOVERY
            memory.project_discovery_mode | --memory-project-discovery-mode= | MEMORY_PROJECT_DISCOVERY_MODE
        """,
    ),
    Area(
        "Resilience",
        "every backend's failures are counted for itself, by its own requests (docs/routing.md)",
        """
            resilience.personal_backend_types | --resilience-personal-backends= | RESILIENCE_PERSONAL_BACKEND_TYPES
            resilience.shared_backend_types | --resilience-shared-backends= | RESILIENCE_SHARED_BACKEND_TYPES
            disable_health_checks | | DISABLE_HEALTH_CHECKS
            resilience.circuit_breaker.half_open_success_threshold
            resilience.circuit_breaker.half_open_max_inflight
            health_check.*
        """,
    ),
    Area(
        "End of session",
        "no event is sent when a session ends",
        """
            end_of_session.enabled | --enable-end-of-session --disable-end-of-session | END_OF_SESSION_ENABLED
            end_of_session.emit_events | --end-of-session-emit-events --end-of-session-detect-only | END_OF_SESSION_EMIT_EVENTS
            end_of_session.dispatch_timeout_seconds | --end-of-session-dispatch-timeout= | END_OF_SESSION_DISPATCH_TIMEOUT_SECONDS
            end_of_session.detect_stream_signals | | END_OF_SESSION_DETECT_STREAM_SIGNALS
            end_of_session.detect_tool_completion | | END_OF_SESSION_DETECT_TOOL_COMPLETION
            end_of_session.emission_ttl_seconds | | END_OF_SESSION_EMISSION_TTL_SECONDS
            non_forwardable_tagging.*
        """,
    ),
    Area(
        "Random replacement",
        "no model is replaced at random: a failover route or an alias names the models",
        """
            replacement.enabled | --enable-replacement --disable-replacement | REPLACEMENT_ENABLED
            replacement.probability | --replacement-probability= | REPLACEMENT_PROBABILITY
            replacement.replacement_rules | --random-model-replacement-from-to= | REPLACEMENT_RULES
            replacement.backend_model | --replacement-backend-model= | REPLACEMENT_BACKEND_MODEL
            replacement.turn_count | --replacement-turn-count= | REPLACEMENT_TURN_COUNT
            replacement.allow_oauth_auto_replacement | --allow-oauth-auto-replacement | ALLOW_OAUTH_AUTO_REPLACEMENT
        """,
    ),
    Area(
        "Database",
        "the proxy needs no database",
        """
            database.url
            database.pool_size
            database.max_overflow
            database.pool_timeout
            database.echo
            database.echo_pool
            database.auto_migrate
        """,
    ),
    Area(
        "Model lists",
        "models.cache_seconds says how long a provider's list of models is kept",
        """
            routing.capability_refresh_interval_seconds
            routing.capability_refresh_backoff_seconds
        """,
    ),
    Area(
        "Daemon",
        "the proxy stays in the foreground: run it under systemd, or with nohup",
        """
            (daemon) | --daemon
        """,
    ),
    Area(
        "Administrators",
        "the proxy also runs under root; an ordinary user is safer",
        """
            (allow_admin) | --allow-admin
        """,
    ),
    Area(
        "Request logs",
        "bodies are never logged; logging.access_log writes one line for each request",
        """
            logging.request_logging | | REQUEST_LOGGING
            logging.response_logging | | RESPONSE_LOGGING
        """,
    ),
    Area(
        "Rate limits",
        "the proxy sets no rate limits of its own: it obeys those of the providers",
        """
            default_rate_limit
            default_rate_window
        """,
    ),
    Area(
        "Google Cloud",
        "only installed backend packages need it, and they read GOOGLE_CLOUD_PROJECT and GEMINI_CREDENTIALS_PATH from the environment",
        """
            gcp_project_id
            gemini_credentials_path
        """,
    ),
    Area(
        "Second client key",
        "set it as a key of clients in API_KEYS or auth.api_keys; they send it as a Bearer token",
        """
            (auth_token) | | AUTH_TOKEN
        """,
    ),
    Area(
        "Public address",
        "the proxy needs no address of its own: clients name it",
        """
            public_url
        """,
    ),
    Area(
        "Gemini timeout",
        "timeouts.stream_idle is the longest silence of every provider",
        """
            gemini_read_timeout
        """,
    ),
    Area(
        "Virtual tool calls",
        "tool calls reach every client in its own format",
        """
            vtc_client_patterns
        """,
    ),
    Area(
        "Responses API",
        "WebSocket connections are not offered: use HTTP",
        """
            responses_api.*
        """,
    ),
)
# fmt: on


@cache
def _options() -> tuple[Option, ...]:
    return tuple(option for area in AREAS for option in area.options())


@cache
def flags() -> dict[str, bool]:
    """Every flag that has no effect here, and whether a value follows it."""
    words = [word for area in AREAS for line in area.lines.splitlines() for word in line.split()]
    return {word.removesuffix("="): word.endswith("=") for word in words if word.startswith("--")}


def of_flag(flag: str) -> Option:
    """The option that `flag`, one of `flags()`, belongs to."""
    return next(option for option in _options() if flag in option.flags)


def of_path(path: str) -> Option | None:
    """The option at a place of the YAML file; None: there is none."""
    for option in _options():
        if option.path == path:
            return option
    for option in _options():
        if option.path.endswith("*") and (path + ".").startswith(option.path[:-1]):
            return option
    return None


def below(section: str) -> set[str]:
    """The names that may stand in a section of the YAML file and have no effect."""
    start = f"{section}." if section else ""
    return {
        option.path[len(start) :].split(".")[0].rstrip("*")
        for option in _options()
        if option.path.startswith(start) and not option.path.startswith("(")
    } - {""}


@cache
def variables() -> dict[str, Option]:
    """Every variable that has no effect here, without those that other programs use too."""
    named = {name: option for option in _options() for name in option.variables}
    return {name: option for name, option in named.items() if name not in _COMMON}
