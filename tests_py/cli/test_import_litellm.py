"""A LiteLLM configuration becomes one of this proxy that can be read; what has no equal is said."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_proxy.cli import main
from llm_proxy.cli.import_litellm import convert
from llm_proxy.config.load import Sources, load
from llm_proxy.config.settings import Settings

CONFIG = """
model_list:
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-eu, api_base: https://eu.openai.azure.com/, api_key: os.environ/AZURE_EU, api_version: "2024-10-21", rpm: 60}
  - model_name: gpt-4o
    litellm_params: {model: azure/gpt-4o-us, api_base: https://us.openai.azure.com/, api_key: os.environ/AZURE_US, rpm: 120}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_key: os.environ/ANTHROPIC_API_KEY, temperature: 0.2}
  - model_name: bare
    litellm_params: {model: gpt-4.1-mini}
  - model_name: local
    litellm_params: {model: hosted_vllm/qwen3, api_base: http://10.0.0.5:8000/v1}
  - model_name: elsewhere
    litellm_params: {model: openai/any, api_base: http://10.0.0.6/v1, api_key: sk-elsewhere, extra_headers: {x-team: blue}}
  - model_name: bedrock
    litellm_params: {model: bedrock/claude}
  - model_name: openai/*
    litellm_params: {model: openai/*, api_key: os.environ/OPENAI_API_KEY}
router_settings:
  routing_strategy: latency-based-routing
  model_group_alias: {"gpt-4": gpt-4o, "sonnet": {model: claude, hidden: true}, "lost": nobody}
  num_retries: 2
  timeout: 30
  fallbacks: [{"claude": ["gpt-4o", "nobody"]}]
litellm_settings:
  drop_params: true
  request_timeout: 600
  default_fallbacks: [bare]
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: postgresql://h/d
environment_variables:
  REDIS_HOST: h
"""  # noqa: E501
ENVIRONMENT = {
    "AZURE_EU": "eu-key",
    "AZURE_US": "us-key",
    "ANTHROPIC_API_KEY": "ant-key",
    "OPENAI_API_KEY": "oa-key",
    "LITELLM_MASTER_KEY": "sk-master",
}


def read(tree: Any, folder: Path) -> Settings:
    file = folder / "made.yaml"
    file.write_text(yaml.safe_dump(tree))
    return load(Sources(config_file=file, environment=ENVIRONMENT))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read(convert(yaml.safe_load(CONFIG)).tree, tmp_path)


def test_deployments_become_backends_once_for_each_address_and_key(settings: Settings) -> None:
    made = {
        backend.name: (backend.type, backend.base_url, backend.keys)
        for backend in settings.backends
    }
    assert made["azure"][:1] == ("azure",)
    assert made["azure"][1].startswith("https://eu.openai.azure.com")
    assert made["azure"][2] == ("eu-key",)
    assert made["azure-2"][0] == "azure"
    assert made["azure-2"][2] == ("us-key",)
    assert made["anthropic"][2] == ("ant-key",)
    assert made["openai"][2] == ("oa-key",)
    assert made["vllm"][1] == "http://10.0.0.5:8000/v1"
    assert made["openai-compatible"][1:] == ("http://10.0.0.6/v1", ("sk-elsewhere",))
    assert settings.backend("openai-compatible").headers["x-team"] == "blue"
    assert not settings.doubts


def test_groups_become_aliases_and_routes(settings: Settings) -> None:
    aliases = settings.names("model_aliases")
    assert aliases["gpt-4o"] == "azure:gpt-4o-eu^[weight=2]azure-2:gpt-4o-us"
    assert aliases["bare"] == "openai:gpt-4.1-mini"
    assert aliases["local"] == "vllm:qwen3"
    assert aliases["^openai/(.*)$"] == "openai:\\1"
    assert aliases["gpt-4"] == aliases["gpt-4o"]
    assert aliases["sonnet"] == "claude"
    routes = settings.mapping("failover_routes")
    assert routes["claude"] == {
        "elements": ["anthropic:claude-sonnet-4-5", "azure:gpt-4o-eu", "azure-2:gpt-4o-us"],
        "first_token": 0,
    }
    assert routes["default"] == {"elements": ["openai:gpt-4.1-mini"], "first_token": 0}


def test_retries_timeouts_and_the_master_key_are_taken_over(settings: Settings) -> None:
    assert settings.whole("failure_handling.max_attempts") == 3
    assert settings.seconds("proxy_timeout") == 30
    assert settings.client_keys == ("sk-master",)


def test_what_has_no_equal_is_said() -> None:
    notes = "\n".join(convert(yaml.safe_load(CONFIG)).notes)
    for part in (
        "model_list[6] (bedrock): no backend here speaks to 'bedrock'",
        "model_list[2] (claude).temperature",
        "model_list[0] (gpt-4o).api_version",
        "router_settings.routing_strategy",
        "router_settings.model_group_alias.lost: model_list has no 'nobody'",
        "fallbacks.claude: model_list has no 'nobody'",
        "litellm_settings.drop_params",
        "general_settings.database_url",
        "environment_variables: put REDIS_HOST into .env",
    ):
        assert part in notes


@pytest.mark.parametrize(
    "text",
    [
        "model_list: []",
        "model_list: [{}]",
        "model_list: [{model_name: a, litellm_params: {}}]",
        "model_list: [7, null]",
        "router_settings: [a]",
        "router_settings: {fallbacks: {a: b}, num_retries: many, model_group_alias: [a]}",
        "general_settings:",
        "litellm_settings: {num_retries: 99, cooldown_time: 600, allowed_fails: 0}",
    ],
)
def test_any_configuration_of_litellm_becomes_one_that_can_be_read(
    text: str, tmp_path: Path
) -> None:
    assert read(convert(yaml.safe_load(text)).tree, tmp_path).default_backend


def test_the_command_writes_a_file_that_only_its_owner_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "litellm.yaml").write_text(CONFIG)
    assert main(["import", "litellm", "litellm.yaml", "-o", "proxy.yaml"]) == 0
    assert "no equal: model_list[6] (bedrock)" in capsys.readouterr().err
    made = tmp_path / "proxy.yaml"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert "# no equal: general_settings.database_url" in made.read_text()
    assert main(["check-config", "--config", "proxy.yaml"]) == 0
    assert main(["import", "litellm", "litellm.yaml", "-o", "proxy.yaml"]) == 2
    assert "proxy.yaml is there already" in capsys.readouterr().err


def test_without_output_it_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.yaml").write_text(
        "model_list: [{model_name: a, litellm_params: {model: groq/b}}]"
    )
    assert main(["import", "litellm", "l.yaml"]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree == {"backends": {"groq": {}}, "model_aliases": {"a": "groq:b"}}
