"""Real clocks: CPU time for the meters, and the deadline that stops a consumer which never ends."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Literal

cpu = time.process_time
"""CPU seconds of this process, in all its threads: work handed to another one counts too."""

wall = time.monotonic

# How often a deadline looks at the clocks, in wall seconds. A look costs a few microseconds.
_TICK = 0.05


class Overrun(BaseException):
    """The deadline passed. Not an `Exception`, so that code under test does not swallow it."""

    def __init__(self, resource: Literal["cpu", "wall"]) -> None:
        super().__init__(resource)
        self.resource = resource


@contextmanager
def deadline(*, cpu_seconds: float, wall_seconds: float) -> Iterator[None]:
    """Raise `Overrun` here after so many seconds of the process's CPU or of wall time.

    Needs the main thread and POSIX interval timers; elsewhere it does nothing. An alarm that was
    set before (pytest-timeout's, say) still rings when it is due.

    >>> with deadline(cpu_seconds=2.0, wall_seconds=30.0):
    ...     pass
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(
        signal, "setitimer"
    ):
        yield
        return
    start = wall()
    cpu_end, wall_end = cpu() + cpu_seconds, start + wall_seconds
    armed = True
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    outer_due = start + left if left else None

    # A wall-time tick that looks at the CPU clock, for want of better: while ITIMER_PROF is set,
    # Linux keeps the process's CPU clock in scheduler ticks of 4 ms, too coarse for the meters.
    def tick(signum: int, frame: FrameType | None) -> None:
        nonlocal outer_due
        now = wall()
        if outer_due is not None and now >= outer_due:
            missed = (now - outer_due) // interval + 1 if interval else 0
            outer_due = outer_due + missed * interval if interval else None
            if callable(outer):
                outer(signum, frame)
        if armed and (cpu() > cpu_end or now > wall_end):
            raise Overrun("cpu" if now <= wall_end else "wall")

    outer = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer)
        if outer_due is not None:
            signal.setitimer(signal.ITIMER_REAL, max(outer_due - wall(), 1e-6), interval)
