"""What a report shows people: all that it says, as text, with its figures as they are."""

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


class _Parsed(HTMLParser):
    """The elements of a page with the names of their attributes, and all of its text."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.attributes, self.texts, self._open = Counter(), [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements[tag, *(name for name, _ in attrs)] += 1
        self.attributes += [(tag, *each) for each in attrs]
        self._open.append(tag)

    def handle_data(self, data):
        self.texts.append((self._open[-1] if self._open else "", data))

    def text(self):
        """Without the zero-width spaces that keep GitHub from looking for people."""
        return " ".join("".join(data for _, data in self.texts).replace("\u200b", "").split())


@pytest.fixture(scope="module", autouse=True)
def _no_library():
    """The page without its charting library, which is large, and is tested in a browser."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page_module, "_charting_library", str)
        yield


def _filled(text):
    """A report with this text wherever a report has text."""
    filled = check(
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
    return document([filled, filled | {"verdict": "within"}], lost=[text], environment=environment)


def _example_of_each(test):
    for text in HOSTILE:
        test = example(text)(test)
    return test


@_example_of_each
@given(TEXTS)
def test_a_page_has_any_text_as_text(text):
    """No element and no attribute comes or goes with it, and all of it can be read."""
    parsed, harmless = _Parsed(html(_filled(text))), _Parsed(html(_filled("harmless")))
    assert parsed.elements == harmless.elements
    said = printable(text).strip()
    # Some are on the page anyway: "2", say.
    expected = [tag for tag, data in harmless.texts if data.strip() in {"harmless", said}]
    found = [tag for tag, data in parsed.texts if data.strip() == said]
    assert Counter(found) == Counter(expected)


@_example_of_each
@given(TEXTS)
def test_a_comment_has_any_text_as_text(text):
    """As GitHub's Markdown reads it, and whatever it looks for in text afterwards."""
    render = MarkdownIt("gfm-like", {"html": True}).render
    parsed, harmless = (_Parsed(render(markdown(_filled(each)))) for each in (text, "harmless"))
    assert parsed.elements == harmless.elements
    said = " ".join(printable(text)[:300].split())
    assert parsed.text().count(said) >= harmless.text().count("harmless")
    outside = "".join(data for tag, data in parsed.texts if tag not in {"code", "pre"})
    assert not re.search("[@#](?!\u200b)", outside)


@given(reports)
def test_any_report_has_a_page_and_a_comment(report):
    """Whatever the schema allows can be shown, and written as UTF-8."""
    for face in (html, markdown):
        assert face(report).encode()


def test_a_page_runs_its_own_script_and_nothing_else():
    """The policy names by its hash the one script and the one style there are."""
    page = html(sample())
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1].replace("&#39;", "'")
    for kind, element in (("script", "<script>"), ("style", "<style>")):
        text = page.split(element)[1].split(f"</{kind}>")[0]
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy


def test_a_page_refers_to_nothing_outside_of_it():
    """No address but that of a place in it, no style or script in an attribute."""
    parsed = _Parsed(html(sample()))
    assert [value for _, name, value in parsed.attributes if name == "href"] == ["#checks"]
    names = {name for _, name, _ in parsed.attributes}
    assert not names & {"src", "srcset", "action", "style", "background", "poster", "ping"}
    assert not any(name.startswith("on") for name in names)


@pytest.mark.parametrize("report", [sample(), many(20)], ids=["sample", "many"])
def test_each_figure_of_a_page_is_in_the_report(report):
    """Those that were rounded for people have the exact one beside them."""
    exact = set(re.findall(r"-?\d[\d.e+-]*", json.dumps(report)))
    counted = {str(len(report["checks"])), *(str(n) for n in _verdicts(report).values())}
    parsed = _Parsed(html(report))
    shown = [value for tag, name, value in parsed.attributes if (tag, name) == ("data", "value")]
    assert len(shown) > len(report["checks"])
    assert set(shown) <= exact
    cells = [data.strip() for tag, data in parsed.texts if tag == "td"]
    assert {cell for cell in cells if re.fullmatch(r"[\d.e+-]+", cell)} <= exact
    words = " ".join(data for tag, data in parsed.texts if tag not in {"data", "script", "style"})
    known = set(re.findall(r"\d+", json.dumps(report))) | counted
    assert set(re.findall(r"\d+", words.replace(report["commit"]["id"][:12], ""))) <= known


def test_each_figure_of_a_report_is_on_its_page():
    """Counts, shares, seconds, limits, what was asked, and every row of a series."""
    report = sample()
    parsed = _Parsed(html(report))
    values = {value for tag, name, value in parsed.attributes if (tag, name) == ("data", "value")}
    cells = {data.strip() for tag, data in parsed.texts if tag == "td"}
    for each in report["checks"]:
        for kind in ("counts", "shares", "seconds", "bytes", "limits"):
            assert {str(value) for value in each[kind].values()} <= values
        for series in each["series"].values():
            assert {str(cell) for row in series for cell in row} <= cells | {""}


def test_a_rounded_figure_says_what_it_is_exactly():
    """The human form is read, the exact one is its value."""
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
    """Less than 3 MB, whatever they are, all of them failed."""
    nothing, ten = len(html(document([]))), len(html(document([check] * 10)))
    assert nothing + 50 * (ten - nothing) < 3_000_000


