"""Every command and program shown in README and docs is run, as shown but for the port."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.conftest import program
from llm_proxy.config.load import Sources, load
from llm_proxy.rings.runtime.manifest import read_manifests
from repo import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
ADDRESS = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Shown:
    page: str
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.text.splitlines()[0][:60]}"

    def words(self) -> tuple[dict[str, str], list[str]]:
        """The variables before a command, and its words."""
        environment: dict[str, str] = {}
        parts = shlex.split(self.text)
        while parts and re.match(r"^[A-Z_]+=", parts[0]):
            name, _, value = parts.pop(0).partition("=")
            environment[name] = value
        return environment, parts


def blocks() -> Iterator[Shown]:
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text()):
            yield Shown(page.name, language, text)


def commands() -> Iterator[Shown]:
    """One a line, continued lines joined."""
    for block in blocks():
        if block.language in ("bash", "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                if line.strip() and not line.startswith("#"):
                    yield Shown(block.page, "bash", line.strip())


def starting_with(*first: str) -> list[Shown]:
    return [shown for shown in commands() if shown.words()[1][0] in first]


CLIENTS = ("curl", "claude", "codex", "gemini", "aider", "opencode")
OURS = ("llm-proxy", "python")
# `pip install .` is tests_py/codebase/test_package.py.
KNOWN = (*CLIENTS, *OURS, "./dev", "pip")


def test_every_command_shown_is_run_by_a_test() -> None:
    for shown in commands():
        assert shown.words()[1][0] in KNOWN, f"{shown}: nobody runs it"
    assert [shown.text for shown in starting_with("pip")] == ["pip install ."]


def test_only_known_languages_are_shown() -> None:
    for block in blocks():
        assert block.language in ("", "bash", "python", "yaml", "json", "cpp"), str(block)


async def run(command: list[str], environment: Mapping[str, str], folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.mark.parametrize("shown", starting_with(*CLIENTS), ids=str)
async def test_a_client_shown_gets_its_answer(shown: Shown, tmp_path: Path) -> None:
    environment, parts = shown.words()
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(STAND_INS[parts[0]])
    async with program(folder=tmp_path) as proxy:
        for block in blocks():
            if block.page == shown.page and block.language == "json" and "provider" in block.text:
                (tmp_path / "opencode.json").write_text(block.text.replace(ADDRESS, proxy.url))
        moved = {name: value.replace(ADDRESS, proxy.url) for name, value in environment.items()}
        arguments = [word.replace(ADDRESS, proxy.url) for word in parts[1:]]
        said = await run([sys.executable, str(stand_in), *arguments], moved, tmp_path)
    assert "Hello" in said


PROGRAMS = [block for block in blocks() if block.language == "python"]


@pytest.mark.parametrize("shown", PROGRAMS, ids=str)
async def test_a_python_program_shown_gets_its_answer(shown: Shown, tmp_path: Path) -> None:
    async with program(folder=tmp_path) as proxy:
        code = shown.text.replace(ADDRESS, proxy.url)
        paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
        said = await run([sys.executable, "-c", code], paths, tmp_path)
    assert "Hello" in said


@pytest.mark.parametrize("shown", starting_with(*OURS), ids=str)
def test_a_command_of_ours_shown_succeeds(shown: Shown, tmp_path: Path) -> None:
    environment, parts = shown.words()
    ours = parts[0] == "llm-proxy"
    module, arguments = ("llm_proxy.cli", parts[1:]) if ours else (parts[2], parts[3:])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(path for path in sys.path if path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("shown", starting_with("./dev"), ids=str)
def test_a_verb_of_dev_shown_exists(shown: Shown) -> None:
    listed = subprocess.run([ROOT / "dev"], capture_output=True, text=True, check=True, cwd=ROOT)
    verbs = set(re.findall(r"^  (\w+)", listed.stdout, re.M))
    assert len(verbs) == 16
    assert shown.words()[1][1] in verbs


RUNS = [shown for shown in starting_with("./dev") if shown.words()[1][1] == "run"]


@pytest.mark.parametrize("shown", RUNS, ids=str)
async def test_the_flags_and_variables_shown_for_run_start_a_proxy(
    shown: Shown, tmp_path: Path
) -> None:
    environment, parts = shown.words()
    async with program(*parts[2:], environment=environment, folder=tmp_path) as proxy:
        assert proxy.port > 0


FILES = [block for block in blocks() if block.language == "yaml"]


@pytest.mark.parametrize("shown", FILES, ids=str)
def test_a_configuration_file_shown_is_good(shown: Shown, tmp_path: Path) -> None:
    if shown.text.startswith("plugins:\n  - "):  # a manifest of ring plugins
        (tmp_path / "manifest.yaml").write_text(shown.text)
        entries = read_manifests(tmp_path)
        assert [entry.problem for entry in entries if entry.problem] == []
        assert any(entry.enabled for entry in entries)
        return
    file = tmp_path / "proxy.yaml"
    file.write_text(shown.text)
    assert load(Sources(config_file=file)).default_backend


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert "://" in target or (page.parent / target).exists(), target


# A machine that runs the tests may have neither curl nor the agents: these understand the same
# words and speak to the proxy as those do (`./dev agents` runs the real ones).
STAND_INS = {
    "curl": """
