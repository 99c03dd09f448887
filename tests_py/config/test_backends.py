"""Which backends a configuration makes, and who of them answers by default."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from llm_proxy.backends.app_config import AppConfig
from llm_proxy.backends.catalog import CATALOG, QUIRKS, Row
from llm_proxy.config.errors import ConfigError
from llm_proxy.config.load import Sources, load
from llm_proxy.config.plugin_view import plugin_view
from llm_proxy.config.settings import Settings
from llm_proxy.config.snapshot import snapshot

KEYED = [row for row in CATALOG.values() if row.key_env and row.base_url]


def configured(
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
    plugins: tuple[str, ...] = (),
    ollama: bool = False,
) -> Settings:
    return load(Sources({}, environment or {}, {}, file, plugins, lambda url: ollama))


def yaml_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "proxy.yaml"
    path.write_text(text)
    return path


def test_without_anything_the_built_in_answerer_serves() -> None:
    settings = configured()
    assert [(b.name, b.kind) for b in settings.backends] == [("echo", "echo")]
    assert settings.default_backend == "echo"


def test_an_ollama_on_this_machine_serves_when_nothing_is_configured() -> None:
    settings = configured(ollama=True)
    assert settings.default_backend == "ollama"
    assert settings.backend("ollama").base_url == "http://127.0.0.1:11434/v1"


@pytest.mark.parametrize("row", KEYED, ids=lambda row: row.type)
def test_a_key_alone_makes_its_backend_ready(row: Row) -> None:
    settings = configured({row.key_env: "key-of-the-test"}, ollama=False)
    backend = settings.backend(row.type)
    assert backend.base_url == row.base_url
    assert backend.keys == ("key-of-the-test",)
    assert backend.auth == row.auth
    assert CATALOG[settings.default_backend].key_env == row.key_env


@pytest.mark.parametrize(
    ("row", "variable"),
    [(row, variable) for row in CATALOG.values() for variable in row.url_env],
    ids=lambda value: value if isinstance(value, str) else value.type,
)
def test_a_base_url_variable_moves_its_backend(row: Row, variable: str) -> None:
    settings = configured({row.key_env: "k", variable: "http://127.0.0.1:9/deep/v9/"})
    assert settings.backend(row.type).base_url == "http://127.0.0.1:9/deep/v9"


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9/v1"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9/v1"),
        ("https://host.example/v1/", "https://host.example/v1"),
        ("http://[::1]:9/openai", "http://[::1]:9/openai"),
    ],
)
def test_a_base_url_without_a_path_gets_the_usual_one(given: str, made: str) -> None:
    assert configured({"OPENAI_API_BASE_URL": given}).backend("openai").base_url == made


def test_numbered_keys_make_a_pool_and_an_instance_each() -> None:
    settings = configured(
        {"OPENAI_API_KEY": "a", "OPENAI_API_KEY_2": "b", "OPENAI_API_KEY_17": "Bearer c"}
    )
    keys = {b.name: b.keys for b in settings.backends if b.type == "openai"}
    assert keys == {"openai": ("a", "b", "c"), "openai.2": ("b",), "openai.17": ("c",)}


def test_the_first_configured_in_catalog_order_is_the_default() -> None:
    settings = configured({"GEMINI_API_KEY": "g", "ANTHROPIC_API_KEY": "a"})
    assert settings.default_backend == "anthropic"
    assert "ANTHROPIC_API_KEY" in str(settings.origins["backends.default_backend"])


def test_a_named_default_carries_its_model() -> None:
    settings = configured({"OPENAI_API_KEY": "k", "LLM_BACKEND": "openai:gpt-5:free"})
    assert (settings.default_backend, settings.default_model) == ("openai", "gpt-5:free")


def test_the_file_makes_instances_of_any_row(tmp_path: Path) -> None:
    file = yaml_file(
        tmp_path,
        """
default_backend: mine
backends:
  openai: {type: openai, api_key: [k1, k2]}
  openai.work: {api_key: k3, api_url: "https://gateway.example/openai/v1"}
  mine:
    type: openai-compatible
    api_url: http://10.0.0.1:8080
    auth_header: X-Token
    headers: {x-team: blue, x-floor: 7}
    models: [m1, m2]
    quirks: [nine_char_ids]
