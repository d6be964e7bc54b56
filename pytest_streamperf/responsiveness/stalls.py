"""Event-loop stalls: how long a loop was busy without a pause, and on which line.

In real time, less the time that the thread waited for a core: on a busy machine wall time alone
calls healthy code stalled. What is measured:

    asyncio      from one heartbeat to the next, less its interval; uvloop and others too
    VirtualLoop  one round of callbacks
    trio         one step of one task
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from heapq import heappush, heappushpop
from types import FrameType
from typing import Any, NamedTuple

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import Line, line_of, running_loop, stack

# Seconds between heartbeats, and between looks at what is running. A look wakes who sleeps, and
# what that one then waits for a core is taken off: so they are few. Who is busy for less than the
# least stall is not written down.
_BEAT, _LOOK, _LEAST = 0.002, 0.03, 0.01
_UNSEEN = Line("", "")


class Stall(NamedTuple):
    """A time in which nothing else could run: `where` and `source` are of the line that ran then.

    `seconds` are less what the thread waited for a core; `sure` is whether that is known, or at
    least half of it was spent on the CPU. It was over `at` that second of `clock.wall`.
    """

    seconds: float
    where: str
    source: str
    sure: bool
    at: float = 0.0


_MOST_KEPT = 1_000


def keep(longest: list[Any], one: Any) -> None:
    """Put one into a heap of the thousand longest."""
    push = heappush if len(longest) < _MOST_KEPT else heappushpop
    push(longest, one)


class StallMeter:
    """Takes down how long it takes from `began` to `ended`: `stalls` is a heap of the longest.

    Of those of `before`, too, whose time is over.
    """

    def __init__(self, before: "StallMeter | None" = None) -> None:
        self.stalls: list[Stall] = before.stalls if before else []
        self._watch = clock.Stopwatch()
        self._seen: Counter[Line] = Counter()

    def began(self) -> None:
        """Something runs."""
        self._seen.clear()
        self._watch.start()

    def ended(self, allowed: float = 0.0) -> None:
        """It is over; `allowed` seconds of that were a pause."""
        if self._watch.passed - allowed >= _LEAST:
            seconds, sure = self._watch.held(allowed)
            if seconds >= _LEAST:
                # Most of the looks, and of as many the first: the last may come when it is over.
                (line, _), *_ = self._seen.most_common(1) or [(_UNSEEN, 0)]
                keep(self.stalls, Stall(seconds, *line, sure, clock.wall()))
        self._watch.stop()

    def look(self, frame: FrameType | None) -> None:
        """Note what is running, if something has been for a while."""
        if self._watch.passed >= _LOOK:
            self._seen[line_of(stack(frame)) or _UNSEEN] += 1

    def close(self) -> None:
        """Give back what it holds."""
        self._watch.close()


@contextmanager
def watching(meter: StallMeter) -> Iterator[bool]:
    """Watch the event loop that is running here; False if none is."""
    loop = running_loop()
    with ExitStack() as stack:
        stack.callback(meter.close)  # last of all: a stall may end with the watch
        if loop == "trio":
            _watch_trio(meter, stack)
        elif loop == "asyncio":
            _watch_asyncio(meter, stack)
        if loop and clock.can_tick():
            stack.enter_context(clock.ticks(_LOOK, meter.look))
        yield loop is not None


def _watch_asyncio(meter: StallMeter, stack: ExitStack) -> None:
    loop: Any = asyncio.get_running_loop()
    meter.began()
    stack.callback(meter.ended)
    if hasattr(loop, "meters"):  # a VirtualLoop's: a heartbeat would move its time
        loop.meters.append(meter)
        stack.callback(loop.meters.remove, meter)
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
