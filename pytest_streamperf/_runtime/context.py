"""Find where code runs: on which event loop, in which task, by which clock, on which line.

The module imports neither trio nor the virtual clock; it looks for them in `sys.modules`. `line_of`
picks the user's line from a stack, past the frames of libraries and of this package.
"""

import asyncio
import sys
import sysconfig
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType, coroutine
from typing import Any, Literal, NamedTuple

OWN = str(Path(__file__).parents[1])
"""Folder of this package."""
# Folders of installed packages, and of the standard library.
INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})


class Line(NamedTuple):
    """One line of source code: `where` is "file.py:12 in function"."""

    where: str
    source: str


class Loop(NamedTuple):
    """The functions of an event loop that a stream uses."""

    time: Callable[[], float]
    sleep_until: Callable[[float], Awaitable[None]]
    checkpoint: Callable[[], Awaitable[None]]


@coroutine
def _asyncio_checkpoint() -> Iterator[None]:
    yield


def running_loop() -> Literal["asyncio", "trio"] | None:
    """Return the library whose event loop runs in this thread; None if there is none."""
    trio = getattr(sys.modules.get("trio"), "lowlevel", None)  # trio may be half imported
    if trio is not None and getattr(trio, "in_trio_run", bool)():
        return "trio"
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None
    return "asyncio"


def running_task() -> object:
    """Return the asyncio or trio task that runs in this thread; None outside an event loop."""
    loop = running_loop()
    if loop is None:
        return None
    return sys.modules["trio"].lowlevel.current_task() if loop == "trio" else asyncio.current_task()


def virtual_clock_here() -> Any:
    """Return the `VirtualClock` that is entered in this thread; None if there is none."""
    virtual = sys.modules.get("pytest_streamperf.virtual_clock")
    return virtual.entered_here() if virtual is not None else None


def loop_running_here() -> Loop:
    """Return the functions of the event loop that runs in this thread, asyncio's or trio's.

    Raises `VirtualTimeError` if a virtual clock is entered that the loop does not follow.
    """
    clock = virtual_clock_here()
    if clock is not None:
        clock.check_loop()
    if running_loop() == "trio":
        trio = sys.modules["trio"]
        clock = trio.lowlevel.current_clock()
        # `TrioClock.sleep_until` is faster than trio's.
        sleep_until = getattr(clock, "sleep_until", trio.sleep_until)
        return Loop(trio.current_time, sleep_until, trio.lowlevel.checkpoint)
    loop = asyncio.get_running_loop()

    async def until(due: float) -> None:  # half the cost of `asyncio.sleep`
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
    """Return whether a file lies in a folder, at any depth."""
    return file.startswith(folder) and file[len(folder) : len(folder) + 1] in {"/", "\\"}


def is_installed(file: str) -> bool:
    """Return whether a file belongs to an installed package or to the standard library."""
    return any(is_below(file, folder) for folder in (*INSTALLED, *STANDARD))


def line_of(frames: Iterable[FrameType]) -> Line | None:
    """Return the innermost line outside libraries, or else the innermost line of all.

    `frames` start with the innermost. Frames of this package are skipped; None if no other is left.
    """
    import linecache  # noqa: PLC0415 - rarely needed

    chosen: FrameType | None = None
    for frame in frames:
        file = frame.f_code.co_filename
        if is_below(file, OWN):
            continue
        chosen = chosen or frame
        if not file.startswith("<") and not is_installed(file):
            chosen = frame
            break
    if chosen is None:
        return None
    code = chosen.f_code
    place = f"{Path(code.co_filename).name}:{chosen.f_lineno} in {code.co_qualname}"
    return Line(place, linecache.getline(code.co_filename, chosen.f_lineno).strip())


def stack(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and its callers, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back
