"""Where code runs: on which event loop, in which task, by which clock."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from types import coroutine
from typing import Any, Literal, NamedTuple


class Loop(NamedTuple):
    """What a stream needs of the event loop that it runs on."""

    time: Callable[[], float]
    sleep_until: Callable[[float], Awaitable[None]]
    checkpoint: Callable[[], Awaitable[None]]


@coroutine
def _asyncio_checkpoint() -> Iterator[None]:
    yield


def running_loop() -> Literal["asyncio", "trio"] | None:
    """Which library's event loop is running in this thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return "asyncio"


def running_task() -> object:
    """The task that is running in this thread, of whichever library; None outside of any loop."""
    loop = running_loop()
    if loop is None:
        return None
    return sys.modules["trio"].lowlevel.current_task() if loop == "trio" else asyncio.current_task()


def virtual_clock_here() -> Any:
    """The `VirtualClock` that is entered in this thread, if one is."""
    virtual = sys.modules.get("pytest_streamperf.virtual_clock")
    return virtual.entered_here() if virtual is not None else None


def loop_running_here() -> Loop:
    """The running event loop, of whichever library.

    Raises `VirtualTimeError` if a virtual clock is entered that the loop does not go by.
    """
    clock = virtual_clock_here()
    if clock is not None:
        clock.check_loop()
    if running_loop() == "trio":
        trio = sys.modules["trio"]
        clock = trio.lowlevel.current_clock()
        sleep_until = getattr(
            clock, "sleep_until", trio.sleep_until
        )  # a virtual clock's own is faster
        return Loop(trio.current_time, sleep_until, trio.lowlevel.checkpoint)
    loop = asyncio.get_running_loop()

    async def until(due: float) -> None:  # half of what `asyncio.sleep` takes
        waiting = loop.create_future()
        timer = loop.call_at(due, _wake, waiting)
        try:
            await waiting
        finally:
            timer.cancel()

    return Loop(loop.time, until, _asyncio_checkpoint)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)
