"""The live page of the reference server in a browser: real streams, and visible regressions.

The page sends a message and shows the answer in three lanes: tokens, flushes and updates. It has a
switch for each seeded regression.
"""

import json
import re
from contextlib import contextmanager

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from pytest_streamperf.wire.server import serve_app
from reference_impl import agent, create_app, responses

WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
# Messages to the demo engine; its answer has the number of words and the interval in the message.
SHORT_ANSWER = "Tell me 40 words, 10 ms apart."
LONGER_ANSWER = "Tell me 60 words, 20 ms apart."  # long enough for a dozen updates
ENDLESS_ANSWER = "Tell me 9999 words, 10 ms apart."
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script></p>"
# The rule sets of axe-core for WCAG 2.2, levels A and AA, and its best practices.
AXE_RULE_SETS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def run(page, message=SHORT_ANSWER):
    """Send a message from the page, and wait until the page reports the end of the run."""
    page.get_by_label("Message").fill(message)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#status")).to_contain_text(" is over: ", timeout=30_000)


def figure(page, lane, name):
    """Return the figure that a lane shows under this name, as a number."""
    shown = page.locator(f'[data-lane="{lane}"] [data-figure="{name}"] .value').inner_text()
    return float(re.match(r"[\d.,]+", shown)[0].replace(",", ""))


def ends(page):
    """Return the text for the end of each lane, for example "done" or "cut off"."""
    return page.locator(".lane .end").all_inner_texts()


@contextmanager
def switched(page, name):
    """Switch a regression on by its switch on the page, and off at the end of the block."""
    switch = page.get_by_role("switch", name=name, exact=True)
    switch.check()
    expect(page.locator("#status")).to_have_text(
        f"Seeded regressions from the next run on: {name}."
    )
    yield
    page.get_by_role("button", name="All off").click()
    expect(switch).not_to_be_checked()


def events(url, path):
    """Return the name and the data of each event that the server sends for `SHORT_ANSWER`."""
    text = httpx.get(url + path, params={"message": SHORT_ANSWER}).text
    return [(name, json.loads(data)) for name, data in re.findall(r"event: (.*)\ndata: (.*)", text)]


def test_it_shows_what_the_server_sent(url, visited, monkeypatch):
    """The page shows all tokens and text of the server, and not more flushes than it made."""
    pushed = []

    class CountingWriter(responses.ResponseWriter):
        def __init__(self, push, dialect):
            async def counted(data):
                pushed.append(data)
                await push(data)

            super().__init__(counted, dialect)

    sent = [data["text"] for name, data in events(url, "/agents/demo/run") if name == "delta"]
    page = visited(url)
    monkeypatch.setattr(responses, "ResponseWriter", CountingWriter)
    run(page)
    assert ends(page) == ["done"] * 3
    assert figure(page, "tokens", "Tokens") == len(sent) == 44
    assert figure(page, "flushes", "Tokens") == 40
    assert 2 <= figure(page, "flushes", "Flushes") <= len(pushed)
    assert 2 <= figure(page, "updates", "Updates") < 40
    assert figure(page, "updates", "Missing at the end") == 0
    reply = page.locator("#reply").inner_text()
    assert reply.startswith("".join(sent[:40]))
    assert reply.endswith("[returned 7] Word count: 7.")
    for name in ("First after", "Longest gap", "Tokens/s"):
        assert figure(page, "tokens", name) > 0


def test_a_missing_throttle_is_seen_and_healed(url, visited):
    """The page shows an update per delta without the throttle, and few updates with it.

    The figure of the run before stays beside the new one.
    """
    page = visited(url)
    run(page)
    few = figure(page, "updates", "Updates")
    with switched(page, "no-throttle"):
        run(page)
        assert figure(page, "updates", "Updates") == 42 > 2 * few
        previous = page.locator('[data-lane="updates"] [data-figure="Updates"] .was')
        assert previous.inner_text() == f"was {few:.0f}"
        assert page.locator("#runs tr").first.locator("td").nth(1).inner_text() == "no-throttle"
    run(page)
    assert figure(page, "updates", "Updates") < 21
    assert page.locator("#runs tr").count() == 3


