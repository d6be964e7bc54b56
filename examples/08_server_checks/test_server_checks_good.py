"""Clients may leave when they like, and a page from elsewhere is told what went wrong."""

from careful_chat import app

from pytest_streamperf.server import (
    Request,
    assert_cors,
    assert_gauges_settle,
    assert_survives,
)

HELLO = Request("POST", "/chat", {"text": "hello there"})
FAILS = Request("POST", "/chat", {"text": "are you down?"})
WRONG = Request("POST", "/chat", {})


def test_gauges_go_back():
    assert_gauges_settle(
        app,
        requests=[HELLO, FAILS],
        read="/metrics",
        gauges=["replies_under_way"],
    )


def test_pages_can_read_every_answer():
    assert_cors(app, requests=[HELLO, FAILS, WRONG], statuses=(200, 404, 422, 500))


def test_nothing_is_left_of_fire():
    assert_survives(
        app, requests=[HELLO], read="/metrics", gauges=["replies_under_way"], crowd=20, rounds=2
    )
