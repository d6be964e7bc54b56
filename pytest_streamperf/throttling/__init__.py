"""Throttling: count updates and flushes, and check how often they happen."""

from pytest_streamperf.throttling.coalescing import CoalescingResult, Flush, FlushRecord
from pytest_streamperf.throttling.detection import DetectionResult, assert_test_detects
from pytest_streamperf.throttling.flush_counter import FlushCounter
from pytest_streamperf.throttling.invariants import INVARIANTS, Breach, Invariant
from pytest_streamperf.throttling.mutants import THROTTLE_MUTANTS, Throttle
from pytest_streamperf.throttling.update_counter import Call, ThrottlingResult, UpdateCounter

__all__ = [
    "INVARIANTS",
    "THROTTLE_MUTANTS",
    "Breach",
    "Call",
    "CoalescingResult",
    "DetectionResult",
    "Flush",
    "FlushCounter",
    "FlushRecord",
    "Invariant",
    "Throttle",
    "ThrottlingResult",
    "UpdateCounter",
    "assert_test_detects",
]