""",
    )
    settings = configured(file=file)
    assert settings.default_backend == "mine"
    mine = settings.backend("mine")
    assert mine.base_url == "http://10.0.0.1:8080/v1"
    assert (mine.auth.header, mine.auth.prefix) == ("x-token", "")
    assert mine.headers == {"x-team": "blue", "x-floor": "7"}
    assert mine.models == ("m1", "m2")
    assert mine.quirks == ("nine_char_ids",)
    assert settings.backend("openai").keys == ("k1", "k2")
    work = settings.backend("openai.work")
    assert (work.base_url, work.keys) == ("https://gateway.example/openai/v1", ("k3",))


def test_the_environments_key_outranks_the_files(tmp_path: Path) -> None:
    file = yaml_file(tmp_path, "backends:\n  openai: {api_key: from-file}\n")
    assert configured({"OPENAI_API_KEY": "from-env"}, file).backend("openai").keys == ("from-env",)


def test_an_installed_plugin_backend_can_be_named(tmp_path: Path) -> None:
    file = yaml_file(
        tmp_path, "default_backend: mine\nbackends:\n  mine.2: {timeout: 9, extra: {region: eu}}\n"
    )
    settings = configured(file=file, plugins=("mine",))
    assert [(b.name, b.kind, b.type) for b in settings.backends] == [
        ("mine.2", "python", "mine"),
        ("mine", "python", "mine"),
    ]
    assert settings.backend("mine.2").own == {"timeout": 9.0, "extra": {"region": "eu"}}


def test_plugins_are_given_the_configuration_in_their_contracts_shape(tmp_path: Path) -> None:
    file = yaml_file(
        tmp_path,
        "default_backend: mine\nmodel_aliases: {fast: mine}\n"
        "backends:\n  mine: {api_key: [k1, k2], api_url: http://h/v1, extra: {region: eu}}\n",
    )
    config = AppConfig(plugin_view(configured(file=file, plugins=("mine",))))
    mine = config.backends.lookup("mine")
    assert mine is not None
    assert (mine.api_key, mine.api_url, mine.extra) == ("k1", "http://h/v1", {"region": "eu"})
    assert config.get("backends.default_backend") == "mine"
    assert config.model_aliases[0].pattern == "fast"
    assert config.proxy_timeout == 300


def test_an_installed_plugin_does_not_answer_unasked() -> None:
    assert configured(plugins=("mine",)).default_backend == "echo"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_beyond_this_machine_only_with_client_keys(host: str) -> None:
    with pytest.raises(ConfigError, match="API_KEYS"):
        configured({"APP_HOST": host})
    assert configured({"APP_HOST": host, "API_KEYS": "k"}).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
@pytest.mark.parametrize("keys", [{}, {"API_KEYS": "k"}], ids=["no keys", "keys"])
def test_switching_auth_off_beyond_this_machine_is_refused(host: str, keys: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        configured({"APP_HOST": host, "DISABLE_AUTH": "1", **keys})
    [problem] = caught.value.problems
    assert problem.key == "host"
    for part in (host, "auth.disable_auth", "127.0.0.1"):
        assert part in problem.message


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_switching_auth_off_on_this_machine_asks_no_key(host: str) -> None:
    settings = configured({"APP_HOST": host, "API_KEYS": "k", "DISABLE_AUTH": "1"})
    assert (settings.host, settings.client_keys) == (host, ())


@pytest.mark.parametrize("name", ["http://a.example", "a.example:8000", "a b", "", "*.example"])
def test_an_allowed_host_is_a_name_alone(name: str, tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(f"allowed_hosts: [{name!r}]\n")
    with pytest.raises(ConfigError, match="allowed_hosts"):
        load(Sources(config_file=file))


@pytest.mark.parametrize("path", ["trusted_ips", "trusted_proxies"])
def test_a_trusted_address_is_an_address(path: str) -> None:
    with pytest.raises(ConfigError, match=rf"auth\.{path}: 'nginx' is not an address"):
        configured({path.upper(): "10.0.0.0/8,nginx"})


def test_both_names_of_the_client_keys_are_read() -> None:
    settings = configured({"API_KEYS": "a,b", "LLM_INTERACTIVE_PROXY_API_KEY": "c"})
    assert settings.client_keys == ("a", "b", "c")


def test_the_admin_apis_keys_are_its_own() -> None:
    names = {"LLM_PROXY_ADMIN_KEYS": "a", "ADMIN_API_KEYS": "b", "API_KEYS": "c"}
    settings = configured(names)
    assert settings.admin_keys == ("a", "b")
    assert json.loads(snapshot(settings))["auth"]["admin_keys"] == ["a", "b"]
    assert configured({**names, "DISABLE_AUTH": "1"}).admin_keys == ()
    with pytest.raises(ConfigError, match=r"auth\.admin_keys: holds a key of auth\.api_keys"):
        configured({"LLM_PROXY_ADMIN_KEYS": "c", "API_KEYS": "c"})


def test_the_snapshot_holds_what_the_engine_asks_for() -> None:
    settings = configured({"ANTHROPIC_API_KEY": "k", "APP_PORT": "0", "API_KEYS": "c"})
    made = json.loads(snapshot(settings))
    assert made["port"] == 0
    assert made["auth"]["api_keys"] == ["c"]
    assert made["default_backend"] == "anthropic"
    assert made["timeouts"]["connect"] == 5
    assert made["backends"] == [
        {
            "name": "anthropic",
            "type": "anthropic",
            "kind": "http",
            "format": "anthropic-messages",
            "base_url": "https://api.anthropic.com/v1",
            "auth_header": "x-api-key",
            "auth_prefix": "",
            "keys": ["k"],
            "key_policy": "round-robin",
            "headers": {},
            "models": [],
            "models_path": "",
            "cloud_models_url": "",
            "only_models": [],
            "vendor_prefixes": ["anthropic/"],
            "model_names": {},
            "timeout": 0.0,
            "client_headers": True,
            "loop_guard": True,
            "routing_cost": 1e6,
            "routing_priority": 0.0,
            "quirks": {},
        }
    ]


def test_every_quirk_of_the_catalog_is_one_the_engine_knows() -> None:
    for row in CATALOG.values():
        assert set(row.quirks) <= set(QUIRKS)


def test_no_key_shows_in_a_repr() -> None:
    settings = configured({"OPENAI_API_KEY": "sk-very-secret", "API_KEYS": "client-secret"})
    assert "secret" not in repr(settings)


def test_a_personal_login_is_configured_once_and_needs_no_entry_of_its_own(tmp_path: Path) -> None:
    one = yaml_file(tmp_path, "backends:\n  a-oauth.mine: {credentials_path: /a}\n")
    settings = configured(file=one, plugins=("a-oauth",))
    assert [b.name for b in settings.backends if b.kind == "python"] == ["a-oauth.mine"]
    two = yaml_file(tmp_path, "backends:\n  a-oauth.1: {}\n  a-oauth.2: {}\n")
    with pytest.raises(ConfigError, match=r"backends\.a-oauth\.2.*'a-oauth\.1' is one already"):
        configured(file=two, plugins=("a-oauth",))


def test_a_backends_time_limit_has_its_variable(tmp_path: Path) -> None:
    file = yaml_file(tmp_path, "backends:\n  openai: {timeout: 5, api_key: k}\n")
    assert configured(file=file).backend("openai").timeout == 5
    assert configured({"OPENAI_TIMEOUT": "7"}, file).backend("openai").timeout == 7
    with pytest.raises(ConfigError, match=r"OPENAI_TIMEOUT.*'soon'"):
        configured({"OPENAI_TIMEOUT": "soon"}, file)


def test_a_row_in_another_format_carries_its_key_as_that_format_does(tmp_path: Path) -> None:
    text = "backends:\n  mine: {type: openai-compatible, api_url: 'http://h', FORMAT}\n"
    for given, header in (
        ("format: anthropic-messages", "x-api-key"),
        ("format: gemini-generate", "x-goog-api-key"),
        ("format: openai-responses", "authorization"),
        ("format: anthropic-messages, auth_header: x-token", "x-token"),
    ):
        file = yaml_file(tmp_path, text.replace("FORMAT", given))
        assert configured(file=file).backend("mine").auth.header == header


def test_a_header_set_to_nothing_is_not_sent(tmp_path: Path) -> None:
    file = yaml_file(
        tmp_path,
        "backends:\n  openrouter: {api_key: k, headers: {http-referer: '', x-title: mine}}\n",
    )
    assert configured(file=file).backend("openrouter").headers == {"x-title": "mine"}


def test_a_server_of_two_formats_is_one_backend(tmp_path: Path) -> None:
    settings = configured({"OPENCODE_GO_API_KEY": "k"})
    assert [backend.name for backend in settings.backends] == ["opencode-go"]
    made = json.loads(snapshot(settings))["backends"]
    assert [(b["name"], b["format"], b["auth_header"]) for b in made] == [
        ("opencode-go", "openai-chat", "authorization"),
        ("opencode-go", "anthropic-messages", "x-api-key"),
    ]
    assert "minimax-m3" in made[1]["only_models"] and not made[0]["only_models"]


def test_a_local_server_without_a_key_is_given_one(tmp_path: Path) -> None:
    settings = configured({"OLLAMA_API_BASE_URL": "http://127.0.0.1:1"})
    assert settings.backend("ollama").keys == ("ollama",)


def test_a_file_an_instance_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "openai.work.yaml").write_text("connector: openai\napi_key: work-key\n")
    (tmp_path / "anthropic.a.b.yaml").write_text("api_key: [one, two]\napi_url: http://h:1/v1\n")
    settings = configured({"BACKEND_INSTANCES_DIR": str(tmp_path)})
    assert settings.backend("openai.work").keys == ("work-key",)
    assert settings.backend("anthropic.a.b").keys == ("one", "two")
    assert settings.backend("anthropic.a.b").base_url == "http://h:1/v1"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("openai.yaml", "api_key: k\n", "must be called BACKEND.NAME.yaml"),
        ("opnai.work.yaml", "api_key: k\n", "no backend is called 'opnai'; did you mean"),
        ("openai.work.yaml", "connector: anthropic\n", "the file's name says openai"),
        ("openai.work.yaml", "api_kye: k\n", "openai.work.yaml:1"),
        ("openai.main.yaml", "api_key: k\n", "is configured twice"),
    ],
)
def test_a_wrong_instance_file_is_named(name: str, text: str, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "instances"
    folder.mkdir()
    (folder / name).write_text(text)
    main = yaml_file(tmp_path, "backends: {openai.main: {api_key: k}}\n")
    with pytest.raises(ConfigError) as raised:
        configured({"BACKEND_INSTANCES_DIR": str(folder)}, main)
    assert message in str(raised.value)


def test_a_folder_of_instances_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        configured({"BACKEND_INSTANCES_DIR": str(tmp_path / "none")})


def test_what_a_backend_costs_is_told_to_the_engine_and_may_stand_under_extra(
    tmp_path: Path,
) -> None:
    file = yaml_file(
        tmp_path,
        "routing: {model_only_missing_cost: 7, model_only_missing_priority: 3}\n"
        "backends:\n"
        "  openai: {api_key: k, routing_cost: 1.5, extra: {routing_priority: 9}}\n"
        "  groq: {api_key: k}\n"
        "  mine: {type: hosted, extra: {routing_cost: 2, other: kept}}\n",
    )
    settings = configured(file=file, plugins=("hosted",))
    made = {b["name"]: b for b in json.loads(snapshot(settings))["backends"]}
    costs = {name: (b["routing_cost"], b["routing_priority"]) for name, b in made.items()}
    assert costs["openai"] == (1.5, 9)
    assert costs["groq"] == (7, 3)
    assert costs["mine"] == (2, 3)
    assert settings.backend("mine").own["extra"] == {"routing_cost": 2, "other": "kept"}


def test_a_key_of_the_file_may_be_a_variables(tmp_path: Path) -> None:
    file = yaml_file(
        tmp_path,
        "auth: {api_keys: ['$CLIENTS']}\n"
        "backends:\n  openai: {api_key: ['${FIRST}', sk-$plain]}\n  groq: {api_key: $SECOND}\n",
    )
    environment = {"FIRST": "one", "SECOND": "two", "CLIENTS": "three"}
    settings = configured(environment, file)
    assert settings.backend("openai").keys == ("one", "sk-$plain")
    assert settings.backend("groq").keys == ("two",)
    assert settings.client_keys == ("three",)


def test_routes_that_name_nobody_are_told(tmp_path: Path) -> None:
    file = yaml_file(
        tmp_path,
        "backends: {openai: {api_key: k}}\n"
        "model_aliases: {fast: '[weight=2]groq:llama^openai:gpt', near: llama3:8b}\n"
        "failover_routes: {safe: {elements: ['openai:gpt', 'anthropic:claude?top_k=1']}}\n",
    )
    doubts = [str(doubt) for doubt in configured(file=file).doubts if "name" in doubt.message]
    near, fast, safe = sorted(doubts, key=len)
    assert near.startswith(f"{file}:2: model_aliases.near: no backend is called 'llama3', so ")
    assert fast == (
        f"{file}:2: model_aliases.fast: 'groq' is not configured, so 'groq:llama' is a model's "
        "name to the default backend; set GROQ_API_KEY"
    )
    assert safe == (
        f"{file}:3: failover_routes.safe: 'anthropic' is not configured, so 'anthropic:claude' is "
        "a model's name to the default backend; set ANTHROPIC_API_KEY"
    )
