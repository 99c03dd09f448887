"""What users get wrong: each ends in one line that says what, where and what to do; exit status 2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from llm_proxy.cli import main

GUARD = """
plugins:
  - name: Guard
    hook: pre_flight
    entrypoint: guard:Guard
"""
FUNCTION = "async def guard(ctx):\n    return None\n"


@dataclass(frozen=True)
class Stumble:
    name: str
    argv: str  # words of the command line
    says: tuple[str, ...]  # parts of the one line
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def in_file(name: str, text: str | bytes, *says: str, argv: str = "check-config") -> Stumble:
    return Stumble(name, f"{argv} --config p.yaml", says, {"p.yaml": text})


def in_env(name: str, text: str | bytes, *says: str) -> Stumble:
    return Stumble(name, "check-config", says, {".env": text})


STUMBLES = [
    # ---- the command line
    Stumble("a command misspelt", "chek-config", ("chek-config", "did you mean 'check-config'?")),
    Stumble("no such command", "frobnicate", ("frobnicate", "check-config", "plugins")),
    Stumble("a flag misspelt", "--prot 1", ("--prot", "did you mean '--port'?")),
    Stumble("a flag of another command", "--explain", ("--explain", "llm-proxy config")),
    Stumble("a command's flag misspelt", "config --schem", ("--schem", "did you mean '--schema'?")),
    Stumble(
        "a flag of the originals misspelt",
        "--enable-planing-phase",
        ("did you mean '--enable-planning-phase'?",),
    ),
    Stumble("a flag without its value", "--port", ("--port", "expected one argument")),
    Stumble("a flag for a value", "--port --host x", ("--port", "expected one argument")),
    Stumble("a number that is none", "--port eight", ("--port", "'eight'", "from 0 to 65535")),
    Stumble("a word for another", "--log-level loud", ("--log-level", "'loud'", "WARNING")),
    Stumble("an alias without a model", "--model-alias gpt", ("--model-alias", "NAME=MODEL")),
    Stumble("a key as a flag", "--openai-api-key sk-1", ("OPENAI_API_KEY", ".env")),
    Stumble("plugins with a wrong word", "plugins chekc x", ("llm-proxy plugins check NAME",)),
    Stumble("a backend nobody installed", "plugins check nobody", ("nobody",)),
    Stumble("an import of nobody", "import lite f", ("'lite'", "did you mean 'litellm'?")),
    Stumble("an import of no file", "import litellm none.yaml", ("none.yaml", "No such file")),
    Stumble("an unknown shell", "completion bsh", ("'bsh'", "did you mean 'bash'?")),
    # ---- files that cannot be read or written
    Stumble("no such configuration", "--config none.yaml", ("none.yaml", "No such file")),
    Stumble("a folder as configuration", "--config .", (".: ", "Is a directory")),
    Stumble("no such .env", "--env-file none.env", ("--env-file", "none.env")),
    Stumble("a folder as .env", "--env-file /", ("/", "Is a directory")),
    in_env("an .env that is not text", b"A=1\nB=\xff\n", ".env:2", "not UTF-8"),
    in_file("a configuration that is not text", b"port: 1\nhost: \xff\n", "p.yaml:2", "not UTF-8"),
    in_file("a file with NUL", b"port: 1\nhost: \0\n", "p.yaml", "not YAML"),
    in_file("a tab", "backends:\n\topenai: {}\n", "p.yaml:2", "tab", "blanks"),
    in_file("bad YAML", "port: 1\n  host: x\n", "p.yaml:2", "not YAML"),
    in_file("a date that is none", "host: 2024-13-45\n", "p.yaml", "not YAML"),
    Stumble("a log nowhere", "--log /nope/x", ("--log", "/nope/x", "mkdir -p /nope")),
    Stumble("a log in a file", "--log f/x", ("--log", "f is not a folder"), {"f": ""}),
    Stumble("a folder as log", "--log .", ("--log", "folder")),
    Stumble("a capture nowhere", "--capture-file /nope/c", ("--capture-file", "mkdir -p /nope")),
    Stumble("an access log nowhere", "--access-log-file /nope/a", ("--access-log-file", "/nope")),
    Stumble("a state file nowhere", "--plugins-state /nope/s", ("--plugins-state", "/nope")),
    Stumble("a state file that is none", "--plugins-state f", ("SQLite",), {"f": "hello world, I am"}),
    # ---- .env and variables
    in_env("an .env without =", "OPENAI_API_KEY sk-1\n", ".env:1", "NAME=VALUE"),
    in_env("a name alone", "A=1\n\n# mine\nOPENAI_API_KEY\n", ".env:4", "OPENAI_API_KEY"),
    in_env("a wrong value in .env", "\nAPP_PORT=x\n", ".env:2", "APP_PORT", "'x'"),
    in_env("a variable misspelt", "OPENAI_API_KYE=sk-1\n", ".env:1", "did you mean OPENAI_API_KEY?"),
    Stumble(
        "a variable of ours misspelt",
        "check-config",
        ("APP_PROT", "did you mean APP_PORT?"),
        environment={"APP_PROT": "1"},
    ),
    Stumble(
        "no switch", "check-config", ("DISABLE_AUTH", "'perhaps'"), environment={"DISABLE_AUTH": "perhaps"}
    ),
    # ---- the configuration
    in_file("a setting misspelt", "hots: x\n", "p.yaml:1", "hots", "did you mean 'host'?"),
    in_file("a key of the originals misspelt", "memroy: {}\n", "p.yaml:1", "did you mean 'memory'?"),
    in_file(
        "an inner key of the originals misspelt",
        "edit_precision:\n  enabeld: true\n",
        "p.yaml:2", "edit_precision.enabeld", "did you mean 'enabled'?",
    ),
    in_file(
        "a backend without type",
        "backends:\n  mine: {api_url: 'http://127.0.0.1:1/v1'}\n",
        "p.yaml:2", "backends.mine", "type: openai-compatible",
    ),
    in_file("a backend misspelt", "backends: {opnai: {}}\n", "p.yaml:1", "did you mean 'openai'?"),
    in_file("a backend without key", "backends:\n  openai: {}\n", "p.yaml:2", "OPENAI_API_KEY"),
    in_file(
        "LiteLLM's variables",
        "backends:\n  openai: {api_key: os.environ/MY_KEY}\n",
        "p.yaml:2", "backends.openai.api_key", "write ${MY_KEY}",
    ),
    in_file("a variable nobody set", "backends:\n  openai: {api_key: '${NONE}'}\n", "p.yaml:2", "NONE"),
    in_file(
        "a key cut into letters",
        "backends:\n  openai: {api_key: [s, k]}\n",
        "p.yaml:2", "backends.openai.api_key", "single letter",
    ),
    in_file("a key as number", "backends:\n  openai: {api_key: 1234567}\n", "p.yaml:2", "quote it"),
    in_file("an octal key", "backends:\n  openai: {api_key: 0123}\n", "p.yaml:2", "quotes"),
    in_file("a client key as number", "auth:\n  api_keys: [1234567]\n", "p.yaml:2", "quote it"),
    in_file("a version as number", "model_aliases:\n  fast: 1.10\n", "p.yaml:1", "'1.10'"),
    in_file("a date as text", "backends: {openai: {headers: {x-v: 2024-01-31}}}\n", "p.yaml:1", "quotes"),
    in_file("no for a name", "static_route: no\n", "p.yaml:1", "quotes"),
    in_file(
        "an unknown quirk",
        "backends: {openai: {api_key: sk, quirks: [developer_rol]}}\n",
        "p.yaml:1", "quirks", "did you mean 'developer_role'?",
    ),
    in_file(
        "an alias to nobody",
        "backends: {openai: {api_key: sk-1}}\nmodel_aliases:\n  fast: opnai:gpt\n",
        "p.yaml:3", "model_aliases.fast", "did you mean 'openai'?",
    ),
    in_file(
        "an alias to a backend without key",
        "backends: {openai: {api_key: sk-1}}\nmodel_aliases:\n  fast: groq:llama\n",
        "p.yaml:3", "model_aliases.fast", "set GROQ_API_KEY",
    ),
    in_file(
        "a route to nobody",
        "backends: {openai: {api_key: sk-1}}\nfailover_routes:\n  r: {elements: [opnai:gpt]}\n",
        "p.yaml:3", "failover_routes.r", "did you mean 'openai'?",
    ),
    in_file(
        "an alias of an alias",
        "backends: {openai: {api_key: sk-1}}\nmodel_aliases:\n  a: b\n  b: openai:gpt\n",
        "p.yaml:3", "model_aliases.a", "write openai:gpt",
    ),
    in_file(
        "an instance twice",
        "backends:\n  openai: {api_key: sk-1}\n  openai: {api_key: sk-2}\n",
        "p.yaml:3", "line 2",
    ),
    Stumble("an address that is none", "--host 300.1.1.1", ("--host", "'300.1.1.1'")),
    Stumble("open to all by accident", "--host 0.0.0.0", ("--host", "API_KEYS", "127.0.0.1")),
    Stumble(
        "open to all on purpose",
        "--host 0.0.0.0 --disable-auth",
        ("--host", "--disable-auth", "127.0.0.1"),
    ),
    Stumble("two services at one port", "--port 9 --anthropic-port 9", ("--anthropic-port", "9")),
    # ---- plugins
    Stumble("no such plugin", "--plugins Guradrail", ("--plugins", "Guradrail")),
    Stumble("a plugin misspelt", "--plugins stok", ("--plugins", "did you mean 'stock'?")),
    Stumble("no such plugins folder", "--plugins-dir none", ("--plugins-dir", "none")),
    Stumble("a file as plugins folder", "--plugins-dir f", ("--plugins-dir", "file"), {"f": ""}),
    Stumble("a plugins folder without manifest", "--plugins-dir q", ("manifest.yaml",), {"q/x": ""}),
    Stumble(
        "a manifest that is not YAML",
        "--plugins-dir q",
        ("q/manifest.yaml:3", "not YAML"),
        {"q/manifest.yaml": "plugins:\n  - name: [\n"},
    ),
    Stumble(
        "a manifest with a strange key at its top",
        "--plugins-dir q",
        ("q/manifest.yaml", "did you mean 'plugins'?"),
        {"q/manifest.yaml": "plugin: []\n"},
    ),
    Stumble(
        "a manifest's key misspelt",
        "--plugins-dir q",
        ("q/manifest.yaml:6", "'Guard'", "did you mean 'priority'?"),
        {"q/manifest.yaml": GUARD + "    priorty: 1\n", "q/guard.py": FUNCTION},
    ),
    Stumble(
        "a ring that does not exist",
        "--plugins-dir q",
        ("q/manifest.yaml:3", "'Guard'", "preflight", "pre_flight"),
        {"q/manifest.yaml": GUARD.replace("pre_flight", "preflight"), "q/guard.py": FUNCTION},
    ),
    Stumble(
        "an entry point without a file",
        "--plugins-dir q",
        ("q/manifest.yaml:3", "'Guard'", "guard.py"),
        {"q/manifest.yaml": GUARD},
    ),
    Stumble(
        "an entry point that does not import",
        "--plugins-dir q",
        ("q/manifest.yaml:3", "'Guard'", "nosuchmodule"),
        {"q/manifest.yaml": GUARD, "q/guard.py": "import nosuchmodule\n"},
    ),
    Stumble(
        "an entry point that is not in its file",
        "--plugins-dir q",
        ("q/manifest.yaml:3", "'Guard'"),
        {"q/manifest.yaml": GUARD, "q/guard.py": FUNCTION},
    ),
    Stumble(
        "a plugin that is not async",
        "--plugins-dir q",
        ("q/manifest.yaml:3", "'Guard'", "async def"),
        {
            "q/manifest.yaml": GUARD,
            "q/guard.py": "from core.plugin_sdk import BasePlugin\n"
            "class Guard(BasePlugin):\n    def execute(self, ctx):\n        return None\n",
        },
    ),
]  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if "API_KEY" in name:
            monkeypatch.delenv(name)
    yield tmp_path


def write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)


def checked(stumble: Stumble) -> list[str]:
    """Its words; one that would serve is looked at by check-config, which says the same."""
    words = stumble.argv.split()
    return (
        ["check-config", *words] if words[0].startswith("--") and words != ["--explain"] else words
    )


@pytest.mark.parametrize("stumble", STUMBLES, ids=lambda stumble: stumble.name)
def test_a_stumble_ends_in_one_line_to_act_on(
    stumble: Stumble,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write(here, stumble.files)
    for name, value in stumble.environment.items():
        monkeypatch.setenv(name, value)
    assert main(checked(stumble)) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert line.startswith("llm-proxy: ")
    for part in stumble.says:
        assert part in line
    assert "good" not in said.out


STARTS = [stumble for stumble in STUMBLES if stumble.argv.startswith("--")]
NEEDS_A_PROCESS = [
    stumble
    for stumble in STARTS
    if any(
        word in stumble.argv for word in ("--plugins", "--log ", "--capture", "--access", "--host")
    )
]


@pytest.mark.parametrize("stumble", NEEDS_A_PROCESS, ids=lambda stumble: stumble.name)
def test_a_start_that_stumbles_says_the_same_and_leaves(stumble: Stumble, tmp_path: Path) -> None:
    write(tmp_path, stumble.files)
    done = started(*stumble.argv.split(), folder=tmp_path, environment=stumble.environment)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert done.stdout == ""
    for part in stumble.says:
        assert part in line


@pytest.mark.parametrize("flag", ["--port", "--anthropic-port"])
def test_a_port_that_is_taken_is_named(flag: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        rest = ("--port", "0") if flag != "--port" else ()
        done = started(flag, port, *rest, folder=tmp_path)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert flag in line
    assert port in line
    assert "Address already in use" in line


def test_a_file_with_a_byte_order_mark_is_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here, {"p.yaml": b"\xef\xbb\xbfport: 1234\n", ".env": b"\xef\xbb\xbfLOG_LEVEL=warn\n"})
    assert main(["config", "--config", "p.yaml"]) == 0
    words = {
        line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line
    }
    assert words["port"][0] == "1234"
    assert words["logging.level"][0] == "WARNING"


def started(
    *argv: str, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    paths = ":".join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-m", "llm_proxy", *argv],
        cwd=folder,
        env={"PYTHONPATH": paths, "PATH": os.environ["PATH"], **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
