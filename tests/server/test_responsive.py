"""What is costly is answered beside the event loop, by the reference server and by others."""

import asyncio
import ctypes
import gc
import re
import sys
import time
from contextlib import nullcontext

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pytest_streamperf import Inconclusive, NothingMeasured, ServerExceeded
from pytest_streamperf._runtime.context import Line
from pytest_streamperf.server import Request, assert_responsive, responsive
from pytest_streamperf.server.responsive import Beat, Look, Round, longest, settled, undisturbed
from pytest_streamperf.wire.server import serve_app
from reference_impl import regressed
from tests.failure_messages import headline_of
from tests.matrix.checks import CHAT, HEAP, app

TICKS, REPORT = Request("GET", "/"), Request("GET", "/report")
# Each delta by itself, where replies are flushed every 50 ms.
TURN = Request("POST", "/agents/demo/run", {"messages": [{"role": "user", "content": "hello"}]})


@pytest.fixture
def small_heap():
    """As a server has: pytest's, with all tests in it, takes as long to list as may be stalled."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.alone
@pytest.mark.usefixtures("small_heap")
def test_streams_go_on_beside_a_snapshot():
    """It is taken in a thread, which rests."""
    found = assert_responsive(app(3_000), HEAP, beside=CHAT)
    assert found.figures.seconds["longest stall"] <= 0.05


def test_streams_stand_still():
    """Where it is taken on the loop; the function that blocks is named."""
    with regressed("snapshot-on-the-loop"), pytest.raises(ServerExceeded) as caught:
        assert_responsive(app(3_000), HEAP, beside=CHAT, rounds=2)
    assert "10 streams stood still for" in headline_of(caught, most=10)
    assert "limit 50.0 ms" in headline_of(caught, most=10)
    assert "where  heap.py:" in str(caught.value)


def test_a_server_that_runs():
    """By its URL; which line blocks is not seen from there."""
    with (
        serve_app(app(3_000)) as url,
        regressed("snapshot-on-the-loop"),
        pytest.raises(ServerExceeded) as caught,
    ):
        assert_responsive(url, HEAP, beside=TURN, rounds=1)
    assert "where" not in str(caught.value)
    assert "while  GET /api/dev/heap" in str(caught.value)


async def computed(_request):
    """Compute an answer where it is asked for."""
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    return PlainTextResponse("done")


async def slept(_request):
    """Wait where it is asked for, and let other threads run."""
    time.sleep(0.2)  # noqa: ASYNC251 - the mistake
    return PlainTextResponse("done")


async def kept(_request):
    """Wait in C, and let no other thread run."""
    ctypes.PyDLL(None).usleep(200_000)
    return PlainTextResponse("done")


def small(answer, every=0.01):
    """An app that is not ours: a stream without an end, and something that is asked for."""

    async def ticks():
        while True:
            yield b"."
            await asyncio.sleep(every)

    return Starlette(
        routes=[Route("/", lambda _: StreamingResponse(ticks())), Route("/report", answer)]
    )


@pytest.mark.parametrize(("answer", "line"), [(computed, "while "), (slept, r"time\.sleep")])
def test_the_line_that_blocks(answer, line):
    """Is told of any app."""
    where = rf"where  test_responsive\.py:\d+ in {answer.__name__}:\s+{line}"
    with pytest.raises(ServerExceeded, match=where):
        assert_responsive(small(answer), REPORT, beside=TICKS, rounds=1, clients=3)


@pytest.mark.skipif(sys.platform == "win32", reason="has no usleep")
@pytest.mark.parametrize("serve", [nullcontext, serve_app])
def test_a_process_that_stood_still(serve):
    """Is nobody's fault for sure: the machine's, or that of a call into C."""
    with serve(small(kept)) as server, pytest.raises(Inconclusive) as caught:
        assert_responsive(server, REPORT, beside=TICKS, rounds=1, clients=3)
    assert re.fullmatch(
        r"3 streams stood still for \d+ ms, or the machine did", headline_of(caught, most=10)
    )


def test_a_loop_that_waits_for_a_core(monkeypatch):
    """Is not held to it: what the system has the thread wait is no stall."""
    monkeypatch.setattr(responsive.clock.RunQueue, "waited", lambda _: time.perf_counter())
    assert_responsive(small(slept), REPORT, beside=TICKS, rounds=1, clients=3)


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
    empty = small(lambda _: PlainTextResponse("done"))
    with pytest.raises(NothingMeasured, match=says):
        assert_responsive(empty, request_, beside=beside, clients=2)


def test_a_server_that_is_none():
    """Is refused as other checks do."""
    with pytest.raises(TypeError, match="an ASGI app or a URL, not None"):
        assert_responsive(None, REPORT, beside=TICKS)


def test_gaps_that_hide_a_stall():
    """Of a server that is seen from outside alone, nothing is measured in them."""
    with (
        serve_app(small(lambda _: PlainTextResponse("done"))) as url,
        pytest.raises(NothingMeasured, match=r"has gaps of .*: a stall of 1\.0 ms is"),
    ):
        assert_responsive(url, REPORT, beside=TICKS, max_stall=0.001, clients=2)


def test_a_stall_that_is_shorter_than_the_gaps():
    """Of an app it is seen by the beats of its loop."""
    seldom = small(computed, every=0.15)
    with pytest.raises(ServerExceeded, match="3 streams stood still for"):
        assert_responsive(seldom, REPORT, beside=TICKS, clients=3, rounds=1, max_stall=0.1)


# -- what is made of what was seen


@pytest.mark.parametrize(
    ("waited", "thread", "process", "stall"),
    [
        (0.0, 0.1, 0.1, 0.1),  # it computed
        (0.0, 0.0, 0.0, 0.1),  # it was blocked
        (0.08, 0.02, 0.02, 0.02),  # others of the machine had its core
        (0.08, 0.02, 0.1, 0.1),  # another thread of ours had it
        (0.08, 0.02, 0.05, 0.05),  # both
    ],
)
def test_what_a_loop_waits(waited, thread, process, stall):
    """For a core is no stall, but where this process is what had it."""
    gap = Beat(7.0, 1.0, 1.0, 1.0), Beat(7.1, 1.0 + waited, 1.0 + thread, 1.0 + process)
    found = longest([gap], 0.0, [])
    assert found.stall == pytest.approx(stall)
    assert found.sure == pytest.approx(stall)


LINE = Line("app.py:3 in report", "time.sleep(1)")


def looked(begin, end, line=None):
    """Looks at a server, every 5 ms, in which nothing is computed."""
    return [Look(begin + n / 200, 0.0, line) for n in range(round((end - begin) * 200) + 1)]


@pytest.mark.parametrize(
    ("looks", "sure"),
    [
        ([], 0.1),
        ([Look(0.0, 0.0), Look(2.0, 0.0)], 0.005),  # nobody ran
        ([Look(0.0, 0.0), Look(2.0, 2.0)], 0.1),  # somebody computed
        ([Look(0.0, 0.0), Look(2.0, 0.04)], 0.045),  # and for some of the time
        ([Look(0.0, 0.0), *looked(1.02, 1.2)], 0.085),  # nobody ran in the beginning
        ([*looked(0.9, 1.08), Look(2.0, 0.0)], 0.085),  # and in the end
        (looked(0.0, 2.0), 0.1),  # it was looked at all the time
        ([Look(0.0, 0.0), Look(1.0, 0.0)], 0.1),  # that was before it
        ([Look(1.1, 0.0), Look(2.0, 0.0)], 0.1),  # and that was afterwards
    ],
)
def test_who_looks(looks, sure):
    """And was held up as well, though this process did nothing, makes a stall less than sure."""
    found = longest([(Beat(1.0), Beat(1.1))], 0.0, looks)
    assert found.stall == pytest.approx(0.1)
    assert found.sure == pytest.approx(sure)


def test_the_machine_is_seen_once():
    """A thread that waits for a core while nobody else runs either waits once."""
    gap = Beat(1.0), Beat(1.1, waited=0.06)
    assert longest([gap], 0.0, [Look(1.0, 0.0), Look(1.08, 0.0)]).sure == pytest.approx(0.025)


def test_the_gap_that_is_sure():
    """Goes before one that is longer, and has its line told."""
    frozen, blocked = (Beat(1.0), Beat(2.0)), (Beat(2.0), Beat(2.5))
    looks = [Look(1.0, 0.0), *looked(2.0, 2.5, LINE)]
    found = longest([frozen, blocked], 0.002, looks)
    assert found == (pytest.approx(0.998), pytest.approx(0.498), LINE)


FINE, BLOCKED, FROZEN = Round(0.05, 0.05), Round(0.2, 0.0501), Round(0.2, 0.05)


@pytest.mark.parametrize(
    ("found", "over"),
    [
        ([], False),
        ([FINE], True),
        ([BLOCKED], False),
        ([BLOCKED] * 2, True),
        ([BLOCKED, FROZEN], False),
        ([BLOCKED, FROZEN, *[BLOCKED] * 3], False),
        ([BLOCKED, FROZEN, FINE], True),
        ([FROZEN] * 6, True),
    ],
)
def test_how_often_it_is_tried(found, over):
    """Twice here, and three times as often where it may have been the machine."""
    assert settled(found, 0.05, rounds=2) == over


@pytest.mark.parametrize(
    ("found", "outcome", "stall"),
    [
        ([FINE], "within", 0.05),
        ([BLOCKED, FINE], "within", 0.05),
        ([BLOCKED, BLOCKED], "exceeded", 0.0501),
        ([BLOCKED, FROZEN], "inconclusive", 0.2),
    ],
)
def test_the_limit_of_a_stall(found, outcome, stall):
    """Is the last that is allowed, in one of the rounds."""
    verdict = undisturbed(found, "GET /report", 3, 0.05)
    assert (verdict.verdict, verdict.figures.seconds["longest stall"]) == (outcome, stall)
