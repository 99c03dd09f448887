"""The commands that print and leave."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llm_proxy import __version__
from llm_proxy.cli import main
from llm_proxy.cli.banner import banner, show
from llm_proxy.cli.configuration import Configuration
from llm_proxy.config.table import GROUPS, SETTINGS


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("module", ["cli", "src.core.cli", "llm_proxy.cli", "llm_proxy"])
def test_the_command_line_answers_under_every_name_users_type(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout == f"llm-proxy {__version__}\n"
    assert done.stderr == ""


def test_explain_shows_every_setting_with_its_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APP_HOST", "127.0.0.2")
    assert main(["config", "--explain", "--port", "1234"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = {line.split()[0]: line.split(None, 2)[1:] for line in lines if line}
    assert words["port"] == ["1234", "cli (--port)"]
    assert words["host"] == ["127.0.0.2", "environment (APP_HOST)"]
    assert words["io_threads"][0] == "0"
    assert words["io_threads"][1].startswith("default; ")
    assert {setting.path for setting in SETTINGS} <= set(words)


def test_explain_never_shows_a_key(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-proj-0123456789abcdefghijklmnopqrstuv")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "short")
    monkeypatch.setenv("API_KEYS", "client-key-0123456789abcdefghij")
    assert main(["config", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "...stuv" in out
    for key in ("0123456789", "short"):
        assert key not in out


def test_explain_shows_proxies_and_no_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hunter22@proxy.example:3128")
    monkeypatch.setenv("all_proxy", "socks5h://other.example")
    monkeypatch.setenv("NO_PROXY", ".internal, 10.0.0.0/8")
    (tmp_path / "proxy.yaml").write_text("network: {http_proxy: 'me:hunter22@plain.example:1'}\n")
    assert main(["config", "--explain", "--config", "proxy.yaml"]) == 0
    out = capsys.readouterr().out
    words = {line.split()[0]: line.split(None, 1)[1] for line in out.splitlines() if line}
    shown = {path: " ".join(text.split()) for path, text in words.items()}
    assert shown["network.https_proxy"] == "http://***@proxy.example:3128 environment (HTTPS_PROXY)"
    assert shown["network.all_proxy"] == "socks5h://other.example environment (all_proxy)"
    assert shown["network.no_proxy"] == ".internal, 10.0.0.0/8 environment (NO_PROXY)"
    assert shown["network.http_proxy"] == "***@plain.example:1 config (proxy.yaml:1)"
    assert "hunter22" not in out


def test_a_proxy_that_is_none_is_named_and_its_password_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://user:hunter22@proxy.example")
    assert main(["check-config"]) == 2
    said = capsys.readouterr().err
    assert "HTTPS_PROXY: network.https_proxy: " in said
    assert "must begin with http://, socks5:// or socks5h://" in said
    assert "hunter22" not in said


def test_the_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_check_config_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--default-backend", "echo:parrot"]) == 0
    assert "good. Default backend: echo:parrot" in capsys.readouterr().out


def test_check_config_names_what_is_wrong_and_fails(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "proxy.yaml").write_text("port: 1\nhots: x\n")
    assert main(["check-config", "--config", "proxy.yaml"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llm-proxy: proxy.yaml:2: hots: no such setting")


def test_a_command_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chek-config"]) == 2
    assert "did you mean 'check-config'?" in capsys.readouterr().err


def test_the_env_file_of_the_folder_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("# mine\nAPP_PORT=4321\nANTHROPIC_API_KEY='sk-ant'\n")
    assert main(["config", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "4321" in out
    assert "backend anthropic" in out


def test_another_env_file_can_be_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "other.env").write_text("APP_PORT=4322\n")
    assert main(["config", "--explain", "--env-file", "other.env"]) == 0
    assert "4322" in capsys.readouterr().out
    assert main(["config", "--explain", "--env-file", "none.env"]) == 2
    assert "none.env" in capsys.readouterr().err


def test_the_config_file_can_come_from_the_environment(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proxy.yaml").write_text("port: 4323\n")
    monkeypatch.setenv("CONFIG_FILE", "proxy.yaml")
    assert main(["config", "--explain"]) == 0
    assert "config (proxy.yaml:1)" in capsys.readouterr().out


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    for setting in SETTINGS:
        for flag in setting.flags:
            assert flag in out


def test_reading_the_configuration_imports_nothing_heavy() -> None:
    """The first reply must come within 0.6 s of the start: what is not needed is not imported."""
    code = (
        "import sys; from llm_proxy.cli.configuration import Configuration;"
        "Configuration([], {}).settings();"
        "print([m for m in ('pydantic', 'httpx', 'fastapi', 'yaml', 'dotenv') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("flag", ["-V", "--version", "version"])
def test_the_version_is_printed(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        status = main([flag])
    except SystemExit as left:
        status = int(left.code or 0)
    assert status == 0
    assert capsys.readouterr().out == f"llm-proxy {__version__}\n"


@pytest.mark.parametrize(
    ("command", "own"),
    [
        ("check-config", "what is wrong"),
        ("config", "--schema"),
        ("plugins", "check NAME"),
        ("import", "litellm FILE"),
        ("completion", "SHELL"),
        ("version", "version"),
    ],
)
def test_a_command_has_a_short_help_of_its_own(
    command: str, own: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: llm-proxy {command}")
    assert own in out
    assert len(out.splitlines()) < 20
    assert "--max-body-bytes" not in out


def test_help_groups_the_flags_and_lists_the_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    out = capsys.readouterr().out
    for title, _ in GROUPS:
        assert f"\n{title}:\n" in out
    assert "{auto,single_user,multi_user}" in out
    assert "--auth-brute-force-multiplier NUMBER" in out


def test_every_setting_is_in_one_group() -> None:
    for setting in SETTINGS:
        groups = [
            title
            for title, starts in GROUPS
            if any(
                setting.path == s or (s[-1] == "." and setting.path.startswith(s)) for s in starts
            )
        ]
        assert len(groups) == 1, setting.path


def test_the_help_of_a_flag_that_switches_off_says_what_the_flag_does() -> None:
    for setting in SETTINGS:
        if setting.kind == "switch" and setting.flags and not setting.flag_value:
            assert setting.flag_help, setting.path
            assert "the flag switches" not in setting.help


@pytest.mark.parametrize(
    "argv",
    [
        ["--port", "1234", "config", "--explain"],
        ["config", "--port", "1234"],
        ["config", "--explain", "--port=1234"],
    ],
)
def test_flags_may_stand_before_and_behind_the_command(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 0
    assert "cli (--port)" in capsys.readouterr().out


def test_explain_names_the_env_file_and_its_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("# mine\n\nAPP_PORT=4321\nGROQ_API_KEY=sk-0123\n")
    assert main(["config", "--explain"]) == 0
    out = capsys.readouterr().out
    assert "environment (APP_PORT, .env:3)" in out
    assert "environment (GROQ_API_KEY, .env:4)" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_flags(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "check-config" in out
    assert "default-backend" in out


def test_the_completion_of_bash_can_be_read_by_bash(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("this machine has no bash")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    wanted = "COMP_WORDS=(llm-proxy check); COMP_CWORD=1; _shtab_llm_proxy; echo ${COMPREPLY[@]}"
    done = subprocess.run(
        [bash, "-c", f"{script}\n{wanted}"], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["check-config"], done.stderr


@pytest.mark.parametrize(
    ("environment", "path", "value"),
    [
        ({"LOG_LEVEL": "warn"}, "logging.level", "WARNING"),
        ({"MODEL_ALIASES": "a=openai:b, c=d"}, "model_aliases", {"a": "openai:b", "c": "d"}),
        ({"LOG_USE_COLORS": "no"}, "logging.use_colors", "false"),
    ],
)
def test_variables_are_taken_as_people_write_them(
    environment: dict[str, str], path: str, value: object
) -> None:
    assert Configuration([], environment).settings().values[path] == value


def test_the_key_of_googles_own_tools_is_taken_where_there_is_no_other() -> None:
    alone = Configuration([], {"GOOGLE_API_KEY": "AIza-one"}).settings()
    both = Configuration(
        [], {"GOOGLE_API_KEY": "AIza-one", "GEMINI_API_KEY_1": "AIza-two"}
    ).settings()
    assert alone.backend("gemini").keys == ("AIza-one",)
    assert alone.default_backend == "gemini"
    assert both.backend("gemini").keys == ("AIza-two",)


def test_variables_may_stand_for_addresses_and_headers(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(
        "backends: {mine: {type: openai-compatible, api_url: '${URL}', headers: {x-team: $TEAM}}}\n"
    )
    environment = {"URL": "http://h:1/v1", "TEAM": "blue"}
    mine = Configuration(["--config", "p.yaml"], environment).settings().backend("mine")
    assert mine.base_url == "http://h:1/v1"
    assert mine.headers["x-team"] == "blue"


def test_a_variable_of_another_vendor_is_no_slip() -> None:
    others = {
        "XAI_API_KEY": "k1",
        "ZAI_API_KEY_2": "k2",
        "OPENAI_API_KEY_7": "k3",
        "APP_HOSTS": "",
        "PORT": "1",
    }
    assert not Configuration([], others).settings().doubts


def banner_of(*argv: str, rings: dict[str, list[str]] | None = None, **environment: str) -> str:
    settings = Configuration(argv, environment).settings()
    return banner(settings, 8000, 0, rings, ["proxy.yaml"])


def test_the_banner_says_with_what_it_serves_and_whom() -> None:
    text = banner_of(
        OPENAI_API_KEY="sk-secret-1", OPENAI_API_KEY_1="sk-secret-2", API_KEYS="client-secret",
        rings={"pre_flight": ["PII Masker", "Cache Check"]},
    )  # fmt: skip
    first, *rest = text.splitlines()
    assert first == f"llm-proxy {__version__} serves on http://127.0.0.1:8000"
    rows = dict(line.strip().split(": ", 1) for line in rest)
    assert rows["configuration"].strip() == "proxy.yaml"
    assert (
        rows["backends"].strip().startswith("openai (2 keys, default, https://api.openai.com/v1)")
    )
    assert rows["plugins"].strip() == "pre_flight: PII Masker, Cache Check"
    assert "64 MiB" in rows["limits"]
    assert rows["clients"].strip() == "whoever presents the client key"
    assert "http://127.0.0.1:8000/metrics" in rows["metrics"]
    assert "secret" not in text
    assert "anybody on this machine" in banner_of()


def test_the_banner_has_colours_only_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = SimpleNamespace(port=8000, anthropic_port=0, plugins=None)
    for flag, coloured in (("--log-colors", True), ("--no-log-colors", False), ("--port=1", False)):
        show(Configuration([flag], {}).settings(), server, [])  # type: ignore[arg-type]
        assert ("\033[" in capsys.readouterr().out) is coloured, flag


def test_the_banner_is_json_where_the_log_is(capsys: pytest.CaptureFixture[str]) -> None:
    server = SimpleNamespace(port=8000, anthropic_port=0, plugins=None)
    settings = Configuration(["--log-format", "json"], {"GROQ_API_KEY": "k-secret"}).settings()
    show(settings, server, ["p.yaml"])  # type: ignore[arg-type]
    [line] = capsys.readouterr().out.splitlines()
    said = json.loads(line)
    assert said["address"] == "http://127.0.0.1:8000"
    assert said["backends"] == [{"name": "groq", "keys": 1}]
    assert said["configuration"] == ["p.yaml"]
    assert "secret" not in line
