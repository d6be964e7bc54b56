"""Tests of `assert_gauges_settle`, on the reference server and on small apps.

The check sends requests from clients that stay or leave, and compares the server's own metrics
before and after. The tests at the end are about the HTTP client that all server checks use.
"""

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
from pytest_streamperf.server.gauges import GaugePhase, select_metrics, verdict_on_phases
from pytest_streamperf.server.serving import run
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from tests.failure_messages import headline_of
from tests.matrix.reference_server import METRICS, TOTALS


def engine(messages):
    """Return a stream of 20 tokens in 0.2 s; raise an error for the message "fail"."""
    if messages[-1]["content"] == "fail":
        raise RuntimeError("the model is out of order")
    return TokenStream(tokens=20, every=0.01)


def chat(text):
    """Return a request for a streamed chat reply to `text`."""
    body = {"stream": True, "messages": [{"role": "user", "content": text}]}
    return Request("POST", "/v1/chat/completions", body)


CHATS = [chat("hello"), chat("fail")]


def settle(app, **arguments):
    """Check the gauges of the reference server with 3 clients in each group and 0.3 s to settle."""
    return assert_gauges_settle(
        app,
        requests=CHATS,
        **METRICS | {"totals": TOTALS, "clients": 3, "within": 0.3} | arguments,
    )


@pytest.fixture
def app(caplog):
    """Return the reference server with a model that can fail; only critical errors are logged."""
    caplog.set_level(logging.CRITICAL)
    return create_app(engine, debug=True)


# -- gauges


def test_gauges_settle(app):
    """The gauges of the reference server return to their values, also when the model fails."""
    assert settle(app).headline == "3 gauges unchanged after 18 clients"


