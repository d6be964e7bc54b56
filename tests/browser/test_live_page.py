"""The page of the reference server in a browser: real streams, and seeded regressions that show."""

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
TELL = "Tell me 40 words, 10 ms apart."
SLOW = "Tell me 60 words, 20 ms apart."  # a dozen updates
ENDLESS = "Tell me 9999 words, 10 ms apart."
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script></p>"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def run(page, message=TELL):
    """Run a message to its end."""
    page.get_by_label("Message").fill(message)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.locator("#status")).to_contain_text(" is over: ", timeout=30_000)


def figure(page, lane, name):
    """What a lane shows under this name, as a number."""
    shown = page.locator(f'[data-lane="{lane}"] [data-figure="{name}"] .value').inner_text()
    return float(re.match(r"[\d.,]+", shown)[0].replace(",", ""))


def ends(page):
    """How each lane ended."""
    return page.locator(".lane .end").all_inner_texts()


@contextmanager
def switched(page, name):
    """Switch a seeded regression on for the block, and off after it."""
    switch = page.get_by_role("switch", name=name, exact=True)
    switch.check()
    expect(page.locator("#status")).to_have_text(
        f"Seeded regressions from the next run on: {name}."
    )
    yield
    page.get_by_role("button", name="All off").click()
    expect(switch).not_to_be_checked()


def events(url, path):
    """The names of the events that the server sends, and their data."""
    text = httpx.get(url + path, params={"message": TELL}).text
    return [(name, json.loads(data)) for name, data in re.findall(r"event: (.*)\ndata: (.*)", text)]


def test_it_shows_what_the_server_sent(url, visited, monkeypatch):
    """Tokens and text as anybody gets them, and no flush that there was not."""
    pushed = []

    class Counts(responses.ResponseWriter):
        def __init__(self, push, dialect):
            async def counted(data):
                pushed.append(data)
                await push(data)

            super().__init__(counted, dialect)

    sent = [data["text"] for name, data in events(url, "/agents/demo/run") if name == "delta"]
    page = visited(url)
    monkeypatch.setattr(responses, "ResponseWriter", Counts)
    run(page)
    assert ends(page) == ["done"] * 3
    assert figure(page, "tokens", "Tokens") == len(sent) == 44
    assert figure(page, "flushes", "Tokens") == 40
    assert 2 <= figure(page, "flushes", "Flushes") <= len(pushed)
    assert 2 <= figure(page, "updates", "Updates") < 40
    assert figure(page, "updates", "Missing at the end") == 0
    said = page.locator("#reply").inner_text()
    assert said.startswith("".join(sent[:40]))
    assert said.endswith("[returned 7] Word count: 7.")
    for name in ("First after", "Longest gap", "Tokens/s"):
        assert figure(page, "tokens", name) > 0


def test_a_missing_throttle_is_seen_and_healed(url, visited):
    """An update for each piece; switched off, few again; what it was without stays beside it."""
    page = visited(url)
    run(page)
    few = figure(page, "updates", "Updates")
    with switched(page, "no-throttle"):
        run(page)
        assert figure(page, "updates", "Updates") == 42 > 2 * few
        was = page.locator('[data-lane="updates"] [data-figure="Updates"] .was')
        assert was.inner_text() == f"was {few:.0f}"
        assert page.locator("#runs tr").first.locator("td").nth(1).inner_text() == "no-throttle"
    run(page)
    assert figure(page, "updates", "Updates") < 21
    assert page.locator("#runs tr").count() == 3


def test_flushes_are_seen_and_healed(url, visited):
    """One for each token, and a tail that never comes; each gone when it is switched off."""
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
    ("name", "lane", "shows"),
    [
        ("stale-value", "Furthest behind", lambda letters: letters > 0),
        ("final-flush-after-end", "After the end", lambda count: count == 1),
    ],
)
def test_updates_that_go_wrong_are_seen(url, visited, name, lane, shows):
    """Each by the figure that its switch names."""
    page = visited(url)
    run(page, SLOW)
    assert not shows(figure(page, "updates", lane))
    with switched(page, name):
        run(page, SLOW)
        assert shows(figure(page, "updates", lane))


