"""Real clocks: CPU time for the meters, and the deadline that stops a consumer which never ends."""

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
"""CPU seconds of this process, in all its threads: work handed to another one counts too."""

thread_cpu = time.thread_time
"""CPU seconds of this thread."""

wall = time.monotonic

# A virtual clock tells times apart that are so many to a second: floats where it begins do.
_STEPS = 2**30

# How often a deadline looks at the clocks, in wall seconds: at most, at least, and as a part of its
# CPU seconds. A look costs a few microseconds.
_TICK, _LEAST_TICK, _TICKS = 0.05, 0.005, 40
# A context manager begins and ends in frames of these files.
_SEAMS = {__file__, contextmanager.__code__.co_filename}


def to_the_next_step(seconds: float) -> float:
    """Round up to what a virtual clock can tell apart: who sleeps is never woken too early."""
    return ceil(seconds * _STEPS) / _STEPS if isfinite(seconds) else seconds


class Noise(NamedTuple):
    """What disturbed this thread: seconds it waited for a core, and page faults of the process.

    Each None where the system does not tell: the first is Linux's `schedstat`, the second POSIX.

    >>> Noise(0.5, 120).since(Noise(0.2, 100)).page_faults
    20
    """

    waited: float | None
    page_faults: int | None

    def since(self, before: "Noise") -> "Noise":
        """What has come since `before`."""
        return Noise(
            None if self.waited is None else self.waited - (before.waited or 0.0),
            None if self.page_faults is None else self.page_faults - (before.page_faults or 0),
        )


def noise() -> Noise:
    """All the noise since this thread, and the process, began."""
    queue, page_faults = RunQueue(), None
    waited = queue.waited()
    queue.close()
    with suppress(ImportError):
        import resource  # noqa: PLC0415 - POSIX only

        usage = resource.getrusage(resource.RUSAGE_SELF)
        page_faults = usage.ru_minflt + usage.ru_majflt
    return Noise(waited, page_faults)


