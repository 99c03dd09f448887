"""The names that existing packages import, and what importing them costs."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from llm_proxy.import_problem import import_problem
from repo import ROOT

# module → names, as installed plugin packages import them.
SURFACE = {
    "src.connectors.anthropic": "AnthropicBackend ANTHROPIC_DEFAULT_BASE_URL"
    " ANTHROPIC_VERSION_HEADER",
    "src.connectors.openai": "OpenAIConnector",
    "src.connectors.gemini": "GeminiBackend",
    "src.connectors.gemini_base.config": "CODE_ASSIST_ENDPOINT DEFAULT_AVAILABLE_MODELS"
    " GracefulDegradationConfig GracefulDegradationMetrics ModelRetryState"
    " CODE_ASSIST_PROMPT_LIMIT_MARGIN DEFAULT_CODE_ASSIST_PROMPT_LIMIT DEFAULT_COOLDOWN_DURATION"
    " DEFAULT_MAX_TOTAL_ATTEMPTS DEFAULT_RECOVERY_PROBE_INTERVAL DEFAULT_RETRY_DELAYS"
    " DEFAULT_CONNECTION_TIMEOUT DEFAULT_READ_TIMEOUT",
    "src.connectors.gemini_base.connector": "GeminiOAuthBaseConnector",
    "src.connectors.gemini_base.credential_providers": "FileCredentialProvider"
    " AntigravitySQLiteCredentialProvider",
    "src.connectors.gemini_base.credentials": "TOKEN_EXPIRY_BUFFER_SECONDS"
    " CLI_REFRESH_THRESHOLD_SECONDS CLI_REFRESH_COOLDOWN_SECONDS TOKEN_REFRESH_MAX_WAIT_SECONDS"
    " TOKEN_REFRESH_POLL_INTERVAL_SECONDS CLI_REFRESH_COMMAND _StaticTokenCreds"
    " GeminiPersonalCredentialsFileHandler",
    "src.connectors.gemini_base.endpoints": "StandardCodeAssistEndpoint AntigravitySandboxEndpoint",
    "src.connectors.gemini_base.model_discovery": "FallbackModelDiscovery",
    "src.connectors.gemini_base.models": "TierScore GeminiOAuthCredentials"
    " GracefulDegradationConfig GracefulDegradationMetrics ModelRetryState",
    "src.connectors.gemini_base.project_discovery": "FreeTierProjectDiscovery"
    " PaidTierProjectDiscovery AntigravityProjectDiscovery",
    "src.connectors.gemini_base.request_builders": "StandardRequestBodyBuilder"
    " AntigravityRequestBodyBuilder",
    "src.connectors.gemini_base.response_processors": "NoOpResponsePostProcessor"
    " XmlToolCallPostProcessor",
    "src.connectors.utils.gemini_request_counter": "DailyRequestCounter",
    "src.connectors.base": "LLMBackend add_vendor_prefix strip_vendor_prefix",
    "src.connectors.contracts": "ConnectorChatCompletionsRequest ConnectorRequestContext"
    " ConnectorResponsesRequest ICanonicalChatCompletionsBackend",
    "src.connectors.contracts.wire_capture_context": "WIRE_CAPTURE_ACCOUNT_ID_KEY"
    " WIRE_CAPTURE_RETRY_ATTEMPT_KEY WIRE_CAPTURE_IS_RETRY_KEY",
    "src.core.app.constants.logging_constants": "TRACE_LEVEL",
    "src.core.common.backend_discovery_state": "normalize_backend_name is_extracted_backend_name"
    " get_extracted_backend_names get_extracted_connector_module_names record_plugin_metadata"
    " get_plugin_metadata clear_plugin_metadata register_plugin_post_build_hook"
    " get_plugin_post_build_hooks clear_plugin_post_build_hooks get_skipped_oauth_connectors"
    " replace_skipped_oauth_connectors is_running_in_multi_user_mode set_discovery_mode"
    " get_oauth_install_command get_optional_oauth_package_name filter_oauth_style_backend_names",
    "src.core.common.exceptions": "LLMProxyError BackendError AuthenticationError"
    " ServiceUnavailableError RateLimitExceededError ConfigurationError RoutingError",
    "src.core.config.app_config": "AppConfig AuthConfig BackendConfig BackendSettings B2BUAConfig"
    " BruteForceProtectionConfig EditPrecisionConfig EmptyResponseConfig LogLevel LoggingConfig"
    " ModelAliasRule ParameterResolution ParameterSource PlanningPhaseConfig"
    " CanonicalRequestProcessingConfig RewritingConfig RoutingConfig SessionConfig"
    " SessionContinuityConfig StreamingSamplerConfig ToolCallReactorConfig UsageTrackingConfig"
    " BACKEND_INSTANCES_DIR get_openrouter_headers load_config",
    "src.core.config.parameter_resolution": "ParameterResolution ParameterSource",
    "src.core.domain.chat": "CanonicalChatRequest CanonicalChatResponse ChatCompletionChoice"
    " ChatCompletionChoiceMessage ChatMessage FunctionCall ToolCall MessageContentPart"
    " MessageContentPartText MessageContentPartImage MessageContentPartAudio"
    " StreamingChatCompletionChoice CanonicalStreamChunk StreamingToolCall",
    "src.core.common.capture_aware_httpx": "CaptureAwareAsyncClient HttpxBoundaryCaptureContext",
    "src.core.common.wire_boundary_capture": "capture_http_outbound_request"
    " capture_http_inbound_response",
    "src.core.domain.request_context": "RequestContext RequestHeaders RequestCookies"
    " ProcessingContext ContentModificationTracker",
    "src.core.domain.streaming.contracts": "StreamingChunk StreamingErrorInfo StreamingMetadata"
    " StreamingPayload StreamingUsage",
    "src.core.domain.translation": "Translation",
    "src.core.domain.models_listing": "ModelInfo ModelsListingResponse",
    "src.core.domain.responses": "ResponseEnvelope StreamingResponseEnvelope"
    " StreamingResponseHandle ProcessedResponse",
    "src.core.domain.session_key": "SessionKey",
    "src.core.domain.streaming.streaming_content": "StreamingContent",
    "src.core.domain.usage_canonical_record": "CanonicalUsageRecord UsageCompletionOutcome",
    "src.core.domain.usage_summary": "UsageSummary",
    "src.core.domain.validation": "ValidationResult",
    "src.core.di.container": "ServiceCollection ServiceProvider",
    "src.core.interfaces.configuration_interface": "IAppIdentityConfig IConfig IBackendConfig",
    "src.core.interfaces.di_interface": "IServiceProvider IServiceCollection ServiceLifetime",
    "src.core.interfaces.model_bases": "DomainModel InternalDTO",
    "src.core.interfaces.notification_service_interface": "INotificationService",
    "src.core.interfaces.response_processor_interface": "ProcessedResponse IResponseProcessor"
    " IResponseMiddleware IResponseFeature FeatureCapability",
    "src.core.interfaces.session_cancellation_coordinator_interface": "ICancellable"
    " ISessionCancellationCoordinator",
    "src.core.cli_support": "main parser",
    "src.core.domain.openrouter_usage": "OpenRouterUsage",
    "src.core.services.usage_calculation_service": "get_usage_calculation_service",
    "src.core.plugin_api": "BACKEND_PLUGIN_ENTRY_POINT_GROUP BackendFactory PluginPostBuildHook"
    " PluginCompatibility BackendPluginDefinition BackendPluginProvider"
    " PLUGIN_HTTP_CAPTURE_CONTEXT_EXTENSION PLUGIN_HTTP_CAPTURED_EXTENSION"
    " PluginHttpCaptureContext build_capture_aware_async_client capture_http_response",
    "src.core.plugin_http_client": "CaptureAwareAsyncClient capture_http_outbound_request"
    " capture_http_inbound_response",
    "src.core.ports.streaming_contracts": "StopChunkWithUsage StreamingErrorMapper"
    " handle_streaming_error",
    "src.core.ports.streaming_integration": "integrate_streaming_pipeline",
    "src.core.security.loop_prevention": "ensure_loop_guard_header LOOP_GUARD_HEADER",
    "src.core.services.backend_discovery": "discover_backends reset_backend_discovery_state",
    "src.core.services.backend_factory": "BackendFactory",
    "src.core.services.backend_plugin_discovery": "discover_plugin_backends _load_entry_points"
    " _resolve_core_version",
    "src.core.services.backend_registry": "BackendRegistry backend_registry",
    "src.core.services.connector_invoker": "ConnectorInvoker",
    "src.core.services.notification_service": "NotificationService",
    "src.core.services.translation_service": "TranslationService",
    "src.core.utils.token_count": "count_tokens count_tokens_async extract_prompt_text",
}
PYTHONPATH = f"{ROOT / 'python'}:{ROOT / 'python' / 'compat'}"


@pytest.mark.parametrize("module", SURFACE)
def test_the_names_plugins_import_exist(module: str) -> None:
    imported = importlib.import_module(module)
    missing = [name for name in SURFACE[module].split() if not hasattr(imported, name)]
    assert missing == []


def test_the_numbers_of_code_assist_are_those_of_the_contract() -> None:
    config = importlib.import_module("src.connectors.gemini_base.config")
    assert config.CODE_ASSIST_ENDPOINT == "https://cloudcode-pa.googleapis.com"
    told = (
        config.CODE_ASSIST_PROMPT_LIMIT_MARGIN,
        config.DEFAULT_CODE_ASSIST_PROMPT_LIMIT,
        config.DEFAULT_COOLDOWN_DURATION,
        config.DEFAULT_MAX_TOTAL_ATTEMPTS,
        config.DEFAULT_RECOVERY_PROBE_INTERVAL,
        config.DEFAULT_RETRY_DELAYS,
    )
    assert told == (0.97, 65536, 600, 6, 120, [5, 10])
    kept = config.GracefulDegradationConfig(cooldown_duration=5, name_of_its_own="x")
    assert (kept.cooldown_duration, kept.max_total_attempts, kept.name_of_its_own) == (5, 6, "x")


def test_usage_that_a_provider_did_not_tell_is_counted() -> None:
    module = importlib.import_module("src.core.services.usage_calculation_service")
    service = module.get_usage_calculation_service()
    assert module.get_usage_calculation_service() is service
    asked = [{"role": "user", "content": "How are you?"}]
    usage = service.calculate_usage(asked, "Well, thank you.", "m", prompt_tokens=7)
    assert usage.prompt_tokens == 7
    assert usage.total_tokens == 7 + usage.completion_tokens > 8


def test_openrouters_usage_keeps_cost_and_what_it_does_not_know() -> None:
    module = importlib.import_module("src.core.domain.openrouter_usage")
    told = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 0.5, "new": [1]}
    usage = module.OpenRouterUsage.from_dict(told)
    assert usage.to_dict() == told
    assert usage.to_usage_summary().extensions == {"cost": 0.5, "new": [1]}


# What the contract's distributions import of others, and a plain installation therefore brings.
BROUGHT = [
    "httpx",
    "pydantic",
    "yaml",
    "psutil",
    "fastapi",
    "fastapi.responses",
    "starlette.responses",
    "aiohttp",
    "watchdog.events",
    "watchdog.observers",
    "google.auth",
    "google.auth.transport.requests",
    "google.oauth2.credentials",
    "google_auth_oauthlib.flow",
    "requests",
    "cryptography.fernet",
    "uvicorn",
]


@pytest.mark.parametrize("module", BROUGHT)
def test_what_existing_packages_import_of_others_is_there(module: str) -> None:
    importlib.import_module(module)


def test_a_plain_installation_brings_them() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    plain = text.partition("\ndependencies = [")[2].partition("\n]")[0].lower()
    names = {re.split(r"[>=<\"]", line.strip(' ",'))[0] for line in plain.splitlines()}
    roots = {module.partition(".")[0] for module in BROUGHT}
    of_module = {"yaml": "pyyaml", "google": "google-auth", "starlette": "fastapi"}
    assert {of_module.get(root, root).replace("_", "-") for root in roots} <= names


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import no_such_thing", "pip install no_such_thing"),
        ("import google.no_such_thing", "pip install google-auth"),
        ("import src.core.nowhere", "this proxy has no such name"),
        ("from src.core.common.exceptions import Nothing", "this proxy has no such name"),
        ("import json.nowhere", "the installed package of 'json' has no module 'json.nowhere'"),
    ],
)
def test_an_import_error_names_the_package_and_the_command(code: str, told: str) -> None:
    with pytest.raises(ImportError) as failed:
        exec(code, {})
    assert told in (import_problem(failed.value) or "")


def test_what_is_patched_under_the_import_name_takes_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seam = "src.core.services.backend_plugin_discovery._load_entry_points"
    asked: list[str] = []
    monkeypatch.setattr(seam, lambda group: asked.append(group) or [])
    discovery = importlib.import_module("src.core.services.backend_plugin_discovery")
    assert discovery.discover_plugin_backends("some_group") == []
    assert asked == ["some_group"]


def imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    environment = {"PYTHONPATH": PYTHONPATH, "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "from llm_proxy.backends.runtime.discovery import discover_backends as d; d()",
        "import src.core.common.exceptions",
        "import src.core.services.backend_registry",
    ],
)
def test_looking_for_plugins_imports_neither_httpx_nor_pydantic(statement: str) -> None:
    heavy = {"httpx", "pydantic", "fastapi"}
    assert imported_by(statement) & heavy == set()


def test_compat_modules_hold_nothing_of_their_own() -> None:
    for path in (ROOT / "python" / "compat" / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "def " not in text, path
        assert "class " not in text, path


def test_every_compat_module_imports() -> None:
    root = ROOT / "python" / "compat"
    for path in sorted(root.joinpath("src").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        importlib.import_module(".".join(parts).removesuffix(".__init__"))
    assert Path(importlib.import_module("src").__file__ or "").parent == root / "src"
