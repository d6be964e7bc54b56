"""Tests of the meters: each returns the cost of the code that ran since the meter was opened.

The CPU-time meter follows a long block with a small piece of standard work. The time of that work
shows how fast the core is at the moment, and scales the block. A fake clock stands for the real
one. `kept_since` returns the bytes that a run left in memory.
"""

import gc
import itertools
import time
import tracemalloc

import pytest

from pytest_streamperf._runtime.instrumentation import allocations
from pytest_streamperf._runtime.meters import AllocationMeter, CallMeter, CpuTimeMeter, kept_since
from tests.spent_clock import Clock

pytestmark = pytest.mark.alone


def test_only_allocations_have_to_be_read_at_each_delta():
    """Only the allocation meter is read at each delta; time and calls add up over a block."""
    meters = (AllocationMeter, CallMeter, CpuTimeMeter)
    assert [meter.reads_each_delta for meter in meters] == [True, False, False]


# -- CPU time


def test_reading_the_clock_is_not_charged():
    """The CPU-time meter subtracts the time that reading its clock takes."""
    clock = Clock(own=2e-6)
    meter = CpuTimeMeter(clock)
    meter.open()
    clock.spend(1e-4)
    assert meter.read() == pytest.approx(1e-4)


def test_time_is_never_negative():
    """The CPU-time meter returns 0, not a negative time, after a quick reading of its clock."""
    clock = Clock(own=2e-6)
    meter = CpuTimeMeter(clock)
    clock.own = 5e-7
    meter.open()
    assert meter.read() == 0


def test_the_quickest_reading_counts():
    """The CPU-time meter subtracts the quickest of its trial readings of the clock.

    Otherwise a disturbed trial reading would make later work look free.
    """
    clock = Clock(own=1e-6)
    disturbed = iter([1e-3, 1e-3])

    def read():
        clock.spend(next(disturbed, 0.0))
        return clock()

    meter = CpuTimeMeter(read)
    meter.open()
    clock.spend(1e-4)
    assert meter.read() == pytest.approx(1e-4)


def test_time_can_be_read_again():
    """The CPU-time meter counts from its last opening."""
    clock = Clock()
    meter = CpuTimeMeter(clock)
    for seconds in (1e-4, 2e-4):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == pytest.approx(seconds)


def test_long_time_on_a_steady_core():
    """A long block on a core of constant speed counts exactly the clock's time."""
    clock = Clock(own=1e-6)
    meter = CpuTimeMeter(clock)
    for seconds in (0.5, 2.0):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == pytest.approx(seconds)


def test_long_time_on_a_core_that_slows_down():
    """A long block counts half its time if the standard work after it takes twice as long."""
    clock = Clock(own=1e-6)
    meter = CpuTimeMeter(clock)
    meter.open()
    clock.spend(0.5)
    meter.read()
    clock.own = 2e-6
    meter.open()
    clock.spend(2.0)
    assert meter.read() == pytest.approx(1.0, rel=1e-4)


def test_disturbed_standard_does_not_count():
    """A disturbed run of the standard work is not used to scale a block."""
    clock = Clock(own=1e-6)
    delays = itertools.cycle([0.0, 0.0, 0.0, 1e-3])

    def read():
        clock.spend(next(delays))
        return clock()

    meter = CpuTimeMeter(read)
    for seconds in (0.5, 2.0, 1.0):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == pytest.approx(seconds, rel=0.01)


def test_short_time_is_taken_as_it_is():
    """A short block is not scaled, because the standard work would cost more than the block."""
    clock = Clock(own=1e-6)
    meter = CpuTimeMeter(clock)
    meter.open()
    clock.spend(1e-3)
    before = clock.now
    meter.read()
    assert clock.now - before == pytest.approx(clock.own)


def test_long_time_on_a_coarse_clock():
    """If the clock is too coarse to time the standard work, a long block is not scaled."""
    clock = Clock()
    meter = CpuTimeMeter(clock)
    for seconds in (0.5, 2.0):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == seconds


# -- allocated bytes


def test_unopened_meter_holds_nothing():
    """An allocation meter that was never opened holds 0 bytes."""
    assert AllocationMeter().held == 0


def test_kept_is_what_is_left():
    """`kept_since` counts the bytes that a run leaves in memory, and not earlier ones."""
    with allocations():
        earlier = bytes(50_000)
        before = tracemalloc.get_traced_memory()[0]
        left = bytes(100_000)
        assert 90_000 <= kept_since(before, 10_000) < 110_000
        del left
        assert len(earlier) == 50_000
        assert 0 <= kept_since(before, 10_000) < 10_000


def test_garbage_is_not_kept():
    """`kept_since` does not count cyclic garbage that the collector has not freed yet."""
    gc.disable()
    try:
        with allocations():
            before = tracemalloc.get_traced_memory()[0]
            cycle = [bytes(100_000)]
            cycle.append(cycle)
            del cycle
            assert kept_since(before, 10_000) < 10_000
    finally:
        gc.enable()


def test_garbage_of_the_next_moments_is_not_kept(monkeypatch):
    """`kept_since` does not count a cycle that a thread releases after the first retries."""
    sleeps = itertools.count()
    cycles = []

    def sleep(_seconds):
        if next(sleeps) == 3:
            cycles.clear()

    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        cycle = [bytes(100_000)]
        cycle.append(cycle)
        cycles.append(cycle)
        del cycle
        monkeypatch.setattr(time, "sleep", sleep)
        assert kept_since(before, 10_000) < 10_000
    assert next(sleeps) > 3
