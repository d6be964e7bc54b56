"""Gauges held to what clients do, and the clients: on the reference server and on small apps."""

import asyncio
import json
import logging
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from pytest_streamperf import NothingMeasured, ServerExceeded, TokenStream
from pytest_streamperf._runtime import clock
from pytest_streamperf.server import Request, assert_cors, assert_gauges_settle
from pytest_streamperf.server.clients import ask
from pytest_streamperf.server.gauges import Phase, judged, named
from pytest_streamperf.server.serving import run
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from tests.failure_messages import headline_of
from tests.matrix.reference_server import METRICS, TOTALS


def engine(messages):
    """A model that takes a while, and one that is out of order."""
    if messages[-1]["content"] == "fail":
        raise RuntimeError("the model is out of order")
    return TokenStream(tokens=20, every=0.01)


def chat(text):
    """Ask the model."""
    body = {"stream": True, "messages": [{"role": "user", "content": text}]}
    return Request("POST", "/v1/chat/completions", body)


CHATS = [chat("hello"), chat("fail")]


def settle(app, **terms):
    """Hold the gauges of the reference server to account."""
    return assert_gauges_settle(
        app,
        requests=CHATS,
        **METRICS | {"totals": TOTALS, "clients": 3, "within": 0.3} | terms,
    )


@pytest.fixture
def app(caplog):
    """The reference server, with a model that fails now and then, which is logged."""
    caplog.set_level(logging.CRITICAL)
    return create_app(engine, debug=True)


# -- gauges


def test_gauges_settle(app):
    """Whatever clients do: read to the end, leave midway or at once, and where the model fails."""
    assert settle(app).headline == "3 gauges back to what was before 18 clients"


