"""One tab does not read: nobody waits for it, and little is kept for it."""

import bounded_queues

from pytest_streamperf.server import assert_backpressure


def test_bounded_queues():
    assert_backpressure(
        bounded_queues.app, "/progress", publish="/progress", read="/metrics", gauge="tabs"
    )
