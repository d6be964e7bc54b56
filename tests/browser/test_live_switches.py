"""The switches of the live page, in headless Chromium: quick clicks, and a server that is gone."""

import socket

import httpx
import pytest
from playwright.sync_api import expect

from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app

CLICK = "names => names.forEach((name) => document.getElementById(`switch-${name}`).click())"


@pytest.fixture
def page(chromium):
    """A page that raises nothing; what a browser says of a server that is gone is no matter."""
    raised = []
    with chromium.new_context() as context:
        page = context.new_page()
        page.on("pageerror", lambda error: raised.append(str(error)))
        yield page
        assert raised == []


def test_clicks_come_quicker_than_answers(url, page):
    """Each counts, in its order, and what is shown in the end is what is on."""
    page.goto(url)
    switch = page.get_by_role("switch")
    expect(switch.first).to_be_visible()
    page.evaluate(CLICK, ["stale-value", "flush-per-token", "no-throttle"])
    on = ["no-throttle", "flush-per-token"]  # which replaced stale-value
    expect(page.locator("#status")).to_have_text(
        f"Seeded regressions from the next run on: {', '.join(on)}."
    )
    listed = httpx.get(f"{url}/api/dev/regressions").json()["regressions"]
    assert {each["name"] for each in listed if each["on"]} == set(on)
    assert {each.input_value() for each in switch.all() if each.is_checked()} == set(on)


def test_a_switch_of_a_server_that_is_gone(page):
    """Goes back, and the page says why."""
    with serve_app(create_app(debug=True)) as url:
        page.goto(url)
        switch = page.get_by_role("switch", name="no-throttle", exact=True)
        expect(switch).to_be_visible()
    switch.click()
    expect(page.locator("#status")).to_contain_text("Nothing was switched, the server does not")
    expect(switch).not_to_be_checked()


def test_a_server_that_is_not_there(url, page):
    """Is named: a page that says nothing seems to wait for somebody to run something."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = nobody.getsockname()[1]
        page.goto(f"{url}/?server=http://127.0.0.1:{port}")
        expect(page.locator("#status")).to_contain_text(f"127.0.0.1:{port} does not answer: ")
