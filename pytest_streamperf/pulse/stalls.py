"""Event-loop stalls: how long a loop was busy without a pause, and on which line.

In real time, less the time that the thread waited for a core: on a busy machine wall time alone
calls healthy code stalled. What is measured:

    asyncio      from one heartbeat to the next, less its interval; uvloop and others too
    VirtualLoop  one round of callbacks
    trio         one step of one task
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from pytest_streamperf import clock
from pytest_streamperf.here import running_loop

# Seconds between heartbeats, and between looks at what is running. A look wakes who sleeps, and
# what that one then waits for a core is taken off: so they are few. Who is busy for less than the
# least stall is not written down.
_BEAT, _LOOK, _LEAST = 0.002, 0.03, 0.01
_MOST_KEPT = 1_000


class Stall(NamedTuple):
    """A time in which nothing else could run: `where` and `source` are of the line that ran then.

    `seconds` are less what the thread waited for a core; `sure` is whether that is known, or at
    least half of it was spent on the CPU.
    """

    seconds: float
    where: str
    source: str
    sure: bool


class StallMeter:
    """Takes down how long it takes from `began` to `ended`."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []
        self.measured = 0
        self._queue = clock.RunQueue()
        self._started: float | None = None
        self._waited: float | None = None
        self._cpu = 0.0
        self._seen: tuple[str, str] = ("", "")

    def began(self) -> None:
        """Something runs."""
        self._waited, self._cpu = self._queue.waited(), clock.thread_cpu()
        self._seen = ("", "")
        self._started = clock.wall()

    def ended(self, allowed: float = 0.0) -> None:
        """It is over; `allowed` seconds of that were a pause."""
        if self._started is None:
            return
        self.measured += 1
        seconds = clock.wall() - self._started - allowed
        self._started = None
        if seconds < _LEAST:
            return
        waited = self._queue.waited()
        if waited is not None and self._waited is not None:
            seconds -= waited - self._waited
        sure = waited is not None or (clock.thread_cpu() - self._cpu) * 2 >= seconds
        if seconds >= _LEAST and len(self.stalls) < _MOST_KEPT:
            self.stalls.append(Stall(seconds, *self._seen, sure))

    def look(self, frame: FrameType | None) -> None:
        """Note what is running, if something has been for a while."""
        if self._started is not None and clock.wall() - self._started >= _LOOK:
            self._seen = _line(frame)

    def close(self) -> None:
        """Give back what it holds."""
        self._queue.close()


def _line(frame: FrameType | None) -> tuple[str, str]:
    """The innermost line that is not a library's, or else the innermost of all."""
    import linecache  # noqa: PLC0415 - only where something stalls

    innermost, ours = frame, str(Path(__file__).parents[1])
    libraries = (sys.prefix, sys.base_prefix, ours)
    while frame is not None and frame.f_code.co_filename.startswith(libraries):
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "", ""
    code = frame.f_code
    place = f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_qualname}"
    return place, linecache.getline(code.co_filename, frame.f_lineno).strip()


@contextmanager
def watching(meter: StallMeter) -> Iterator[bool]:
    """Watch the event loop that is running here; False if none is."""
    loop = running_loop()
    with ExitStack() as stack:
        if loop == "trio":
            _watch_trio(meter, stack)
        elif loop == "asyncio":
            _watch_asyncio(meter, stack)
        if loop and clock.can_tick():
            stack.enter_context(clock.ticks(_LOOK, meter.look))
        stack.callback(meter.close)
        yield loop is not None


def _watch_asyncio(meter: StallMeter, stack: ExitStack) -> None:
    loop: Any = asyncio.get_running_loop()
    meter.began()
    stack.callback(meter.ended)
    if hasattr(loop, "meter"):  # a VirtualLoop: a heartbeat would move its time
        loop.meter = meter
        stack.callback(setattr, loop, "meter", None)
        return
    beats: list[asyncio.TimerHandle] = []

    def beat() -> None:
        meter.ended(allowed=_BEAT)
        meter.began()
        # Timers that are due come after what is ready: else two callbacks would look like one.
        loop.call_soon(between)
        beats[:] = [loop.call_later(_BEAT, beat)]

    def between() -> None:
        meter.ended()
        meter.began()

    beats.append(loop.call_later(_BEAT, beat))
    stack.callback(lambda: beats[0].cancel())  # noqa: PLW0108 - whichever it is by then


def _watch_trio(meter: StallMeter, stack: ExitStack) -> None:
    import trio  # noqa: PLC0415 - it is running, so it is there

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: Any) -> None:  # noqa: ARG002 - trio's names
            meter.began()

        def after_task_step(self, task: Any) -> None:  # noqa: ARG002
            meter.ended()

    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    meter.began()
    stack.callback(trio.lowlevel.remove_instrument, steps)
    stack.callback(meter.ended)
