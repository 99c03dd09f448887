"""The commands that print and leave."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from llm_proxy import __version__
from llm_proxy.cli import main
from llm_proxy.config.table import SETTINGS


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("module", ["cli", "src.core.cli", "llm_proxy.cli"])
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
    assert words["io_threads"] == ["0", "default"]
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
        "import sys; from llm_proxy.cli.commands import Configuration;"
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
