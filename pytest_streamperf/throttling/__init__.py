"""How often are updates and flushes made? Counters, the contract of a throttle, and its mutants."""

from pytest_streamperf.throttling.coalescing import Coalescing, Flush, FlushRecord
from pytest_streamperf.throttling.detection import Proof, prove_test
from pytest_streamperf.throttling.flush_counter import FlushCounter
from pytest_streamperf.throttling.invariants import INVARIANTS, Breach, Invariant
from pytest_streamperf.throttling.mutants import THROTTLE_MUTANTS, Throttle
from pytest_streamperf.throttling.update_counter import Cadence, Call, UpdateCounter

__all__ = [
    "INVARIANTS",
    "THROTTLE_MUTANTS",
    "Breach",
    "Cadence",
    "Call",
    "Coalescing",
    "Flush",
    "FlushCounter",
    "FlushRecord",
    "Invariant",
    "Proof",
    "Throttle",
    "UpdateCounter",
    "prove_test",
]
