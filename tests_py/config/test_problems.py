"""A wrong configuration ends in a message that names the place, the key and what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from llm_proxy.cli import main
from llm_proxy.cli.arguments import parse
from llm_proxy.config.errors import ConfigError
from llm_proxy.config.load import Sources, load

# The file's text, then what the message must hold: place, key, and the way out.
BROKEN_FILES: list[tuple[str, list[str]]] = [
    ("hots: 127.0.0.1\n", [":1:", "hots", "did you mean 'host'?", "Known:"]),
    ("port: eight\n", [":1:", "port", "'eight'", "whole number from 0 to 65535"]),
    ("port: 70000\n", [":1:", "port", "70000", "65535"]),
    ("port: true\n", [":1:", "port", "'True'", "whole number"]),
    ("host: 127.0.0.1\nport: [1]\n", [":2:", "port", "whole number"]),
    ("auth:\n  api_kyes: [a]\n", [":2:", "auth.api_kyes", "did you mean 'api_keys'?"]),
    ("auth:\n  api_keys:\n    a: b\n", [":2:", "auth.api_keys", "what is there", "list of texts"]),
    ("auth: yes\n", [":1:", "auth", "NAME: VALUE"]),
    ("auth:\n  disable_auth: maybe\n", [":2:", "auth.disable_auth", "'maybe'", "true or false"]),
    ("logging:\n  level: LOUD\n", [":2:", "logging.level", "'LOUD'", "DEBUG", "CRITICAL"]),
    ("timeouts:\n  connect: -1\n", [":2:", "timeouts.connect", "-1", "seconds from 0"]),
    ("timeouts:\n  conect: 1\n", [":2:", "timeouts.conect", "did you mean 'connect'?"]),
    ("host: a\nhost: b\n", [":2:", "host", "line 1"]),
    ("port: 1\n  host: 2\n", [":2:", "not YAML"]),
    ("- a\n- b\n", [":1:", "NAME: VALUE"]),
    ("backends:\n  openai:\n    api_ur: x\n", [":3:", "backends.openai.api_ur", "'api_url'"]),
    ("backends:\n  openai: sk-1\n", [":2:", "backends.openai", "api_url: URL"]),
    ("backends:\n  a:\n    type: opnai\n", [":3:", "backends.a.type", "did you mean 'openai'?"]),
    ("backends:\n  nobody: {}\n", [":2:", "backends.nobody", "no backend is called 'nobody'"]),
    ("backends:\n  v: {type: vllm}\n", [":2:", "backends.v.api_url", "VLLM_API_BASE_URL"]),
    (
        "backends:\n  openai:\n    api_url: api.openai.com\n",
        [":3:", "backends.openai.api_url", "'api.openai.com'", "https://host"],
    ),
    (
        "backends:\n  openai:\n    api_url: http://me:secret@host/v1\n",
        [":3:", "backends.openai.api_url", "api_key"],
    ),
    (
        "backends:\n  openai:\n    quirks: [telepathy]\n",
        [":3:", "backends.openai.quirks", "telepathy", "developer_role"],
    ),
    (
        "backends:\n  openai:\n    format: opnai-chat\n",
        [":3:", "backends.openai.format", "anthropic-messages"],
    ),
    (
        "backends:\n  gemini-oauth-auto: {}\n",
        [":2:", "gemini-oauth-auto", "pip install llm-interactive-proxy[oauth]"],
    ),
    (
        "backends:\n  openai:\n    extra: {a: b}\n",
        [":3:", "backends.openai.extra", "plugin backends only"],
    ),
    ("default_backend: openai\n", [":1:", "default_backend", "OPENAI_API_KEY"]),
    ("model_aliases:\n  gpt(: openai\n", [":1:", "model_aliases", "regular expression"]),
    ("host: 0.0.0.0\n", [":1:", "host", "API_KEYS", "127.0.0.1"]),
    (
        "host: 0.0.0.0\nauth: {api_keys: [k]}\naccess_mode: {mode: single_user}\n",
        [":1:", "host", "single_user", "multi_user"],
    ),
    ("access_mode:\n  mode: multi_user\n", [":2:", "access_mode.mode", "API_KEYS"]),
    ("access_mode:\n  mode: many\n", [":2:", "access_mode.mode", "'many'", "multi_user"]),
    (
        "backends:\n  openai:\n    formats: {gemini: [m]}\n",
        [":3:", "backends.openai.formats", "gemini-generate"],
    ),
    (
        "backends:\n  openai:\n    headers: {Authorization: x}\n",
        [":3:", "backends.openai.headers", "auth_header"],
    ),
    (
        "backends:\n  openai:\n    headers: {Transfer-Encoding: chunked}\n",
        [":3:", "backends.openai.headers", "Transfer-Encoding", "leave it out"],
    ),
    (
        "routing: {disable_backend_ids: true, disable_backend_names: true,"
        " disable_model_names: true}\n",
        [":1:", "routing.disable_model_names", "leave one of them"],
    ),
    (
        "routing:\n  model_only_model_overrides: {gpt: cheapest}\n",
        [":2:", "model_only_model_overrides", "'cheapest'", "cost, priority"],
    ),
    (
        "backends:\n  openai: {routing_cost: cheap}\n",
        [":2:", "backends.openai.routing_cost", "'cheap'", "a number"],
    ),
    (
        "backends:\n  ollama: {cloud_models_url: ollama.com}\n",
        [":2:", "backends.ollama.cloud_models_url", "'ollama.com'", "https://host/api/tags"],
    ),
    (
        "backends:\n  my openai: {type: openai-compatible, api_url: 'http://h/v1'}\n",
        [":2:", "backends.my openai", "letters, digits"],
    ),
    (
        "backends:\n  a:b: {type: openai-compatible, api_url: 'http://h/v1'}\n",
        [":2:", "backends.a:b", "letters, digits"],
    ),
    ("static_route: a||b\n", [":1:", "backends.static_route", "character 3", "backend:model"]),
    ("model_aliases:\n  fast: a|b^c\n", [":1:", "model_aliases", "'fast'", "cannot be mixed"]),
    ("model_aliases:\n  f(.*): a\\2\n", [":1:", "model_aliases", "has 1 groups"]),
    (
        "failover_routes:\n  safe: {elements: ['echo:a', 'echo:a|echo:b']}\n",
        [":1:", "failover_routes.safe", "an element is one leg"],
    ),
    (
        "backends:\n  openai: {api_key: $NO_SUCH_VARIABLE}\n",
        [":2:", "backends.openai.api_key", "the environment has no NO_SUCH_VARIABLE"],
    ),
    ("logging:\n  format: xml\n", [":2:", "logging.format", "'xml'", "json"]),
    ("models:\n  cache_seconds: 0\n", [":2:", "models.cache_seconds", "from 1"]),
]


@pytest.mark.parametrize(("text", "expected"), BROKEN_FILES, ids=[text for text, _ in BROKEN_FILES])
def test_a_broken_file_gives_a_message_to_act_on(
    text: str, expected: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(Sources(config_file=file))
    assert len(caught.value.problems) == 1, caught.value
    message = str(caught.value)
    assert message.startswith(str(file))
    for part in expected:
        assert part in message


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("port: x\nhots: y\n")
    with pytest.raises(ConfigError) as caught:
        load(Sources(config_file=file, environment={"PROXY_TIMEOUT": "soon"}))
    assert [problem.key for problem in caught.value.problems] == ["port", "hots", "proxy_timeout"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"APP_PORT": "eight"}, ["environment variable APP_PORT", "port", "'eight'"]),
        ({"DISABLE_AUTH": "perhaps"}, ["DISABLE_AUTH", "'perhaps'", "true", "no"]),
        ({"MODEL_ALIASES": "gpt"}, ["MODEL_ALIASES", "JSON"]),
        ({"LLM_BACKEND": "claude"}, ["LLM_BACKEND", "no backend is called 'claude'"]),
        ({"OPENAI_API_BASE_URL": "nowhere"}, ["OPENAI_API_BASE_URL", "'nowhere'"]),
    ],
)
def test_a_broken_variable_is_named(environment: dict[str, str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Sources(environment=environment))
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), BROKEN_FILES, ids=[text for text, _ in BROKEN_FILES])
def test_check_config_says_it_and_fails(
    text: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(text)
    assert main(["check-config", "--config", str(file)]) == 2
    said = capsys.readouterr()
    assert not said.out
    [line] = said.err.splitlines()
    assert line.startswith(f"llm-proxy: {file}")
    assert all(part in line for part in expected)


def test_many_users_are_not_served_with_one_users_login(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("backends:\n  qwen-oauth: {}\nauth: {api_keys: [k]}\n")
    plugins = ("qwen-oauth",)
    load(Sources(config_file=file, plugin_backends=plugins))
    with pytest.raises(ConfigError, match=r":2: backends\.qwen-oauth: .*single_user mode only"):
        load(
            Sources(
                environment={"LLM_PROXY_ACCESS_MODE": "multi_user"},
                config_file=file,
                plugin_backends=plugins,
            )
        )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--prot", "1"], ["--prot", "did you mean '--port'?"]),
        (["--port"], ["--port", "expected one argument"]),
        (["--port", "x"], ["--port", "'x'"]),
        (["--model-alias", "gpt"], ["--model-alias", "NAME=MODEL"]),
        (["--openai-api-key", "sk-1"], ["OPENAI_API_KEY", "command line"]),
        (["--anthropic-api-key=sk-1"], ["ANTHROPIC_API_KEY", "command line"]),
    ],
)
def test_a_broken_flag_is_named(argv: list[str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(argv)
    for part in expected:
        assert part in str(caught.value)
    assert "sk-1" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(Sources(config_file=tmp_path / "none.yaml"))
