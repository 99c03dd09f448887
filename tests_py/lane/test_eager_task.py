"""A coroutine started on the lane is in a real Task: what plugins and their libraries rely on.

Runs under every supported Python, because each starts Tasks early in its own way.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from llm_proxy import _core

needs_timeout = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is 3.11")


@pytest.fixture
async def lane() -> AsyncIterator[_core.Lane]:
    made = _core.Lane(asyncio.get_running_loop())
    yield made
    await asyncio.gather(*made.close(), return_exceptions=True)


async def start(lane: _core.Lane, coroutine: Any) -> Any:
    """The result of a coroutine that was started from a callback of the loop, as jobs are."""
    loop = asyncio.get_running_loop()
    started = loop.create_future()
    loop.call_soon(lambda: started.set_result(lane.start_task(coroutine)))
    return await asyncio.wait_for(await started, 5)


async def test_the_first_step_runs_at_once(lane: _core.Lane) -> None:
    steps: list[str] = []

    async def work() -> None:
        steps.append("first")
        await asyncio.sleep(0)
        steps.append("second")

    loop = asyncio.get_running_loop()
    seen = loop.create_future()

    def callback() -> None:
        task = lane.start_task(work())
        seen.set_result((list(steps), task))

    loop.call_soon(callback)
    at_return, task = await seen
    assert at_return == ["first"]
    await task
    assert steps == ["first", "second"]


async def test_a_task_that_ends_in_its_first_step_needs_no_turn_of_the_loop(
    lane: _core.Lane,
) -> None:
    async def work() -> int:
        return 7

    loop = asyncio.get_running_loop()
    seen = loop.create_future()

    def callback() -> None:
        task = lane.start_task(work())
        seen.set_result((task.done(), task.result()))

    loop.call_soon(callback)
    assert await seen == (True, 7)


async def test_current_task_is_the_task(lane: _core.Lane) -> None:
    async def work() -> tuple[Any, Any]:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        return before, asyncio.current_task()

    before, after = await start(lane, work())
    assert isinstance(before, asyncio.Task)
    assert before is after


@needs_timeout
async def test_asyncio_timeout_works_and_fires(lane: _core.Lane) -> None:
    async def work() -> str:
        async with asyncio.timeout(5):
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(5)
        except TimeoutError:
            return "fired"
        return "did not fire"

    assert await start(lane, work()) == "fired"


async def test_wait_for_gather_and_create_task_work(lane: _core.Lane) -> None:
    async def number(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def work() -> list[int]:
        both = await asyncio.gather(number(1), number(2))
        third = await asyncio.create_task(number(3))
        return [*both, third, await asyncio.wait_for(number(4), 1)]

    assert await start(lane, work()) == [1, 2, 3, 4]


async def test_context_variables_stay_inside(lane: _core.Lane) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outer")

    async def work() -> str:
        variable.set("inner")
        await asyncio.sleep(0)
        return variable.get()

    assert await start(lane, work()) == "inner"
    assert variable.get() == "outer"


async def test_cancelling_reaches_the_coroutine(lane: _core.Lane) -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    loop = asyncio.get_running_loop()
    started = loop.create_future()
    loop.call_soon(lambda: started.set_result(lane.start_task(work())))
    task = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]


async def test_an_exception_of_the_first_step_is_the_tasks(lane: _core.Lane) -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await start(lane, work())


async def test_httpx_finds_its_event_loop(lane: _core.Lane) -> None:
    httpx = pytest.importorskip("httpx")

    async def answers(request: Any) -> Any:
        await asyncio.sleep(0)
        return httpx.Response(200, text=str(request.url))

    async def work() -> str:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answers)) as client:
            return str((await client.get("http://localhost/x")).text)

    assert await start(lane, work()) == "http://localhost/x"


async def test_a_real_socket_works_from_the_first_step(lane: _core.Lane) -> None:
    httpx = pytest.importorskip("httpx")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async def work() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return str((await client.get(f"http://127.0.0.1:{port}/")).text)

    async with server:
        assert await start(lane, work()) == "ok"


async def test_a_task_may_start_another_on_the_lane(lane: _core.Lane) -> None:
    async def inner() -> Any:
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def outer() -> tuple[Any, Any, Any]:
        task = lane.start_task(inner())
        found = await task
        return task, found, asyncio.current_task()

    task, found, own = await start(lane, outer())
    assert task is found
    assert own is not task


async def test_closing_the_lane_cancels_what_runs() -> None:
    lane = _core.Lane(asyncio.get_running_loop())
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        finally:
            seen.append("ended")

    asyncio.get_running_loop().call_soon(lane.start_task, work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert lane.running_tasks == 1
    tasks = lane.close()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert seen == ["ended"]
    assert [task.cancelled() for task in tasks] == [True]


async def test_the_loop_keeps_its_own_call_soon(lane: _core.Lane) -> None:
    async def work() -> None:
        await asyncio.sleep(0)

    await start(lane, work())
    assert "call_soon" not in vars(asyncio.get_running_loop())
