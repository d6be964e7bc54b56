"""Tests of `assert_responsive`: a costly request must not block the event loop of a server.

The check runs against the reference server, whose costly request is a heap snapshot, and against
small apps. The tests of `longest`, `settled` and `undisturbed` need no server.
"""

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
# This stream sends each delta by itself; chat replies are flushed only every 50 ms.
TURN = Request("POST", "/agents/demo/run", {"messages": [{"role": "user", "content": "hello"}]})


@pytest.fixture
def small_heap():
    """Freeze the objects that exist, so that a heap snapshot has as few to list as in a server.

    To list all objects of a test run takes as long as a stall may last.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.alone
@pytest.mark.usefixtures("small_heap")
def test_streams_go_on_beside_a_snapshot():
    """Streams go on while the server takes a heap snapshot in a thread that pauses."""
    verdict = assert_responsive(app(3_000), HEAP, beside=CHAT)
    assert verdict.figures.seconds["longest stall"] <= 0.05


def test_streams_stand_still():
    """A heap snapshot on the event loop fails the check, and the message blames a line."""
    with regressed("snapshot-on-the-loop"), pytest.raises(ServerExceeded) as caught:
        assert_responsive(app(3_000), HEAP, beside=CHAT, rounds=2)
    assert "10 streams stood still for" in headline_of(caught, most=10)
    assert "limit 50.0 ms" in headline_of(caught, most=10)
    assert "where  heap.py:" in str(caught.value)


def test_a_server_that_runs():
    """The check of a URL finds a stall, and names the request but no line."""
    with (
        serve_app(app(3_000)) as url,
        regressed("snapshot-on-the-loop"),
        pytest.raises(ServerExceeded) as caught,
    ):
        assert_responsive(url, HEAP, beside=TURN, rounds=1)
    assert "where" not in str(caught.value)
    assert "while  GET /api/dev/heap" in str(caught.value)


async def compute_on_the_loop(_request):
    """Answer after 0.2 s of computing on the event loop."""
    until = time.thread_time() + 0.2
    while time.thread_time() < until:
        pass
    return PlainTextResponse("done")


async def sleep_on_the_loop(_request):
    """Answer after a sleep that blocks the event loop, but no other thread."""
    time.sleep(0.2)  # noqa: ASYNC251 - the fault to find
    return PlainTextResponse("done")


async def block_in_c(_request):
    """Answer after a call into C that lets no other thread run."""
    ctypes.PyDLL(None).usleep(200_000)
    return PlainTextResponse("done")


def ticking_app(answer, every=0.01):
    """Return an app with an endless stream at `/` and the endpoint `answer` at `/report`.

    The stream sends a part every `every` seconds.
    """

    async def ticks():
        while True:
            yield b"."
            await asyncio.sleep(every)

    return Starlette(
        routes=[Route("/", lambda _: StreamingResponse(ticks())), Route("/report", answer)]
    )


@pytest.mark.parametrize(
    ("answer", "line"), [(compute_on_the_loop, "while "), (sleep_on_the_loop, r"time\.sleep")]
)
def test_the_line_that_blocks(answer, line):
    """The message names the file, the function and the line that block the loop of an app."""
    where = rf"where  test_responsive\.py:\d+ in {answer.__name__}:\s+{line}"
    with pytest.raises(ServerExceeded, match=where):
        assert_responsive(ticking_app(answer), REPORT, beside=TICKS, rounds=1, clients=3)


@pytest.mark.skipif(sys.platform == "win32", reason="has no usleep")
@pytest.mark.parametrize("serve", [nullcontext, serve_app])
def test_a_process_that_stood_still(serve):
    """A stall in which no thread of the process ran is inconclusive."""
    with serve(ticking_app(block_in_c)) as server, pytest.raises(Inconclusive) as caught:
        assert_responsive(server, REPORT, beside=TICKS, rounds=1, clients=3)
    assert re.fullmatch(
        r"3 streams stood still for \d+ ms, or the machine did", headline_of(caught, most=10)
    )


def test_a_loop_that_waits_for_a_core(monkeypatch):
    """Run-queue delay of the loop's thread does not count as a stall."""
    monkeypatch.setattr(responsive.clock.RunQueue, "waited", lambda _: time.perf_counter())
    assert_responsive(ticking_app(sleep_on_the_loop), REPORT, beside=TICKS, rounds=1, clients=3)


@pytest.mark.parametrize(
    ("request_", "beside", "message"),
    [
        (Request("GET", "/nowhere"), TICKS, "GET /nowhere answers 404, 9 B"),
        (
            REPORT,
            Request("GET", "/nowhere"),
            r"GET /nowhere ended .404. before GET /rep",
        ),
    ],
)
def test_nothing_to_measure(request_, beside, message):
    """A request that is refused, and a stream that ends before the answer, measure nothing."""
    quick_app = ticking_app(lambda _: PlainTextResponse("done"))
    with pytest.raises(NothingMeasured, match=message):
        assert_responsive(quick_app, request_, beside=beside, clients=2)


def test_a_server_that_is_none():
    """A server that is neither an app nor a URL is a TypeError."""
    with pytest.raises(TypeError, match="an ASGI app or a URL, not None"):
        assert_responsive(None, REPORT, beside=TICKS)


