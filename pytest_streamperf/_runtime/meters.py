"""Meters of the cost of code: allocated bytes, calls or CPU seconds since a meter was opened.

A check opens a meter, lets the code under test run, and reads the meter. Growth and relays use the
same meters.

    AllocationMeter  peak of live bytes above those at its opening; blind to work without
                     allocations, and to a copy that replaces one of the same size
    CallMeter        Python and C calls in the thread that opened it; blind to work inside a C call
    CpuTimeMeter     CPU seconds of the process; noisy, so only ever compared within one run

`AllocationLaps` and `ClockLaps` return the cost since their last call, for tracers that charge each
line. `kept_since` returns the bytes that a run left in memory.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable
from typing import Protocol

from pytest_streamperf._runtime.instrumentation import CallCounter, restart_peak

# A block of this many CPU seconds is long enough to be compared with the standard work, which then
# takes a tenth of the block or less. The standard work sums this many numbers, in 0.1 ms or so.
_LONG_BLOCK_SECONDS, _STANDARD_WORK_NUMBERS = 2e-3, 5_000

# The record of a run takes about this many bytes, which are not charged to the consumer.
_RECORD_BYTES = 400
# Memory that seems to be kept is measured again this often, this many seconds apart. Two looks in
# 155 ms were too few: on a crowded CI machine a server's thread still held 63 kB of a turn then.
_RETRIES, _RETRY_SECONDS = 31, 0.005
# Every tenth collection is a full one: it also empties the free lists, but it takes longer.
_RETRIES_PER_FULL_COLLECTION = 10


class Meter(Protocol):
    """A meter of the cost since it was opened."""

    reads_each_delta: bool
    """True if the meter is opened and read for each delta; False for each block of deltas."""

    def open(self) -> None:
        """Start measuring: the next reading counts from now."""

    def read(self) -> float:
        """Return the cost since `open`."""

    def close(self) -> None:
        """Release what the meter holds."""


class AllocationMeter:
    """A meter of transient allocation, in bytes; `instrumentation.allocations` must be open."""

    reads_each_delta = True  # the live bytes must be known at the moment a delta is handed out

    def __init__(self) -> None:
        self._first: int | None = None
        self._live = 0

    @property
    def held(self) -> int:
        """Bytes live when the meter was last opened that were not live when it was first opened."""
        return self._live - (self._first or 0)

    def open(self) -> None:
        restart_peak()
        self._live = tracemalloc.get_traced_memory()[0]
        if self._first is None:
            self._first = self._live

    def read(self) -> float:
        return tracemalloc.get_traced_memory()[1] - self._live

    def close(self) -> None:
        pass


class CallMeter:
    """A meter of the Python and C calls in the thread that opens it."""

    reads_each_delta = False

    def __init__(self) -> None:
        self._counter = CallCounter()
        self._opened = 0

    def open(self) -> None:
        self._counter.start()
        self._opened = self._counter.count

    def read(self) -> float:
        return self._counter.count - self._opened

    def close(self) -> None:
        self._counter.stop()


class CpuTimeMeter:
    """A meter of CPU seconds by `clock`, without the time that reading the clock takes.

    A long block is scaled by a small piece of standard work that the meter does right after it,
    because other processes make a core slower by up to a half, for a second or so.
    """

    reads_each_delta = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._opened = 0.0
        self._own = min(-(clock() - clock()) for _ in range(9))
        self._standard = 0.0

    def open(self) -> None:
        self._opened = self._clock()

    def read(self) -> float:
        spent = max(0.0, self._clock() - self._opened - self._own)
        if spent < _LONG_BLOCK_SECONDS:
            return spent
        self._standard = self._standard or min(self._standard_work() for _ in range(5))
        now = min(self._standard_work() for _ in range(2))
        return spent * self._standard / now if now else spent

    def _standard_work(self) -> float:
        started = self._clock()
        sum(list(range(_STANDARD_WORK_NUMBERS)))
        return self._clock() - started

    def close(self) -> None:
        pass


class AllocationLaps:
    """A callable that returns the peak of live bytes above those at its previous call."""

    def __init__(self) -> None:
        self._live = 0

    def __call__(self) -> float:
        live, peak = tracemalloc.get_traced_memory()
        spent = peak - self._live
        restart_peak()
        self._live = live
        return spent


class ClockLaps:
    """A callable that returns the seconds that `clock` advanced since its previous call."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = 0.0

    def __call__(self) -> float:
        now = self._clock()
        spent, self._last = now - self._last, now
        return spent


def kept_since(before: int, least: int) -> int:
    """Return the bytes of traced memory that a run left behind, 0 or more.

    `before` is the number of bytes traced before the run. If `least` or more are left, garbage
    cycles are collected, and other threads, such as a server's, get time to release memory.
    """
    kept = tracemalloc.get_traced_memory()[0] - before - _RECORD_BYTES
    for retry in range(_RETRIES):
        if kept < least:
            break
        # Only a full collection frees cycles that an earlier collection promoted.
        gc.collect(0 if retry % _RETRIES_PER_FULL_COLLECTION else 2)
        time.sleep(_RETRY_SECONDS)
        kept = tracemalloc.get_traced_memory()[0] - before - _RECORD_BYTES
    return max(0, kept)