def test_flushes_are_seen_and_healed(url, visited):
    """The page shows a flush per token, and a tail that never comes, until each is switched off."""
    page = visited(url)
    with switched(page, "flush-per-token"):
        run(page)
        many = figure(page, "flushes", "Flushes")
    with switched(page, "held-back-tail"):
        run(page)
        assert ends(page) == ["done", "cut off", "done"]
    run(page)
    assert figure(page, "flushes", "Flushes") < many / 1.5
    assert ends(page) == ["done"] * 3


@pytest.mark.parametrize(
    ("name", "figure_name", "is_wrong"),
    [
        ("stale-value", "Furthest behind", lambda letters: letters > 0),
        ("final-flush-after-end", "After the end", lambda count: count == 1),
    ],
)
def test_updates_that_go_wrong_are_seen(url, visited, name, figure_name, is_wrong):
    """A regression of the updates changes the figure that its switch names."""
    page = visited(url)
    run(page, LONGER_ANSWER)
    assert not is_wrong(figure(page, "updates", figure_name))
    with switched(page, name):
        run(page, LONGER_ANSWER)
        assert is_wrong(figure(page, "updates", figure_name))


def test_a_stop_leaves_the_server(url, visited):
    """The Stop button closes all three streams on the server, and the page reports leaked ones."""
    page = visited(url)
    pending, note = page.locator('[data-gauge="pendingRequests"]'), page.locator("#left")

    def stop_midway():
        page.get_by_label("Message").fill(ENDLESS_ANSWER)
        page.get_by_role("button", name="Run", exact=True).click()
        expect(pending).to_have_text("3")
        page.get_by_role("button", name="Stop").click()
        assert ends(page) == ["stopped"] * 3

    stop_midway()
    expect(pending).to_have_text("0")
    expect(note).to_be_hidden()
    with switched(page, "gauge-leaks-on-disconnect"):
        stop_midway()
        expect(note).to_have_text("No request of this page is open, but the server counts 3.")


def test_it_watches_another_server(url, visited):
    """The page can run a server of another origin, by EventSource, fetch and WebSocket."""
    with serve_app(create_app(debug=True)) as other:
        socket = other.replace("http:", "ws:")
        page = visited(f"{url}/?server={other}", allowed=(other, socket))
        assert page.locator("#server").inner_text() == other.removeprefix("http://")
        with page.expect_websocket() as opened:
            page.reload()
        assert opened.value.url == f"{socket}/ws/telemetry"
        requested_urls = set()
        page.on("request", lambda request: requested_urls.add(request.url.partition("?")[0]))
        with switched(page, "no-throttle"):
            run(page)
            assert figure(page, "updates", "Updates") == 42
        assert ends(page) == ["done"] * 3
        expect(page.locator('[data-gauge="requests"]')).not_to_have_text("0")
        streams = ("/agents/demo/run", "/v1/chat/completions", "/page/tool-calls")
        expected = {other + path for path in (*streams, "/api/dev/regressions")}
        assert requested_urls - {f"{other}/api/dev/metrics"} == expected


def test_another_machine_is_not_watched(url, visited):
    """The page refuses a server on another machine, lists the allowed ones, and uses its own."""
    page = visited(f"{url}/?server=https://page.example")
    status = page.locator("#status")
    expect(status).to_contain_text("is not a server on this machine, allowed: http://127.0.0.1:")
    run(page)
    assert ends(page) == ["done"] * 3


def test_markup_in_a_delta_is_text(visited):
    """Markup in a delta, in the name or arguments of a tool, or in an error is shown as text."""

    async def hostile(messages):
        yield MARKUP
        if messages[-1]["role"] == "tool":
            raise ValueError(MARKUP)
        yield agent.Invocation(MARKUP, {MARKUP: MARKUP}).to_delta()

    with serve_app(create_app(hostile)) as url:
        page = visited(url)
        run(page, MARKUP)
        assert page.locator("#reply").inner_text().startswith(MARKUP + " [" + MARKUP)
        assert MARKUP in ends(page)[0]
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 1


