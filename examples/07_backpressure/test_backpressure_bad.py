"""One tab does not read: it holds up all the others, or what is kept for it fills the memory."""

import endless_queues
import one_loop

from pytest_streamperf.server import assert_backpressure


def test_one_loop():
    assert_backpressure(
        one_loop.app,
        "/progress",
        publish="/progress",
        read="/metrics",
        gauge="tabs",
        within=1.0,  # nothing would come later, either
    )


def test_endless_queues():
    assert_backpressure(
        endless_queues.app, "/progress", publish="/progress", read="/metrics", gauge="tabs"
    )
