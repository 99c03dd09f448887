"""Time limits for what a plugin's code does while it is loaded: beside the loop, and on it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from llm_proxy.lane_watchdog import PluginInterrupted

T = TypeVar("T")


async def aside(function: Callable[[], T], seconds: float, what: str) -> T:
    """`function()` on a thread of its own, while the loop runs on.

    TimeoutError after so many seconds; the thread is interrupted, and left behind if it does not
    care. It does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((result, error))

    def run() -> None:
        asyncio.set_event_loop(loop)  # for code that asks for the loop without running on it
        try:
            said: tuple[T | None, BaseException | None] = function(), None
        except BaseException as error:
            said = None, error
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(tell, *said)

    thread = threading.Thread(target=run, name="llm-proxy-plugin-load", daemon=True)
    thread.start()
    await asyncio.wait({ended}, timeout=seconds)
    if not ended.done():
        _interrupt(thread.ident or 0)
        raise TimeoutError(f"{what} takes more than {seconds:g} s")
    result, error = ended.result()
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


async def on_loop(work: Coroutine[Any, Any, T], seconds: float, step: float, what: str) -> T:
    """Awaits `work`. TimeoutError after so many seconds, or a `step` of them without giving way."""
    steps = _Steps(work, step)
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        result: T = await steps
        return result
    except asyncio.CancelledError as error:
        if not expired:
            raise
        if hasattr(task, "uncancel"):
            task.uncancel()
        raise TimeoutError(f"{what} takes more than {seconds:g} s") from error
    except PluginInterrupted as error:
        raise TimeoutError(f"{what} computes for more than {step:g} s") from error
    finally:
        timer.cancel()


class _Steps:
    """A coroutine driven step by step; a step that computes for too long is interrupted.

    A thread watches for as long as it is awaited.
    """

    def __init__(self, work: Coroutine[Any, Any, Any], limit: float) -> None:
        self._work = work
        self._limit = limit
        self._lock = threading.Lock()
        self._since: float | None = None  # when the step began, while there is one
        self._interrupted = False
        self._ended = threading.Event()
        self._thread = threading.get_ident()

    def __await__(self) -> Generator[Any, Any, Any]:
        threading.Thread(target=self._watch, name="llm-proxy-plugin-watch", daemon=True).start()
        advance: Callable[[Any], Any] = self._work.send
        given: Any = None
        try:
            while True:
                try:
                    waits_for = self._step(advance, given)
                except StopIteration as end:
                    return end.value
                try:
                    advance, given = self._work.send, (yield waits_for)
                except BaseException as error:
                    advance, given = self._work.throw, error
        finally:
            self._ended.set()

    def _step(self, advance: Callable[[Any], Any], given: Any) -> Any:
        self._since = time.monotonic()
        try:
            return advance(given)
        finally:
            with self._lock:
                self._since = None
                if self._interrupted:  # it may have ended before it was hit
                    _interrupt(self._thread, None)
            if self._interrupted:
                raise PluginInterrupted

    def _watch(self) -> None:
        while not self._ended.wait(self._limit / 4):
            with self._lock:
                if self._since is not None and time.monotonic() - self._since > self._limit:
                    self._interrupted = True
                    self._since = time.monotonic()  # and again, if it does not care
                    _interrupt(self._thread)


def _interrupt(thread: int, by: type[BaseException] | None = PluginInterrupted) -> None:
    error = ctypes.py_object() if by is None else ctypes.py_object(by)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)