def test_a_stop_leaves_the_server(url, visited):
    """All three streams are closed, and nothing is pending; with the leak, the page says so."""
    page = visited(url)
    pending, note = page.locator('[data-gauge="pendingRequests"]'), page.locator("#left")

    def stop_midway():
        page.get_by_label("Message").fill(ENDLESS)
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
    """By EventSource, fetch and WebSocket of another origin, with that one's switches."""
    with serve_app(create_app(debug=True)) as other:
        socket = other.replace("http:", "ws:")
        page = visited(f"{url}/?server={other}", allowed=(other, socket))
        assert page.locator("#server").inner_text() == other.removeprefix("http://")
        with page.expect_websocket() as opened:
            page.reload()
        assert opened.value.url == f"{socket}/ws/telemetry"
        asked = set()
        page.on("request", lambda request: asked.add(request.url.partition("?")[0]))
        with switched(page, "no-throttle"):
            run(page)
            assert figure(page, "updates", "Updates") == 42
        assert ends(page) == ["done"] * 3
        expect(page.locator('[data-gauge="requests"]')).not_to_have_text("0")
        streams = ("/agents/demo/run", "/v1/chat/completions", "/page/tool-calls")
        expected = {other + path for path in (*streams, "/api/dev/regressions")}
        assert asked - {f"{other}/api/dev/metrics"} == expected


def test_another_machine_is_not_watched(url, visited):
    """The page says what may be, and stays with its own server."""
    page = visited(f"{url}/?server=https://page.example")
    status = page.locator("#status")
    expect(status).to_contain_text("is not a server on this machine, allowed: http://127.0.0.1:")
    run(page)
    assert ends(page) == ["done"] * 3


def test_markup_in_a_delta_is_text(visited):
    """In what is said, in a tool's name and arguments, and in an error."""

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
    """Each stream shows the error of the model, unless a seeded regression swallows it."""
    page = visited(url)
    fails = "Tell me 5 words, then fail."
    run(page, fails)
    assert all("the model hung up" in end for end in ends(page))
    with switched(page, "swallowed-error-flush"):
        run(page, fails)
        assert ends(page)[1] == "cut off"


def test_a_snapshot_stops_all_when_it_is_taken_on_the_loop(url, visited):
    """Nothing of a stream comes between its begin and its end, and all does when it is healthy."""
    page = visited(url)

    def came_meanwhile():
        page.get_by_label("Message").fill(ENDLESS)
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
        assert came_meanwhile() > 0.5
    assert came_meanwhile() < 0.5


def test_without_debug_it_says_what_opens_the_switches(visited):
    """A turn runs, the gauges are there, and what needs --debug cannot be pressed."""
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
    """Names, roles, order and contrast (WCAG 2.2 AA), after a run with a regression."""
    page = visited(url, color_scheme=scheme, viewport=viewport)
    run(page)
    with switched(page, "no-throttle"):
        run(page)
        page.screenshot(path=pictures / f"live-{scheme}-{viewport['width']}.png", full_page=True)
        found = Axe().run(page, options={"runOnly": TAGS})
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") == viewport["width"]
    for canvas in page.locator("canvas").all():
        assert re.search(
            r": \d+ arrivals, the longest gap was ", canvas.get_attribute("aria-label")
        )


def test_it_is_used_by_keyboard(url, visited):
    """Past the head or through it: a message, a run, a stop, and a switch, each with an outline."""
    page = visited(url)
    page.get_by_label("Message").fill(ENDLESS)
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
    """The switch goes back, and the page says why."""
    from reference_impl import regressed  # noqa: PLC0415

    with regressed("no-throttle"):
        page = visited(url)
        switch = page.get_by_role("switch", name="no-throttle")
        expect(switch).to_be_checked()
        switch.click()
        expect(page.locator("#status")).to_contain_text("no-throttle stays: the server was")
        expect(switch).to_be_checked()