def test_an_error_is_told(url, visited):
    """The lanes show the error of the engine, except a lane whose regression swallows it."""
    page = visited(url)
    fails = "Tell me 5 words, then fail."
    run(page, fails)
    assert all("the model hung up" in end for end in ends(page))
    with switched(page, "swallowed-error-flush"):
        run(page, fails)
        assert ends(page)[1] == "cut off"


def test_a_snapshot_stops_all_when_it_is_taken_on_the_loop(url, visited):
    """A snapshot on the event loop stops the streams while it is taken; a healthy one does not."""
    page = visited(url)

    def gap_per_snapshot_time():
        """Return the longest gap between two tokens, as a share of the snapshot's time."""
        page.get_by_label("Message").fill(ENDLESS_ANSWER)
        page.get_by_role("button", name="Run", exact=True).click()
        tokens = page.locator('[data-lane="tokens"] [data-figure="Tokens"] .value')
        expect(tokens).not_to_have_text("0")
        row = page.get_by_role("listitem").filter(has_text="Take a snapshot")
        row.get_by_role("button").click()
        expect(row.locator("output")).to_contain_text("MiB", timeout=30_000)
        page.get_by_role("button", name="Stop").click()
        took = float(re.search(r"all after ([\d,.]+) ms", row.inner_text())[1].replace(",", ""))
        return figure(page, "tokens", "Longest gap") / took

    with switched(page, "snapshot-on-the-loop"):
        assert gap_per_snapshot_time() > 0.5
    assert gap_per_snapshot_time() < 0.5


def test_without_debug_it_says_what_opens_the_switches(visited):
    """The page without `--debug` runs a turn, shows gauges, and names the option for the rest."""
    with serve_app(create_app()) as url:
        page = visited(url)
        expect(page.get_by_text("python -m reference_impl --debug")).to_be_visible()
        assert page.get_by_role("switch").count() == 0
        assert page.get_by_role("button", name="Take a snapshot").is_disabled()
        run(page)
        expect(page.locator('[data-gauge="pendingRequests"]')).to_have_text("0")


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"]
)
def test_it_is_accessible(url, visited, pictures, scheme, viewport):
    """The page meets WCAG 2.2 AA after runs with and without a regression.

    axe-core checks names, roles, order and contrast.
    """
    page = visited(url, color_scheme=scheme, viewport=viewport)
    run(page)
    with switched(page, "no-throttle"):
        run(page)
        page.screenshot(path=pictures / f"live-{scheme}-{viewport['width']}.png", full_page=True)
        results = Axe().run(page, options={"runOnly": AXE_RULE_SETS})
        assert results.violations_count == 0, results.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    for canvas in page.locator("canvas").all():
        assert re.search(
            r": \d+ arrivals, the longest gap was ", canvas.get_attribute("aria-label")
        )


def test_it_is_used_by_keyboard(url, visited):
    """The keyboard sends a message, stops the run and uses a switch, with an outline everywhere."""
    page = visited(url)
    page.get_by_label("Message").fill(ENDLESS_ANSWER)
    page.keyboard.press("Enter")
    focused = "document.activeElement.id"
    assert page.evaluate(focused) == "stop"
    page.keyboard.press("Space")
    assert page.evaluate(focused) == "run"
    assert ends(page) == ["stopped"] * 3
    for _ in range(20):
        page.keyboard.press("Tab")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        if page.evaluate(focused) == "switch-quadratic-accumulator":
            break
    page.keyboard.press("Space")
    status = page.locator("#status")
    expect(status).to_have_text("Seeded regressions from the next run on: quadratic-accumulator.")


def test_what_a_server_was_started_with_stays(url, visited):
    """A regression from the start of the server cannot be switched off, and the page says why."""
    from reference_impl import regressed  # noqa: PLC0415

    with regressed("no-throttle"):
        page = visited(url)
        switch = page.get_by_role("switch", name="no-throttle")
        expect(switch).to_be_checked()
        switch.click()
        expect(page.locator("#status")).to_contain_text("no-throttle stays: the server was")
        expect(switch).to_be_checked()
