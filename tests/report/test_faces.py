"""Tests of the renderings of a report: an HTML page, a Markdown comment and the command for both.

A report is the JSON document of one run. Each rendering must show all text of a report as text,
never as markup, and its figures exactly.
"""

import json
import re
import sys
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_streamperf._cli import main
from pytest_streamperf._report import html as page_module
from pytest_streamperf._report.charts import CHARTS, chart
from pytest_streamperf._report.document import read, write
from pytest_streamperf._report.html import html
from pytest_streamperf._report.markdown import markdown
from pytest_streamperf._report.presentation import printable, worst_first
from pytest_streamperf._results.metrics import MOST_DRAWN
from tests.data.documents import check, document, growth, many, responsiveness, sample, updates
from tests.report_builders import reports

TEXTS = st.text(st.characters(exclude_categories=()), min_size=1).filter(str.strip)
HOSTILE = (
    "</code></pre></script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "`a` ``b`` ```\n```\n\n# c | d \\| @octocat #12 <!-- --> [x](javascript:y) https://a.example",
    "&lt;b&gt; {{ 7 * 7 }} {% raw %} ' \" \x00 \x1b[31m \u202e \ud800",
)


class _ParsedPage(HTMLParser):
    """A parsed page: its elements with the names of their attributes, and its texts."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.attributes, self.texts, self._open = Counter(), [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements[tag, *(name for name, _ in attrs)] += 1
        self.attributes += [(tag, *attribute) for attribute in attrs]
        self._open.append(tag)

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def text(self):
        """Return all text, without the zero-width spaces that keep GitHub from linking names."""
        return " ".join("".join(data for _, data in self.texts).replace("\u200b", "").split())


@pytest.fixture(scope="module", autouse=True)
def _no_library():
    """Leave the large charting library out of every page; the browser tests cover it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page_module, "_charting_library", str)
        yield


def _report_with_text(text):
    """Return a report that has this text in every place that can hold text."""
    filled_check = check(
        "growth",
        text,
        verdict="exceeded",
        headline=text,
        details=[text],
        picture=[text],
        given={text: text},
        counts={text: 1},
        limits={f"{text} limit": 2},
        where=[{"place": text, "source": text, "share": 0.5}],
        series={
            "allocated_bytes": [[1, 2.0]],
            "attempts": [[text] * 3],
            f"{text} series": [[1, 2]],
        },
        facts={"metric": text},
    )
    environment = dict.fromkeys(("python", "implementation", "system", "machine"), text)
    environment |= {"cores": 2, "pytest": text, "streamperf": text, "differs": text}
    return document(
        [filled_check, filled_check | {"verdict": "within"}], lost=[text], environment=environment
    )


def _with_hostile_examples(test):
    for text in HOSTILE:
        test = example(text)(test)
    return test


@_with_hostile_examples
@given(TEXTS)
def test_a_page_has_any_text_as_text(text):
    """A page shows any text of a report as text: no element or attribute appears or vanishes."""
    parsed, harmless = (
        _ParsedPage(html(_report_with_text(text))),
        _ParsedPage(html(_report_with_text("harmless"))),
    )
    assert parsed.elements == harmless.elements
    shown_text = printable(text).strip()
    # The harmless page may hold the text anyway, for example "2".
    expected = [tag for tag, data in harmless.texts if data.strip() in {"harmless", shown_text}]
    actual = [tag for tag, data in parsed.texts if data.strip() == shown_text]
    assert Counter(actual) == Counter(expected)


@_with_hostile_examples
@given(TEXTS)
def test_a_comment_has_any_text_as_text(text):
    """A rendered comment shows any text of a report as text, and GitHub links no part of it."""
    render = MarkdownIt("gfm-like", {"html": True}).render
    parsed, harmless = (
        _ParsedPage(render(markdown(_report_with_text(content)))) for content in (text, "harmless")
    )
    assert parsed.elements == harmless.elements
    shown_text = " ".join(printable(text)[:300].split())
    assert parsed.text().count(shown_text) >= harmless.text().count("harmless")
    outside = "".join(data for tag, data in parsed.texts if tag not in {"code", "pre"})
    assert not re.search("[@#](?!\u200b)", outside)


@given(reports)
def test_any_report_has_a_page_and_a_comment(report):
    """Every report that the schema allows has a page and a comment, both valid as UTF-8."""
    for render in (html, markdown):
        assert render(report).encode()


def test_a_page_runs_its_own_script_and_nothing_else():
    """The Content-Security-Policy of a page allows, by hash, only its own script and style."""
    page = html(sample())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    for kind, element in (("script", "<script>"), ("style", "<style>")):
        text = page.split(element)[1].split(f"</{kind}>")[0]
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_a_page_refers_to_nothing_outside_of_it():
    """A page links only to a place in itself, and has no script or style in an attribute."""
    parsed = _ParsedPage(html(sample()))
    assert [value for _, name, value in parsed.attributes if name == "href"] == ["#checks"]
    names = {name for _, name, _ in parsed.attributes}
    assert not names & {"src", "srcset", "action", "style", "background", "poster", "ping"}
    assert not any(name.startswith("on") for name in names)


