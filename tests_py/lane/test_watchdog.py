"""A plugin that blocks the loop is named in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from llm_proxy import _core
from llm_proxy.plugins.context import PluginContext, PluginState
from llm_proxy.plugins.engine import RingEngine, RingEntry
from llm_proxy.plugins.sdk import PluginHook
from llm_proxy.plugins.watchdog import Watchdog


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
