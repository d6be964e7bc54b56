"""Measure event-loop stalls: how long a loop ran one piece of code, and on which line.

A stall is in real time, minus the thread's run-queue delay. On a busy machine, wall time alone
would report stalls in healthy code. One stall covers, on each kind of loop:

    asyncio      from one heartbeat to the next, minus its interval; also on uvloop and other loops
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

# benchmarks/stalls.py checks detection with these three values; it compares no other values.
# Seconds between two heartbeats on the loop.
_HEARTBEAT_SECONDS = 0.002
# Seconds between two samples of the running line. A sample wakes a sleeping thread, and the
# run-queue delay after that is subtracted from the stall, so samples must be rare.
_SAMPLE_SECONDS = 0.03
# Seconds of the shortest stall that is recorded.
_SHORTEST_STALL_SECONDS = 0.01
# The line of a stall that no sample hit.
_NO_LINE = Line("", "")


class Stall(NamedTuple):
    """A period in which the event loop could run nothing else; `where` and `source` name the line.

    `seconds` excludes the thread's run-queue delay. `sure` is true if that delay is known, or if
    the thread spent at least half of the time on the CPU. `at` is the end, in seconds of
    `clock.wall`.
    """

    seconds: float
    where: str
    source: str
    sure: bool
    at: float = 0.0


# Number of stalls, or of pauses, that one watch keeps, so that its memory stays bounded.
_MOST_KEPT = 1_000


def keep(longest: list[Any], item: Any) -> None:
    """Add a stall or a pause to a heap that keeps the thousand longest."""
    push = heappush if len(longest) < _MOST_KEPT else heappushpop
    push(longest, item)


class StallMeter:
    """Records the times from `began` to `ended`; `stalls` is a heap of the longest.

    `before` is an earlier meter that has finished: the new meter goes on with its stalls.
    """

    def __init__(self, before: "StallMeter | None" = None) -> None:
        self.stalls: list[Stall] = before.stalls if before else []
        self._watch = clock.Stopwatch()
        self._sampled_lines: Counter[Line] = Counter()

    def began(self) -> None:
        """Start the time: the loop runs code now."""
        self._sampled_lines.clear()
        self._watch.start()

    def ended(self, allowed: float = 0.0) -> None:
        """End the time; `allowed` seconds of it were the loop's own wait, and do not count."""
        if self._watch.passed - allowed >= _SHORTEST_STALL_SECONDS:
            seconds, sure = self._watch.held(allowed)
            if seconds >= _SHORTEST_STALL_SECONDS:
                # The line with most samples, and the first of equals: the last sample may come
                # after the stall.
                (line, _), *_ = self._sampled_lines.most_common(1) or [(_NO_LINE, 0)]
                keep(self.stalls, Stall(seconds, *line, sure, clock.wall()))
        self._watch.stop()

    def look(self, frame: FrameType | None) -> None:
        """Count the running line as a sample, if the current time has lasted long enough."""
        if self._watch.passed >= _SAMPLE_SECONDS:
            self._sampled_lines[line_of(stack(frame)) or _NO_LINE] += 1

    def close(self) -> None:
        """Close the stopwatch's file."""
        self._watch.close()


@contextmanager
def watching(meter: StallMeter) -> Iterator[bool]:
    """Watch the event loop that runs in this thread; yield False if there is none."""
    loop = running_loop()
    with ExitStack() as stack:
        stack.callback(meter.close)  # runs last: a stall may end together with the watch
        if loop == "trio":
            _watch_trio(meter, stack)
        elif loop == "asyncio":
            _watch_asyncio(meter, stack)
        if loop and clock.can_tick():
            stack.enter_context(clock.ticks(_SAMPLE_SECONDS, meter.look))
        yield loop is not None


def _watch_asyncio(meter: StallMeter, stack: ExitStack) -> None:
    loop: Any = asyncio.get_running_loop()
    meter.began()
    stack.callback(meter.ended)
    if hasattr(loop, "meters"):  # a VirtualLoop, whose time a heartbeat would move
        loop.meters.append(meter)
        stack.callback(loop.meters.remove, meter)
        return
    beats: list[asyncio.TimerHandle] = []

    def beat() -> None:
        meter.ended(allowed=_HEARTBEAT_SECONDS)
        meter.began()
        # asyncio runs due timers after ready callbacks. Without this cut, a ready callback and a
        # due timer would count as one stall.
        loop.call_soon(between)
        beats[:] = [loop.call_later(_HEARTBEAT_SECONDS, beat)]

    def between() -> None:
        meter.ended()
        meter.began()

    beats.append(loop.call_later(_HEARTBEAT_SECONDS, beat))
    stack.callback(lambda: beats[0].cancel())  # noqa: PLW0108 - looks up the latest beat at exit


def _watch_trio(meter: StallMeter, stack: ExitStack) -> None:
    import trio  # noqa: PLC0415 - a running trio is installed

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: Any) -> None:  # noqa: ARG002 - trio passes it by name
            meter.began()

        def after_task_step(self, task: Any) -> None:  # noqa: ARG002
            meter.ended()

    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    meter.began()
    stack.callback(trio.lowlevel.remove_instrument, steps)
    stack.callback(meter.ended)