class RunQueue:
    """How long the thread that made this has waited for a core, in seconds; Linux's `schedstat`.

    Nothing is known elsewhere. It reads in 2 us; to be closed.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        with suppress(OSError):
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)

    def waited(self) -> float | None:
        """Seconds so far; None where the system does not tell."""
        if self._file is not None:
            with suppress(OSError, ValueError, IndexError):
                return int(os.pread(self._file, 64, 0).split()[1]) / 1e9
        return None

    def close(self) -> None:
        """Give the file back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Stopwatch:
    """Seconds of wall time, less what the thread waited for a core meanwhile; to be closed.

    That is known in the thread that made it, on Linux.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._queue = RunQueue()
        self._began: float | None = None
        self._waited: float | None = None
        self._cpu = 0.0

    def start(self) -> None:
        """Begin, or begin again."""
        self._waited, self._cpu = self._waited_here(), thread_cpu()
        self._began = wall()

    @property
    def passed(self) -> float:
        """Seconds since it began, those of waiting too; 0 while it does not run."""
        return 0.0 if self._began is None else wall() - self._began

    def stop(self) -> None:
        """Run no more."""
        self._began = None

    def held(self, allowed: float = 0.0) -> tuple[float, bool]:
        """Seconds that were the thread's own, but for those `allowed`, and whether that is sure.

        It is where the wait is known, and where half of them were spent on the CPU.
        """
        seconds, waited = self.passed - allowed, self._waited_here()
        if waited is not None and self._waited is not None:
            return seconds - (waited - self._waited), True
        return seconds, (thread_cpu() - self._cpu) * 2 >= seconds

    def close(self) -> None:
        """Give back what it holds."""
        self._queue.close()

    def _waited_here(self) -> float | None:
        return self._queue.waited() if threading.get_ident() == self._thread else None


class Overrun(BaseException):
    """The deadline passed. Not an `Exception`, so that code under test does not swallow it.

    `stuck` is the CPU seconds since progress was last seen.
    """

    def __init__(self, resource: Literal["cpu", "wall"], stuck: float = 0.0) -> None:
        super().__init__(resource)
        self.resource = resource
        self.stuck = stuck


@contextmanager
def deadline(
    *, cpu_seconds: float, wall_seconds: float, progress: Callable[[], int] = int
) -> Iterator[None]:
    """Raise `Overrun` here after so many seconds of the process's CPU or of wall time.

    `progress` tells how far things have come; it is asked at every tick, of 50 ms or a fortieth of
    `cpu_seconds`. Where it shows some after the deadline, there is one more tick, to come to an end
    in good order.

    Needs the main thread and POSIX interval timers; elsewhere it does nothing. An alarm that was
    set before (pytest-timeout's, say) still rings when it is due.

    >>> with deadline(cpu_seconds=2.0, wall_seconds=30.0):
    ...     pass
    """
    if not can_tick():
        yield
        return
    start, last = wall(), cpu()
    cpu_end, wall_end, reached = last + cpu_seconds, start + wall_seconds, progress()
    armed, called = True, False

    # A wall-time tick that looks at the CPU clock, for want of better: while ITIMER_PROF is set,
    # Linux keeps the process's CPU clock in scheduler ticks of 4 ms, too coarse for the meters.
    def look(frame: FrameType | None) -> None:
        nonlocal last, reached, called
        if frame is not None and frame.f_code.co_filename in _SEAMS:
            return  # on the way in or out, where an error would leave the timer running
        now, spent, come = wall(), cpu(), progress()
        moved = come != reached
        if moved:
            last, reached = spent, come
        if armed and (spent > cpu_end or now > wall_end):
            if moved and not called:
                called = True
            else:
                raise Overrun("cpu" if now <= wall_end else "wall", spent - last)

    with ticks(max(_LEAST_TICK, min(_TICK, cpu_seconds / _TICKS)), look):
        try:
            yield
        finally:
            armed = False


def can_tick() -> bool:
    """Whether `ticks` works here: in the main thread, with POSIX interval timers."""
    return in_main_thread() and hasattr(signal, "setitimer")


def in_main_thread() -> bool:
    """Whether this is the main thread, which alone may say what comes of a signal.

    >>> in_main_thread()
    True
    """
    return threading.current_thread() is threading.main_thread()


@dataclass(slots=True)
class _Looker:
    every: float
    look: Callable[[FrameType | None], None]
    due: float


class _Ticker:
    """Handles SIGALRM for all who look: the first puts it in, the last to go what was before."""

    def __init__(self) -> None:
        left, self._interval = signal.getitimer(signal.ITIMER_REAL)
        self._outer_due = wall() + left if left else None
        self._outer = signal.getsignal(signal.SIGALRM)
        self._lookers: list[_Looker] = []

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        now = wall()
        if self._outer_due is not None and now >= self._outer_due:
            interval = self._interval
            missed = (now - self._outer_due) // interval + 1 if interval else 0
            self._outer_due = self._outer_due + missed * interval if interval else None
            if callable(self._outer):
                self._outer(signum, frame)
        if not self._lookers:  # an interrupt kept the last one from it
            self._put_back()
        pace = self._pace()
        for each in self._lookers:
            if each.every <= pace or now >= each.due:
                each.due = now + each.every
                each.look(frame)

    def enter(self, looker: _Looker) -> None:
        self._lookers = [*self._lookers, looker]  # a tick may be going through those there are
        signal.signal(signal.SIGALRM, self)
        self._set()

    def leave(self, looker: _Looker) -> None:
        mine = signal.getsignal(signal.SIGALRM) is self
        self._lookers = [each for each in self._lookers if each is not looker]
        if not self._lookers:
            self._put_back()
        elif mine:
            self._set()

    def _put_back(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._outer)
        if self._outer_due is not None:
            left = max(self._outer_due - wall(), 1e-6)
            signal.setitimer(signal.ITIMER_REAL, left, self._interval)

    def _pace(self) -> float:
        return min((each.every for each in self._lookers), default=0.0)

    def _set(self) -> None:
        """Set the timer to when the next is due: who comes or goes puts nobody's off."""
        due = min(each.due for each in self._lookers)
        signal.setitimer(signal.ITIMER_REAL, max(due - wall(), 1e-6), self._pace())


@contextmanager
def ticks(every: float, look: Callable[[FrameType | None], None]) -> Iterator[None]:
    """Call `look(frame)` every so many seconds of wall time, with the frame that is running here.

    Where a C function is running, as soon as that returns. Several may be open at once, and end in
    any order. An alarm that was set before (pytest-timeout's, say) still rings when it is due.
    """
    there = signal.getsignal(signal.SIGALRM)
    ticker = there if isinstance(there, _Ticker) else _Ticker()
    looker = _Looker(every, look, wall() + every)
    try:
        ticker.enter(looker)
        yield
    finally:
        ticker.leave(looker)
