"""Does a server behave? Real clients over real sockets, and what it counts and says to them.

Each check takes an ASGI app, which it serves on loopback from a thread of this process, or the URL
of a server that runs; `assert_fallback_parity` takes functions.

    >>> from pytest_streamperf.server import Request, assert_cors, assert_gauges_settle
    >>> from reference_impl import create_app
    >>> chat = Request("POST", "/v1/chat/completions", {"stream": True, "messages": [...]})
    >>> assert_gauges_settle(create_app(debug=True), requests=[chat])    # doctest: +SKIP
    >>> assert_cors(create_app()).verdict
    'within'
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
