"""Network guards and gates: find the code that reaches the network under test, and its line."""

from pytest_streamperf.exceptions import BlockedFetch
from pytest_streamperf.network.attempts import SESSION, STARTUP, Attempt
from pytest_streamperf.network.fetch_guard import FetchGuard, NetworkResult
from pytest_streamperf.network.gate import (
    GateResult,
    OrderResult,
    assert_fetch_is_gated,
    assert_order_independent,
    assert_same_requests,
)

__all__ = [
    "SESSION",
    "STARTUP",
    "Attempt",
    "BlockedFetch",
    "FetchGuard",
    "GateResult",
    "NetworkResult",
    "OrderResult",
    "assert_fetch_is_gated",
    "assert_order_independent",
    "assert_same_requests",
]
