"""How a backend comes to be, is asked whether it works, and goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from llm_proxy.backends.app_config import AppConfig
from llm_proxy.backends.base import LLMBackend
from llm_proxy.backends.registry import BackendRegistry
from llm_proxy.backends.runtime.factory import BackendFactory
from llm_proxy.backends.runtime.lifecycle import MAX_BACKENDS, REST_SECONDS, BackendLifecycleManager
from llm_proxy.backends.runtime.services import ServiceCollection
from llm_proxy.contracts import exceptions as errors
from llm_proxy.contracts.services import IServiceProvider
from llm_proxy.testing import BackendProbe

WHOLE = {"choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}


class Backend(LLMBackend):
    made: list[Backend]
    fails: Exception | None = None
    raises: Exception | None = None

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.init: dict[str, Any] = {}
        self.shut_down = False
        type(self).made.append(self)

    async def initialize(self, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        if self.fails is not None:
            raise self.fails
        self.init = kwargs

    async def chat_completions(self, request_data: Any, **kwargs: Any) -> Any:
        self.asked = request_data
        if self.raises is not None:
            raise self.raises
        return WHOLE

    async def shutdown(self) -> None:
        self.shut_down = True


@pytest.fixture
def kind() -> type[Backend]:
    return type("Fresh", (Backend,), {"made": []})


CONFIG = {
    "backends": {
        "mine": {
            "api_key": "k",
            "api_url": "https://up/v1",
            "timeout": 7,
            "models": ["a"],
            "credentials_path": "c.json",
            "extra": {"region": "eu", "api_keys": ["k", "l"]},
        },
        "bare": {},
    }
}


async def test_a_backend_is_made_by_position_and_initialised_with_the_flattened_config(
    kind: type[Backend],
) -> None:
    async with BackendProbe({"mine": kind, "bare": kind}, CONFIG) as probe:
        mine = await probe.bridge.backends.acquire("mine.inst1")
        bare = await probe.bridge.backends.acquire("bare")
        bridge = probe.bridge
        assert mine.arguments == (bridge.client, bridge.config, bridge.translation)
    assert mine.init == {
        "api_key": "k",
        "api_base_url": "https://up/v1",
        "models": ["a"],
        "credentials_path": "c.json",
        "region": "eu",
        "api_keys": ["k", "l"],
    }
    assert (mine.backend_type, mine.api_url) == ("mine.inst1", "https://up/v1")
    assert bare.init == {"api_key": None}
    assert mine.shut_down
    assert bare.shut_down


async def test_a_backend_starts_once_however_many_ask_at_once(kind: type[Backend]) -> None:
    async with BackendProbe({"mine": kind}) as probe:
        answers = await asyncio.gather(*(probe.ask("mine", "x") for _ in range(20)))
    assert {answer.text for answer in answers} == {"hi"}
    assert len(kind.made) == 1


async def test_a_client_that_leaves_during_the_start_does_not_stop_it_for_others(
    kind: type[Backend],
) -> None:
    async with BackendProbe({"mine": kind}) as probe:
        first, running = probe.start("mine", "x")
        second, _ = probe.start("mine", "x")
        await asyncio.sleep(0)
        running.cancel()
        assert (await second.settle()).text == "hi"
    assert not first.settled
    assert len(kind.made) == 1


async def test_a_start_that_fails_is_tried_again_by_the_next_request(kind: type[Backend]) -> None:
    kind.fails = OSError("no network")
    async with BackendProbe({"mine": kind}) as probe:
        answer = await probe.ask("mine", "x")
        assert answer.failure is not None
        assert answer.failure["status"] == 502
        assert "no network" not in answer.failure["message"]
        assert "the log of the proxy says why" in answer.failure["message"]
        kind.fails = None
        assert (await probe.ask("mine", "x")).text == "hi"


async def test_a_backend_nobody_registered_says_so() -> None:
    async with BackendProbe({}) as probe:
        unknown = await probe.ask("nobody", "x")
        oauth = await probe.ask("qwen-oauth", "x")
    assert unknown.failure is not None
    assert unknown.failure["status"] == 404
    assert "'nobody' is not registered" in unknown.failure["message"]
    assert oauth.failure is not None
    assert (oauth.failure["status"], oauth.failure["code"]) == (404, "unknown_model")
    assert "pip install llm-interactive-proxy[oauth]" in oauth.failure["message"]


async def test_a_backend_that_must_wait_is_not_asked(kind: type[Backend]) -> None:
    async with BackendProbe({"mine": kind}) as probe:
        backend = await probe.bridge.backends.acquire("mine")
        backend.set_retry_after(30)
        answer = await probe.ask("mine", "x")
    assert answer.failure is not None
    assert answer.failure["status"] == 429
    assert 29 <= answer.failure["retry_after"] <= 30


async def test_a_backend_that_does_not_work_may_recover_once_asked(kind: type[Backend]) -> None:
    async with BackendProbe({"mine": kind}) as probe:
        backend = await probe.bridge.backends.acquire("mine")
        backend.mark_auth_invalid("expired")
        answer = await probe.ask("mine", "x")
        assert answer.failure is not None
        assert answer.failure["status"] == 503
        assert "Credentials invalid: expired" in answer.failure["message"]

        async def recovers() -> bool:
            return True

        backend._validate_runtime_credentials = recovers
        assert (await probe.ask("mine", "x")).text == "hi"


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize(("apart", "rests"), [(10.0, True), (61.0, False)])
async def test_a_key_that_is_refused_twice_in_a_minute_lets_its_backend_rest(
    kind: type[Backend], static: bool, apart: float, rests: bool
) -> None:
    now = [1000.0]
    kind.has_static_credentials = property(lambda self: static)  # type: ignore[assignment]
    async with BackendProbe({"mine": kind}) as probe:
        probe.bridge.backends._clock = lambda: now[0]

        async def refused() -> Any:
            kind.raises = errors.AuthenticationError("bad key")
            answer = await probe.ask("mine", "x")
            await probe.bridge.idle()
            kind.raises = None
            return answer.failure

        assert (await refused())["status"] == 401
        assert kind.made[0].shut_down == static
        assert (await probe.ask("mine", "x")).text == "hi"  # once may be a key that was renewed
        now[0] += apart
        assert (await refused())["status"] == 401
        answer = await probe.ask("mine", "x")
        if not (static and rests):
            assert answer.text == "hi"
            return
        assert answer.failure is not None
        assert (answer.failure["status"], answer.failure["code"]) == (503, "backend_disabled")
        assert answer.failure["retry_after"] == REST_SECONDS
        now[0] += REST_SECONDS
        assert (await probe.ask("mine", "x")).text == "hi"


async def test_the_least_used_backend_goes_when_there_are_too_many(kind: type[Backend]) -> None:
    class Maker:
        async def ensure_backend(self, name: str, config: Any, own: Any = None) -> Any:
            return kind(name)

    manager = BackendLifecycleManager(Maker(), AppConfig())
    for number in range(MAX_BACKENDS):
        await manager.acquire(f"b.{number}")
    await manager.acquire("b.0")
    await manager.acquire("one-more")
    assert "b.0" in manager.started()
    assert "b.1" not in manager.started()
    assert [backend.arguments[0] for backend in kind.made if backend.shut_down] == ["b.1"]
    await manager.shutdown()
    assert all(backend.shut_down for backend in kind.made)


async def test_models_come_from_the_running_backend_or_the_configuration(
    kind: type[Backend],
) -> None:
    async def offers(self: Any) -> list[str]:
        return ["m1", "m2"]

    kind.get_available_models_async = offers  # type: ignore[attr-defined]
    async with BackendProbe({"mine": kind}, CONFIG) as probe:
        assert (await probe.bridge.models())["mine"] == ["a"]
        await probe.bridge.backends.acquire("mine")
        assert (await probe.bridge.models())["mine"] == ["m1", "m2"]
        told: list[Any] = []
        probe.bridge.list_models(told.append)
        await probe.bridge.idle()
        assert ("mine", ["m1", "m2"]) in told[0]


async def test_a_backend_without_a_configured_list_is_started_and_asked(
    kind: type[Backend],
) -> None:
    class Broken(kind):  # type: ignore[valid-type,misc]
        async def initialize(self, **kwargs: Any) -> None:
            raise errors.AuthenticationError("log in first")

    async def offers(self: Any) -> list[str]:
        return ["m1", "m2"]

    kind.get_available_models_async = offers  # type: ignore[attr-defined]
    factories = {"mine": kind, "unnamed": kind, "broken": Broken}
    async with BackendProbe(factories, {"backends": {"mine": {}}}) as probe:
        for _ in range(2):
            assert await probe.bridge.models() == {
                "mine": ["m1", "m2"],
                "unnamed": ["m1", "m2"],
                "broken": [],
            }
    assert sum(isinstance(made, Broken) for made in kind.made) == 1


async def test_a_backend_is_told_the_session_of_its_request(kind: type[Backend]) -> None:
    async with BackendProbe({"mine": kind}) as probe:
        await probe.ask("mine", "x", session_id="s-7")
    assert kind.made[0].asked.session_id == "s-7"


async def test_a_hook_finds_the_services_of_the_proxy() -> None:
    async with BackendProbe({}) as probe:
        provider: IServiceProvider = probe.bridge.services
        assert isinstance(provider, IServiceProvider)
        assert provider.get_required_service(AppConfig) is probe.bridge.config
        assert provider.get_service(BackendFactory) is not None
        assert isinstance(provider.get_service(BackendRegistry), BackendRegistry)
        with pytest.raises(errors.ServiceResolutionError):
            provider.get_required_service(int)


async def test_services_live_as_long_as_their_lifetime_says() -> None:
    disposed: list[str] = []

    class Scoped:
        async def dispose(self) -> None:
            disposed.append("scoped")

    services = ServiceCollection()
    services.add_singleton(list).add_transient(dict).add_scoped(Scoped)
    provider = services.build_service_provider()
    assert provider.get_service(list) is provider.get_service(list)
    assert provider.get_service(dict) is not provider.get_service(dict)
    with pytest.raises(RuntimeError):
        provider.get_service(Scoped)
    scope = provider.create_scope()
    inner = scope.service_provider
    assert inner.get_service(Scoped) is inner.get_service(Scoped)
    assert inner.get_service(list) is provider.get_service(list)
    await scope.dispose()
    assert disposed == ["scoped"]
