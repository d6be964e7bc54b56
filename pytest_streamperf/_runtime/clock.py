"""Real clocks: CPU time, wall time without run-queue delay, ticks, and deadlines.

The meters read `cpu` and `wall`. `Stopwatch` subtracts the thread's run-queue delay. `ticks` calls
functions on SIGALRM, and `deadline` uses it to stop a consumer that never ends. An alarm that was
set before, such as the one of pytest-timeout, still fires.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil, isfinite
from types import FrameType
from typing import Literal, NamedTuple

cpu = time.process_time
"""CPU seconds of all threads of this process, so work handed to another thread counts too."""

thread_cpu = time.thread_time
"""CPU seconds of this thread."""

wall = time.monotonic
"""Wall seconds that never go back, also while a virtual clock is entered."""

# Steps per second of a virtual clock: floats near its start (2**22 s) resolve 2**-30 s.
_STEPS_PER_SECOND = 2**30

# A deadline reads the clocks once in a fortieth of its CPU seconds, but never more rarely than
# every 50 ms and never more often than every 5 ms of wall time. One reading costs a few
# microseconds.
_LONGEST_TICK_SECONDS, _SHORTEST_TICK_SECONDS, _TICKS_PER_DEADLINE = 0.05, 0.005, 40
# Files whose frames run while a context manager opens or closes.
_SEAMS = {__file__, contextmanager.__code__.co_filename}


def to_the_next_step(seconds: float) -> float:
    """Round up to the next step of a virtual clock, so that no sleeper wakes too early."""
    return ceil(seconds * _STEPS_PER_SECOND) / _STEPS_PER_SECOND if isfinite(seconds) else seconds


class Noise(NamedTuple):
    """Disturbances: the thread's run-queue delay in seconds, and the process's page faults.

    `waited` is None where Linux's `schedstat` is missing, and `page_faults` outside POSIX.

    >>> Noise(0.5, 120).since(Noise(0.2, 100)).page_faults
    20
    """

    waited: float | None
    page_faults: int | None

    def since(self, before: "Noise") -> "Noise":
        """Return the difference to an earlier reading."""
        return Noise(
            None if self.waited is None else self.waited - (before.waited or 0.0),
            None if self.page_faults is None else self.page_faults - (before.page_faults or 0),
        )


def noise() -> Noise:
    """Return the run-queue delay of this thread and the page faults of the process so far."""
    queue, page_faults = RunQueue(), None
    waited = queue.waited()
    queue.close()
    with suppress(ImportError):
        import resource  # noqa: PLC0415 - POSIX only

        usage = resource.getrusage(resource.RUSAGE_SELF)
        page_faults = usage.ru_minflt + usage.ru_majflt
    return Noise(waited, page_faults)


class RunQueue:
    """Reader of the run-queue delay of the thread that created it, from Linux's `schedstat`.

    A reading takes 2 us. Other systems have no reading. Call `close` after use.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def waited(self) -> float | None:
        """Return the run-queue delay so far, in seconds; None if it cannot be read."""
        if self._file is not None:
            with suppress(OSError, ValueError, IndexError):
                return int(os.pread(self._file, 64, 0).split()[1]) / 1e9
        return None

    def close(self) -> None:
        """Close the `schedstat` file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Stopwatch:
    """Stopwatch for wall time without the run-queue delay of the thread that created it.

    The delay can be read on Linux only, and in that thread only. Call `close` after use.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._queue = RunQueue()
        self._began: float | None = None
        self._waited: float | None = None
        self._cpu = 0.0

    def start(self) -> None:
        """Start, or restart."""
        self._waited, self._cpu = self._waited_here(), thread_cpu()
        self._began = wall()

    @property
    def passed(self) -> float:
        """Wall seconds since the start, run-queue delay included; 0 while stopped."""
        return 0.0 if self._began is None else wall() - self._began

    def stop(self) -> None:
        """Stop the stopwatch."""
        self._began = None

    def held(self, allowed: float = 0.0) -> tuple[float, bool]:
        """Return the seconds minus run-queue delay and `allowed`, and whether they are certain.

        They are certain if the delay is known, or if at least half of them were CPU time.
        """
        seconds, waited = self.passed - allowed, self._waited_here()
        if waited is not None and self._waited is not None:
            return seconds - (waited - self._waited), True
        return seconds, (thread_cpu() - self._cpu) * 2 >= seconds

    def close(self) -> None:
        """Close the `schedstat` file."""
        self._queue.close()

    def _waited_here(self) -> float | None:
        return self._queue.waited() if threading.get_ident() == self._thread else None


class Overrun(BaseException):
    """Raised when a deadline passes; no `Exception`, so that code under test cannot swallow it.

    `stuck` is the number of CPU seconds since the last progress.
    """

    def __init__(self, resource: Literal["cpu", "wall"], stuck: float = 0.0) -> None:
        super().__init__(resource)
        self.resource = resource
        self.stuck = stuck


