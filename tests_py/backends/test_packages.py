"""Installed packages, good and broken: the process starts every time and says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backends.packages import EXAMPLES, install, install_example
from llm_proxy.testing import BackendProbe
from repo import ROOT

_PROVIDER = """
from src.core.plugin_api import BackendPluginDefinition, PluginCompatibility
def provider():
    return BackendPluginDefinition({fields})
"""
_FIELDS = {
    "backend_name": "'mine'",
    "factory": "dict",
    "plugin_name": "'pkg'",
    "compatibility": "PluginCompatibility('0.1.0')",
}


def provider(**changes: str) -> str:
    fields = {**_FIELDS, **changes}
    return _PROVIDER.format(fields=", ".join(f"{key}={value}" for key, value in fields.items()))


_DISCOVER = """
import json, logging, sys
logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
from llm_proxy.backends.runtime.discovery import discover_backends
print(json.dumps(discover_backends()))
"""


def discover(site: Path) -> tuple[list[str], list[str]]:
    """The names a fresh process registers, and its warnings."""
    path = [str(site), str(ROOT / "python"), str(ROOT / "python" / "compat")]
    code = f"import sys; sys.path[:0] = {path!r}\n{_DISCOVER}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(run.stdout), run.stderr.splitlines()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install_example(tmp_path, "parrot_backend")
    return tmp_path


BROKEN: dict[str, tuple[str, dict[str, str], str]] = {
    "missing module": ("gone.nowhere:provider", {}, "-m pip install gone and restart"),
    "missing dependency": ("b:provider", {"b": "import not_installed_anywhere"}, "not_installed"),
    "missing name": ("b:provider", {"b": ""}, "AttributeError"),
    "syntax error": ("b:provider", {"b": "def"}, "SyntaxError"),
    "raising": ("b:provider", {"b": "def provider(): raise OSError('x')"}, "provider failed"),
    "no callable": ("b:provider", {"b": "provider = 1"}, "loaded object is not callable"),
    "wrong type": ("b:provider", {"b": "def provider(): return {}"}, "strict metadata contract"),
    "async": ("b:provider", {"b": "async def provider(): pass"}, "strict metadata contract"),
    "wrong version": (
        "b:provider",
        {"b": provider(compatibility="PluginCompatibility('99.0')")},
        "requires core>=99.0",
    ),
    "wrong hook": ("b:provider", {"b": provider(post_build_hook="7")}, "post_build_hook must be"),
}


@pytest.fixture(scope="module")
def among_broken_ones(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """What a process finds that has one good package and one for every kind of breakage."""
    site = tmp_path_factory.mktemp("site")
    for number, (how, (target, modules, _)) in enumerate(BROKEN.items()):
        name = f"broken_{number}"
        target = target.replace("b:", f"{name}:")
        named = {name: modules["b"]} if modules else {}
        install(site, f"package-{number}", {how: target}, **named)
    install_example(site, "parrot_backend")
    return discover(site)


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_package_is_warned_about_once_and_says_what_to_do(
    how: str, among_broken_ones: tuple[list[str], list[str]]
) -> None:
    _, warnings = among_broken_ones
    (warning,) = [line for line in warnings if f"'{how}' from package-" in line]
    assert BROKEN[how][2] in warning


def test_broken_packages_do_not_keep_a_good_one_from_working(
    among_broken_ones: tuple[list[str], list[str]],
) -> None:
    names, warnings = among_broken_ones
    assert names == ["parrot"]
    assert len([line for line in warnings if "was skipped" in line]) == len(BROKEN)


def test_a_package_cannot_take_a_name_of_the_core_or_of_another(site: Path) -> None:
    install(
        site,
        "greedy",
        {"openai": "greedy:provider", "parrot": "greedy:provider"},
        greedy=provider(),
    )
    names, warnings = discover(site)
    assert names == ["parrot"]
    assert [line for line in warnings if "'openai' is already registered by the core" in line]


def test_what_a_package_calls_itself_inside_gives_way_to_its_entry_point(site: Path) -> None:
    install(site, "named", {"outside": "named:provider"}, named=provider())
    names, warnings = discover(site)
    assert sorted(names) == ["outside", "parrot"]
    assert any("'outside' calls itself 'mine'" in line for line in warnings)


def test_the_examples_import_only_what_every_plugin_imports() -> None:
    for path in EXAMPLES.joinpath("parrot_backend").rglob("*.py"):
        assert "llm_proxy" not in path.read_text(encoding="utf-8").replace("llm-proxy", "")


@pytest.fixture
def parrot(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES / "parrot_backend" / "src"))
    from parrot_backend.providers import parrot

    return parrot().factory


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_parrot_repeats_and_counts(parrot: Any, stream: bool) -> None:
    config = {"backends": {"parrot": {"extra": {"greeting": "Said: "}}}}
    async with BackendProbe({"parrot": parrot}, config) as probe:
        answer = await probe.ask("parrot", "hello  world", stream=stream)
    assert answer.text == "Said: hello  world"
    bodies = [json.loads(data) for data in answer.events[:-1]] if stream else [answer.body]
    (usage,) = [body["usage"] for body in bodies if body.get("usage")]
    assert usage == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_parrot_calls_a_tool_when_told_to(parrot: Any, stream: bool) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "use the tool"}]}
    async with BackendProbe({"parrot": parrot}) as probe:
        answer = await probe.ask("parrot", {"messages": [message], "tools": [TOOL]}, stream=stream)
    bodies = [json.loads(data) for data in answer.events[:-1]] if stream else [answer.body]
    choices = [choice for body in bodies for choice in body["choices"]]
    calls = [
        call
        for choice in choices
        for call in (choice.get("delta") or choice.get("message") or {}).get("tool_calls", [])
    ]
    assert [call["function"]["name"] for call in calls] == ["look"]
    assert json.loads(calls[0]["function"]["arguments"]) == {"said": "use the tool"}
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["tool_calls"]


async def test_a_parrot_that_is_left_falls_silent(parrot: Any) -> None:
    async with BackendProbe({"parrot": parrot}) as probe:
        answer, running = probe.start("parrot", "a b c", stream=True, model="parrot-slow")
        await answer.changed()
        backend = probe.bridge.backends.started()["parrot"]
        assert backend.streams_open == 1
        running.cancel()
        await probe.bridge.idle()
        assert (backend.streams_open, backend.streams_cancelled) == (0, 1)


async def test_a_parrot_that_falls_off_says_so(parrot: Any) -> None:
    async with BackendProbe({"parrot": parrot}) as probe:
        answer = await probe.ask("parrot", "fall off")
    assert answer.failure is not None
    assert (answer.failure["status"], answer.failure["code"]) == (503, "fell_off")
