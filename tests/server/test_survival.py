"""Under fire, and told to stop: the reference server, with each mistake, and servers of others."""

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
from pytest_streamperf.server.stopping import ENDS, Stop
from pytest_streamperf.server.stopping import judged as stopped
from pytest_streamperf.server.survival import Evidence, judged
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from tests.failure_messages import headline_of
from tests.matrix.reference_server import LAST_EVENTS, METRICS

MESSAGES = {"messages": [{"role": "user", "content": "hello"}]}
CHAT = Request("POST", "/v1/chat/completions", {"stream": True, **MESSAGES})
TURN = Request("POST", "/agents/demo/run", MESSAGES)


@pytest.fixture
def app():
    """The reference server, with a model that takes a while."""
    return create_app(lambda _: TokenStream(tokens=20, every=0.01), debug=True)


def survives(app, **terms):
    """Fire at the reference server, a little."""
    terms = {"crowd": 20, "rounds": 2, "within": 0.5, "websocket": "/ws/telemetry"} | terms
    return assert_survives(app, requests=[CHAT, TURN], **METRICS | terms)


# -- under fire


def test_nothing_is_left(app):
    """With a hundred clients that leave at once, too."""
    found = survives(app, crowd=100, within=5.0)
    assert found.headline.startswith("24 times under fire, and nothing is left, memory ")
    assert found.figures.counts["errors logged"] == 0
    assert found.figures.given["clients"] == 4 * (20 + 100 + 2 + 2 + 1)


@pytest.mark.parametrize(
    ("regression", "says"),
    [
        ("task-left-behind", r"\d+ tasks are left since 20 clients left midway"),
        ("deep-json-fails", "JSON nested 100,000 deep: 2 of 2 got 500"),
        ("gauge-leaks-on-disconnect", r"pendingRequests was 0, and is 2\d since 20 clients left"),
    ],
)
def test_what_is_left(app, regression, says):
    """Is told, with what did it."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        survives(app)
    assert re.match(says, headline_of(caught))
    assert "<- here" in str(caught.value)


def test_the_line_of_a_task_that_is_left(app):
    """Is where it waits."""
    with regressed("task-left-behind"), pytest.raises(ServerExceeded) as caught:
        survives(app)
    assert "in ResponseWriter._flush_now_and_then" in str(caught.value)


def test_what_is_kept(app):
    """Bodies of 10 MB, which show in the memory of the process."""
    with regressed("bodies-kept"), pytest.raises(ServerExceeded) as caught:
        survives(app)
    assert headline_of(caught).startswith("2 rounds left 4")
    assert "MB of the growth" in str(caught.value)


def test_a_server_by_its_url(app):
    """Its tasks and its log are not seen, nor its memory without a pid."""
    with serve_app(app) as url:
        found = survives(url)
    assert found.headline == "12 times under fire, and nothing is left"


def test_what_is_logged():
    """An error that clients cause, and asyncio's own complaints; not what is expected."""

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
    terms = {"requests": [Request("GET", "/")], "read": None, "crowd": 3, "rounds": 2}
    with pytest.raises(ServerExceeded, match=r"in the log, .* in all: CancelledError: "):
        assert_survives(app, **terms)
    assert assert_survives(app, **terms, expected=(asyncio.CancelledError,)).verdict == "within"


def test_too_few_rounds():
    """Do not tell what grows from what is there."""
    with pytest.raises(ValueError, match="rounds must be 2 or more"):
        assert_survives(create_app(), requests=[CHAT], rounds=1)


def test_a_request_that_is_refused():
    """Measures nothing."""
    with pytest.raises(NothingMeasured, match="GET /nowhere answers 404"):
        assert_survives(create_app(), requests=[Request("GET", "/nowhere")])


def test_a_log_that_is_off(app, caplog):
    """Tells nothing, and that is no success."""
    caplog.set_level(logging.CRITICAL)
    with pytest.raises(NothingMeasured, match="errors are not logged here"):
        survives(app)


def test_a_slot_that_is_lost():
    """A server that refuses everyone since clients left."""
    free = [5]

    async def stream(_request):
        if not free[0]:
            return PlainTextResponse("busy", 429)
        free[0] -= 1

        async def body():
            for _ in range(50):
                yield b"."
                await asyncio.sleep(0.01)
            free[0] += 1  # and not where the client leaves

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream)])
    with pytest.raises(ServerExceeded, match="others get 429, before 200"):
        assert_survives(app, requests=[Request("GET", "/")], crowd=3)


def test_no_request():
    """Nothing to fire at is nothing measured."""
    with pytest.raises(NothingMeasured, match="there is no request"):
        assert_survives(create_app(), requests=[])