import sys, httpx
arguments = iter(sys.argv[1:])
url, body, headers = "", None, {}
for word in arguments:
    if word == "-d":
        body = next(arguments)
    elif word == "-H":
        name, _, value = next(arguments).partition(": ")
        headers[name] = value
    else:
        assert word.startswith("http"), word
        url = word
reply = httpx.request("POST" if body else "GET", url, content=body, headers=headers)
assert reply.status_code == 200, reply.text
print(reply.text)
""",
    "claude": """
import os, sys, httpx
from anthropic import Anthropic
base = os.environ["ANTHROPIC_BASE_URL"]
assert sys.argv[1] == "-p"
httpx.head(base + "/api/hello")
client = Anthropic(base_url=base, auth_token=os.environ["ANTHROPIC_AUTH_TOKEN"], api_key=None)
ask = [{"role": "user", "content": sys.argv[2]}]
with client.beta.messages.stream(
    model="claude-sonnet-4-5", max_tokens=32000, messages=ask
) as stream:
    print(stream.get_final_message().content[0].text)
""",
    "codex": """
import os, re, sys
from openai import OpenAI
assert sys.argv[1] == "exec"
given = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == "-c"]
assert given[0] == "model_provider=proxy" and 'wire_api="responses"' in given[1], given
base = re.search('base_url="([^"]*)"', given[1])[1]
key = os.environ[re.search('env_key="([^"]*)"', given[1])[1]]
client = OpenAI(base_url=base, api_key=key)
ask = [{"role": "user", "content": [{"type": "input_text", "text": sys.argv[-1]}]}]
with client.responses.stream(model="gpt-5.5", input=ask, store=False) as stream:
    stream.until_done()
    print(stream.get_final_response().output_text)
""",
    "gemini": """
import os, sys
from google import genai
base = os.environ["GOOGLE_GEMINI_BASE_URL"]
client = genai.Client(api_key=os.environ["GEMINI_API_KEY"], http_options={"base_url": base})
assert sys.argv[1:3] == ["--skip-trust", "-m"] and sys.argv[4] == "-p"
for chunk in client.models.generate_content_stream(model=sys.argv[3], contents=sys.argv[5]):
    print(chunk.text or "", end="")
""",
    "aider": """
import os, sys
from openai import OpenAI
client = OpenAI(base_url=os.environ["OPENAI_API_BASE"], api_key=os.environ["OPENAI_API_KEY"])
words = sys.argv[1:]
model, ask = words[words.index("--model") + 1], words[words.index("--message") + 1]
assert model.startswith("openai/")
for chunk in client.chat.completions.create(
    model=model.removeprefix("openai/"), messages=[{"role": "user", "content": ask}], stream=True
):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="")
""",
    "opencode": """
import json, sys
from openai import OpenAI
provider, _, model = sys.argv[3].partition("/")
assert sys.argv[1:3] == ["run", "-m"]
entry = json.load(open("opencode.json"))["provider"][provider]
assert model in entry["models"] and entry["npm"] == "@ai-sdk/openai-compatible"
client = OpenAI(base_url=entry["options"]["baseURL"], api_key=entry["options"]["apiKey"])
for chunk in client.chat.completions.create(
    model=model, messages=[{"role": "user", "content": sys.argv[4]}], stream=True
):
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="")
""",
}
