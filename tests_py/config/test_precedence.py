"""Command line over environment over file over default, for every setting of the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_proxy.cli.arguments import parse
from llm_proxy.config.load import Sources, load
from llm_proxy.config.settings import Settings
from llm_proxy.config.table import SETTINGS, Setting, Value
from repo import ROOT

BY_PATH = {setting.path: setting for setting in SETTINGS}

# Three values a kind: as flags and environment spell them, and as the file holds them.
SPELLINGS: dict[str, list[tuple[str, object]]] = {
    "text": [("10.0.0.7", "10.0.0.7"), ("10.0.0.8", "10.0.0.8"), ("10.0.0.9", "10.0.0.9")],
    "whole": [("2001", 2001), ("2002", 2002), ("2003", 2003)],
    "number": [("1.5", 1.5), ("2", 2.0), ("-3.5", -3.5)],
    "seconds": [("1.5", 1.5), ("2.5", 2.5), ("3.5", 3.5)],
    "switch": [("true", True), ("false", False), ("true", True)],
    "texts": [("a,b", ["a", "b"]), ("c", ["c"]), ("d , e", ["d", "e"])],
    "routes": [
        ('{"a":{"elements":["b"],"first_token":1}}', {"a": {"elements": ["b"], "first_token": 1}}),
        ('{"c":{"elements":["d"]}}', {"c": {"elements": ["d"], "first_token": 0}}),
        ('{"e":{"elements":["f"]}}', {"e": {"elements": ["f"], "first_token": 0}}),
    ],
    "mapping": [('{"a":{"b":1}}', {"a": {"b": 1}}), ('{"c":1}', {"c": 1}), ('{"d":2}', {"d": 2})],
    "names": [
        ('{"a":"cost"}', {"a": "cost"}),
        ('{"b":"priority"}', {"b": "priority"}),
        ('{"c":"round_robin"}', {"c": "round_robin"}),
    ],
    "aliases": [('{"a":"b"}', {"a": "b"}), ('{"c":"d"}', {"c": "d"}), ("e=f", {"e": "f"})],
}
OVERRIDES: dict[str, list[tuple[str, object]]] = {
    "auth.trusted_ips": [
        ("10.0.0.7,::1", ["10.0.0.7", "::1"]),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("fd00::/8 , 10.0.0.7", ["fd00::/8", "10.0.0.7"]),
    ],
    "auth.trusted_proxies": [
        ("127.0.0.1,::1", ["127.0.0.1", "::1"]),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("fd00::/8 , 10.0.0.7", ["fd00::/8", "10.0.0.7"]),
    ],
    "auth.brute_force_protection.max_failed_attempts": [("2", 2), ("3", 3), ("4", 4)],
    "auth.brute_force_protection.block_multiplier": [("1.5", 1.5), ("2", 2.0), ("3", 3.0)],
    "failure_handling.max_attempts": [("2", 2), ("3", 3), ("4", 4)],
    "failure_handling.max_failover_hops": [("2", 2), ("3", 3), ("4", 4)],
    "backends.instances_dir": [
        (str(ROOT / folder), str(ROOT / folder)) for folder in ("docs", "cpp", "bench")
    ],
    "command_prefix": [("#:", "#:"), ("//!", "//!"), ("@#", "@#")],
    "io_threads": [("2", 2), ("3", 3), ("4", 4)],
    "logging.level": [("DEBUG", "DEBUG"), ("warning", "WARNING"), ("ERROR", "ERROR")],
    "backends.default_backend": [
        ("echo:a", "echo:a"),
        ("echo:b", "echo:b"),
        ("ollama", "ollama"),
    ],
}


def spellings(setting: Setting) -> list[tuple[str, object]]:
    if setting.kind == "text" and setting.choices and setting.path not in OVERRIDES:
        words = (*setting.choices, *setting.choices)[1:4]
        return [(word, word) for word in words]
    return OVERRIDES.get(setting.path, SPELLINGS[setting.kind])


def nested(path: str, value: object) -> object:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value


def as_value(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def loaded(
    tmp_path: Path,
    file: object = None,
    env: dict[str, str] | None = None,
    argv: tuple[str, ...] = (),
) -> Settings:
    config_file = None
    if file is not None:
        config_file = tmp_path / "proxy.yaml"
        config_file.write_text(json.dumps(file))  # JSON is YAML
    # Keys, so that any address may be listened on.
    environment = {"API_KEYS": "client-key-of-the-test", **(env or {})}
    return load(Sources(parse(argv).flags, environment, {}, config_file))


def flag_words(setting: Setting, flag: str, text: str) -> tuple[str, ...]:
    return (flag,) if setting.kind == "switch" else (flag, text)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_the_file_sets_it_and_the_message_says_the_line(setting: Setting, tmp_path: Path) -> None:
    if setting.path == "auth.api_keys":
        settings = load(Sources(config_file=_file(tmp_path, nested(setting.path, ["a", "b"]))))
        assert settings.values[setting.path] == ("a", "b")
        return
    _, value = spellings(setting)[1]
    settings = loaded(tmp_path, nested(setting.path, value))
    if setting.path == "host":
        assert settings.host == value
    assert settings.values[setting.path] == as_value(value)
    assert settings.origins[setting.path].source == "config"
    assert settings.origins[setting.path].where.endswith("proxy.yaml:1")


def _file(tmp_path: Path, tree: object) -> Path:
    path = tmp_path / "proxy.yaml"
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("setting", "variable"),
    [(setting, variable) for setting in SETTINGS for variable in setting.env],
    ids=lambda value: value if isinstance(value, str) else value.path,
)
def test_the_environment_outranks_the_file(setting: Setting, variable: str, tmp_path: Path) -> None:
    (text, value), (_, other) = spellings(setting)[:2]
    settings = load(
        Sources(
            environment={"API_KEYS": "client-key", variable: text}
            if setting.path != "auth.api_keys"
            else {variable: text},
            config_file=_file(tmp_path, nested(setting.path, other)),
        )
    )
    assert settings.values[setting.path] == as_value(value)
    assert str(settings.origins[setting.path]) == f"environment ({variable})"


@pytest.mark.parametrize(
    ("setting", "flag"),
    [(setting, flag) for setting in SETTINGS for flag in setting.flags],
    ids=lambda value: value if isinstance(value, str) else value.path,
)
def test_the_command_line_outranks_the_environment(
    setting: Setting, flag: str, tmp_path: Path
) -> None:
    (env_text, _), _, (text, value) = spellings(setting)
    if setting.kind == "switch":
        env_text, value = ("false" if setting.flag_value else "true"), setting.flag_value
    env = {setting.env[0]: env_text} if setting.env else {}
    settings = loaded(tmp_path, env=env, argv=flag_words(setting, flag, text))
    assert settings.values[setting.path] == as_value(value)
    assert str(settings.origins[setting.path]) == f"cli ({flag})"


@pytest.mark.parametrize(
    ("setting", "flag", "word"),
    [(setting, flag, word) for setting in SETTINGS for flag, word in setting.words],
    ids=lambda value: value if isinstance(value, str) else value.path,
)
def test_a_flag_may_stand_for_a_value(
    setting: Setting, flag: str, word: str, tmp_path: Path
) -> None:
    settings = loaded(tmp_path, argv=(flag,))
    assert settings.values[setting.path] == setting.from_text(word)
    assert str(settings.origins[setting.path]) == f"cli ({flag})"


def test_every_setting_has_its_default_and_says_so(tmp_path: Path) -> None:
    settings = load(Sources())
    for setting in SETTINGS:
        if setting.path != "backends.default_backend":
            assert settings.values[setting.path] == setting.default
            assert settings.origins[setting.path].source == "default"


@pytest.mark.parametrize(
    ("setting", "variable"),
    [(setting, variable) for setting in SETTINGS for variable in setting.off_env],
    ids=lambda value: value if isinstance(value, str) else value.path,
)
def test_a_variable_may_mean_the_contrary(setting: Setting, variable: str, tmp_path: Path) -> None:
    for text, value in (("yes", False), ("0", True)):
        settings = loaded(tmp_path, env={variable: text})
        assert settings.values[setting.path] is value
        assert str(settings.origins[setting.path]) == f"environment ({variable})"


def test_a_variable_that_is_set_but_empty_says_nothing(tmp_path: Path) -> None:
    assert loaded(tmp_path, env={"APP_PORT": "  "}).port == 8000


def test_the_env_file_stands_below_the_environment() -> None:
    settings = load(
        Sources(
            environment={"APP_PORT": "1111"}, env_file={"APP_PORT": "2222", "LOG_LEVEL": "debug"}
        )
    )
    assert settings.port == 1111
    assert settings.text("logging.level") == "DEBUG"


def test_proxy_timeout_sets_both_waits_on_a_provider_unless_they_are_given(tmp_path: Path) -> None:
    settings = loaded(tmp_path, env={"PROXY_TIMEOUT": "7", "LLM_PROXY_TIMEOUT_STREAM_IDLE": "9"})
    assert settings.seconds("timeouts.first_byte") == 7
    assert settings.seconds("timeouts.stream_idle") == 9
    assert settings.origins["timeouts.first_byte"].source == "derived"


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("auth.disable_auth", "YES", True),
        ("auth.disable_auth", "off", False),
        ("auth.api_keys", " a , ,b ", ("a", "b")),
        (
            "model_aliases",
            '[{"pattern":"^gpt-4$","replacement":"openai:gpt-5"}]',
            {"gpt-4": "openai:gpt-5"},
        ),
    ],
)
def test_texts_are_read_as_people_write_them(path: str, text: str, expected: Value) -> None:
    assert BY_PATH[path].from_text(text) == expected
