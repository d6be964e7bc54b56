"""Whoever reads to the end sees nothing of it: clients that leave, and a page that is told why."""

from careless_chat import app

from pytest_streamperf.server import Request, assert_cors, assert_gauges_settle

HELLO = Request("POST", "/chat", {"text": "hello there"})
FAILS = Request("POST", "/chat", {"text": "are you down?"})
WRONG = Request("POST", "/chat", {})


def test_gauges_go_back():
    assert_gauges_settle(
        app,
        requests=[HELLO],
        read="/metrics",
        gauges=["replies_under_way"],
        within=0.5,  # nothing would change later, either
    )


def test_pages_can_read_every_answer():
    assert_cors(app, requests=[HELLO, FAILS, WRONG], statuses=(200, 404, 422, 500))