@pytest.mark.parametrize("report", [sample(), many(20)], ids=["sample", "many"])
def test_each_figure_of_a_page_is_in_the_report(report):
    """Every figure on a page stands in the report, and a rounded one has its exact value."""
    exact = set(re.findall(r"-?\d[\d.e+-]*", json.dumps(report)))
    counted = {str(len(report["checks"])), *(str(n) for n in _verdict_counts(report).values())}
    parsed = _ParsedPage(html(report))
    shown = [value for tag, name, value in parsed.attributes if (tag, name) == ("data", "value")]
    assert len(shown) > len(report["checks"])
    assert set(shown) <= exact
    cells = [data.strip() for tag, data in parsed.texts if tag == "td"]
    assert {cell for cell in cells if re.fullmatch(r"[\d.e+-]+", cell)} <= exact
    words = " ".join(data for tag, data in parsed.texts if tag not in {"data", "script", "style"})
    numbers = set(re.findall(r"\d+", json.dumps(report))) | counted
    assert set(re.findall(r"\d+", words.replace(report["commit"]["id"][:12], ""))) <= numbers


def test_each_figure_of_a_report_is_on_its_page():
    """Every figure, limit and row of a series in a report stands on its page."""
    report = sample()
    parsed = _ParsedPage(html(report))
    values = {value for tag, name, value in parsed.attributes if (tag, name) == ("data", "value")}
    cells = {data.strip() for tag, data in parsed.texts if tag == "td"}
    for shown_check in report["checks"]:
        for kind in ("counts", "shares", "seconds", "bytes", "limits"):
            assert {str(value) for value in shown_check[kind].values()} <= values
        for series in shown_check["series"].values():
            assert {str(cell) for row in series for cell in row} <= cells | {""}


def test_a_rounded_figure_says_what_it_is_exactly():
    """A page shows a figure rounded for people, and its `data` element holds the exact value."""
    page = html(sample())
    assert '<data value="0.052">5%</data>' in page
    assert '<data value="120734">120,734</data>' in page
    assert '<data value="0.182">182 ms</data>' in page


@pytest.mark.parametrize(
    "check",
    [
        growth("tests/test_it.py::test_reply_123", bent=0.93, rows=11),
        updates("tests/test_it.py::test_reply_123", every=0.02, rows=MOST_DRAWN),
        responsiveness("tests/test_it.py::test_reply_123", stall=0.2, rows=MOST_DRAWN),
    ],
    ids=["growth", "updates", "responsiveness"],
)
def test_a_page_of_500_checks_is_small(check):
    """A page of 500 failed checks of one kind has fewer than 3 million characters."""
    empty, of_ten = len(html(document([]))), len(html(document([check] * 10)))
    assert empty + 50 * (of_ten - empty) < 3_000_000


def test_a_limit_stands_beside_what_it_is_for():
    """A page shows a limit in the row of its figure; a limit without a figure has its own row."""
    rows = re.findall(r"<tr><th scope=\"row\">.*", html(sample()))
    row_words = [re.sub("<[^>]*>", " ", row).split() for row in rows]
    assert ["longest", "stall", "182", "ms", "50.0", "ms"] in row_words
    assert ["superlinear", "100%", "25%"] in row_words
    assert ["updates", "per", "second", "10"] in row_words


def _verdict_counts(report):
    return Counter(check["verdict"] for check in report["checks"])


def test_the_worst_comes_first():
    """A page orders checks by verdict, from exceeded over inconclusive to within, then by stem."""
    shown = [(check["verdict"], check["stem"]) for check in worst_first(sample()["checks"])]
    order = ["exceeded", "inconclusive", "within"]
    assert shown == sorted(shown, key=lambda pair: (order.index(pair[0]), pair[1]))
    page = html(sample())
    assert re.findall(r'data-verdict="(\w+)"', page) == [verdict for verdict, _ in shown]


def test_only_what_is_not_within_is_open():
    """A page opens, without a script, exactly the checks that are not within."""
    opened = re.findall(r'data-verdict="(\w+)"( open)?>', html(sample()))
    assert len(opened) == len(sample()["checks"])
    assert all(bool(is_open) == (verdict != "within") for verdict, is_open in opened)


def test_an_unfinished_run_says_so():
    """Page and comment of an interrupted run state that, and name or count the lost tests."""
    unfinished = document([], complete=False, lost=["tests/test_a.py::test_lost"])
    assert "cut short" in html(unfinished)
    assert "tests/test_a.py::test_lost" in html(unfinished)
    assert "cut short" in markdown(unfinished)
    assert "1 tests were lost" in markdown(unfinished)
    assert "cut short" not in html(sample()) + markdown(sample())


def test_what_is_not_known_of_a_run_is_said():
    """A page shows "not known" for a missing commit and for missing noise figures."""
    page = html(document([], commit=None, noise={"waited": None, "page_faults": None}))
    assert page.count("not known") == 2