@pytest.mark.parametrize(
    ("regression", "message"),
    [
        (
            "gauge-leaks-on-disconnect",
            "pendingRequests was 0, and is 3 since 3 clients left midway (200)",
        ),
        ("gauge-goes-negative", "pendingRequests fell to -3 as 3 clients read to the end (500)"),
        ("totals-miss-failures", "responses grew by 0, requests by 3"),
    ],
)
def test_a_gauge_that_does_not(app, regression, message):
    """The failure message names the wrong metric, and the group of clients that made it wrong."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        settle(app)
    assert headline_of(caught) == message
    assert "where  POST /v1/chat/completions" in str(caught.value)


def test_an_error_is_logged_once(app, caplog):
    """An error of the app is logged once, although many clients cause it."""
    with caplog.at_level(logging.ERROR, "uvicorn.error"):
        settle(app)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [RuntimeError]


def test_gauges_of_a_server_that_runs(app):
    """The check accepts the URL of a running server."""
    with serve_app(app) as url:
        assert settle(f"{url}/").verdict == "within"


def test_gauges_that_are_read_by_a_function():
    """The check accepts a function that returns the metrics, and any name of a gauge."""
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
    verdict = assert_gauges_settle(
        app, requests=[Request("GET", "/")], read=lambda: state, gauges=["in_flight"]
    )
    assert verdict.figures.given == {"clients": 30, "gauges": 1}


def test_nobody_could_leave():
    """The check raises `NothingMeasured` if every answer is complete with its first data."""
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("ok"))])
    with pytest.raises(NothingMeasured, match="no client could leave midway"):
        assert_gauges_settle(
            app, requests=[Request("GET", "/")], read=lambda: {"x": 0}, gauges=["x"]
        )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"requests": []}, NothingMeasured, "no request to send"),
        ({"read": "/nowhere"}, NothingMeasured, "GET /nowhere answers 404"),
        (
            {"gauges": ["pending"]},
            ValueError,
            "'pending' is none of the numbers in the metrics: timestampNs, metrics.pendingR",
        ),
        (
            {"gauges": ["requests"], "read": dict},
            ValueError,
            "'requests' is none of the numbers in the metrics: $",
        ),
    ],
)
def test_a_bad_argument_of_gauges(app, arguments, error, message):
    """An unusable argument of `assert_gauges_settle` raises an error that names its value."""
    with pytest.raises(error, match=message):
        assert_gauges_settle(app, **METRICS | {"totals": TOTALS, "requests": CHATS} | arguments)


@pytest.mark.parametrize(
    ("server", "error", "message"),
    [
        (None, TypeError, "an ASGI app or a URL, not None"),
        ("localhost:8000", ValueError, "must begin with http:// or https://"),
    ],
)
def test_a_bad_server(server, error, message):
    """A server that is neither an ASGI app nor an HTTP URL raises an error that says so."""
    with pytest.raises(error, match=message):
        assert_gauges_settle(server, requests=CHATS, **METRICS)


def test_inside_a_running_loop(app):
    """A server check inside a running event loop raises an error with the call that works there."""

    async def main():
        assert_cors(app)

    with pytest.raises(TypeError, match=r"await asyncio\.to_thread\(assert_cors, \.\.\.\)"):
        asyncio.run(main())


def test_names_that_are_given_twice():
    """A name that fits two metrics raises an error; a longer name with a dot selects one."""
    data = {"http": {"pending": 1}, "ws": {"pending": 2}, "at": "noon"}
    assert select_metrics(data, ["ws.pending"]) == {"ws.pending": 2}
    with pytest.raises(
        ValueError, match=r"is ambiguous in the metrics: http\.pending and ws\.pending"
    ):
        select_metrics(data, ["pending"])


READINGS = st.fixed_dictionaries(
    dict.fromkeys(
        [*METRICS["gauges"], *(name for pair in TOTALS for name in pair)], st.integers(-2, 2)
    )
)


@given(READINGS, READINGS, READINGS)
def test_what_is_within(before, lowest, after):
    """A group of clients passes if no gauge changed or fell below 0, and totals match.

    A total that counts ends must grow by as much as its total of starts.
    """
    phase = GaugePhase("GET /", 3, "read to the end", before, lowest, after)
    within = (
        min(lowest[name] for name in METRICS["gauges"]) >= 0
        and all(before[name] == after[name] for name in METRICS["gauges"])
        and all(phase.grew(begun) == phase.grew(ended) for begun, ended in TOTALS)
    )
    assert (verdict_on_phases([phase], METRICS["gauges"], TOTALS).verdict == "within") is within


def test_beginnings_that_are_missed():
    """A total of starts must grow in each phase by as much as in the first phase."""
    zero = dict.fromkeys([*METRICS["gauges"], "begun", "ended"], 0)
    phases = [
        GaugePhase(
            "GET /", 3, "read to the end (200)", zero, zero, {**zero, "begun": 3, "ended": 3}
        ),
        GaugePhase(
            "GET /x", 3, "read to the end (500)", zero, zero, {**zero, "begun": 1, "ended": 1}
        ),
    ]
    verdict = verdict_on_phases(phases, METRICS["gauges"], [("begun", "ended")])
    assert verdict.headline == "begun grew by 1 when 3 clients read to the end (500)"


# -- clients


@pytest.mark.parametrize("computed", [0.0, 60.0])
def test_time_that_a_machine_takes(monkeypatch, computed):
    """A client's timeout ignores time that other processes took, and counts this process's time."""
    wall, cpu, offsets = clock.wall, clock.cpu, [0.0, 0.0]
    monkeypatch.setattr(clock, "wall", lambda: wall() + offsets[0])
    monkeypatch.setattr(clock, "cpu", lambda: cpu() + offsets[1])

    async def main():
        with suppress(TimeoutError):
            async with asyncio.timeout(50):
                offsets[:] = 60.0, computed
                await asyncio.sleep(0.001)
                return True
        return False

    assert run("a check", main) is not (computed > 0)


@pytest.mark.parametrize("response", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx"])
def test_a_server_that_hangs_up(response):
    """A server that closes the connection too early raises an error that names the request."""

    async def main():
        over = asyncio.Event()

        async def answer(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            writer.close()
            await writer.wait_closed()
            over.set()

        async with await asyncio.start_server(answer, "127.0.0.1") as server:
            host, port = server.sockets[0].getsockname()
            try:
                await ask(f"http://{host}:{port}", Request("GET", "/x"))
            finally:
                await over.wait()

    with pytest.raises(ConnectionError, match=r"closed the connection .*GET /x"):
        asyncio.run(main())


def test_a_server_that_waits_for_the_body():
    """A client with `Expect: 100-continue` sends its body after a second without an answer."""

    async def app(_scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": message["body"]})

    async def main(url):
        return await ask(url, Request("POST", "/", b"x", {"expect": "100-continue"}))

    with serve_app(app) as url:
        assert asyncio.run(main(url)).body == b"x"


def test_a_body_is_json_unless_it_is_bytes():
    """A request sends bytes unchanged, any other body as JSON, and no body as empty bytes."""
    assert Request("POST", "/", {"a": 1}).content == json.dumps({"a": 1}).encode()
    assert Request("POST", "/", b"{").content == b"{"
    assert Request("GET", "/").content == b""
