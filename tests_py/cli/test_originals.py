"""The command lines and files of the proxies that this one replaces start it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_proxy.cli.arguments import parse
from llm_proxy.cli.commands import Configuration
from llm_proxy.config import originals
from llm_proxy.config.errors import ConfigError
from llm_proxy.config.load import Sources, load
from llm_proxy.config.settings import Settings
from llm_proxy.config.table import SETTINGS

AS_SHIPPED = """
host: 127.0.0.1
port: 8000
proxy_timeout: 120
command_prefix: "!/"
strict_command_detection: false
context_window_override: null
auth:
  disable_auth: false
  api_keys: []
  redact_api_keys_in_prompts: true
  trusted_ips: []
  brute_force_protection: {enabled: true, max_failed_attempts: 5, ttl_seconds: 900}
backends:
  default_backend: openai
  static_route: null
  hybrid_execution_model_timeout: 120
  openai: {type: openai, timeout: 120, models: [], identity: {title: {mode: default}}, extra: {}}
  openai_codex: {type: openai-codex}
  hybrid: {}
session:
  cleanup_enabled: true
  max_age: 86400
  default_interactive_mode: true
  json_repair_strict_mode: false
  streaming_sampler: {enabled: true, sample_rate: 0.01, max_samples: 100}
  tool_call_reactor: {enabled: true}
  planning_phase: {enabled: false, strong_model: null, max_turns: 10, overrides: {top_p: null}}
  session_continuity: {enabled: true}
  tool_progress_loop_guard_enabled: true
logging:
  level: INFO
  use_colors: false
  console_stream: stderr
  request_logging: false
  log_file: null
  capture_max_bytes: 104857600
  capture_rotate_interval_seconds: 86400
identity: {title: {mode: passthrough}, url: {mode: passthrough}}
model_defaults: {"openai:gpt-4": {reasoning: {temperature: 1}}}
failover_routes: {}
model_aliases: []
failure_handling:
  enabled: true
  max_silent_wait: 60
  total_timeout_budget: 90
  keepalive_interval: 8
  max_failover_hops: 20
  min_retry_wait: 1
resilience:
  personal_backend_types: []
  circuit_breaker: {enabled: true, failure_threshold: 3, half_open_max_inflight: 1}
