"""The page of a report in a browser: by day and by night, on paper and phones, by keyboard."""

import json
import re

import pytest
from axe_playwright_python.sync_playwright import Axe

from pytest_streamperf._report.html import html
from tests.data.documents import check, document, many, sample

WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 360, "height": 740}
BAD = sum(each["verdict"] != "within" for each in sample()["checks"])
MARKUP = "</td></pre></script><script>alert('ran')</script><img src='https://x.example/i.png'>"


def drawn(page):
    """Scroll through the page, as a reader does, until each chart that is open is drawn."""
    for chart in page.locator("details.check[open] .chart").all():
        chart.scroll_into_view_if_needed()
        chart.locator("svg").wait_for()
    page.evaluate("scrollTo(0, 0)")
    return page


def all_open(page):
    """Open whatever can be opened."""
    page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    return drawn(page)


def colors(page, selector, name):
    """The colors that a browser comes to for these elements."""
    return page.eval_on_selector_all(
        selector, "(all, name) => [...new Set(all.map(each => getComputedStyle(each)[name]))]", name
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_it_is_accessible(opened, sample_page, pictures, scheme, viewport):
    """Names, roles, order and contrast (WCAG 2.2 AA), with every check and its data open."""
    page = drawn(opened(sample_page, color_scheme=scheme, viewport=viewport))
    page.screenshot(path=pictures / f"{scheme}-{viewport['width']}.png", full_page=True)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(all_open(page), options={"runOnly": tags})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 360, 700, 1200])
def test_nothing_sticks_out(opened, sample_page, width):
    """A page is never wider than the window, with everything open."""
    page = all_open(opened(sample_page, viewport={"width": width, "height": 740}))
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_charts_follow_the_page_into_the_dark(opened, sample_page):
    """Those that are drawn already, too, and without being drawn again."""
    page = drawn(opened(sample_page, color_scheme="light", viewport=WIDE))
    page.evaluate("document.querySelector('.chart svg').dataset.same = 'yes'")
    by_day = colors(page, ".chart svg text", "fill"), colors(page, "body", "backgroundColor")
    page.emulate_media(color_scheme="dark")
    by_night = colors(page, ".chart svg text", "fill"), colors(page, "body", "backgroundColor")
    assert not set(by_day[0]) & set(by_night[0])
    assert by_day[1] != by_night[1]
    assert page.locator(".chart svg").first.get_attribute("data-same") == "yes"


def test_charts_are_drawn_when_they_are_looked_at(opened, sample_page):
    """Neither those of closed checks, nor those far below."""
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
    """As many points as there are rows, and a dashed line for each limit in seconds."""
    page = all_open(opened(sample_page, viewport=WIDE))
    charts = 0
    for each in sample()["checks"]:
        points = {"allocated_bytes", "updates", "flushes", "gaps", "stalls", "pauses"} & set(
            each["series"]
        )
        if points:
            charts += 1
            shown = page.locator("details.check", has_text=each["test"])
            rows = sum(len(each["series"][name]) for name in points)
            assert shown.locator("svg .mark-symbol.role-mark path").count() == rows
            limits = shown.locator("svg .mark-rule.role-mark line[stroke-dasharray]")
            assert limits.count() == len(each["limits"].keys() & each["seconds"].keys())
    assert charts == page.locator(".chart").count()


def test_a_chart_has_a_name_and_its_figures_beside_it(opened, sample_page):
    """For those who do not see it."""
    page = drawn(opened(sample_page, viewport=WIDE))
    figures = page.locator("details.check[open] figure:has(svg)")
    assert figures.count() > 0
    for figure in figures.all():
        caption = figure.locator("figcaption p").inner_text()
        assert figure.locator(".chart").get_attribute("aria-label").startswith(caption)
        assert figure.locator("xpath=..").locator("table[data-series]").count() > 0