@pytest.mark.parametrize(
    ("regression", "says"),
    [
        (
            "gauge-leaks-on-disconnect",
            "pendingRequests was 0, and is 3 since 3 clients left midway (200)",
        ),
        ("gauge-goes-negative", "pendingRequests fell to -3 as 3 clients read to the end (500)"),
        ("totals-miss-failures", "responses grew by 0, requests by 3"),
    ],
)
def test_a_gauge_that_does_not(app, regression, says):
    """Is named, with what clients did, and how many."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        settle(app)
    assert headline_of(caught) == says
    assert "where  POST /v1/chat/completions" in str(caught.value)


def test_an_error_is_logged_once(app, caplog):
    """However many clients meet it."""
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        settle(app)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError]


def test_gauges_of_a_server_that_runs(app):
    """By its URL."""
    with serve_app(app) as url:
        assert settle(f"{url}/").verdict == "within"


def test_gauges_that_are_read_by_a_function():
    """Under any name, and in an app that is not ours."""
    state = {"in_flight": 0}

    async def stream(_request):
        state["in_flight"] += 1

        async def body():
            try:
                async for delta in TokenStream(tokens=20, every=0.01):
                    yield delta
            finally:
                state["in_flight"] -= 1

        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream)])
    found = assert_gauges_settle(
        app, requests=[Request("GET", "/")], read=lambda: state, gauges=["in_flight"]
    )
    assert found.figures.given == {"clients": 30, "gauges": 1}


def test_nobody_could_leave():
    """Where every answer is complete with its first piece, nothing was measured."""
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))])
    with pytest.raises(NothingMeasured, match="no client could leave midway"):
        assert_gauges_settle(
            app, requests=[Request("GET", "/")], read=lambda: {"x": 0}, gauges=["x"]
        )


@pytest.mark.parametrize(
    ("terms", "error", "says"),
    [
        ({"requests": []}, NothingMeasured, "no request to send"),
        ({"read": "/nowhere"}, NothingMeasured, "GET /nowhere answers 404"),
        ({"gauges": ["pending"]}, ValueError, "'pending' is none of timestampNs, metrics.pendingR"),
        ({"gauges": ["requests"], "read": dict}, ValueError, "'requests' is none of $"),
    ],
)
def test_a_bad_argument_of_gauges(app, terms, error, says):
    """Is refused by name."""
    with pytest.raises(error, match=says):
        assert_gauges_settle(app, **METRICS | {"totals": TOTALS, "requests": CHATS} | terms)


@pytest.mark.parametrize(
    ("server", "error", "says"),
    [
        (None, TypeError, "an ASGI app or a URL, not None"),
        ("localhost:8000", ValueError, "must begin with http:// or https://"),
    ],
)
def test_a_bad_server(server, error, says):
    """Is refused."""
    with pytest.raises(error, match=says):
        assert_gauges_settle(server, requests=CHATS, **METRICS)


def test_inside_a_running_loop(app):
    """The error says how to call it from there."""

    async def main():
        assert_cors(app)

    with pytest.raises(TypeError, match=r"await asyncio\.to_thread\(assert_cors, \.\.\.\)"):
        asyncio.run(main())


def test_names_that_are_given_twice():
    """Have to be told apart."""
    data = {"http": {"pending": 1}, "ws": {"pending": 2}, "at": "noon"}
    assert named(data, ["ws.pending"]) == {"ws.pending": 2}
    with pytest.raises(ValueError, match=r"is both http\.pending and ws\.pending"):
        named(data, ["pending"])


READINGS = st.fixed_dictionaries(
    dict.fromkeys(
        [*METRICS["gauges"], *(name for pair in TOTALS for name in pair)], st.integers(-2, 2)
    )
)


@given(READINGS, READINGS, READINGS)
def test_what_is_within(before, lowest, after):
    """Gauges that are what they were, and never below zero; ends that are as many as beginnings."""
    phase = Phase("GET /", 3, "read to the end", before, lowest, after)
    within = (
        min(lowest[name] for name in METRICS["gauges"]) >= 0
        and all(before[name] == after[name] for name in METRICS["gauges"])
        and all(phase.grew(begun) == phase.grew(ended) for begun, ended in TOTALS)
    )
    assert (judged([phase], METRICS["gauges"], TOTALS).verdict == "within") is within


def test_beginnings_that_are_missed():
    """A total that does not see some requests at all."""
    zero = dict.fromkeys([*METRICS["gauges"], "begun", "ended"], 0)
    phases = [
        Phase("GET /", 3, "read to the end (200)", zero, zero, {**zero, "begun": 3, "ended": 3}),
        Phase("GET /x", 3, "read to the end (500)", zero, zero, {**zero, "begun": 1, "ended": 1}),
    ]
    found = judged(phases, METRICS["gauges"], [("begun", "ended")])
    assert found.headline == "begun grew by 1 when 3 clients read to the end (500)"


# -- clients


@pytest.mark.parametrize("computed", [0.0, 60.0])
def test_time_that_a_machine_takes(monkeypatch, computed):
    """Does not pass for clients, but that in which this process computes does."""
    wall, cpu, gone = clock.wall, clock.cpu, [0.0, 0.0]
    monkeypatch.setattr(clock, "wall", lambda: wall() + gone[0])
    monkeypatch.setattr(clock, "cpu", lambda: cpu() + gone[1])

    async def main():
        with suppress(TimeoutError):
            async with asyncio.timeout(50):
                gone[:] = 60.0, computed
                await asyncio.sleep(0.001)
                return True
        return False

    assert run("a check", main) is not (computed > 0)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx"])
def test_a_server_that_hangs_up(says):
    """Before it has said anything, or midway: the error names the request."""

    async def main():
        over = asyncio.Event()

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(says)
            writer.close()
            await writer.wait_closed()
            over.set()

        async with await asyncio.start_server(answer, "127.0.0.1") as server:
            host, port = server.sockets[0].getsockname()
            try:
                await ask(f"http://{host}:{port}", Request("GET", "/x"))
            finally:
                await over.wait()

    with pytest.raises(ConnectionError, match="hung up on GET /x"):
        asyncio.run(main())


def test_a_server_that_waits_for_the_body():
    """And does not say that it does: it comes after a second."""

    async def app(_scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    async def main(url):
        return await ask(url, Request("POST", "/", b"x", {"expect": "100-continue"}))

    with serve_app(app) as url:
        assert asyncio.run(main(url)).body == b"x"


def test_a_body_is_json_unless_it_is_bytes():
    """And nothing where there is none."""
    assert Request("POST", "/", {"a": 1}).content == json.dumps({"a": 1}).encode()
    assert Request("POST", "/", b"{").content == b"{"
    assert Request("GET", "/").content == b""