def test_a_limit_stands_beside_what_it_is_for():
    """In the same row, in the same unit; one for which nothing was measured has its own."""
    rows = re.findall(r"<tr><th scope=\"row\">.*", html(sample()))
    said = [re.sub("<[^>]*>", " ", row).split() for row in rows]
    assert ["longest", "stall", "182", "ms", "50.0", "ms"] in said
    assert ["superlinear", "100%", "25%"] in said
    assert ["updates", "per", "second", "10"] in said


def _verdicts(report):
    return Counter(each["verdict"] for each in report["checks"])


def test_the_worst_comes_first():
    """Exceeded, then inconclusive, then within; each by stem, test and number."""
    shown = [(each["verdict"], each["stem"]) for each in worst_first(sample()["checks"])]
    order = ["exceeded", "inconclusive", "within"]
    assert shown == sorted(shown, key=lambda each: (order.index(each[0]), each[1]))
    page = html(sample())
    assert re.findall(r'data-verdict="(\w+)"', page) == [verdict for verdict, _ in shown]


def test_only_what_is_not_within_is_open():
    """On a page, without any script."""
    opened = re.findall(r'data-verdict="(\w+)"( open)?>', html(sample()))
    assert all(bool(is_open) == (verdict != "within") for verdict, is_open in opened)


def test_an_unfinished_run_says_so():
    """On both faces, with the tests that a crashed worker took along."""
    cut = document([], complete=False, lost=["tests/test_a.py::test_lost"])
    assert "cut short" in html(cut)
    assert "tests/test_a.py::test_lost" in html(cut)
    assert "cut short" in markdown(cut)
    assert "1 tests were lost" in markdown(cut)
    assert "cut short" not in html(sample()) + markdown(sample())


def test_what_is_not_known_of_a_run_is_said():
    """A run outside of a repository, on a machine that does not tell."""
    page = html(document([], commit=None, noise={"waited": None, "page_faults": None}))
    assert page.count("not known") == 2


def test_what_a_policy_accepts_is_marked():
    """A check that is not within and passes all the same."""
    accepted = document([check("responsiveness", "test_a", verdict="exceeded", accepted=True)])
    assert "exceeded, accepted" in _Parsed(html(accepted)).text()
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
    """Or of the first series that there is a chart for."""
    rows = {name: [[1, 2]] for name in series}
    assert chart(check("growth", "test_a", series=rows, facts={"metric": metric})) == drawn


def test_charts_draw_only_series_that_reports_have():
    """Each layer names its data; nothing else is drawn."""
    drawn = {layer["data"]["name"] for each in CHARTS.values() for layer in each["spec"]["layer"]}
    assert drawn - {"limits"} <= set().union(*(each["series"] for each in sample()["checks"])) | {
        "calls"
    }


def test_a_comment_starts_with_what_was_found():
    """And has a row and a message for each check that is not within."""
    text = markdown(sample())
    assert text.startswith("### streamperf: 4 exceeded, 2 inconclusive, 6 within\n")
    rendered = _Parsed(MarkdownIt("gfm-like", {"html": True}).render(text))
    assert rendered.elements[("tr",)] == 1 + 6 + 1 + 6
    assert rendered.elements[("details",)] == 6 + 1
    assert "agent/reply.py:41 in Reply.feed" in rendered.text()


@pytest.mark.parametrize("bad", [0, 1_500])
@pytest.mark.parametrize("good", [0, 1_500])
@pytest.mark.parametrize("length", [1, 2_000])
def test_a_comment_is_bounded_and_says_what_is_missing(bad, good, length):
    """Whatever the number of checks, and the length of what they say."""
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
    left = {what: int(n.replace(",", "")) for n, what in re.findall(r"\*([\d,]+) more (\w+)", text)}
    rows = [line for line in text.splitlines() if line.startswith("| ") and "<code>" in line]
    assert len(rows) + left.get("rows", 0) + left.get("checks", 0) == bad + good
    assert text.count("```text") + left.get("messages", 0) == bad


@pytest.mark.parametrize(
    ("part", "module", "library"),
    [
        (page_module._template, "jinja2", "jinja2"),
        (page_module._charting_library, "vl_convert", "vl-convert-python"),
    ],
)
def test_a_missing_library_is_named_with_its_command(monkeypatch, part, module, library):
    """Without the extra."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{library}: pip install .*\[html\]"):
        part.__wrapped__()


def test_the_command_writes_what_it_is_asked_for(tmp_path):
    """One report, both faces."""
    write(sample(), tmp_path / "run.json")
    report = read(tmp_path / "run.json")
    page, comment = tmp_path / "page.html", tmp_path / "comment.md"
    words = ["report", str(tmp_path / "run.json"), "--html", str(page), "--markdown", str(comment)]
    assert main(words) == 0
    assert page.read_text(encoding="utf-8") == html(report)
    assert comment.read_text(encoding="utf-8") == markdown(report)


def test_the_command_prints_markdown_unless_it_is_told_where(tmp_path, capsys):
    """As the summary of a step takes it."""
    write(sample(), tmp_path / "run.json")
    assert main(["report", str(tmp_path / "run.json")]) == 0
    assert capsys.readouterr().out == markdown(sample())


@pytest.mark.parametrize("content", ["{", None], ids=["cut short", "missing"])
def test_the_command_says_what_is_wrong_with_a_report(tmp_path, capsys, content):
    """In one line, with the status of a mistake."""
    file = tmp_path / "run.json"
    if content is not None:
        file.write_text(content)
    assert main(["report", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("streamperf report: ")
    assert "run.json" in said
    assert said.count("\n") == 1
