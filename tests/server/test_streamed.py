"""What is large comes bit by bit, of the reference server and of others."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pytest_streamperf import ServerExceeded
from pytest_streamperf.server import Request, assert_streamed
from pytest_streamperf.server.streamed import Arrival, piecemeal
from reference_impl import regressed
from tests.failure_messages import headline_of
from tests.matrix.checks import HEAP, app

REPORT = Request("GET", "/report")


def test_a_snapshot_is_streamed():
    """It is sent as it is made."""
    assert assert_streamed(app(3_000), HEAP, max_chunk=2**18).verdict == "within"


def test_a_snapshot_that_is_kept_until_it_is_whole():
    """Is found by when it comes, whatever its size."""
    with regressed("snapshot-in-memory"), pytest.raises(ServerExceeded) as caught:
        assert_streamed(app(3_000), HEAP, max_chunk=2**30)
    assert headline_of(caught, most=10).startswith("a quarter of ")


def sends(answer):
    """An app that is not ours."""
    return Starlette(routes=[Route("/report", lambda _: answer)])


def test_one_large_piece():
    """Counts decide."""
    with pytest.raises(ServerExceeded) as caught:
        assert_streamed(sends(StreamingResponse(iter(["x" * 2_000_000]))), REPORT)
    assert headline_of(caught, most=10) == "one piece has 2.0 MB of 2.0 MB, limit 1.0 MB"


def test_no_chunks():
    """A file, say: what was sent at once is not known, and no fault."""
    plain = sends(PlainTextResponse("x" * 2_000_000))
    assert assert_streamed(plain, REPORT).headline == "2.0 MB, not in chunks, as it was made"


def arrivals(*parts):
    """Parts of 100 bytes that came at these times."""
    return [Arrival(at, 100, begins=True) for at in parts]


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
    """A quarter before three quarters of the time, in one round; what is quick may come at once."""
    assert piecemeal(rounds, "GET /report", 1_000).verdict == outcome


def test_a_piece_may_come_in_parts():
    """What is held to the limit is what the server sent at once."""
    parts = [Arrival(0.1 * n, 60, begins) for n, begins in enumerate([True, False, True])]
    found = piecemeal([parts], "GET /report", 100)
    assert found.headline == "one piece has 120 B of 180 B, limit 100 B"
