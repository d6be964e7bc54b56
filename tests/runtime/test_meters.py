"""Meters read what was spent since they were opened, and nothing else."""

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
    """The time that reading the clock takes is subtracted."""
    clock = Clock(own=2e-6)
    meter = CpuTimeMeter(clock)
    meter.open()
    clock.spend(1e-4)
    assert meter.read() == pytest.approx(1e-4)


def test_time_is_never_negative():
    """A quick reading of the clock does not make the time negative."""
    clock = Clock(own=2e-6)
    meter = CpuTimeMeter(clock)
    clock.own = 5e-7
    meter.open()
    assert meter.read() == 0


def test_the_quickest_reading_counts():
    """A reading that was disturbed does not make later work look free."""
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
    """Time is counted from where the meter was last opened."""
    clock = Clock()
    meter = CpuTimeMeter(clock)
    for seconds in (1e-4, 2e-4):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == pytest.approx(seconds)


def test_long_time_on_a_steady_core():
    """On a core of constant speed a long block costs what the clock says."""
    clock = Clock(own=1e-6)
    meter = CpuTimeMeter(clock)
    for seconds in (0.5, 2.0):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == pytest.approx(seconds)


def test_long_time_on_a_core_that_slows_down():
    """A block is worth half its time where the standard work takes twice as long as before."""
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
    """A short block is not scaled, as the standard work would cost more than the block."""
    clock = Clock(own=1e-6)
    meter = CpuTimeMeter(clock)
    meter.open()
    clock.spend(1e-3)
    before = clock.now
    meter.read()
    assert clock.now - before == pytest.approx(clock.own)


def test_long_time_on_a_coarse_clock():
    """On a clock too coarse for the standard work a long block costs what the clock says."""
    clock = Clock()
    meter = CpuTimeMeter(clock)
    for seconds in (0.5, 2.0):
        meter.open()
        clock.spend(seconds)
        assert meter.read() == seconds


# -- allocated bytes


def test_unopened_meter_holds_nothing():
    """A meter that was never opened holds nothing."""
    assert AllocationMeter().held == 0


def test_kept_is_what_is_left():
    """Bytes that a run leaves behind are kept."""
    with allocations():
        earlier = bytes(50_000)
        before = tracemalloc.get_traced_memory()[0]
        left = bytes(100_000)
        assert 90_000 <= kept_since(before, 10_000) < 110_000
        del left
        assert len(earlier) == 50_000
        assert 0 <= kept_since(before, 10_000) < 10_000


def test_garbage_is_not_kept():
    """Garbage that waits for the collector is not kept."""
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
    """A cycle that a thread releases after the first retries is not kept."""
    moments = itertools.count()
    cycles = []

    def moment(_seconds):
        if next(moments) == 3:
            cycles.clear()

    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        cycle = [bytes(100_000)]
        cycle.append(cycle)
        cycles.append(cycle)
        del cycle
        monkeypatch.setattr(time, "sleep", moment)
        assert kept_since(before, 10_000) < 10_000
    assert next(moments) > 3
