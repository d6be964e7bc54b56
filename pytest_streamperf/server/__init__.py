"""Check the behaviour of a server with real clients over real sockets.

Each check takes an ASGI app or the URL of a running server, and returns a `Verdict`. It serves an
app on loopback from a thread of this process. `assert_stops` takes a command instead.
`assert_atomic_reads` and `assert_fallback_parity` take functions.

    chat = Request("POST", "/chat", {"message": "hello"})
    assert_cors(app, requests=[chat])
    assert_gauges_settle(app, requests=[chat], read="/metrics", gauges=["in_flight"])
"""

from pytest_streamperf.server.atomic_reads import assert_atomic_reads
from pytest_streamperf.server.backpressure import assert_backpressure
from pytest_streamperf.server.clients import Request
from pytest_streamperf.server.cors import assert_cors
from pytest_streamperf.server.fallback_parity import assert_fallback_parity
from pytest_streamperf.server.gauges import assert_gauges_settle
from pytest_streamperf.server.loading import LoadCounter, assert_loaded_once
from pytest_streamperf.server.responsive import assert_responsive
from pytest_streamperf.server.stopping import assert_stops
from pytest_streamperf.server.streamed import assert_streamed
from pytest_streamperf.server.survival import assert_survives

__all__ = [
    "LoadCounter",
    "Request",
    "assert_atomic_reads",
    "assert_backpressure",
    "assert_cors",
    "assert_fallback_parity",
    "assert_gauges_settle",
    "assert_loaded_once",
    "assert_responsive",
    "assert_stops",
    "assert_streamed",
    "assert_survives",
]
