"""Can a coroutine function suspend? Decided from its bytecode when a plugin is registered."""

from __future__ import annotations

import dis
import inspect
from types import CodeType, FunctionType
from typing import Any

# Every way bytecode of CPython 3.10 to 3.13 reaches a suspension point of a coroutine.
_SUSPENDS = frozenset(
    (
        "GET_AWAITABLE",
        "GET_AITER",
        "GET_ANEXT",
        "GET_YIELD_FROM_ITER",
        "BEFORE_ASYNC_WITH",
        "SETUP_ASYNC_WITH",
        "YIELD_FROM",
        "SEND",
        "ASYNC_GEN_WRAP",
    )
)
# A coroutine that asks for its Task must have one.
_NEEDS_TASK = frozenset(("current_task", "timeout", "timeout_at"))


def is_direct(function: Any) -> bool:
    """True if awaiting `function(...)` can never suspend, so that it needs no Task of its own."""
    function = getattr(function, "__func__", function)
    if type(function) is not FunctionType or not inspect.iscoroutinefunction(function):
        return False
    code: CodeType = function.__code__
    if not _NEEDS_TASK.isdisjoint(code.co_names):
        return False
    return all(instruction.opname not in _SUSPENDS for instruction in dis.get_instructions(code))
