"""Does a server behave? Real clients over real sockets, and what it counts and says to them.

Each check takes an ASGI app, which it serves on loopback from a thread of this process, or the URL
of a server that runs; `assert_parity` takes functions.

    >>> from pytest_streamperf.service import Request, assert_cors, assert_gauges_settle
    >>> from reference_impl import create_app
    >>> chat = Request("POST", "/v1/chat/completions", {"stream": True, "messages": [...]})
    >>> assert_gauges_settle(create_app(debug=True), requests=[chat])    # doctest: +SKIP
    >>> assert_cors(create_app()).verdict
    'within'
"""

from pytest_streamperf.service.backpressure import assert_backpressure as assert_backpressure
from pytest_streamperf.service.clients import Request as Request
from pytest_streamperf.service.cors import assert_cors as assert_cors
from pytest_streamperf.service.gauges import assert_gauges_settle as assert_gauges_settle
from pytest_streamperf.service.load_counter import LoadCounter as LoadCounter
from pytest_streamperf.service.loading import assert_loaded_once as assert_loaded_once
from pytest_streamperf.service.parity import assert_parity as assert_parity
from pytest_streamperf.service.responsive import assert_responsive as assert_responsive
from pytest_streamperf.service.stopping import assert_stops as assert_stops
from pytest_streamperf.service.streamed import assert_streamed as assert_streamed
from pytest_streamperf.service.survival import assert_survives as assert_survives
from pytest_streamperf.service.untorn import assert_untorn as assert_untorn