def evidence(*, logged=(), memory=(), **hit):
    """What came of one hit."""
    return Evidence([Hit("fire", **hit)], memory, logged)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (evidence(statuses=Counter({"200": 3, "502": 1})), "fire: 1 of 4 got 502"),
        (evidence(statuses=Counter({HUNG_UP: 2})), "fire: 2 of 2 got hung up on"),
        (evidence(statuses=Counter({LEFT_OPEN: 1})), "fire was not hung up on"),
        (evidence(statuses=Counter({SILENT: 1})), "fire: 1 of 1 got no answer for 30 s"),
        (evidence(answers="429"), "after fire others get 429, before 200"),
        (evidence(answers=HUNG_UP), "after fire others get hung up on, before 200"),
        (evidence(before={"x": 1.0}, after={"x": 0.0}), "x was 1, and is 0 since fire"),
        (evidence(left=Counter({"app.py:1 in f": 2})), "2 tasks are left since fire"),
        (evidence(logged=["KeyError: 'x'"]), "in the log, 1 in all: KeyError: 'x'"),
        (evidence(memory=[1_000, 1_020, 1_051]), "2 rounds left 51 B of 1.1 kB in memory"),
    ],
)
def test_each_fault(found, says):
    """Has a headline of its own."""
    assert judged(found).headline == says


@pytest.mark.parametrize(
    "found",
    [
        evidence(statuses=Counter({"404": 3, "closed": 1}), before={"x": 1.0}, after={"x": 1.0}),
        evidence(statuses=Counter({"503": 3, REFUSED: 1}), usual="201", answers="201"),
        evidence(memory=[1_000, 1_025, 1_050]),
        evidence(memory=[1_000, 1_005, 1_200]),
        evidence(memory=[1_000, 1_200, 1_205, 1_205]),
    ],
)
def test_what_is_no_fault(found):
    """Who is refused is refused; memory may grow a little."""
    assert judged(found).verdict == "within"


# -- told to stop

SERVER = [sys.executable, "-m", "reference_impl"]


def test_streams_end_with_an_error():
    """Where the grace is over before they are."""
    found = assert_stops([*SERVER, "--every", "0.2", "--grace", "0.1"], CHAT, ends=LAST_EVENTS)
    assert found.headline.startswith("3 ended with an error, ")


def test_streams_come_to_their_end():
    """Where there is time."""
    found = assert_stops(
        [*SERVER, "--every", "0.02", "--grace", "30"], TURN, clients=2, ends=LAST_EVENTS
    )
    assert found.headline.startswith("2 whole, ")


def test_streams_are_cut_off():
    """Where a stop is left to whatever it hits."""
    slow = [*SERVER, "--every", "0.2", "--grace", "0.1", "--regress", "cut-off-at-stop"]
    with pytest.raises(ServerExceeded) as caught:
        assert_stops(slow, CHAT, ends=LAST_EVENTS)
    assert headline_of(caught) == "3 of 3 streams were cut off as the server stopped"


@pytest.mark.parametrize(
    ("command", "request_", "says"),
    [
        ([sys.executable, "-c", "print('hello')"], CHAT, "no URL was printed by"),
        (SERVER, Request("GET", "/v1/models"), "was over before the server was stopped .200."),
    ],
)
def test_nothing_to_stop(command, request_, says):
    """Where there is no server, or no stream."""
    with pytest.raises(NothingMeasured, match=says):
        assert_stops(command, request_)


def answer(body, *, complete=True):
    """What a client got."""
    return Answer(200, {}, body, complete)


WHOLE = answer(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Stop([WHOLE, None], 0.1, 0, []), "1 of 2 streams were cut off as the server stopped"),
        (Stop([answer(b"", complete=False)], 0.1, 0, []), "1 of 1 streams were cut off as the"),
        (Stop([answer(b"data: x\n\n")], 0.1, 0, []), "1 of 1 streams ended early without a word"),
        (Stop([WHOLE], None, -9, []), "the server was still there 5.0 s after it was told to stop"),
        (Stop([WHOLE], 0.1, 0, ["Traceback (most recent call last):"]), "the server printed a tr"),
        (Stop([WHOLE], 0.1, 3, []), "the server exited with 3"),
        (Stop([WHOLE], 0.1, -15, []), "1 whole, 100 ms after SIGTERM"),
        (Stop([answer(b'{"error": 1}')], 0.1, 143, []), "1 ended with an error, 100 ms after"),
        (Stop([answer(b'data: {"error": null}\n\n')], 0.1, 0, []), "1 of 1 streams ended early"),
        (Stop([answer(b"event: error\n\ndata: an error\n\n")], 0.1, 0, []), "1 of 1 streams ended"),
        (Stop([answer(b'{"x": 1}\n{"done": true}\n')], 0.1, 0, []), "1 whole"),
        (Stop([answer(b"event: error\r\ndata: x\r\n\r\n")], 0.1, 0, []), "1 ended with an error"),
        (Stop([WHOLE], 0.1, 0, ["ERROR:    Traceback (most recent call last):"]), "the server pr"),
        (Stop([None], None, -9, []), "the server was still there 5.0 s after it was told to stop"),
    ],
)
def test_how_it_stops(found, says):
    """Each way of it."""
    assert stopped(found, ENDS, 5.0).headline.startswith(says)


def test_an_app_of_others_is_fired_at():
    """Which answers all that it is asked with a refusal, and survives."""
    app = Starlette(
        routes=[
            Route("/", lambda _: PlainTextResponse("ok")),
            Route("/chat", lambda _: JSONResponse({}, 422), methods=["POST"]),
        ]
    )
    requests = [Request("GET", "/"), Request("POST", "/chat", {})]
    assert assert_survives(app, requests=requests, crowd=5, rounds=2).verdict == "within"