health_check: {enabled: true, ping: {enabled: true, interval: 30}}
database: {url: "sqlite:///x", pool_size: 5}
routing: {model_only_preference_policy: round_robin, capability_refresh_interval_seconds: 0}
disable_stale_acp_agent_kills: false
stale_acp_agent_kill_idle_seconds: 3600
"""
FLAGS = {**dict.fromkeys(originals.AS_VARIABLE, True), **originals.flags()}
OPTIONS = [option for area in originals.AREAS for option in area.options()]


def settings_of(*argv: str, **environment: str) -> Settings:
    return Configuration(argv, environment).settings()


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_flag_of_the_originals_is_known() -> None:
    ours = {flag for s in SETTINGS for flag in (*s.flags, *(word for word, _ in s.words))}
    assert len({*originals.SAME, *FLAGS}) == 222
    assert {*originals.SAME} - ours == {"--config"}
    assert not ours & FLAGS.keys(), "a setting of ours is no flag without effect"


@pytest.mark.parametrize("flag", originals.flags())
def test_a_flag_without_effect_is_taken_with_one_warning(flag: str) -> None:
    argv = (flag, "7") if originals.flags()[flag] else (flag,)
    plain, settings = settings_of(), settings_of(*argv)
    assert settings.values == plain.values
    [note] = settings.notes
    assert str(note).startswith(f"{flag}: {flag}: has no effect: ")
    assert not settings.doubts


def test_all_of_them_start_it_at_once() -> None:
    argv = [
        word
        for flag, value in FLAGS.items()
        for word in ((flag, "http://h/v1") if value else (flag,))
    ]
    assert settings_of(*argv, "--default-backend", "echo").default_backend == "echo"


def test_flags_for_keys_and_addresses_work_and_are_warned_of() -> None:
    settings = settings_of("--gemini-api-key", "AIza-secret", "--gemini-api-base-url=http://h:1/x")
    gemini = settings.backend("gemini")
    assert gemini.keys == ("AIza-secret",)
    assert gemini.base_url == "http://h:1/x"
    [note] = settings.notes
    assert "GEMINI_API_KEY" in str(note)
    assert "secret" not in str(note)


def test_the_idle_agents_settings_are_read_from_flag_variable_and_file(tmp_path: Path) -> None:
    switch, seconds = "disable_stale_acp_agent_kills", "stale_acp_agent_kill_idle_seconds"
    (tmp_path / "p.yaml").write_text(f"{switch}: true\n{seconds}: 60\n")
    in_file = settings_of("--config", "p.yaml")
    in_variables = settings_of("--config", "p.yaml", STALE_ACP_AGENT_KILL_IDLE_SECONDS="70")
    by_flag = settings_of(
        "--stale-acp-agent-kill-idle-seconds",
        "80",
        "--disable-stale-acp-agent-kills",
        STALE_ACP_AGENT_KILL_IDLE_SECONDS="70",
    )
    assert (settings_of().values[switch], settings_of().values[seconds]) == (False, 3600)
    assert (in_file.values[switch], in_file.values[seconds]) == (True, 60)
    assert in_variables.values[seconds] == 70
    assert (by_flag.values[switch], by_flag.values[seconds]) == (True, 80)
    with pytest.raises(ConfigError, match="604800"):
        settings_of("--stale-acp-agent-kill-idle-seconds", "604801")


def nested(paths: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for path, value in paths.items():
        *sections, name = path.split(".")
        target = out
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    return out


def test_a_file_with_every_key_of_the_originals_starts_it(tmp_path: Path) -> None:
    import yaml

    paths: dict[str, Any] = {
        option.path.replace("*", "anything"): 7
        for option in OPTIONS
        if not option.path.startswith(("(", "backends."))
    }
    sections = {path.rpartition(".")[0] for path in paths}
    tree = nested({path: value for path, value in paths.items() if path not in sections})
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree))
    settings = load(Sources(config_file=file))
    assert settings.values == {**load(Sources()).values}
    reasons = {option.why for option in OPTIONS if not option.path.startswith(("(", "backends."))}
    assert {note.message.removeprefix("has no effect: ") for note in settings.notes} == reasons
    assert len(settings.notes) == len(reasons), "one warning for each reason"


def test_a_file_as_the_originals_ship_it_starts_with_warnings(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(AS_SHIPPED)
    settings = load(Sources(config_file=file, environment={"OPENAI_API_KEY": "sk-1"}))
    assert settings.default_backend == "openai"
    assert settings.whole("failure_handling.max_failover_hops") == 20
    assert not settings.doubts
    assert 10 < len(settings.notes) < 30
    told = "\n".join(map(str, settings.notes))
    for part in ("backends.openai_codex", "backends.openai.identity", "session.", "resilience."):
        assert part in told


def test_a_key_of_the_originals_that_is_misspelt_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("memory:\n  avialable: true\n")
    with pytest.raises(ConfigError, match=r":2: memory.avialable: .*did you mean 'available'"):
        load(Sources(config_file=file))


def test_a_variable_of_the_originals_is_warned_of() -> None:
    [note] = settings_of(PLANNING_PHASE_ENABLED="true").notes
    assert str(note).startswith("environment variable PLANNING_PHASE_ENABLED: ")
    assert settings_of(APP_URL="https://app.example", PLANNING_PHASE_ENABLED="").notes == ()


def test_a_second_client_key_of_the_file_is_one_of_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("auth:\n  api_keys: [one-key]\n  auth_token: another\n")
    assert load(Sources(config_file=file)).client_keys == ("one-key", "another")


def test_a_misspelt_flag_is_refused_with_the_nearest_of_theirs() -> None:
    with pytest.raises(ConfigError, match="did you mean '--enable-sandboxing'"):
        parse(["--enable-sandboxin"])
