"""Pages from elsewhere: every answer of a server, on the reference server and on small apps."""

import logging

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from pytest_streamperf import NothingMeasured, ServerExceeded
from pytest_streamperf.server import Request, assert_cors
from pytest_streamperf.server.clients import Answer
from pytest_streamperf.server.cors import Seen, _seen
from pytest_streamperf.server.cors import judged as read_by_pages
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from tests.failure_messages import headline_of

STATUSES = (200, 204, 304, 400, 403, 404, 405, 413, 422, 500)


@pytest.fixture
def app(caplog):
    """The reference server, quiet: it is asked for what fails."""
    caplog.set_level(logging.CRITICAL)
    return create_app(debug=True)


def test_every_answer_may_be_read(app, caplog):
    """Of every route, by every status; and what was raised for it is in no log."""
    caplog.set_level(logging.INFO)
    found = assert_cors(app, statuses=STATUSES)
    assert " answers can be read from anywhere: 200, 204, 304, 400, " in found.headline
    assert not caplog.records
    assert "/streamperf-raises" not in {route.path for route in app.routes}


@pytest.mark.parametrize(
    ("regression", "says"),
    [
        (
            "cors-missing-on-errors",
            "answers keep other origins out: 400, 403, 404, 405, 413, 422...",
        ),
        ("cors-missing-on-304", " answers keep other origins out: 304"),
    ],
)
def test_an_answer_that_may_not(app, regression, says):
    """Its status is in the first line."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        assert_cors(app)
    assert headline_of(caught).endswith(says)


def test_a_status_that_was_not_seen(app):
    """Is not green."""
    with pytest.raises(NothingMeasured, match="no answer had status 418"):
        assert_cors(app, statuses=(200, 418))


def test_an_app_in_middleware():
    """Is walked all the same: that is where the headers belong."""
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415

    inner = Starlette(routes=[Route("/", lambda _: JSONResponse({}))])
    found = assert_cors(CORSMiddleware(inner, allow_origins=["*"]), statuses=(200, 404, 405, 500))
    assert found.figures.given["answers"] == 5


def test_a_server_of_which_nothing_is_known():
    """Nothing to ask is nothing measured."""
    with pytest.raises(NothingMeasured, match="no routes are known of this server"):
        assert_cors("http://localhost:1")


def test_cors_by_url_and_by_request(app):
    """Of a server that runs, what is asked for is asked."""
    with serve_app(app) as url:
        found = assert_cors(url, requests=[Request("GET", "/v1/models")], statuses=(200, 304, 404))
    assert found.figures.given["answers"] == 3


def test_starlettes_own_middleware_misses_what_failed():
    """So it is no false alarm that the check would raise."""
    from starlette.middleware import Middleware  # noqa: PLC0415
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415

    app = Starlette(
        routes=[Route("/", lambda _: JSONResponse({}))],
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"])],
    )
    with pytest.raises(ServerExceeded, match="1 of 5 answers keep other origins out: 500"):
        assert_cors(app)


@pytest.mark.parametrize(
    ("headers", "lacks"),
    [
        ({}, "access-control-allow-origin"),
        ({"access-control-allow-origin": "https://other.example"}, "allows https://other.example"),
        ({"access-control-allow-origin": "https://page.example"}, ""),
        ({"access-control-allow-origin": "*"}, ""),
    ],
)
def test_what_a_browser_goes_by(headers, lacks):
    """One's own origin, or any."""
    answer = Answer(200, headers, b"", complete=True)
    assert _seen(Request("GET", "/"), answer, "https://page.example").lacks == lacks


@pytest.mark.parametrize(
    ("method", "status", "methods", "lacks"),
    [
        ("DELETE", 204, "GET, POST", "access-control-allow-methods: DELETE"),
        ("DELETE", 204, "*", ""),
        ("POST", 204, "", ""),
        ("POST", 405, "", "a status of 2xx"),
    ],
)
def test_what_a_browser_goes_by_beforehand(method, status, methods, lacks):
    """GET and POST need not be allowed by name, and a refusal is one whatever its headers say."""
    request = Request("OPTIONS", "/", headers={"access-control-request-method": method})
    headers = {"access-control-allow-origin": "*", "access-control-allow-methods": methods}
    assert _seen(request, Answer(status, headers, b"", complete=True), "x").lacks == lacks


def test_the_table_of_answers_is_short():
    """Four rows, whatever there is to say."""
    seen = [Seen(f"GET /{status}", status, "access-control-allow-origin") for status in STATUSES]
    assert len(read_by_pages(seen, "https://page.example").message.splitlines()) <= 13