def test_it_prints_what_is_open(opened, sample_page, pictures):
    """Black on white although the screen is dark, charts that nobody scrolled to, no controls."""
    page = opened(sample_page, color_scheme="dark", viewport=WIDE)
    wanted = page.locator("details.check[open] .chart").count()
    assert page.locator(".chart svg").count() < wanted
    page.pdf(path=pictures / "print.pdf")
    assert page.locator("details.check[open] .chart svg").count() == wanted
    page.emulate_media(media="print")
    assert colors(page, "body", "backgroundColor") == ["rgb(255, 255, 255)"]
    assert colors(page, "body", "color") == ["rgb(27, 31, 36)"]
    assert not page.locator(".filter").is_visible()
    assert page.locator("details.check[open] > .found:visible").count() == BAD


def test_charts_are_drawn_before_it_prints(opened, sample_page):
    """The browser prints once its listeners are done; what they put off comes too late."""
    page = opened(sample_page, viewport=WIDE)
    wanted = page.locator("details.check[open] .chart").count()
    # What runs after this listener, in the same event, is what the printer would see.
    page.evaluate(
        "addEventListener('beforeprint', () => {"
        "  window.printed = document.querySelectorAll('details.check[open] .chart svg').length;"
        "})"
    )
    page.pdf()
    assert page.evaluate("window.printed") == wanted


def test_it_is_walked_by_keyboard(opened, sample_page):
    """Past the head, through the filter, into a check that is closed, and to its data."""
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
    """All the words, in any order, in the name, the finding or the place; and says how many."""
    page = opened(sample_page, viewport=WIDE)
    shown, said = page.locator("details.check:visible"), page.locator("output")
    assert said.inner_text() == "12 of 12 shown"
    page.get_by_label("Filter").fill("SUPERLINEAR  reply.py")
    assert shown.count() == 3
    page.get_by_label("inconclusive").uncheck()
    assert shown.count() == 2
    assert said.inner_text() == "2 of 12 shown"
    page.get_by_label("Filter").fill("<b>")
    assert shown.count() == 0
    page.get_by_label("Filter").fill("")
    assert said.inner_text() == "10 of 12 shown"


def test_all_but_charts_and_filter_works_without_javascript(opened, sample_page):
    """What is not within is open, with its message, its figures and the picture of a terminal."""
    page = opened(sample_page, viewport=WIDE, java_script_enabled=False)
    assert page.locator("details.check[open] > .found:visible").count() == BAD
    assert page.locator(".message:visible").count() == BAD
    assert page.locator(".chart pre:visible").count() > 0
    assert not page.locator(".filter").is_visible()
    page.locator("details.check:not([open]) > summary").first.click()
    assert page.locator("details.check[open] > .found:visible").count() == BAD + 1


@pytest.mark.parametrize("text", [MARKUP, "{{ 7 * 7 }}", "datum.x || signal('width')"])
def test_a_hostile_report_stays_text(opened, text):
    """Markup, templates and expressions, in every place where a report has text."""
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
    page = all_open(opened(html(document([hostile, other], lost=[text])), viewport=WIDE))
    assert page.locator("script").count() == 2
    assert page.locator("img, iframe, object, embed, svg image, svg a").count() == 0
    assert page.locator(".test").first.inner_text() == text
    assert page.locator(".source").first.inner_text() == text
    assert f"limit of {text}" in page.locator("svg text").all_text_contents()


def test_500_checks_are_small_and_whole(opened):
    """Less than 3 MB, all of them there, every figure in the report, and filtered as one types."""
    report = many(500)
    text = html(report)
    assert len(text.encode()) < 3_000_000
    page = opened(text, viewport=WIDE)
    assert page.locator("details.check").count() == 500
    exact = set(re.findall(r"-?\d[\d.e+-]*", json.dumps(report)))
    shown = page.eval_on_selector_all(
        "data, [data-series] td",
        "all => [...new Set(all.map(each => each.value ?? each.textContent.trim()))]",
    )
    figures = {each for each in shown if re.fullmatch(r"[\d.e+-]+", each)}
    assert len(figures) > 400
    assert figures <= exact
    page.get_by_label("Filter").fill("test_reply_499")
    assert page.locator("output").inner_text() == "1 of 500 shown"
