"""The event loop of the program: plugins share it, and cannot end it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
logger = logging.getLogger("llm_proxy.lane")

# What the tasks that are left have to end themselves, when `main` has ended.
END_SECONDS = 1.0


def run(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` for a program whose loop runs code that others wrote.

    Plugin code may stop the loop, cancel every task that `asyncio.all_tasks()` lists, or raise
    SystemExit or KeyboardInterrupt where the loop calls it: the log says so, and `main` goes on.
    `main` is not among the tasks listed. What cannot be prevented is code that ends the process
    itself: `os._exit`, a signal, a crash.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main)
    asyncio._unregister_task(task)
    task.add_done_callback(lambda _: loop.stop())
    try:
        while not task.done():
            try:
                loop.run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                if not task.done():
                    logger.error("Code on the event loop has raised %r; the proxy runs on.", error)
            else:
                if not task.done():
                    logger.error("Code on the event loop has stopped it; the proxy runs on.")
        return task.result()
    finally:
        _close(loop)


def _close(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    with contextlib.suppress(RuntimeError):  # it may be stopped once more
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=END_SECONDS))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()
