"""Tests of `assert_cors`, on the reference server and on small apps.

The check requests every kind of answer. It fails if a page of another origin cannot read one.
"""

import logging

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from pytest_streamperf import NothingMeasured, ServerExceeded
from pytest_streamperf.server import Request, assert_cors
from pytest_streamperf.server.clients import Answer
from pytest_streamperf.server.cors import CorsAnswer, _inspect, verdict_on_answers
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app, regressed
from tests.failure_messages import headline_of

STATUSES = (200, 204, 304, 400, 403, 404, 405, 413, 422, 500)


@pytest.fixture
def app(caplog):
    """Return the reference server; only critical errors are logged, because requests must fail."""
    caplog.set_level(logging.CRITICAL)
    return create_app(debug=True)


def test_every_answer_may_be_read(app, caplog):
    """Every answer of the reference server is readable from another origin.

    The error that the check provokes is in no log, and its temporary route is removed.
    """
    caplog.set_level(logging.INFO)
    verdict = assert_cors(app, statuses=STATUSES)
    assert " answers can be read from other origins: 200, 204, 304, 400, " in verdict.headline
    assert not caplog.records
    assert "/streamperf-raises" not in {route.path for route in app.routes}


@pytest.mark.parametrize(
    ("regression", "message"),
    [
        (
            "cors-missing-on-errors",
            "answers keep other origins out: 400, 403, 404, 405, 413, 422...",
        ),
        ("cors-missing-on-304", " answers keep other origins out: 304"),
    ],
)
def test_an_answer_that_may_not(app, regression, message):
    """The headline of a failure lists the statuses of the unreadable answers."""
    with regressed(regression), pytest.raises(ServerExceeded) as caught:
        assert_cors(app)
    assert headline_of(caught).endswith(message)


def test_a_status_that_was_not_seen(app):
    """The check raises `NothingMeasured` if no answer had a status that the caller expects."""
    with pytest.raises(NothingMeasured, match="no answer had status 418"):
        assert_cors(app, statuses=(200, 418))


def test_an_app_in_middleware():
    """The check finds the routes of an app that is wrapped in middleware."""
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415

    inner = Starlette(routes=[Route("/", lambda _: JSONResponse({}))])
    verdict = assert_cors(CORSMiddleware(inner, allow_origins=["*"]), statuses=(200, 404, 405, 500))
    assert verdict.figures.given["answers"] == 5


def test_a_server_of_which_nothing_is_known():
    """The check raises `NothingMeasured` for a URL without requests."""
    with pytest.raises(NothingMeasured, match="the check knows no routes of this server"):
        assert_cors("http://localhost:1")


def test_cors_by_url_and_by_request(app):
    """A server that is given by its URL gets the listed requests and one for an unknown path."""
    with serve_app(app) as url:
        verdict = assert_cors(
            url, requests=[Request("GET", "/v1/models")], statuses=(200, 304, 404)
        )
    assert verdict.figures.given["answers"] == 3


def test_starlettes_own_middleware_misses_what_failed():
    """Starlette's own CORS middleware adds no header to a 500 answer, and the check finds that."""
    from starlette.middleware import Middleware  # noqa: PLC0415
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415

    app = Starlette(
        routes=[Route("/", lambda _: JSONResponse({}))],
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"])],
    )
    with pytest.raises(ServerExceeded, match="1 of 5 answers keep other origins out: 500"):
        assert_cors(app)


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        ({}, "no access-control-allow-origin"),
        ({"access-control-allow-origin": "https://other.example"}, "allows https://other.example"),
        ({"access-control-allow-origin": "https://page.example"}, ""),
        ({"access-control-allow-origin": "*"}, ""),
    ],
)
def test_what_a_browser_goes_by(headers, fault):
    """An answer must allow the page's own origin, or every origin."""
    answer = Answer(200, headers, b"", complete=True)
    assert _inspect(Request("GET", "/"), answer, "https://page.example").fault == fault


@pytest.mark.parametrize(
    ("method", "status", "methods", "fault"),
    [
        ("DELETE", 204, "GET, POST", "access-control-allow-methods lacks DELETE"),
        ("DELETE", 204, "*", ""),
        ("POST", 204, "", ""),
        ("POST", 405, "", "not a 2xx status"),
    ],
)
def test_what_a_browser_goes_by_beforehand(method, status, methods, fault):
    """A preflight answer must have a 2xx status and allow the method.

    GET and POST are always allowed.
    """
    request = Request("OPTIONS", "/", headers={"access-control-request-method": method})
    headers = {"access-control-allow-origin": "*", "access-control-allow-methods": methods}
    assert _inspect(request, Answer(status, headers, b"", complete=True), "x").fault == fault


def test_the_table_of_answers_is_short():
    """The failure message stays short, however many statuses are unreadable."""
    answers = [
        CorsAnswer(f"GET /{status}", status, "no access-control-allow-origin")
        for status in STATUSES
    ]
    assert len(verdict_on_answers(answers, "https://page.example").message.splitlines()) <= 13
