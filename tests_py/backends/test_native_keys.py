"""The keys that backends lend to the engine, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from llm_proxy.backends.app_config import AppConfig
from llm_proxy.backends.registry import BackendRegistry
from llm_proxy.backends.runtime.native_keys import NativeKeys, with_native_rows
from llm_proxy.contracts.exceptions import AuthenticationError, BackendError
from llm_proxy.native import NEVER, Credentials, NativeBackend, NativeSpec


class Lender:
    """Lends key-1, key-2, …; `ends` says until when, `answers` when it may answer."""

    def __init__(self) -> None:
        self.ends: float | None = 1000.0
        self.refused: list[str | None] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.failure: Exception | None = None

    async def credentials(self, refused: str | None = None) -> Any:
        self.refused.append(refused)
        number = len(self.refused)
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return Credentials(f"key-{number}", self.ends)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def keys_of(lender: Any, clock: Clock) -> NativeKeys:
    async def acquire(instance: str) -> Any:
        return lender

    return NativeKeys(acquire, asyncio.create_task, clock)


async def test_a_key_is_asked_for_once_until_shortly_before_its_end() -> None:
    lender, clock = Lender(), Clock()
    keys = keys_of(lender, clock)
    for now in (0.0, 500.0, 989.9):
        clock.now = now
        assert await keys.key("b", "") == ("key-1", 1_000_000)
    clock.now, lender.ends = 990.0, NEVER
    assert (await keys.key("b", ""))[0] == "key-2"
    clock.now = 1e9
    assert (await keys.key("b", ""))[0] == "key-2"
    assert lender.refused == [None, None]


async def test_all_who_ask_at_once_wait_for_one_answer() -> None:
    lender = Lender()
    lender.answers.clear()
    keys = keys_of(lender, Clock())
    asked = [asyncio.create_task(keys.key("b", "")) for _ in range(20)]
    await asyncio.sleep(0)
    asked[0].cancel()  # one who leaves takes nothing from the others
    await asyncio.sleep(0)
    lender.answers.set()
    got = await asyncio.gather(*asked[1:])
    assert {key for key, _ in got} == {"key-1"}
    assert lender.refused == [None]


async def test_a_refused_key_is_replaced_once() -> None:
    lender = Lender()
    keys = keys_of(lender, Clock())
    assert (await keys.key("b", ""))[0] == "key-1"
    got = await asyncio.gather(*(keys.key("b", "key-1") for _ in range(5)))
    assert {key for key, _ in got} == {"key-2"}
    assert (await keys.key("b", "key-1"))[0] == "key-2"
    assert lender.refused == [None, "key-1"]


async def test_a_key_without_an_end_is_not_kept() -> None:
    lender = Lender()
    lender.ends = None
    keys = keys_of(lender, Clock())
    assert await keys.key("b", "") == ("key-1", 0)
    assert await keys.key("b", "") == ("key-2", 0)


async def test_a_failure_is_told_and_not_remembered() -> None:
    lender = Lender()
    lender.failure = AuthenticationError("log in again")
    keys = keys_of(lender, Clock())
    with pytest.raises(AuthenticationError):
        await keys.key("b", "")
    lender.failure = None
    assert (await keys.key("b", ""))[0] == "key-2"


@pytest.mark.parametrize("lent", [None, "key", Credentials(""), Credentials("a\r\nb: c")])
async def test_what_is_no_key_is_refused(lent: Any) -> None:
    class Odd:
        async def credentials(self, refused: str | None = None) -> Any:
            return lent

    with pytest.raises(BackendError, match="lends no usable key"):
        await keys_of(Odd(), Clock()).key("b", "")


class Native(NativeBackend):
    @classmethod
    def native_spec(cls, config: Any) -> NativeSpec:
        return NativeSpec(config.api_url, config.extra["format"], models=("m1",))

    async def credentials(self, refused: str | None = None) -> Credentials:
        return Credentials("k")


HEADERS = {
    "openai-chat": ("authorization", "Bearer "),
    "openai-responses": ("authorization", "Bearer "),
    "anthropic-messages": ("x-api-key", ""),
    "gemini-generate": ("x-goog-api-key", ""),
}


def rows(app_config: dict[str, Any]) -> list[dict[str, Any]]:
    registry = BackendRegistry()
    registry.register_backend("native", Native)
    registry.register_backend("plain", dict)
    made = [
        {"name": name, "type": name.split(".")[0], "kind": "python", "format": "openai-chat"}
        for name in ("native.1", "plain", "gone")
    ]
    config = json.dumps({"backends": made})
    changed = with_native_rows(config, registry, AppConfig({"backends": app_config}))
    return list(json.loads(changed)["backends"])


@pytest.mark.parametrize("wire_format", HEADERS)
def test_a_declared_backend_becomes_an_upstream_of_the_engine(wire_format: str) -> None:
    own = {"api_url": "http://up/v1/", "extra": {"format": wire_format}}
    native, plain, gone = rows({"native.1": own})
    assert (native["kind"], native["base_url"]) == ("http", "http://up/v1")
    assert native["format"] == wire_format
    header, prefix = native["auth_header"].lower(), native["auth_prefix"]
    assert (header, prefix) == HEADERS[wire_format]
    assert (native["hosted_key"], native["models"]) == (True, ["m1"])
    assert plain["kind"] == gone["kind"] == "python"


@pytest.mark.parametrize("own", [{}, {"api_url": "http://up", "extra": {"format": "telnet"}}])
def test_a_declaration_that_fails_is_warned_about(
    own: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        native, *_ = rows({"native.1": own})
    assert native["kind"] == "python"
    assert "'native.1' declares itself native in vain" in caplog.text
