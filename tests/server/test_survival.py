"""Tests of `assert_survives` (fault loads on a server) and of `assert_stops` (SIGTERM to a server).

Both checks run against the reference server, healthy and with seeded regressions, and against small
apps. The tests of `verdict_on_survival` and `verdict_on_stop` need no server.
"""

import asyncio
import logging
import re
import sys
from collections import Counter

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pytest_streamperf import NothingMeasured, ServerExceeded, TokenStream
from pytest_streamperf.server import Request, assert_stops, assert_survives
from pytest_streamperf.server.clients import Answer
from pytest_streamperf.server.fault_load import HUNG_UP, LEFT_OPEN, REFUSED, SILENT, Hit
from pytest_streamperf.server.stopping import ENDS, StopResult, verdict_on_stop
from pytest_streamperf.server.survival import SurvivalEvidence, verdict_on_survival
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from tests.failure_messages import headline_of
from tests.matrix.reference_server import LAST_EVENTS, METRICS

MESSAGES = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = Request("POST", "/v1/chat/completions", {"stream": True, **MESSAGES})
TURN = Request("POST", "/agents/demo/run", MESSAGES)


@pytest.fixture
def app():
    """Return the reference server, with a model that sends 20 tokens, one every 10 ms."""
    return create_app(lambda _: TokenStream(tokens=20, every=0.01), debug=True)


def check_survival(app, **options):
    """Run `assert_survives` on the reference server, with a small fault load."""
    options = {"crowd": 20, "rounds": 2, "within": 0.5, "websocket": "/ws/telemetry"} | options
    return assert_survives(app, requests=[CHAT, TURN], **METRICS | options)


# -- `assert_survives`


def test_nothing_is_left(app):
    """The reference server survives a crowd of 100 clients, and logs no error."""
    verdict = check_survival(app, crowd=100, within=5.0)
    assert verdict.headline.startswith("24 fault loads survived, and nothing left behind, memory ")
    assert verdict.figures.counts["errors logged"] == 0
    assert verdict.figures.given["clients"] == 4 * (20 + 100 + 2 + 2 + 1)


