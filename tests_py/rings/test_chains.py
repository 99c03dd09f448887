"""What each answer, failure and timeout of a ring plugin does to an exchange."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from llm_proxy import _core
from llm_proxy.rings.context import PluginContext, PluginState
from llm_proxy.rings.runtime.engine import RingEngine, RingEntry, default_fail_policy
from llm_proxy.rings.sdk import BasePlugin, PluginAction, PluginHook, PluginResponse, attach

Execute = Callable[[PluginContext], Awaitable[Any]]

BODY = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": []},
    ],
    "temperature": 1.0,
}
RAW = json.dumps(BODY).encode()


class Rings:
    """A lane with one generation at a time, asked as an exchange asks it."""

    def __init__(self) -> None:
        self.lane = _core.Lane(asyncio.get_running_loop())
        self.engine = RingEngine(PluginState())
        self.handlers = _core.RingHandlers(self.lane, self.engine)
        self.entries: list[RingEntry] = []

    def add(
        self,
        execute: Execute | BasePlugin,
        ring: PluginHook = PluginHook.PRE_FLIGHT,
        policy: str | None = None,
        timeout_ms: float = 500,
        name: str = "",
    ) -> RingEntry:
        instance = execute if isinstance(execute, BasePlugin) else None
        call = instance.execute if instance else execute
        entry = RingEntry(
            name=name or f"p{len(self.entries)}",
            ring=ring,
            kind="class" if instance else "python",
            call=call,  # type: ignore[arg-type]
            timeout_ms=timeout_ms,
            fail_policy=policy or default_fail_policy(ring),
            instance=instance,
        )
        self.entries.append(entry)
        return entry

    def probe(self, body: bytes = RAW, **more: Any) -> _core.RingProbe:
        rows = [entry.native() for entry in self.entries]
        host = _core.RingHost(self.lane, self.handlers, rows)
        return _core.RingProbe(self.lane, host, body, **more)

    async def quiet(self) -> None:
        """Until no Task of the lane runs."""
        for _ in range(1000):
            if not self.lane.running_tasks:
                return
            await asyncio.sleep(0)
        raise AssertionError("a Task still runs")

    async def request(self, body: bytes = RAW, **more: Any) -> dict[str, Any]:
        verdict: dict[str, Any] = await asyncio.wait_for(self.probe(body, **more).request(), 5)
        return verdict


@pytest.fixture
async def rings() -> AsyncIterator[Rings]:
    made = Rings()
    yield made
    await asyncio.gather(*made.lane.close(), return_exceptions=True)


async def nothing(ctx: PluginContext) -> None:
    pass


async def raises(ctx: PluginContext) -> None:
    raise KeyError("secret inside")


async def sleeps(ctx: PluginContext) -> None:
    await asyncio.sleep(30)


# ---- answers


async def test_a_plugin_that_touches_nothing_leaves_the_body_as_it_came(rings: Rings) -> None:
    rings.add(nothing)
    assert await rings.request() == {"kind": "proceed"}


async def test_a_plugin_that_only_reads_leaves_the_body_as_it_came(rings: Rings) -> None:
    seen: list[Any] = []

    async def reads(ctx: PluginContext) -> PluginResponse:
        seen.append(ctx.body["messages"][1]["content"])
        return PluginResponse.passthrough()

    rings.add(reads)
    assert await rings.request() == {"kind": "proceed"}
    assert seen == ["hello"]


async def test_an_edit_in_place_is_seen_without_modify_and_says_what_it_changed(
    rings: Rings,
) -> None:
    async def edits(ctx: PluginContext) -> None:
        ctx.body["messages"][1]["content"] = "HELLO"
        ctx.body["temperature"] = 0.5

    rings.add(edits)
    verdict = await rings.request()
    assert verdict["kind"] == "replace"
    assert verdict["messages_from"] == [0, -1, 2]
    assert verdict["changed_keys"] == ["temperature"]
    changed = json.loads(verdict["body"])
    assert changed["messages"][1]["content"] == "HELLO"
    assert list(changed) == list(BODY)


async def test_modify_replaces_the_body_for_the_plugins_after_it(rings: Rings) -> None:
    seen: list[Any] = []

    async def modifies(ctx: PluginContext) -> PluginResponse:
        return PluginResponse.modify(body={**ctx.body, "model": "other"}, message="why")

    async def looks(ctx: PluginContext) -> None:
        seen.append((ctx.body["model"], ctx.metadata["_plugin_message"]))

    rings.add(modifies)
    rings.add(looks)
    verdict = await rings.request()
    assert json.loads(verdict["body"])["model"] == "other"
    assert seen == [("other", "why")]


async def test_an_empty_modify_changes_nothing(rings: Rings) -> None:
    async def modifies(ctx: PluginContext) -> PluginResponse:
        return PluginResponse.modify(body={})

    rings.add(modifies)
    assert await rings.request() == {"kind": "proceed"}


@pytest.mark.parametrize("ring", [PluginHook.INGRESS, PluginHook.PRE_FLIGHT, PluginHook.ROUTING])
@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_block_stops_the_chain_with_its_status_type_and_message(
    rings: Rings, ring: PluginHook, policy: str
) -> None:
    ran: list[str] = []

    async def blocks(ctx: PluginContext) -> PluginResponse:
        return PluginResponse.block(429, "too_much", "Slow down")

    async def after(ctx: PluginContext) -> None:
        ran.append("after")

    entry = rings.add(blocks, ring, policy, name="Guard")
    rings.add(after, PluginHook.ROUTING)
    verdict = await rings.request()
    assert verdict == {
        "kind": "block",
        "status": 429,
        "type": "too_much",
        "message": "Slow down",
        "plugin": "Guard",
        "ring": ring.value,
    }
    assert ran == []
    assert (entry.record.blocks, entry.record.errors) == (1, 0)


class Starlette:
    def __init__(self) -> None:
        self.body = b'{"id":"cached"}'
        self.status_code = 200
        self.headers = {"X-Cache": "HIT", "content-length": "99"}


@pytest.mark.parametrize("made", [Starlette, lambda: {"id": "cached"}])
@pytest.mark.parametrize("ring", [PluginHook.INGRESS, PluginHook.PRE_FLIGHT, PluginHook.ROUTING])
async def test_cache_hit_answers_the_client(
    rings: Rings, made: Callable[[], Any], ring: PluginHook
) -> None:
    async def hits(ctx: PluginContext) -> PluginResponse:
        return PluginResponse.cache_hit(made())

    rings.add(hits, ring)
    verdict = await rings.request()
    assert (verdict["kind"], verdict["status"]) == ("answer", 200)
    assert verdict["body"] == b'{"id":"cached"}'
    assert "content-length" not in verdict["headers"]


async def test_cache_hit_without_a_sendable_response_is_an_error_not_a_crash(rings: Rings) -> None:
    async def hits(ctx: PluginContext) -> PluginResponse:
        return PluginResponse.cache_hit(object())

    rings.add(hits, name="Cache")
    verdict = await rings.request()
    assert (verdict["kind"], verdict["status"], verdict["type"]) == ("block", 500, "plugin_error")


async def test_error_and_stop_chain_set_by_hand_block_with_the_rings_status(rings: Rings) -> None:
    async def refuses(ctx: PluginContext) -> None:
        ctx.error = "no endpoint"
        ctx.stop_chain = True

    rings.add(refuses, PluginHook.ROUTING)
    verdict = await rings.request()
    assert (verdict["status"], verdict["message"]) == (503, "no endpoint")


async def test_stop_chain_alone_skips_the_rest_of_its_ring_only(rings: Rings) -> None:
    ran: list[str] = []

    async def stops(ctx: PluginContext) -> None:
        ctx.stop_chain = True

    async def same_ring(ctx: PluginContext) -> None:
        ran.append("same ring")

    async def next_ring(ctx: PluginContext) -> None:
        ran.append("next ring")

    rings.add(stops)
    rings.add(same_ring)
    rings.add(next_ring, PluginHook.ROUTING)
    assert await rings.request() == {"kind": "proceed"}
    assert ran == ["next ring"]


async def test_an_action_given_as_enum_member_counts(rings: Rings) -> None:
    async def passes(ctx: PluginContext) -> PluginResponse:
        return PluginResponse(action=PluginAction.PASSTHROUGH)

    async def blocks(ctx: PluginContext) -> PluginResponse:
        return PluginResponse(action=PluginAction.BLOCK, status_code=200)

    rings.add(passes)
    rings.add(blocks)
    verdict = await rings.request()
    assert (verdict["kind"], verdict["status"]) == ("block", 403)


async def test_metadata_carries_objects_from_ring_to_ring(rings: Rings) -> None:
    token = object()
    seen: list[Any] = []

    async def puts(ctx: PluginContext) -> None:
        ctx.metadata["_token"] = token

    async def gets(ctx: PluginContext) -> None:
        seen.append(ctx.metadata["_token"])

    rings.add(puts, PluginHook.INGRESS)
    rings.add(gets, PluginHook.ROUTING)
    rings.add(gets, PluginHook.POST_FLIGHT)
    probe = rings.probe()
    await probe.request()
    await probe.reply(200, b"{}")
    assert seen == [token, token]


async def test_keys_with_an_underscore_stay_with_the_plugins(rings: Rings) -> None:
    async def notes(ctx: PluginContext) -> None:
        ctx.body["_ab_meta"] = {"arm": "a"}

    rings.add(notes)
    assert await rings.request() == {"kind": "proceed"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_body_that_is_no_json_is_refused_not_sent(rings: Rings) -> None:
    async def spoils(ctx: PluginContext) -> None:
        ctx.body["x"] = float("nan")

    rings.add(spoils)
    assert (await rings.request())["status"] == 500


# ---- failures


@pytest.mark.parametrize(
    "error",
    [
        KeyError("x"),
        OSError("x"),
        AssertionError(),
        RecursionError("x"),
        Exception("x"),
        SystemExit(3),
    ],
)
async def test_an_exception_of_any_class_lets_a_fail_open_ring_go_on(
    rings: Rings, error: BaseException
) -> None:
    seen: list[Any] = []

    async def fails(ctx: PluginContext) -> None:
        raise error

    async def after(ctx: PluginContext) -> None:
        seen.append(ctx.error)

    entry = rings.add(fails)
    rings.add(after)
    assert await rings.request() == {"kind": "proceed"}
    assert seen == [str(error) or repr(error)]
    assert entry.record.errors == 1


@pytest.mark.parametrize("ring", [PluginHook.INGRESS, PluginHook.ROUTING])
async def test_a_failure_is_fatal_in_ingress_and_routing_and_keeps_its_inside_to_itself(
    rings: Rings, ring: PluginHook
) -> None:
    rings.add(raises, ring, name="Guard")
    verdict = await rings.request()
    assert (verdict["kind"], verdict["status"], verdict["type"]) == ("block", 500, "plugin_error")
    assert verdict["message"] == "Plugin Guard failed"


@pytest.mark.parametrize(
    ("ring", "policy", "kind"),
    [
        (PluginHook.INGRESS, None, "block"),
        (PluginHook.PRE_FLIGHT, None, "proceed"),
        (PluginHook.ROUTING, None, "block"),
        (PluginHook.INGRESS, "open", "proceed"),
        (PluginHook.PRE_FLIGHT, "closed", "block"),
    ],
)
async def test_a_timeout_follows_the_fail_policy(
    rings: Rings, ring: PluginHook, policy: str | None, kind: str
) -> None:
    seen: list[Any] = []

    async def after(ctx: PluginContext) -> None:
        seen.append(ctx.error)

    entry = rings.add(sleeps, ring, policy, timeout_ms=10, name="Slow")
    rings.add(after, PluginHook.ROUTING)
    verdict = await rings.request()
    assert verdict["kind"] == kind
    if kind == "block":
        assert (verdict["status"], verdict["message"]) == (504, "Plugin Slow timed out")
        assert seen == []
    else:
        assert seen == ["Plugin Slow timed out"]
    assert (entry.record.timeouts, entry.record.errors) == (1, 1)


async def test_a_timeout_leaves_no_cancellation_behind_for_the_next_plugin(rings: Rings) -> None:
    ran: list[str] = []

    async def after(ctx: PluginContext) -> None:
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.sleep(0), 1)
        ran.append("after")

    rings.add(sleeps, timeout_ms=10)
    rings.add(after)
    assert await rings.request() == {"kind": "proceed"}
    assert ran == ["after"]


async def test_a_plugin_that_swallows_its_cancellation_is_left_behind(rings: Rings) -> None:
    release = asyncio.Event()
    ended: list[str] = []

    async def stubborn(ctx: PluginContext) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.append("stubborn")

    async def after(ctx: PluginContext) -> None:
        ended.append("after")

    entry = rings.add(stubborn, timeout_ms=10)
    rings.add(after)
    assert await rings.request() == {"kind": "proceed"}
    assert ended == ["after"]
    assert (entry.record.left_behind, entry.record.timeouts) == (1, 1)
    assert rings.lane.running_tasks == 1
    release.set()
    await rings.quiet()
    assert ended == ["after", "stubborn"]


async def test_a_cancelled_error_of_the_plugins_own_is_a_failure_not_a_cancellation(
    rings: Rings,
) -> None:
    async def inner_cancelled(ctx: PluginContext) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    entry = rings.add(inner_cancelled)
    rings.add(nothing)
    assert await rings.request() == {"kind": "proceed"}
    assert entry.record.errors == 1


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_quarantine_skips_an_open_plugin_and_never_opens_a_closed_one(
    rings: Rings, policy: str
) -> None:
    entry = rings.add(raises, policy=policy, name="Guard")
    for n in range(10):
        await rings.request(client=f"10.0.0.{n % 3}")
    assert entry.record.quarantined
    verdict = await rings.request()
    assert entry.record.invocations == 10
    if policy == "open":
        assert verdict == {"kind": "proceed"}
    else:
        assert (verdict["status"], verdict["type"]) == (503, "plugin_quarantined")


@pytest.mark.parametrize("policy", ["open", "closed"])
async def test_the_failures_of_few_clients_or_of_one_request_put_no_plugin_into_quarantine(
    rings: Rings, policy: str
) -> None:
    entry = rings.add(raises, policy=policy, name="Guard")
    for n in range(50):
        await rings.request(client=f"10.0.0.{n % 2}")
    assert entry.record.consecutive_errors == 50
    assert not entry.record.quarantined
    assert entry.record.invocations == 50  # it runs, or refuses, for each of them


async def test_a_large_body_gives_plugins_and_those_who_wait_more_time(rings: Rings) -> None:
    rings.add(nothing, timeout_ms=500)
    rings.add(nothing, timeout_ms=500)
    probe = rings.probe()
    small, two, three = (probe.patience("ingress", size << 20) for size in (0, 2, 3))
    assert (two - small, three - small) == (2 * 1.0, 2 * 2.0)


async def test_a_class_plugin_that_answers_nonsense_has_failed(rings: Rings) -> None:
    class Odd(BasePlugin):
        async def execute(self, ctx: PluginContext) -> Any:
            return 42

    class Silent(BasePlugin):
        async def execute(self, ctx: PluginContext) -> Any:
            return None

    odd = rings.add(Odd(), policy="closed", name="Odd")
    assert (await rings.request())["type"] == "plugin_error"
    assert odd.record.errors == 1
    rings.entries = []
    rings.add(Silent(), policy="closed")
    assert await rings.request() == {"kind": "proceed"}


async def test_what_a_function_returns_is_its_own_business_unless_it_is_a_plugin_response(
    rings: Rings,
) -> None:
    async def odd(ctx: PluginContext) -> int:
        return 42

    rings.add(odd, policy="closed")
    assert await rings.request() == {"kind": "proceed"}


# ---- the reply


async def test_a_reply_plugin_may_change_replace_or_refuse_the_reply(rings: Rings) -> None:
    async def heals(ctx: PluginContext) -> None:
        if ctx.response.body == b'{"a":':
            ctx.response.body = b'{"a":null}'
        elif ctx.response.body == b"replace":
            ctx.response = Starlette()
        elif ctx.response.body == b"refuse":
            ctx.error = "no"
            ctx.stop_chain = True

    rings.add(heals, PluginHook.POST_FLIGHT, name="Healer")
    assert await rings.probe().reply(200, b"{}") == {"kind": "proceed"}
    healed = await rings.probe().reply(200, b'{"a":')
    assert (healed["kind"], healed["body"]) == ("replace", b'{"a":null}')
    replaced = await rings.probe().reply(200, b"replace")
    assert (replaced["body"], replaced["headers"]) == (b'{"id":"cached"}', {"x-cache": "HIT"})
    refused = await rings.probe().reply(200, b"refuse")
    assert (refused["kind"], refused["status"], refused["plugin"]) == ("block", 403, "Healer")


async def test_a_reply_plugin_sees_the_request_as_earlier_plugins_left_it(rings: Rings) -> None:
    seen: list[Any] = []

    async def edits(ctx: PluginContext) -> None:
        ctx.body["model"] = "edited"

    async def looks(ctx: PluginContext) -> None:
        seen.append(ctx.body["model"])

    rings.add(edits)
    rings.add(looks, PluginHook.POST_FLIGHT)
    probe = rings.probe()
    await probe.request()
    await probe.reply(200, b"{}")
    assert seen == ["edited"]


async def test_background_plugins_get_the_usage(rings: Rings) -> None:
    done = asyncio.Event()
    seen: list[Any] = []

    async def counts(ctx: PluginContext) -> None:
        seen.append(ctx.metadata["_usage"])
        done.set()

    rings.add(counts, PluginHook.BACKGROUND)
    rings.probe().background(200, 7, 11)
    await asyncio.wait_for(done.wait(), 5)
    assert seen == [{"prompt_tokens": 7, "completion_tokens": 11}]


# ---- life


async def test_a_client_that_leaves_cancels_its_plugins_at_once(rings: Rings) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def waits(ctx: PluginContext) -> None:
        started.set()
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    rings.add(waits, timeout_ms=60_000)
    rings.add(raises)
    probe = rings.probe()
    verdict = probe.request()
    await asyncio.wait_for(started.wait(), 5)
    probe.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    await rings.quiet()
    assert not verdict.done()
    assert rings.entries[1].record.invocations == 0


@pytest.mark.parametrize(
    ("policies", "kind"), [(["open"], "proceed"), (["open", "closed"], "block")]
)
async def test_a_chain_that_does_not_answer_is_settled_by_its_fail_policies(
    rings: Rings, policies: list[str], kind: str
) -> None:
    for policy in policies:
        rings.add(sleeps, policy=policy, timeout_ms=40_000)
    probe = rings.probe()
    verdict = probe.request()
    assert probe.patience("pre_flight") > 40 * len(policies)
    assert probe.overdue("pre_flight")["kind"] == kind
    await asyncio.sleep(0)
    assert not verdict.done()


async def test_each_exchange_has_its_own_context_and_context_variables(rings: Rings) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    async def direct(ctx: PluginContext) -> None:
        seen.append(variable.get())
        variable.set("dirty")

    async def suspends(ctx: PluginContext) -> None:
        seen.append(variable.get())
        variable.set("dirty")
        await asyncio.sleep(0)
        seen.append(variable.get())

    rings.add(direct)
    await rings.request()
    await rings.request()
    rings.entries = []
    rings.add(suspends)
    await rings.request()
    await rings.request()
    assert seen == ["clean", "clean", "clean", "dirty", "clean", "dirty"]
    assert variable.get() == "clean"


async def test_a_generation_is_retired_after_its_last_exchange(rings: Rings) -> None:
    retired = asyncio.Event()
    rings.add(nothing)
    rows = [entry.native() for entry in rings.entries]
    host = _core.RingHost(rings.lane, rings.handlers, rows, retired.set)
    probe = _core.RingProbe(rings.lane, host, RAW)
    del host
    await probe.request()
    assert not retired.is_set()
    del probe
    await asyncio.wait_for(retired.wait(), 5)


async def test_many_exchanges_at_once_each_get_their_own_answer(rings: Rings) -> None:
    async def echoes(ctx: PluginContext) -> None:
        await asyncio.sleep(0)
        ctx.body["model"] = ctx.body["model"] + "!"

    rings.add(echoes)
    verdicts = await asyncio.gather(
        *(rings.request(b'{"model":"%d"}' % number) for number in range(500))
    )
    assert [json.loads(v["body"])["model"] for v in verdicts] == [f"{n}!" for n in range(500)]


async def test_stats_of_a_plugin_count_what_it_did(rings: Rings) -> None:
    class Guard(BasePlugin):
        name = "guard"

        async def execute(self, ctx: PluginContext) -> PluginResponse:
            return PluginResponse.block()

    guard = Guard()
    attach(guard, rings.add(guard).record)
    await rings.request()
    assert guard.stats["invocations"] == 1
    assert guard.stats["blocks"] == 1
    assert guard.stats["errors"] == 0


async def test_a_plugin_that_waits_is_not_charged_for_one_that_computes(rings: Rings) -> None:
    async def waits(ctx: PluginContext) -> None:
        await asyncio.sleep(0.02)

    async def computes(ctx: PluginContext) -> None:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass

    waiting = rings.add(waits, timeout_ms=100)
    first = rings.probe().request()
    rings.entries = []
    rings.add(computes)
    second = rings.probe().request()
    await asyncio.wait_for(asyncio.gather(first, second), 5)
    assert waiting.record.timeouts == 0


async def test_ended_exchanges_leave_nothing_behind(rings: Rings) -> None:
    async def suspends(ctx: PluginContext) -> None:
        await asyncio.sleep(0)
        ctx.body["user"] = "x"

    rings.add(suspends)

    def alive() -> tuple[int, int]:
        gc.collect()
        found = gc.get_objects()
        tasks = sum(isinstance(thing, asyncio.Task) for thing in found)
        return tasks, sum(isinstance(thing, PluginContext) for thing in found)

    await rings.request()
    before = alive()
    for _ in range(50):
        await rings.request()
    await rings.quiet()
    assert alive() == before
