"""Tests of `assert_streamed`: a server must send a large answer while it makes it."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pytest_streamperf import ServerExceeded
from pytest_streamperf.server import Request, assert_streamed
from pytest_streamperf.server.streamed import BodyArrival, verdict_on_arrivals
from reference_impl import regressed
from tests.failure_messages import headline_of
from tests.matrix.checks import HEAP, app

REPORT = Request("GET", "/report")


def test_a_snapshot_is_streamed():
    """The reference server sends a heap snapshot while it makes it."""
    assert assert_streamed(app(3_000), HEAP, max_chunk=2**18).verdict == "within"


def test_a_snapshot_that_is_kept_until_it_is_whole():
    """A server that keeps the whole answer fails by the arrival times, at any chunk size."""
    with regressed("snapshot-in-memory"), pytest.raises(ServerExceeded) as caught:
        assert_streamed(app(3_000), HEAP, max_chunk=2**30)
    assert headline_of(caught, most=10).startswith("the first quarter of ")


def report_app(answer):
    """Return an app that sends `answer` at `/report`."""
    return Starlette(routes=[Route("/report", lambda _: answer)])


def test_one_large_piece():
    """A chunk over the limit fails the check."""
    with pytest.raises(ServerExceeded) as caught:
        assert_streamed(report_app(StreamingResponse(iter(["x" * 2_000_000]))), REPORT)
    assert headline_of(caught, most=10) == "the largest chunk has 2.0 MB of 2.0 MB, limit 1.0 MB"


def test_no_chunks():
    """An answer without chunks passes, because the sizes of its parts on the server are unknown."""
    plain_app = report_app(PlainTextResponse("x" * 2_000_000))
    verdict = assert_streamed(plain_app, REPORT)
    assert verdict.headline == "2.0 MB without chunks, sent while it was made"


def arrivals(*times):
    """Return the arrivals of chunks of 100 bytes at these times, in seconds."""
    return [BodyArrival(at, 100, begins=True) for at in times]


@pytest.mark.parametrize(
    ("rounds", "outcome"),
    [
        ([arrivals(0.1, 0.2, 0.3, 0.4)], "within"),
        ([arrivals(0.31, 0.32, 0.33, 0.4)], "exceeded"),
        ([arrivals(0.3, 0.32, 0.33, 0.4)], "within"),
        ([arrivals(0.31, 0.32, 0.33, 0.4), arrivals(0.1, 0.2, 0.3, 0.4)], "within"),
        ([arrivals(0.09, 0.09, 0.09, 0.09)], "within"),
    ],
)
def test_when_it_comes(rounds, outcome):
    """One round in time passes the check, and so does an answer that takes less than 0.1 s."""
    assert verdict_on_arrivals(rounds, "GET /report", 1_000).verdict == outcome


def test_a_piece_may_come_in_parts():
    """The parts of one chunk count together against the limit."""
    parts = [BodyArrival(0.1 * n, 60, begins) for n, begins in enumerate([True, False, True])]
    verdict = verdict_on_arrivals([parts], "GET /report", 100)
    assert verdict.headline == "the largest chunk has 120 B of 180 B, limit 100 B"
