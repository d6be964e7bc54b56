"""The HTML page of a report in a browser: color schemes, print, phones, keyboard and filter.

`opened` opens the page from a file, and fails the test if the page requests anything else.
"""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from pytest_streamperf._report.html import html
from tests.data.documents import check, document, many, sample

WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
# The number of checks in the sample report that are not within their limits.
NOT_WITHIN = sum(check["verdict"] != "within" for check in sample()["checks"])
MARKUP = "</td></pre></script><script>alert('ran')</script><img src='https://x.example/i.png'>"


def draw_charts(page):
    """Scroll through the page until each chart of an open check is drawn, and return the page."""
    for chart in page.locator("details.check[open] .chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").wait_for()
    page.evaluate("scrollTo(0, 0)")
    return page


def open_all(page):
    """Open every check and its data, draw all charts, and return the page."""
    page.eval_on_selector_all("details", "all => all.forEach(element => element.open = true)")
    return draw_charts(page)


def colors(page, selector, name):
    """Return the computed values of the color property `name` for the elements of `selector`."""
    return page.eval_on_selector_all(
        selector,
        "(all, name) => [...new Set(all.map(element => getComputedStyle(element)[name]))]",
        name,
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_is_accessible(opened, sample_page, pictures, scheme, viewport):
    """The page meets WCAG 2.2 AA in both color schemes, with every check and its data open.

    axe-core checks names, roles, order and contrast.
    """
    page = draw_charts(opened(sample_page, color_scheme=scheme, viewport=viewport))
    page.screenshot(path=pictures / f"{scheme}-{viewport['width']}.png", full_page=True)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    results = Axe().run(open_all(page), options={"runOnly": tags})
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("width", [320, 360, 700, 1200])
def test_nothing_sticks_out(opened, sample_page, width):
    """The page with everything open is never wider than the window."""
    page = open_all(opened(sample_page, viewport={"width": width, "height": 740}))
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_charts_follow_the_page_into_the_dark(opened, sample_page):
    """A chart takes the colors of the dark scheme without being drawn again."""
    page = draw_charts(opened(sample_page, color_scheme="light", viewport=WIDE))
    page.evaluate("document.querySelector('.chart svg').dataset.same = 'yes'")
    by_day = colors(page, ".chart svg text", "fill"), colors(page, "body", "backgroundColor")
    page.emulate_media(color_scheme="dark")
    by_night = colors(page, ".chart svg text", "fill"), colors(page, "body", "backgroundColor")
    assert not set(by_day[0]) & set(by_night[0])
    assert by_day[1] != by_night[1]
    assert page.locator(".chart svg").first.get_attribute("data-same") == "yes"


def test_charts_are_drawn_when_they_are_looked_at(opened, sample_page):
    """A chart is drawn only when its check is open and it is near the visible part of the page."""
    page = opened(sample_page, viewport=WIDE)
    page.locator(".chart svg").first.wait_for()
    in_open_ones = page.locator("details.check[open] .chart").count()
    assert page.locator(".chart svg").count() < in_open_ones
    closed = page.locator("details.check:not([open])", has=page.locator(".chart")).first
    name = closed.locator(".test").inner_text()
    assert closed.locator("svg").count() == 0
    closed.locator("> summary").click()
    page.locator("details.check[open]", has_text=name).locator("svg").wait_for()


def test_each_chart_shows_each_row(opened, sample_page):
    """A chart has a point for each row of data, and a dashed line for each limit in seconds."""
    page = open_all(opened(sample_page, viewport=WIDE))
    charts = 0
    for sample_check in sample()["checks"]:
        points = {"allocated_bytes", "updates", "flushes", "gaps", "stalls", "pauses"} & set(
            sample_check["series"]
        )
        if points:
            charts += 1
            shown = page.locator("details.check", has_text=sample_check["test"])
            rows = sum(len(sample_check["series"][name]) for name in points)
            assert shown.locator("svg .mark-symbol.role-mark path").count() == rows
            limits = shown.locator("svg .mark-rule.role-mark line[stroke-dasharray]")
            assert limits.count() == len(
                sample_check["limits"].keys() & sample_check["seconds"].keys()
            )
    assert charts == page.locator(".chart").count()


def test_a_chart_has_a_name_and_its_figures_beside_it(opened, sample_page):
    """A chart has an accessible name and a table of its figures, for readers who cannot see it."""
    page = draw_charts(opened(sample_page, viewport=WIDE))
    figures = page.locator("details.check[open] figure:has(svg)")
    assert figures.count() > 0
    for figure in figures.all():
        caption = figure.locator("figcaption p").inner_text()
        assert figure.locator(".chart").get_attribute("aria-label").startswith(caption)
        assert figure.locator("xpath=..").locator("table[data-series]").count() > 0


def test_it_prints_what_is_open(opened, sample_page, pictures):
    """A printed page has all open checks with their charts, black on white, and no controls."""
    page = opened(sample_page, color_scheme="dark", viewport=WIDE)
    wanted = page.locator("details.check[open] .chart").count()
    assert page.locator(".chart svg").count() < wanted
    page.pdf(path=pictures / "print.pdf")
    assert page.locator("details.check[open] .chart svg").count() == wanted
    page.emulate_media(media="print")
    assert colors(page, "body", "backgroundColor") == ["rgb(255, 255, 255)"]
    assert colors(page, "body", "color") == ["rgb(27, 31, 36)"]
    assert not page.locator(".filter").is_visible()
    assert page.locator("details.check[open] > .found:visible").count() == NOT_WITHIN


def test_charts_are_drawn_before_it_prints(opened, sample_page):
    """The page draws all charts of open checks before its listener of `beforeprint` returns.

    The browser prints as soon as all listeners have returned.
    """
    page = opened(sample_page, viewport=WIDE)
    wanted = page.locator("details.check[open] .chart").count()
    # This listener runs last in the event, so it counts the charts that the printer gets.
    page.evaluate(
        "addEventListener('beforeprint', () => {"
        "  window.printed = document.querySelectorAll('details.check[open] .chart svg').length;"
        "})"
    )
    page.pdf()
    assert page.evaluate("window.printed") == wanted


def test_it_is_walked_by_keyboard(opened, sample_page):
    """The keyboard reaches the skip link, the filter, a closed check and its data, outlined."""
    page = opened(sample_page, viewport=WIDE)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the checks"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "words"
    page.keyboard.type("tool_arguments")
    for _ in ("exceeded", "inconclusive", "within", "the one check"):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    page.keyboard.press("Enter")
    opened_check = page.locator("details.check[open]:visible")
    opened_check.locator("svg").wait_for()
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Data":
            page.keyboard.press("Space")
            break
    assert opened_check.locator("details.data[open] table:visible").count() == 3


def test_it_is_filtered_by_words_and_verdicts(opened, sample_page):
    """The filter shows checks with all its words, in any order, and counts them.

    It looks in the test's name, the headline and the place, and has a box for each verdict.
    """
    page = opened(sample_page, viewport=WIDE)
    shown, count = page.locator("details.check:visible"), page.locator("output")
    assert count.inner_text() == "12 of 12 shown"
    page.get_by_label("Filter").fill("SUPERLINEAR  reply.py")
    assert shown.count() == 3
    page.get_by_label("inconclusive").uncheck()
    assert shown.count() == 2
    assert count.inner_text() == "2 of 12 shown"
    page.get_by_label("Filter").fill("<b>")
    assert shown.count() == 0
    page.get_by_label("Filter").fill("")
    assert count.inner_text() == "10 of 12 shown"


def test_all_but_charts_and_filter_works_without_javascript(opened, sample_page):
    """The page without JavaScript opens the checks that are not within their limits.

    Each has its message and figures, and the picture for terminals in place of the chart.
    """
    page = opened(sample_page, viewport=WIDE, java_script_enabled=False)
    assert page.locator("details.check[open] > .found:visible").count() == NOT_WITHIN
    assert page.locator(".message:visible").count() == NOT_WITHIN
    assert page.locator(".chart pre:visible").count() > 0
    assert not page.locator(".filter").is_visible()
    page.locator("details.check:not([open]) > summary").first.click()
    assert page.locator("details.check[open] > .found:visible").count() == NOT_WITHIN + 1


@pytest.mark.parametrize("text", [MARKUP, "{{ 7 * 7 }}", "datum.x || signal('width')"])
def test_a_hostile_report_stays_text(opened, text):
    """Markup, templates and expressions stay text wherever a report can have text."""
    hostile = check(
        "growth",
        text,
        verdict="exceeded",
        headline=text,
        details=[text],
        picture=[text],
        given={text: text},
        counts={f"{text} too": 1},
        seconds={text: 2},
        limits={text: 1},
        where=[{"place": text, "source": text, "share": 1}],
        series={"allocated_bytes": [[1, 2], [2, 3]], text: [[1, 2]], "attempts": [[text] * 3]},
        facts={"metric": text},
    )
    other = {**hostile, "stem": "responsiveness", "series": {"gaps": [[1, 2]], text: [[1, 2]]}}
    page = open_all(opened(html(document([hostile, other], lost=[text])), viewport=WIDE))
    assert page.locator("script").count() == 2
    assert page.locator("img, iframe, object, embed, svg image, svg a").count() == 0
    assert page.locator(".test").first.inner_text() == text
    assert page.locator(".source").first.inner_text() == text
    assert f"limit of {text}" in page.locator("svg text").all_text_contents()


def test_500_checks_are_small_and_whole(opened):
    """A page of 500 checks is below 3 MB, has every figure exactly, and can be filtered."""
    report = many(500)
    text = html(report)
    assert len(text.encode()) < 3_000_000
    page = opened(text, viewport=WIDE)
    assert page.locator("details.check").count() == 500
    exact = set(re.findall(r"-?\d[\d.e+-]*", json.dumps(report)))
    shown = page.eval_on_selector_all(
        "data, [data-series] td",
        "all => [...new Set(all.map(element => element.value ?? element.textContent.trim()))]",
    )
    figures = {cell for cell in shown if re.fullmatch(r"[\d.e+-]+", cell)}
    assert len(figures) > 400
    assert figures <= exact
    page.get_by_label("Filter").fill("test_reply_499")
    assert page.locator("output").inner_text() == "1 of 500 shown"
