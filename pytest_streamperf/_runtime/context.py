"""Where code runs: on which event loop, in which task, by which clock, on whose line."""

import asyncio
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, coroutine
from typing import Any, Literal, NamedTuple

OWN = str(Path(__file__).parents[1])
"""The folder of this package; the next two are those of what is installed, and of Python's own."""
INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


class Line(NamedTuple):
    """A line of somebody's code: `where` is "file.py:12 in function"."""

    where: str
    source: str


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
    trio = getattr(sys.modules.get("trio"), "lowlevel", None)  # it may be on its way in
    if trio is not None and getattr(trio, "in_trio_run", bool)():
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
        # A virtual clock's own is faster.
        sleep_until = getattr(clock, "sleep_until", trio.sleep_until)
        return Loop(trio.current_time, sleep_until, trio.lowlevel.checkpoint)
    loop = asyncio.get_running_loop()

    async def until(due: float) -> None:  # half of what `asyncio.sleep` takes
        waiting = loop.create_future()
        timer = loop.call_at(due, _wake, waiting)
        try:
            await waiting
        except BaseException:
            timer.cancel()
            raise

    return Loop(loop.time, until, _asyncio_checkpoint)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def is_below(file: str, folder: str) -> bool:
    """Whether a file lies in a folder, or in one of its folders."""
    return file.startswith(folder) and file[len(folder) : len(folder) + 1] in {"/", "\\"}


def is_installed(file: str) -> bool:
    """Whether a file is a library's, the standard one included."""
    return any(is_below(file, folder) for folder in (*INSTALLED, *STANDARD))


def line_of(frames: Iterable[FrameType]) -> Line | None:
    """The innermost line that is not a library's, or else the innermost of all, which comes first.

    None if there are no frames but this package's own.
    """
    import linecache  # noqa: PLC0415 - only where there is something to tell

    found: FrameType | None = None
    for frame in frames:
        file = frame.f_code.co_filename
        if is_below(file, OWN):
            continue
        found = found or frame
        if not file.startswith("<") and not is_installed(file):
            found = frame
            break
    if found is None:
        return None
    code = found.f_code
    place = f"{Path(code.co_filename).name}:{found.f_lineno} in {code.co_qualname}"
    return Line(place, linecache.getline(code.co_filename, found.f_lineno).strip())


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, and those that called it."""
    while frame is not None:
        yield frame
        frame = frame.f_back