@contextmanager
def deadline(
    *, cpu_seconds: float, wall_seconds: float, progress: Callable[[], int] = int
) -> Iterator[None]:
    """Raise `Overrun` in the block after `cpu_seconds` of the process or `wall_seconds`.

    Each tick calls `progress`, which returns a number that changes when the block gets on. A tick
    comes after 50 ms, or after a fortieth of `cpu_seconds` if that is shorter. If the number has
    changed at the first tick after the deadline, the block gets one more tick to end in good order.

    The deadline needs the main thread and POSIX interval timers; elsewhere it does nothing. An
    alarm that was set before, such as the one of pytest-timeout, still fires when it is due.

    >>> with deadline(cpu_seconds=2.0, wall_seconds=30.0):
    ...     pass
    """
    if not can_tick():
        yield
        return
    start, last = wall(), cpu()
    cpu_end, wall_end, reached = last + cpu_seconds, start + wall_seconds, progress()
    armed, called = True, False

    # A wall-time tick reads the CPU clock, because a CPU-time timer is no option: while ITIMER_PROF
    # is set, Linux updates the CPU clock in ticks of 4 ms, too coarse for the meters.
    def look(frame: FrameType | None) -> None:
        nonlocal last, reached, called
        if frame is not None and frame.f_code.co_filename in _SEAMS:
            return  # an error in a closing context manager would leave the timer running
        now, spent, come = wall(), cpu(), progress()
        moved = come != reached
        if moved:
            last, reached = spent, come
        if armed and (spent > cpu_end or now > wall_end):
            if moved and not called:
                called = True
            else:
                raise Overrun("cpu" if now <= wall_end else "wall", spent - last)

    with ticks(
        max(_SHORTEST_TICK_SECONDS, min(_LONGEST_TICK_SECONDS, cpu_seconds / _TICKS_PER_DEADLINE)),
        look,
    ):
        try:
            yield
        finally:
            armed = False


def can_tick() -> bool:
    """Return whether `ticks` can work: in the main thread, with POSIX interval timers."""
    return in_main_thread() and hasattr(signal, "setitimer")


def in_main_thread() -> bool:
    """Return whether this is the main thread, the only one that may set signal handlers.

    >>> in_main_thread()
    True
    """
    return threading.current_thread() is threading.main_thread()


@dataclass(slots=True)
class _TickListener:
    every: float
    look: Callable[[FrameType | None], None]
    due: float


class _Ticker:
    """SIGALRM handler shared by all open `ticks`; the last to close restores the old handler."""

    def __init__(self) -> None:
        left, self._interval = signal.getitimer(signal.ITIMER_REAL)
        self._outer_due = wall() + left if left else None
        self._outer = signal.getsignal(signal.SIGALRM)
        self._listeners: list[_TickListener] = []

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = wall()
        if self._outer_due is not None and now >= self._outer_due:
            interval = self._interval
            missed = (now - self._outer_due) // interval + 1 if interval else 0
            self._outer_due = self._outer_due + missed * interval if interval else None
            if callable(self._outer):
                self._outer(signum, frame)
        if not self._listeners:  # an interrupt stopped the last `leave` too early
            self._put_back()
        pace = self._shortest_interval()
        for listener in self._listeners:
            if listener.every <= pace or now >= listener.due:
                listener.due = now + listener.every
                listener.look(frame)

    def enter(self, listener: _TickListener) -> None:
        self._listeners = [*self._listeners, listener]  # a tick may be iterating over the old list
        signal.signal(signal.SIGALRM, self)
        self._set_timer()

    def leave(self, listener: _TickListener) -> None:
        mine = signal.getsignal(signal.SIGALRM) is self
        self._listeners = [other for other in self._listeners if other is not listener]
        if not self._listeners:
            self._put_back()
        elif mine:
            self._set_timer()

    def _put_back(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer)
        if self._outer_due is not None:
            left = max(self._outer_due - wall(), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, self._interval)

    def _shortest_interval(self) -> float:
        return min((listener.every for listener in self._listeners), default=0.0)

    def _set_timer(self) -> None:
        """Set the timer to the earliest due time, so that enter and leave delay no other tick."""
        due = min(listener.due for listener in self._listeners)
        signal.setitimer(signal.ITIMER_REAL, max(due - wall(), 1e-6), self._shortest_interval())


@contextmanager
def ticks(every: float, look: Callable[[FrameType | None], None]) -> Iterator[None]:
    """Call `look(frame)` every `every` wall seconds with the frame that the main thread runs.

    While a C function runs, the call comes as soon as it returns. Several may be open at once, and
    close in any order. An alarm that was set before, such as the one of pytest-timeout, still fires
    when it is due.
    """
    handler = signal.getsignal(signal.SIGALRM)
    ticker = handler if isinstance(handler, _Ticker) else _Ticker()
    listener = _TickListener(every, look, wall() + every)
    try:
        ticker.enter(listener)
        yield
    finally:
        ticker.leave(listener)
