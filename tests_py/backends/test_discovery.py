"""Which installed packages become backends, and what the user reads about the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from llm_proxy.backends.plugin_api import BackendPluginDefinition, PluginCompatibility
from llm_proxy.backends.registry import CORE_BACKEND_NAMES, BackendRegistry
from llm_proxy.backends.runtime import discovery
from llm_proxy.backends.runtime import discovery_state as state
from llm_proxy.backends.runtime.services import ServiceCollection


class Entry:
    """An entry point without a package."""

    def __init__(self, name: str, load: Callable[[], Any], package: str = "some-package") -> None:
        self.name, self.load, self.value = name, load, "some.module:provider"
        self.dist = SimpleNamespace(name=package)


def definition(**changes: Any) -> BackendPluginDefinition:
    fields: dict[str, Any] = {
        "backend_name": "mine",
        "factory": object,
        "plugin_name": "my-package",
        "compatibility": PluginCompatibility("0.1.0"),
    }
    return BackendPluginDefinition(**{**fields, **changes})


def provides(offered: Any) -> Callable[[], Any]:
    return lambda: lambda: offered


def raises(error: BaseException) -> Any:
    raise error


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    state.clear_plugin_metadata()
    state.clear_plugin_post_build_hooks()
    state.replace_skipped_oauth_connectors([])


@pytest.fixture
def registry() -> BackendRegistry:
    return BackendRegistry(CORE_BACKEND_NAMES)


@pytest.fixture
def discover(
    monkeypatch: pytest.MonkeyPatch, registry: BackendRegistry
) -> Callable[..., list[str]]:
    def run(*entries: Entry, core: str = "0.1.0") -> list[str]:
        monkeypatch.setattr(discovery, "_load_entry_points", lambda group: entries)
        monkeypatch.setattr(discovery, "_resolve_core_version", lambda: core)
        return discovery.discover_plugin_backends(registry=registry)

    return run


def test_plugins_are_registered_in_the_order_of_their_entry_points(
    discover: Any, registry: BackendRegistry
) -> None:
    entries = [Entry(name, provides(definition(backend_name=name))) for name in ("z", "a", "m")]
    assert discover(*entries) == ["z", "a", "m"]
    assert registry.plugin_backends() == ["z", "a", "m"]
    assert state.get_plugin_metadata("a") == state.PluginMetadataRecord("a", "my-package", "0.1.0")


def bad(**changes: Any) -> Callable[[], Any]:
    return provides(definition(**changes))


BROKEN: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (lambda: raises(ModuleNotFoundError("No module named 'gone'")), "No module named"),
    "exiting": (lambda: raises(SystemExit(3)), "SystemExit"),
    "not callable": (lambda: 7, "loaded object is not callable"),
    "raising": (
        lambda: lambda: raises(RuntimeError("boom")),
        "provider failed: RuntimeError",
    ),
    "wrong type": (provides({"backend_name": "mine"}), "strict metadata contract"),
    "look-alike": (provides(SimpleNamespace(**vars(definition()))), "strict metadata contract"),
    "no name": (bad(backend_name=" "), "backend_name is empty"),
    "no factory": (bad(factory="x"), "factory is not callable"),
    "no plugin name": (bad(plugin_name=""), "plugin_name is required"),
    "no compatibility": (bad(compatibility="0.1"), "strict metadata contract"),
    "blank minimum": (bad(compatibility=PluginCompatibility("")), "strict metadata contract"),
    "blank maximum": (
        bad(compatibility=PluginCompatibility("0.1", " ")),
        "strict metadata contract",
    ),
    "wrong hook": (bad(post_build_hook="x"), "post_build_hook must be callable"),
    "too new": (
        bad(compatibility=PluginCompatibility("9.0")),
        "requires core>=9.0",
    ),
    "too old": (bad(compatibility=PluginCompatibility("0.0.1", "0.0.9")), "supports core<=0.0.9"),
    "no version": (bad(compatibility=PluginCompatibility("abc")), "invalid version format"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_plugin_costs_one_warning_and_nothing_else(
    how: str, discover: Any, caplog: pytest.LogCaptureFixture
) -> None:
    load, said = BROKEN[how]
    with caplog.at_level(logging.WARNING):
        assert discover(Entry("mine", load), Entry("good", bad(backend_name="good"))) == ["good"]
    (warning,) = caplog.messages
    assert "'mine' from some-package" in warning
    assert said in warning
    assert state.get_plugin_metadata("mine") is None
    assert [plugin.name for plugin in discovery.skipped_plugins()] == ["mine"]


def test_the_same_import_failure_is_told_once(
    discover: Any, caplog: pytest.LogCaptureFixture
) -> None:
    load, _ = BROKEN["missing"]
    with caplog.at_level(logging.WARNING):
        assert discover(Entry("a", load), Entry("b", load), Entry("c", load)) == []
    assert len(caplog.messages) == 1
    assert len(discovery.skipped_plugins()) == 3


def test_the_entry_points_name_wins_over_the_definitions(
    discover: Any, registry: BackendRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert discover(Entry("outside", bad(backend_name="inside"))) == ["outside"]
    assert "inside" not in registry.get_registered_backends()
    assert "'outside' calls itself 'inside'" in caplog.text


@pytest.mark.parametrize("name", CORE_BACKEND_NAMES)
def test_a_core_name_cannot_be_taken(name: str, discover: Any, registry: BackendRegistry) -> None:
    before = registry.get_backend_factory(name)
    hook = bad(backend_name=name, post_build_hook=print)
    assert discover(Entry(name, hook)) == []
    assert registry.get_backend_factory(name) is before
    assert state.get_plugin_metadata(name) is None
    assert state.get_plugin_post_build_hooks() == []


def test_the_first_of_two_plugins_of_one_name_is_kept(
    discover: Any, registry: BackendRegistry
) -> None:
    first, second = bad(factory=dict), bad(factory=list)
    assert discover(Entry("mine", first), Entry("mine", second)) == ["mine"]
    assert registry.get_backend_factory("mine") is dict


def test_a_retired_name_is_not_even_loaded(discover: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        assert discover(Entry("anthropic-oauth", lambda: raises(AssertionError("loaded")))) == []
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["qwen-oauth", "gemini-oauth-plan", "QWEN_OAUTH", "extra"])
def test_personal_logins_are_left_out_in_multi_user_mode(
    name: str, discover: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROXY_EXTRACTED_BACKENDS", "other, extra")
    entry = Entry(name, bad(backend_name=name))
    assert discover(entry) == [name]
    discovery.backend_registry.unregister_backend(name)
    monkeypatch.setenv("LLM_PROXY_ACCESS_MODE", "multi_user")
    assert discover(entry, Entry("plain", bad(backend_name="plain"))) == ["plain"]
    assert state.get_skipped_oauth_connectors() == [name]


VERSIONS = {
    "0.1": (0, 1, 0),
    "v2.3": (2, 3, 0),
    ">=0.1.0": (0, 1, 0),
    "0.1.0rc1": (0, 1, 0),
    "0.1rc1": (0, 1, 1),
    "1.2.3.4": (1, 2, 3),
    "abc": None,
    " ": None,
}


@pytest.mark.parametrize("text", VERSIONS)
def test_a_version_is_its_first_three_runs_of_digits(text: str) -> None:
    assert discovery.version_tuple(text) == VERSIONS[text]


@pytest.mark.parametrize(
    ("core", "minimum", "maximum", "works"),
    [
        ("0.1.0", "0.1.0", "0.1.0", True),
        ("0.1.0", "0.1.1", None, False),
        ("1.0.1", "0.1", "1.0", False),
        ("1.0.0rc2", "1.0", None, True),
    ],
)
def test_both_ends_of_the_version_range_are_included(
    core: str, minimum: str, maximum: str | None, works: bool, discover: Any
) -> None:
    entry = Entry("mine", bad(compatibility=PluginCompatibility(minimum, maximum)))
    assert discover(entry, core=core) == (["mine"] if works else [])


def test_hooks_run_by_backend_name_and_may_fail(
    discover: Any, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[tuple[str, Any]] = []
    entries = [
        Entry(name, bad(backend_name=name, post_build_hook=hook))
        for name, hook in {
            "z": lambda provider: called.append(("z", provider)),
            "m": lambda provider: raises(RuntimeError("hook broke")),
            "a": lambda provider: called.append(("a", provider)),
        }.items()
    ]
    discover(*entries)
    with caplog.at_level(logging.WARNING):
        provider = ServiceCollection().add_instance(str, "s").build_service_provider()
    assert called == [("a", provider), ("z", provider)]
    assert "'m'" in caplog.text
    assert "hook broke" in caplog.text
    assert provider.get_service(str) == "s"
    assert provider.get_service(int) is None
    ServiceCollection().build_service_provider(run_post_build_hooks=False)
    assert len(called) == 2
