"""Who reaches the network? Each attempt, with the line that made it and who started that."""

from pytest_streamperf.network.attempts import SESSION, STARTUP, Attempt
from pytest_streamperf.network.audit_hook import BlockedFetch
from pytest_streamperf.network.fetch_guard import Fetches, FetchGuard
from pytest_streamperf.network.gate import (
    GateProof,
    OrderProof,
    assert_order_independent,
    assert_same_requests,
    prove_gate,
)

__all__ = [
    "SESSION",
    "STARTUP",
    "Attempt",
    "BlockedFetch",
    "FetchGuard",
    "Fetches",
    "GateProof",
    "OrderProof",
    "assert_order_independent",
    "assert_same_requests",
    "prove_gate",
]