def test_gaps_that_hide_a_stall():
    """A check of a URL measures nothing where the usual gaps of the streams would hide a stall."""
    with (
        serve_app(ticking_app(lambda _: PlainTextResponse("done"))) as url,
        pytest.raises(NothingMeasured, match=r"has gaps of .*: a stall of 1\.0 ms is"),
    ):
        assert_responsive(url, REPORT, beside=TICKS, max_stall=0.001, clients=2)


def test_a_stall_that_is_shorter_than_the_gaps():
    """For an app, heartbeats find a stall although the gaps of the streams are as long."""
    slow_stream_app = ticking_app(compute_on_the_loop, every=0.15)
    with pytest.raises(ServerExceeded, match="3 streams stood still for"):
        assert_responsive(slow_stream_app, REPORT, beside=TICKS, clients=3, rounds=1, max_stall=0.1)


# -- the stall of a round, the number of rounds, and the verdict


@pytest.mark.parametrize(
    ("waited", "thread", "process", "stall"),
    [
        (0.0, 0.1, 0.1, 0.1),  # the loop's thread computed
        (0.0, 0.0, 0.0, 0.1),  # the loop's thread was blocked
        (0.08, 0.02, 0.02, 0.02),  # other processes had the core
        (0.08, 0.02, 0.1, 0.1),  # another thread of this process had the core
        (0.08, 0.02, 0.05, 0.05),  # other processes and another thread of this process had the core
    ],
)
def test_what_a_loop_waits(waited, thread, process, stall):
    """Run-queue delay reduces a stall, unless other threads of this process had the core."""
    gap = Beat(7.0, 1.0, 1.0, 1.0), Beat(7.1, 1.0 + waited, 1.0 + thread, 1.0 + process)
    result = longest([gap], 0.0, [])
    assert result.stall == pytest.approx(stall)
    assert result.sure == pytest.approx(stall)


LINE = Line("app.py:3 in report", "time.sleep(1)")


def idle_samples(begin, end, line=None):
    """Return samples from `begin` to `end`, every 5 ms, in which this process computed nothing."""
    return [Look(begin + n / 200, 0.0, line) for n in range(round((end - begin) * 200) + 1)]


@pytest.mark.parametrize(
    ("looks", "sure"),
    [
        ([], 0.1),
        ([Look(0.0, 0.0), Look(2.0, 0.0)], 0.005),  # no sample and no CPU time in the whole stall
        ([Look(0.0, 0.0), Look(2.0, 2.0)], 0.1),  # no sample, but this process computed
        ([Look(0.0, 0.0), Look(2.0, 0.04)], 0.045),  # no sample, but 40 ms of CPU time
        ([Look(0.0, 0.0), *idle_samples(1.02, 1.2)], 0.085),  # no sample in the first 20 ms
        ([*idle_samples(0.9, 1.08), Look(2.0, 0.0)], 0.085),  # no sample in the last 20 ms
        (idle_samples(0.0, 2.0), 0.1),  # samples during the whole stall
        ([Look(0.0, 0.0), Look(1.0, 0.0)], 0.1),  # the sampler stood still before the stall
        ([Look(1.1, 0.0), Look(2.0, 0.0)], 0.1),  # the sampler stood still after the stall
    ],
)
def test_who_looks(looks, sure):
    """The time in which the sampler stood still and this process was idle is not sure."""
    result = longest([(Beat(1.0), Beat(1.1))], 0.0, looks)
    assert result.stall == pytest.approx(0.1)
    assert result.sure == pytest.approx(sure)


def test_the_machine_is_seen_once():
    """A stall of the machine that is also run-queue delay is subtracted once."""
    gap = Beat(1.0), Beat(1.1, waited=0.06)
    assert longest([gap], 0.0, [Look(1.0, 0.0), Look(1.08, 0.0)]).sure == pytest.approx(0.025)


def test_the_gap_that_is_sure():
    """The longest sure stall decides which line is blamed, not a longer stall of the machine."""
    frozen, blocked = (Beat(1.0), Beat(2.0)), (Beat(2.0), Beat(2.5))
    looks = [Look(1.0, 0.0), *idle_samples(2.0, 2.5, LINE)]
    result = longest([frozen, blocked], 0.002, looks)
    assert result == (pytest.approx(0.998), pytest.approx(0.498), LINE)


FINE, BLOCKED, FROZEN = Round(0.05, 0.05), Round(0.2, 0.0501), Round(0.2, 0.05)


@pytest.mark.parametrize(
    ("results", "over"),
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
def test_how_often_it_is_tried(results, over):
    """The check ends after one good round, 2 sure stalls, or 6 rounds with a doubtful stall."""
    assert settled(results, 0.05, rounds=2) == over


@pytest.mark.parametrize(
    ("results", "outcome", "stall"),
    [
        ([FINE], "within", 0.05),
        ([BLOCKED, FINE], "within", 0.05),
        ([BLOCKED, BLOCKED], "exceeded", 0.0501),
        ([BLOCKED, FROZEN], "inconclusive", 0.2),
    ],
)
def test_the_limit_of_a_stall(results, outcome, stall):
    """The best round decides, and a stall as long as the limit is within it."""
    verdict = undisturbed(results, "GET /report", 3, 0.05)
    assert (verdict.verdict, verdict.figures.seconds["longest stall"]) == (outcome, stall)