def test_what_a_policy_accepts_is_marked():
    """Page and comment mark a check as accepted if it is not within and still passes."""
    accepted = document([check("responsiveness", "test_a", verdict="exceeded", accepted=True)])
    assert "exceeded, accepted" in _ParsedPage(html(accepted)).text()
    assert "exceeded, accepted" in markdown(accepted)


@pytest.mark.parametrize(
    ("metric", "series", "drawn"),
    [
        ("cpu_time", ("allocated_bytes", "cpu_time"), "cpu_time"),
        ("", ("calls", "allocated_bytes"), "allocated_bytes"),
        ("<b>", ("gaps",), "gaps"),
        ("", ("deltas", "updates"), "updates"),
        ("", ("writes", "flushes"), "flushes"),
        ("", ("stalls",), ""),
        ("", ("attempts",), ""),
    ],
)
def test_the_chart_is_that_of_the_metric(metric, series, drawn):
    """A check has the chart of its metric, or else of the first series that a chart exists for."""
    rows = {name: [[1, 2]] for name in series}
    assert chart(check("growth", "test_a", series=rows, facts={"metric": metric})) == drawn


def test_charts_draw_only_series_that_reports_have():
    """Every layer of a chart draws a series that reports hold, or the limits."""
    drawn = {layer["data"]["name"] for entry in CHARTS.values() for layer in entry["spec"]["layer"]}
    assert drawn - {"limits"} <= set().union(*(check["series"] for check in sample()["checks"])) | {
        "calls"
    }


def test_a_comment_starts_with_what_was_found():
    """A comment starts with the number of checks by verdict.

    It has a row for every check, and a message for every check that is not within.
    """
    text = markdown(sample())
    assert text.startswith("### streamperf: 4 exceeded, 2 inconclusive, 6 within\n")
    rendered = _ParsedPage(MarkdownIt("gfm-like", {"html": True}).render(text))
    assert rendered.elements[("tr",)] == 1 + 6 + 1 + 6
    assert rendered.elements[("details",)] == 6 + 1
    assert "agent/reply.py:41 in Reply.feed" in rendered.text()


@pytest.mark.parametrize("bad", [0, 1_500])
@pytest.mark.parametrize("good", [0, 1_500])
@pytest.mark.parametrize("length", [1, 2_000])
def test_a_comment_is_bounded_and_says_what_is_missing(bad, good, length):
    """A comment has at most 60,000 characters, and states how many entries it leaves out."""
    verdicts = ["exceeded"] * bad + ["within"] * good
    text = markdown(
        document(
            [
                check("growth", f"{'|' * length}{index}", verdict=verdict, details=["`" * length])
                for index, verdict in enumerate(verdicts)
            ]
        )
    )
    assert len(text) <= 60_000
    left_out = {
        part: int(count.replace(",", ""))
        for count, part in re.findall(r"\*([\d,]+) more (\w+)", text)
    }
    rows = [line for line in text.splitlines() if line.startswith("| ") and "<code>" in line]
    assert len(rows) + left_out.get("rows", 0) + left_out.get("checks", 0) == bad + good
    assert text.count("```text") + left_out.get("messages", 0) == bad


@pytest.mark.parametrize(
    ("part", "module", "library"),
    [
        (page_module._template, "jinja2", "jinja2"),
        (page_module._charting_library, "vl_convert", "vl-convert-python"),
    ],
)
def test_a_missing_library_is_named_with_its_command(monkeypatch, part, module, library):
    """Without the extra `html`, the error names the missing library and the install command."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{library}: pip install .*\[html\]"):
        part.__wrapped__()


def test_the_command_writes_what_it_is_asked_for(tmp_path):
    """The command `streamperf report` writes a page and a comment of one report."""
    write(sample(), tmp_path / "run.json")
    report = read(tmp_path / "run.json")
    page, comment = tmp_path / "page.html", tmp_path / "comment.md"
    arguments = [
        "report",
        str(tmp_path / "run.json"),
        "--html",
        str(page),
        "--markdown",
        str(comment),
    ]
    assert main(arguments) == 0
    assert page.read_text(encoding="utf-8") == html(report)
    assert comment.read_text(encoding="utf-8") == markdown(report)


def test_the_command_prints_markdown_unless_it_is_told_where(tmp_path, capsys):
    """The command `streamperf report` prints Markdown if no option names a file."""
    write(sample(), tmp_path / "run.json")
    assert main(["report", str(tmp_path / "run.json")]) == 0
    assert capsys.readouterr().out == markdown(sample())


@pytest.mark.parametrize("content", ["{", None], ids=["cut short", "missing"])
def test_the_command_says_what_is_wrong_with_a_report(tmp_path, capsys, content):
    """An invalid or missing report ends the command with status 2 and one line of error."""
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    assert main(["report", str(file)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("streamperf report: ")
    assert "run.json" in error
    assert error.count("\n") == 1
