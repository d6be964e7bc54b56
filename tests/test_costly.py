"""Checks of costly answers: off the loop and bit by bit, on the reference server and on others."""

import asyncio
import time

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pytest_streamperf import NothingMeasured, ServiceExceeded, TokenStream
from pytest_streamperf.here import Line
from pytest_streamperf.service import Request, assert_responsive, assert_streamed
from pytest_streamperf.service.costly import Arrival, Round, piecemeal, undisturbed
from reference_impl import create_app, regressed, running

HEAP = Request("GET", "/api/dev/heap")
CHAT = Request(
    "POST",
    "/v1/chat/completions",
    {"stream": True, "messages": [{"role": "user", "content": "hello"}]},
)


# Each delta by itself, where replies are flushed every 50 ms.
TURN = Request("POST", "/agents/demo/run", {"messages": [{"role": "user", "content": "hello"}]})


@pytest.fixture
def app():
    """The reference server, with a model that takes its time, and snapshots that do not."""
    return create_app(
        lambda _: TokenStream(tokens=3_000, every=0.01), debug=True, snapshot_limit=0.3
    )


def told(caught):
    """The headline of what was raised, which is well laid out."""
    lines = str(caught.value).splitlines()
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 72
    return caught.value.verdict.headline


# -- beside the loop


@pytest.mark.alone
def test_streams_go_on_beside_a_snapshot(app):
    """It is taken in a thread, which rests."""
    assert assert_responsive(app, HEAP, beside=CHAT).figures.seconds["longest stall"] <= 0.05


def test_streams_stand_still(app):
    """Where it is taken on the loop; the function that blocks is named."""
    with regressed("snapshot-on-the-loop"), pytest.raises(ServiceExceeded) as caught:
        assert_responsive(app, HEAP, beside=CHAT, rounds=2)
    assert "10 streams stood still for" in told(caught)
    assert "limit 50.0 ms" in told(caught)
    assert "where  heap.py:" in str(caught.value)


def test_a_server_that_runs(app):
    """By its URL; which line blocks is not seen from there."""
    with (
        running(app) as url,
        regressed("snapshot-on-the-loop"),
        pytest.raises(ServiceExceeded) as caught,
    ):
        assert_responsive(url, HEAP, beside=TURN, rounds=1)
    assert "where" not in str(caught.value)
    assert "while  GET /api/dev/heap" in str(caught.value)


async def _ticks():
    while True:
        yield b"."
        await asyncio.sleep(0.01)


async def computed(_request):
    """Compute an answer where it is asked for."""
    until = time.perf_counter() + 0.2
    while time.perf_counter() < until:
        pass
    return PlainTextResponse("done")


def small(answer):
    """An app that is not ours: a stream without an end, and something that is asked for."""
    return Starlette(
        routes=[Route("/", lambda _: StreamingResponse(_ticks())), Route("/report", answer)]
    )


TICKS, REPORT = Request("GET", "/"), Request("GET", "/report")


def test_the_line_that_blocks():
    """Is told of any app."""
    with pytest.raises(ServiceExceeded, match=r"where  test_costly\.py:\d+ in computed:\s+while "):
        assert_responsive(small(computed), REPORT, beside=TICKS, rounds=1, clients=3)


@pytest.mark.parametrize(
    ("request_", "beside", "says"),
    [
        (Request("GET", "/nowhere"), TICKS, "GET /nowhere answers 404, 9 B"),
        (
            REPORT,
            Request("GET", "/nowhere"),
            r"GET /nowhere ended .404. before GET /rep",
        ),
    ],
)
def test_nothing_to_measure(request_, beside, says):
    """Where one of them is not there, or too short."""
    app = small(lambda _: PlainTextResponse("done"))
    with pytest.raises(NothingMeasured, match=says):
        assert_responsive(app, request_, beside=beside, clients=2)


def test_a_server_that_is_none():
    """Is refused as other checks do."""
    with pytest.raises(TypeError, match="an ASGI app or a URL, not None"):
        assert_responsive(None, REPORT, beside=TICKS)


@pytest.mark.parametrize(("stall", "outcome"), [(0.05, "within"), (0.0501, "exceeded")])
def test_the_limit_of_a_stall(stall, outcome):
    """Is the last that is allowed."""
    line = Line("app.py:3 in report", "time.sleep(1)")
    assert undisturbed(Round(stall, line), "GET /report", 3, 0.05).verdict == outcome


# -- bit by bit


def test_a_snapshot_is_streamed(app):
    """It is sent as it is made."""
    assert assert_streamed(app, HEAP, max_piece=2**18).verdict == "within"


def test_a_snapshot_that_is_kept_until_it_is_whole(app):
    """Is found by when it comes, whatever its size."""
    with regressed("snapshot-in-memory"), pytest.raises(ServiceExceeded) as caught:
        assert_streamed(app, HEAP, max_piece=2**30)
    assert told(caught).startswith("a quarter of ")


def test_one_large_piece():
    """Counts decide."""
    app = small(lambda _: StreamingResponse(iter(["x" * 2_000_000])))
    with pytest.raises(ServiceExceeded) as caught:
        assert_streamed(app, REPORT)
    assert told(caught) == "one piece has 2.0 MB of 2.0 MB, limit 1.0 MB"


def test_no_chunks():
    """A file, say: what was sent at once is not known, and no fault."""
    app = small(lambda _: PlainTextResponse("x" * 2_000_000))
    assert assert_streamed(app, REPORT).headline == "2.0 MB, not in chunks, as it was made"


def test_gaps_that_hide_a_stall():
    """Of a server that is seen from outside alone, nothing is measured in them."""
    with (
        running(small(lambda _: PlainTextResponse("done"))) as url,
        pytest.raises(NothingMeasured, match=r"has gaps of .*: a stall of 1\.0 ms is"),
    ):
        assert_responsive(url, REPORT, beside=TICKS, max_stall=0.001, clients=2)


def test_a_stall_that_is_shorter_than_the_gaps():
    """Of an app it is seen by the beats of its loop."""

    async def slow_ticks():
        while True:
            yield b"."
            await asyncio.sleep(0.15)

    routes = [Route("/", lambda _: StreamingResponse(slow_ticks())), Route("/report", computed)]
    with pytest.raises(ServiceExceeded, match="3 streams stood still for"):
        assert_responsive(
            Starlette(routes=routes), REPORT, beside=TICKS, clients=3, rounds=1, max_stall=0.1
        )


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
