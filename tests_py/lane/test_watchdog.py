"""A plugin that blocks the loop is named in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llm_proxy import _core
from llm_proxy.lane_watchdog import Watchdog
from llm_proxy.rings.context import PluginContext, PluginState
from llm_proxy.rings.runtime.engine import RingEngine, RingEntry
from llm_proxy.rings.sdk import PluginHook


class Said(logging.Handler):
    """Notes what the watchdog says, and that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.event = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage()
        self.event.set()


def ask(
    lane: _core.Lane, execute: Callable[[PluginContext], Awaitable[Any]]
) -> asyncio.Future[dict[str, Any]]:
    entry = RingEntry("Blocks", PluginHook.PRE_FLIGHT, "python", execute, 10_000, "open")
    handlers = _core.RingHandlers(lane, RingEngine(PluginState()))
    host = _core.RingHost(lane, handlers, [entry.native()])
    return _core.RingProbe(lane, host, b"{}").request()


@pytest.fixture
def said() -> Any:
    handler = Said()
    logger = logging.getLogger("llm_proxy.lane")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_the_log_shows_the_stack_of_whoever_blocks_the_loop(said: Said) -> None:
    lane = _core.Lane(asyncio.get_running_loop())
    watchdog = Watchdog(lane.lag, limit=0.02)
    watchdog.start()

    async def a_plugin_that_blocks(ctx: PluginContext) -> None:
        assert said.event.wait(5)

    try:
        assert await asyncio.wait_for(ask(lane, a_plugin_that_blocks), 5) == {"kind": "proceed"}
    finally:
        watchdog.stop()
        lane.close()
    assert watchdog.blocked == 1
    assert "a_plugin_that_blocks" in said.text


async def test_a_loop_that_turns_is_left_alone(said: Said) -> None:
    lane = _core.Lane(asyncio.get_running_loop())
    watchdog = Watchdog(lane.lag, limit=0.5)
    watchdog.start()

    async def waits(ctx: PluginContext) -> None:
        await asyncio.sleep(0.01)

    await asyncio.wait_for(ask(lane, waits), 5)
    watchdog.stop()
    lane.close()
    assert watchdog.blocked == 0


async def test_a_plugin_that_computes_without_end_is_interrupted_and_counted(said: Said) -> None:
    """Even one that catches everything; whoever runs next is not hit."""
    lane = _core.Lane(asyncio.get_running_loop())
    watchdog = Watchdog(lane.lag, 0.02, lane.interrupt)
    watchdog.start()
    ran = []

    async def computes(ctx: PluginContext) -> None:
        while True:
            try:
                while True:
                    sum(range(1000))
            except Exception:
                pass

    async def awaits_and_computes(ctx: PluginContext) -> None:
        await asyncio.sleep(0)
        await computes(ctx)

    async def runs_next(ctx: PluginContext) -> None:
        for _ in range(10_000):
            ran.append(ctx.error)
            if len(ran) % 1000 == 0:
                await asyncio.sleep(0)

    entries = [
        RingEntry("Computes", PluginHook.PRE_FLIGHT, "python", computes, 10, "open"),
        RingEntry("Later", PluginHook.PRE_FLIGHT, "python", awaits_and_computes, 10, "open"),
        RingEntry("Next", PluginHook.PRE_FLIGHT, "python", runs_next, 10_000, "open"),
    ]
    handlers = _core.RingHandlers(lane, RingEngine(PluginState()))
    host = _core.RingHost(lane, handlers, [entry.native() for entry in entries])
    try:
        probe = _core.RingProbe(lane, host, b"{}")
        assert await asyncio.wait_for(probe.request(), 10) == {"kind": "proceed"}
    finally:
        watchdog.stop()
    for entry in entries[:2]:
        assert (entry.record.timeouts, entry.record.errors) == (1, 1), entry.name
    assert (entries[2].record.timeouts, entries[2].record.errors) == (0, 0)
    assert set(ran) == {"Plugin Later timed out"}
    assert len(ran) == 10_000
    await asyncio.gather(*lane.close(), return_exceptions=True)
