"""The switches of the live page in a browser: quick clicks, and a server that does not answer.

A switch turns a seeded regression of the reference server on or off.
"""

import socket

import httpx
import pytest
from playwright.sync_api import expect

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app

CLICK = "names => names.forEach((name) => document.getElementById(`switch-${name}`).click())"


@pytest.fixture
def page(chromium):
    """Yield a page that must raise no error.

    Its console is ignored, because Chromium logs every request to a stopped server there.
    """
    raised = []
    with chromium.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: raised.append(str(error)))
        yield page
        assert raised == []


def test_clicks_come_quicker_than_answers(url, page):
    """Clicks that come before the server's answers all count in order, and the switches agree."""
    page.goto(url)
    switch = page.get_by_role("switch")
    expect(switch.first).to_be_visible()
    page.evaluate(CLICK, ["stale-value", "flush-per-token", "no-throttle"])
    on = ["no-throttle", "flush-per-token"]  # no-throttle replaces stale-value
    expect(page.locator("#status")).to_have_text(
        f"Seeded regressions from the next run on: {', '.join(on)}."
    )
    listed = httpx.get(f"{url}/api/dev/regressions").json()["regressions"]
    assert {regression["name"] for regression in listed if regression["on"]} == set(on)
    assert {box.input_value() for box in switch.all() if box.is_checked()} == set(on)


def test_a_switch_of_a_server_that_is_gone(page):
    """A switch returns to its old state if the server has stopped, and the page says why."""
    with serve_app(create_app(debug=True)) as url:
        page.goto(url)
        switch = page.get_by_role("switch", name="no-throttle", exact=True)
        expect(switch).to_be_visible()
    switch.click()
    expect(page.locator("#status")).to_contain_text("Nothing was switched, the server does not")
    expect(switch).not_to_be_checked()


def test_a_server_that_is_not_there(url, page):
    """The page names a server that does not answer."""
    with socket.socket() as silent_socket:
        silent_socket.bind(("127.0.0.1", 0))  # it does not listen
        port = silent_socket.getsockname()[1]
        page.goto(f"{url}/?server=http://127.0.0.1:{port}")
        expect(page.locator("#status")).to_contain_text(f"127.0.0.1:{port} does not answer: ")
