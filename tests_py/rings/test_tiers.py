"""Which functions can suspend: a wrong yes would run them outside of a Task."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from llm_proxy.rings.runtime.tiers import is_direct
from llm_proxy.rings.sdk import BasePlugin


async def plain(ctx: Any) -> None:
    ctx["x"] = 1


async def branches(ctx: Any) -> int:
    for key in [k for k in ctx if k]:
        try:
            ctx[key] += 1
        except TypeError:
            return 0
    return 1


async def starts_a_task(ctx: Any) -> None:
    ctx["task"] = asyncio.create_task(plain(ctx))


async def awaits(ctx: Any) -> None:
    await asyncio.sleep(0)


async def awaits_in_a_branch(ctx: Any) -> None:
    if ctx:
        await plain(ctx)


async def async_with(ctx: Any) -> None:
    async with asyncio.Lock():
        pass


async def async_for(ctx: Any) -> None:
    async for _ in ctx:
        pass


async def async_comprehension(ctx: Any) -> list[Any]:
    return [x async for x in ctx]


async def async_generator(ctx: Any) -> Any:
    yield ctx


async def asks_for_its_task(ctx: Any) -> Any:
    return asyncio.current_task()


async def asks_for_a_timeout(ctx: Any) -> Any:
    return asyncio.timeout(1)


def not_async(ctx: Any) -> Any:
    return plain(ctx)


@functools.wraps(plain)
def wrapper(ctx: Any) -> Any:
    return plain(ctx)


@functools.wraps(plain)
async def async_wrapper(ctx: Any) -> Any:
    return await plain(ctx)


class Callable:
    async def __call__(self, ctx: Any) -> None:
        pass


class Quick(BasePlugin):
    async def execute(self, ctx: Any) -> Any:
        return None


class Slow(BasePlugin):
    async def execute(self, ctx: Any) -> Any:
        await asyncio.sleep(0)


@pytest.mark.parametrize("function", [plain, branches, starts_a_task, Quick().execute])
def test_what_cannot_suspend_is_driven_directly(function: Any) -> None:
    assert is_direct(function)


@pytest.mark.parametrize(
    "function",
    [
        awaits,
        awaits_in_a_branch,
        async_with,
        async_for,
        async_comprehension,
        async_generator,
        asks_for_its_task,
        asks_for_a_timeout,
        not_async,
        wrapper,
        async_wrapper,
        Callable(),
        functools.partial(plain),
        Slow().execute,
        print,
    ],
)
def test_what_may_suspend_or_needs_its_task_gets_one(function: Any) -> None:
    assert not is_direct(function)