@pytest.mark.parametrize(
    ("regression", "headline"),
    [
        ("task-left-behind", r"\d+ tasks are still running after 20 clients left midway"),
        ("deep-json-fails", "JSON nested 100,000 deep: 2 of 2 clients got 500"),
        ("gauge-leaks-on-disconnect", r"pendingRequests was 0, and is 2\d after 20 clients left"),
    ],
)
def test_what_is_left(app, regression, headline):
    """The message names the fault that a server shows, and the fault load that caused it."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        check_survival(app)
    assert re.match(headline, headline_of(caught))
    assert "<- here" in str(caught.value)


def test_the_line_of_a_task_that_is_left(app):
    """A task that is left behind is blamed on the line where it waits."""
    with regressed("task-left-behind"), pytest.raises(ServerExceeded) as caught:
        check_survival(app)
    assert "in ResponseWriter._flush_periodically" in str(caught.value)


def test_what_is_kept(app):
    """A server that keeps the bodies of 10 MB fails by the growth of its memory."""
    with regressed("bodies-kept"), pytest.raises(ServerExceeded) as caught:
        check_survival(app)
    assert headline_of(caught).startswith("memory grew by 4")
    assert "MB of the growth" in str(caught.value)


def test_a_server_by_its_url(app):
    """The check of a URL looks at answers and gauges only, and reads no memory without `pid`."""
    with serve_app(app) as url:
        verdict = check_survival(url)
    assert verdict.headline == "12 fault loads survived, and nothing left behind"


def test_what_is_logged():
    """An error in the log fails the check, unless its type is `expected`."""

    async def stream(_request):
        async def body():
            try:
                while True:
                    yield b"."
                    await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                logging.getLogger("app").exception("a client left")
                raise

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream)])
    options = {"requests": [Request("GET", "/")], "read": None, "crowd": 3, "rounds": 2}
    with pytest.raises(
        ServerExceeded, match=r"errors in the log: \d+, limit 0; first: CancelledError: "
    ):
        assert_survives(app, **options)
    assert assert_survives(app, **options, expected=(asyncio.CancelledError,)).verdict == "within"


def test_too_few_rounds():
    """Fewer than two rounds are a ValueError, because one round cannot show growth."""
    with pytest.raises(ValueError, match="rounds must be 2 or more"):
        assert_survives(create_app(), requests=[CHAT], rounds=1)


def test_a_request_that_is_refused():
    """A request that the server refuses from the start measures nothing."""
    with pytest.raises(NothingMeasured, match="GET /nowhere answers 404"):
        assert_survives(create_app(), requests=[Request("GET", "/nowhere")])


def test_a_log_that_is_off(app, caplog):
    """A process that does not log errors measures nothing."""
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(NothingMeasured, match="error logging is off in this process"):
        check_survival(app)


def test_a_slot_that_is_lost():
    """A server that refuses other clients after some clients left fails."""
    free = [5]

    async def stream(_request):
        if not free[0]:
            return PlainTextResponse("busy", 429)
        free[0] -= 1

        async def body():
            for _ in range(50):
                yield b"."
                await asyncio.sleep(0.01)
            free[0] += 1  # not reached where the client leaves midway

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream)])
    with pytest.raises(ServerExceeded, match=r"other clients get 429 after .* midway, not 200"):
        assert_survives(app, requests=[Request("GET", "/")], crowd=3)


def test_no_request():
    """A check without requests measures nothing."""
    with pytest.raises(NothingMeasured, match="there is no request"):
        assert_survives(create_app(), requests=[])


def survival_evidence(*, logged=(), memory=(), **hit):
    """Return the evidence of the fault load "a large body"; `hit` gives the fields of a `Hit`."""
    return SurvivalEvidence([Hit("a large body", **hit)], memory, logged)


@pytest.mark.parametrize(
    ("evidence", "headline"),
    [
        (
            survival_evidence(statuses=Counter({"200": 3, "502": 1})),
            "a large body: 1 of 4 clients got 502",
        ),
        (
            survival_evidence(statuses=Counter({HUNG_UP: 2})),
            "a large body: 2 of 2 clients got a closed connection",
        ),
        (survival_evidence(statuses=Counter({LEFT_OPEN: 1})), "a large body was left open"),
        (
            survival_evidence(statuses=Counter({SILENT: 1})),
            "a large body: 1 of 1 clients got no answer for 30 s",
        ),
        (survival_evidence(answers="429"), "other clients get 429 after a large body, not 200"),
        (
            survival_evidence(answers=HUNG_UP),
            "other clients get a closed connection after a large body, not 200",
        ),
        (
            survival_evidence(before={"x": 1.0}, after={"x": 0.0}),
            "x was 1, and is 0 after a large body",
        ),
        (
            survival_evidence(left=Counter({"app.py:1 in f": 2})),
            "2 tasks are still running after a large body",
        ),
        (
            survival_evidence(logged=["KeyError: 'x'"]),
            "errors in the log: 1, limit 0; first: KeyError: 'x'",
        ),
        (
            survival_evidence(memory=[1_000, 1_020, 1_051]),
            "memory grew by 51 B to 1.1 kB in 2 rounds, limit 5%",
        ),
    ],
)
def test_each_fault(evidence, headline):
    """Each kind of fault produces its own headline."""
    assert verdict_on_survival(evidence).headline == headline


@pytest.mark.parametrize(
    "evidence",
    [
        survival_evidence(
            statuses=Counter({"404": 3, "closed": 1}), before={"x": 1.0}, after={"x": 1.0}
        ),
        survival_evidence(statuses=Counter({"503": 3, REFUSED: 1}), usual="201", answers="201"),
        survival_evidence(memory=[1_000, 1_025, 1_050]),
        survival_evidence(memory=[1_000, 1_005, 1_200]),
        survival_evidence(memory=[1_000, 1_200, 1_205, 1_205]),
    ],
)
def test_what_is_no_fault(evidence):
    """A refusal, a growth of 5% and a single step of memory are no fault."""
    assert verdict_on_survival(evidence).verdict == "within"


# -- `assert_stops`

SERVER = [sys.executable, "-m", "reference_impl"]


def test_streams_end_with_an_error():
    """Streams that outlast the grace period of a stop may end with an error event."""
    verdict = assert_stops([*SERVER, "--every", "0.2", "--grace", "0.1"], CHAT, ends=LAST_EVENTS)
    assert verdict.headline.startswith("streams: 3 ended with an error; exit ")


def test_streams_come_to_their_end():
    """Streams that end within the grace period of a stop are whole."""
    verdict = assert_stops(
        [*SERVER, "--every", "0.02", "--grace", "30"], TURN, clients=2, ends=LAST_EVENTS
    )
    assert verdict.headline.startswith("streams: 2 whole; exit ")


def test_streams_are_cut_off():
    """A server that cuts streams off when it stops fails."""
    slow = [*SERVER, "--every", "0.2", "--grace", "0.1", "--regress", "cut-off-at-stop"]
    with pytest.raises(ServerExceeded) as caught:
        assert_stops(slow, CHAT, ends=LAST_EVENTS)
    assert headline_of(caught) == "3 of 3 streams were cut off as the server stopped"


@pytest.mark.parametrize(
    ("command", "request_", "message"),
    [
        ([sys.executable, "-c", "print('hello')"], CHAT, "no URL was printed by"),
        (SERVER, Request("GET", "/v1/models"), "was over before the server was stopped .200."),
    ],
)
def test_nothing_to_stop(command, request_, message):
    """A command that prints no URL, and an answer that is over at once, measure nothing."""
    with pytest.raises(NothingMeasured, match=message):
        assert_stops(command, request_)


def answer(body, *, complete=True):
    """Return the answer that a client received, with status 200."""
    return Answer(200, {}, body, complete)


WHOLE = answer(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("result", "headline"),
    [
        (
            StopResult([WHOLE, None], 0.1, 0, []),
            "1 of 2 streams were cut off as the server stopped",
        ),
        (
            StopResult([answer(b"", complete=False)], 0.1, 0, []),
            "1 of 1 streams were cut off as the",
        ),
        (StopResult([answer(b"data: x\n\n")], 0.1, 0, []), "1 of 1 streams ended early without an"),
        (StopResult([WHOLE], None, -9, []), "the server was still running 5.0 s after SIGTERM"),
        (
            StopResult([WHOLE], 0.1, 0, ["Traceback (most recent call last):"]),
            "tracebacks that the server printed: 1, limit 0",
        ),
        (StopResult([WHOLE], 0.1, 3, []), "the server exited with status 3, not 0"),
        (StopResult([WHOLE], 0.1, -15, []), "streams: 1 whole; exit 100 ms after SIGTERM"),
        (
            StopResult([answer(b'{"error": 1}')], 0.1, 143, []),
            "streams: 1 ended with an error; exit 100 ms after",
        ),
        (
            StopResult([answer(b'data: {"error": null}\n\n')], 0.1, 0, []),
            "1 of 1 streams ended early",
        ),
        (
            StopResult([answer(b"event: error\n\ndata: an error\n\n")], 0.1, 0, []),
            "1 of 1 streams ended",
        ),
        (StopResult([answer(b'{"x": 1}\n{"done": true}\n')], 0.1, 0, []), "streams: 1 whole"),
        (
            StopResult([answer(b"event: error\r\ndata: x\r\n\r\n")], 0.1, 0, []),
            "streams: 1 ended with an error",
        ),
        (
            StopResult([WHOLE], 0.1, 0, ["ERROR:    Traceback (most recent call last):"]),
            "tracebacks that the server printed: 1, limit 0",
        ),
        (StopResult([None], None, -9, []), "the server was still running 5.0 s after SIGTERM"),
    ],
)
def test_how_it_stops(result, headline):
    """Each way in which streams and a process can end produces its own headline."""
    assert verdict_on_stop(result, ENDS, 5.0).headline.startswith(headline)


def test_an_app_of_others_is_fired_at():
    """An app that refuses a request with 422 survives the fault load."""
    app = Starlette(
        routes=[
            Route("/", lambda _: PlainTextResponse("ok")),
            Route("/chat", lambda _: JSONResponse({}, 422), methods=["POST"]),
        ]
    )
    requests = [Request("GET", "/"), Request("POST", "/chat", {})]
    assert assert_survives(app, requests=requests, crowd=5, rounds=2).verdict == "within"
