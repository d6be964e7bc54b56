"""Tests of verdicts, of the exceptions and policies that follow from them, and of messages.

A message is the text of a verdict: a headline, labelled lines, tables, and figures with units. Each
of its lines has at most 72 ASCII characters; only a path may be longer.
"""

import copy
import doctest
import pickle
import re
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_streamperf._results import conclusion, policy, text, units, verdict
from pytest_streamperf._results.conclusion import conclude, current_policy, nothing_measured
from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.reporter import reporting_to
from pytest_streamperf._results.text import (
    fit_line,
    labelled_lines,
    location_lines,
    sparkline,
    table_lines,
)
from pytest_streamperf._results.units import duration, percent, size, thousands
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.clock import Noise
from pytest_streamperf.exceptions import (
    BudgetExceeded,
    GrowthExceeded,
    GrowthInconclusive,
    Inconclusive,
    NothingMeasured,
    StreamperfWarning,
    missing_extra,
)
from pytest_streamperf.growth import CostCurve, GrowthResult
from pytest_streamperf.growth.advice import advice_for
from tests.recording_reporter import RecordingReporter

EXCEPTIONS = pytest.mark.parametrize(
    "kind", [BudgetExceeded, GrowthExceeded, Inconclusive, GrowthInconclusive, NothingMeasured]
)
# Text for one line of a message: without line breaks and other control characters.
LINE_TEXTS = st.text(st.characters(exclude_categories=["Cc"]), max_size=200)
# Names of folders: not empty, without control characters and spaces.
FOLDERS = st.text(st.characters(exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1)
EXCEEDED = Verdict(
    stem="growth", verdict="exceeded", headline="84% superlinear, limit 25%", details=["", "  why"]
)


def fits_message(line):
    """Return whether a line fits a message: at most 72 ASCII characters, without line break."""
    return len(line) <= 72 and line.isascii() and "\n" not in line


# -- verdicts and exceptions


def test_message_is_the_headline_and_the_details():
    """A message is the headline, and then each detail on its own line."""
    assert EXCEEDED.message == "84% superlinear, limit 25%\n\n  why"


def test_verdict_cannot_be_changed():
    """Assigning to an attribute of a verdict raises `AttributeError`."""
    with pytest.raises(AttributeError):
        EXCEEDED.verdict = "within"


@EXCEPTIONS
def test_exception_says_the_message(kind):
    """The text of an exception is the message of its verdict."""
    assert str(kind(EXCEEDED)) == EXCEEDED.message


@EXCEPTIONS
def test_exception_is_an_assertion(kind):
    """Every exception of a check is an `AssertionError`, for pytest and for `except` clauses."""
    assert issubclass(kind, AssertionError)


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (GrowthExceeded, BudgetExceeded),
        (GrowthInconclusive, Inconclusive),
        (NothingMeasured, Inconclusive),
    ],
)
def test_exception_has_a_family(kind, family):
    """Every exception is either a `BudgetExceeded` or an `Inconclusive`, never both."""
    families = {BudgetExceeded, Inconclusive}
    assert {base for base in families if issubclass(kind, base)} == {family}


@EXCEPTIONS
@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_exception_survives_a_copy(kind, copied):
    """An exception that is copied or pickled keeps its class, its verdict and its text."""
    error = copied(kind(EXCEEDED))
    assert (type(error), error.verdict, str(error)) == (kind, EXCEEDED, EXCEEDED.message)


def test_notes_survive_a_copy():
    """An exception that is pickled keeps its notes."""
    error = GrowthExceeded(EXCEEDED)
    error.add_note("in worker 3")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["in worker 3"]


# The costs of a stream of 20,000 deltas whose growth is 84% superlinear.
CURVE = CostCurve(
    points=((20_000, 84_500.0),),
    block_costs=(84_500.0,) * 64,
    length=20_000,
    total=859e6,
    mostly_finish=False,
    superlinear_share=0.84,
)


def test_growth_survives_a_copy():
    """A growth result inside an exception that is pickled keeps all its fields."""
    growth = GrowthResult(
        stem="growth",
        verdict="exceeded",
        headline="too much",
        superlinear_share=0.84,
        superlinear_interval=(0.8, 0.9),
        measured_to=20_000,
        metric="allocated_bytes",
        blame=(),
        half_at=3_800,
        curves={"allocated_bytes": CURVE},
        noise=Noise(0.0, 12),
    )
    assert pickle.loads(pickle.dumps(GrowthExceeded(growth))).verdict == growth


@EXCEPTIONS
def test_traceback_ends_in_the_short_name(kind):
    """A traceback names the class of an exception without its module."""
    last = "".join(traceback.format_exception_only(kind(EXCEEDED)))
    assert last.startswith(f"{kind.__name__}: 84% superlinear, limit 25%\n")


def test_missing_extra_gives_the_command():
    """The error for a missing library names the library and the command that installs it."""
    error = missing_extra("trio", "trio", "backend='trio'")
    assert str(error).startswith("backend='trio' needs trio")
    assert str(error).endswith("pip install 'pytest-streamperf[trio]'")
    assert error.name == "trio"


# -- nothing measured


def test_nothing_measured_is_reported():
    """`nothing_measured` reports a verdict, and returns a `NothingMeasured` error with it."""
    reporter = RecordingReporter()
    with reporting_to(reporter):
        error = nothing_measured("growth", "consume took no delta", "iterate over its argument")
    assert isinstance(error, NothingMeasured)
    assert reporter.verdicts == [error.verdict]


def test_nothing_measured_says_what_to_do():
    """The `NothingMeasured` message says what happened and what to try."""
    with reporting_to(RecordingReporter()):
        error = nothing_measured("throttling", "no update came", "call the callback")
    assert str(error) == "no update came\n  try    call the callback"
    assert (error.verdict.stem, error.verdict.verdict) == ("throttling", "inconclusive")


# -- policies

# Every outcome that a verdict can have.
OUTCOMES = ("within", "exceeded", "inconclusive")


@pytest.mark.parametrize(
    ("policy", "accepted"),
    [
        (Policy(), {"within"}),
        (Policy(inconclusive="warn"), {"within", "inconclusive"}),
        (Policy(mode="warn"), {"within", "exceeded", "inconclusive"}),
    ],
)
def test_policy_accepts(policy, accepted):
    """`inconclusive="warn"` accepts inconclusive verdicts, and `mode="warn"` accepts all."""
    assert {outcome for outcome in OUTCOMES if policy.accepts(outcome)} == accepted


def test_without_a_sink_there_are_no_settings():
    """The default policy applies while no sink is open."""
    assert current_policy() == Policy()


def reported_by_check(outcome, policy):
    """Conclude a check with this outcome under this policy; return the verdicts it reported."""
    reporter = RecordingReporter(policy)
    with reporting_to(reporter):
        conclude(
            Verdict(stem="growth", verdict=outcome, headline="84%"),
            GrowthExceeded,
            GrowthInconclusive,
            stacklevel=1,
        )
    return reporter.verdicts


def test_within_is_reported():
    """A verdict within its limit is reported, and nothing is raised."""
    (reported,) = reported_by_check("within", Policy())
    assert reported.verdict == "within"


@pytest.mark.parametrize(
    ("outcome", "kind"), [("exceeded", GrowthExceeded), ("inconclusive", GrowthInconclusive)]
)
def test_what_is_not_within_is_raised(outcome, kind):
    """An exceeded and an inconclusive verdict raise one exception class each."""
    with pytest.raises(kind, match="84%"):
        reported_by_check(outcome, Policy())


@pytest.mark.parametrize("outcome", ["exceeded", "inconclusive"])
def test_what_is_accepted_is_a_warning(outcome):
    """A failure that the policy accepts is reported, and warns in the file of the caller."""
    with pytest.warns(StreamperfWarning, match="84%") as caught:
        (reported,) = reported_by_check(outcome, Policy(mode="warn"))
    assert reported.verdict == outcome
    assert caught[0].filename == __file__


# -- figures with units


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_sparkline_has_a_bar_for_each_value(values):
    """A sparkline has one bar for each value, and a greater value never has a lower bar.

    The greatest value has a full bar, unless all values are 0.
    """
    bars = sparkline(values)
    assert len(bars) == len(values)
    assert sorted(bars) == [bar for _, bar in sorted(zip(values, bars, strict=True))]
    assert max(bars) == ("\N{FULL BLOCK}" if max(values) else "\N{LOWER ONE EIGHTH BLOCK}")


def test_sparkline_of_nothing():
    """The sparkline of no values is empty."""
    assert sparkline([]) == ""


# The power of ten of each unit prefix.
POWERS = {"k": 3, "M": 6, "G": 9, "T": 12, "u": -6, "m": -3}


def value_of(text):
    """Return the number that a figure stands for: 25,100 for "25.1 kB"."""
    number, power = re.fullmatch(r"([\d.,]+) ?([kMGTum]?)[Bs]?", text).groups()
    return float(number.replace(",", "")) * 10.0 ** POWERS.get(power, 0)


@given(st.floats(0, 9.99e14))
@example(999.5)
@example(99_949.9)
@example(99_950)
@example(999_499.9)
@example(999_500)
def test_sizes_have_three_digits(count):
    """A size is written with at most three digits and a unit."""
    assert re.fullmatch(r"\d{1,3} B|(\d{1,2}\.\d|\d{3}) [kMGT]B", size(count))


@given(st.floats(0, 9.99e11))
@example(999.5)
@example(99_949.9)
@example(99_950)
@example(999_499.9)
@example(999_500)
def test_counts_have_three_digits(count):
    """A large count is written with at most three digits and a unit prefix."""
    assert re.fullmatch(r"\d{1,3}|(\d{1,2}\.\d|\d{3})[kMG]", thousands(count))


@given(st.floats(0, 999_999) | st.floats(0, 1e-3))
@example(99.994e-6)
@example(99.996e-6)
@example(999.4e-6)
@example(0.99951e-3)
@example(99.94e-3)
@example(99.96e-3)
@example(0.9994)
@example(0.9996)
@example(99.94)
@example(99.96)
def test_durations_have_three_digits(seconds):
    """A duration has a unit and at most four digits below 1,000 s, and whole seconds above."""
    assert re.fullmatch(
        r"\d{1,2}\.\d\d us|\d{3} us|(\d{1,2}\.\d|\d{3}) ms|\d{1,2}\.\d s|[\d,]{3,7} s",
        duration(seconds),
    )


@pytest.mark.parametrize(
    ("write", "maximum", "smallest_unit"),
    [(size, 1e15, 1.0), (thousands, 1e12, 1.0), (duration, 1e6, 1e-8)],
)
@given(st.data())
def test_figures_are_true(write, maximum, smallest_unit, data):
    """A written figure is within 5% of its value, or within half of its smallest unit."""
    value = data.draw(st.floats(0, maximum))
    assert value_of(write(value)) == pytest.approx(value, rel=0.0501, abs=smallest_unit / 2 * 1.001)


@pytest.mark.parametrize(("write", "maximum"), [(size, 1e15), (thousands, 1e12), (duration, 1e6)])
@given(st.data())
def test_figures_keep_their_order(write, maximum, data):
    """A greater value is never written as a smaller figure, even where the unit changes."""
    less, more = sorted(data.draw(st.tuples(st.floats(0, maximum), st.floats(0, maximum))))
    assert value_of(write(less)) <= value_of(write(more))


@pytest.mark.parametrize("edge", [999.5, 99_950, 999_500, 99.95e6, 999.5e6, 999.5e9])
def test_size_changes_its_unit_without_a_gap(edge):
    """Sizes just below and above a change of unit or digits differ by at most 0.2%."""
    below, above = value_of(size(edge * (1 - 1e-9))), value_of(size(edge * (1 + 1e-9)))
    assert below <= above <= below * 1.002


@pytest.mark.parametrize("edge", [99.995e-6, 0.9995e-3, 0.09995, 0.9995, 99.95])
def test_duration_changes_its_unit_without_a_gap(edge):
    """Durations just below and above a change of unit or digits differ by at most 0.2%."""
    below, above = value_of(duration(edge * (1 - 1e-9))), value_of(duration(edge * (1 + 1e-9)))
    assert below <= above <= below * 1.002


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (size(0), "0 B"),
        (size(999), "999 B"),
        (size(1_000), "1.0 kB"),
        (size(999_000), "999 kB"),
        (size(100_200_000), "100 MB"),
        (size(1.04e9), "1.0 GB"),
        (size(2e12), "2.0 TB"),
        (thousands(999), "999"),
        (thousands(999_000), "999k"),
        (thousands(2.5e9), "2.5G"),
        (duration(0), "0.00 us"),
        (duration(0.31e-6), "0.31 us"),
        (duration(99.99e-6), "99.99 us"),
        (duration(999e-6), "999 us"),
        (duration(0.001), "1.0 ms"),
        (duration(0.999), "999 ms"),
        (duration(1), "1.0 s"),
        (duration(1_200), "1,200 s"),
    ],
)
def test_figures(figure, text):
    """`size`, `thousands` and `duration` write exactly these texts."""
    assert figure == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.04, "4%"), (0.25, "25%"), (0.844, "84%"), (1, "100%")]
)
def test_percent(share, text):
    """A share is written in whole percent."""
    assert percent(share) == text


# -- lines of a message


@given(LINE_TEXTS)
def test_fit_makes_a_line_printable(text):
    """`fit_line` cuts any text to one ASCII line that fits a message."""
    assert fits_message(fit_line(text))


def test_fit_shows_that_it_cut():
    """A line that was cut ends in three dots; a line that fits is unchanged."""
    assert fit_line("a" * 73) == "a" * 69 + "..."
    assert fit_line("a" * 72) == "a" * 72


@given(st.dictionaries(st.sampled_from(["where", "means", "costs", "try", "allow"]), st.text()))
def test_entries_are_printable(entries):
    """Labelled lines fit a message, whatever text the labels have."""
    assert all(map(fits_message, labelled_lines(entries)))


def test_entries_stand_in_one_column():
    """The texts of all labelled lines start in the same column."""
    lines = labelled_lines({"why": "word " * 30, "try": "less"})
    assert lines[0].startswith("  why    word word")
    assert lines[-1] == "  try    less"
    assert all(line.startswith(" " * 9 + "word") for line in lines[1:-1])


def test_long_entries_lose_nothing():
    """A long text of a label continues in the next lines, and loses no character."""
    assert "".join(labelled_lines({"try": "x" * 200})).count("x") == 200


def test_empty_entries_are_left_out():
    """A label with an empty text has no line."""
    assert labelled_lines({"means": "", "try": "less"}) == ["  try    less"]


@given(
    st.lists(st.tuples(*[st.from_regex(r"[0-9]{1,9} us", fullmatch=True)] * 3), min_size=1),
    LINE_TEXTS,
)
def test_tables_are_printable(rows, note):
    """The lines of a table fit a message, whatever its note says."""
    assert all(map(fits_message, table_lines(["deltas", "per delta", "copied"], rows, note)))


def test_table_is_right_aligned():
    """The cells of a table are right-aligned, and the note follows the last row."""
    assert table_lines(
        ["deltas", "per delta"], [["1,250", "0.31 us"], ["20,000", "2.40 us"]], "high"
    ) == [
        "  deltas   per delta",
        "   1,250     0.31 us",
        "  20,000     2.40 us   <- high",
    ]


def test_table_has_no_missing_cells():
    """A table row with a missing cell raises `ValueError`."""
    with pytest.raises(ValueError, match="argument"):
        table_lines(["deltas", "per delta"], [["1,250"]], "high")


# -- the guilty line

# The part of the growth that a guilty line bears, at the end of its line in a message.
GROWTH_PART = "(97% of growth)"


def test_where_in_one_line():
    """A short guilty line is shown in one line of the message."""
    assert location_lines(["agent.py:41 in feed"], "self.text += delta", GROWTH_PART) == [
        "  where  agent.py:41 in feed: self.text += delta (97% of growth)"
    ]


def test_where_in_two_lines():
    """A longer guilty line is shown in two lines, with the source in the second."""
    assert location_lines(
        ["agents/streaming.py:41 in Reply.feed"], "self.text += delta.text", GROWTH_PART
    ) == [
        "  where  agents/streaming.py:41 in Reply.feed:",
        "         self.text += delta.text (97% of growth)",
    ]


def test_where_fills_one_line():
    """A guilty line may fill all 72 columns before it is split in two."""
    source = "x" * (72 - len("  where  agent.py:41 in feed:  ") - len(GROWTH_PART))
    (line,) = location_lines(["agent.py:41 in feed"], source, GROWTH_PART)
    assert len(line) == 72
    assert len(location_lines(["agent.py:41 in feed"], source + "x", GROWTH_PART)) == 2


def test_where_cuts_no_sooner_than_it_must():
    """A place and a source that exactly fill their lines are not cut."""
    place, source = "p" * 62, "s" * (62 - len(GROWTH_PART))
    assert location_lines([place], source, GROWTH_PART) == [
        f"  where  {place}:",
        f"         {source} {GROWTH_PART}",
    ]
    assert {len(line) for line in location_lines([place], source, GROWTH_PART)} == {72}


def test_where_cuts_what_it_must():
    """A function name and a source that are too long lose their ends."""
    room = 62 - len(GROWTH_PART)
    first, second = location_lines(["a.py:1 in " + "f" * 62], "s" * room + "z", GROWTH_PART)
    assert first == f"  where  a.py:1 in {'f' * 49}...:"
    assert second == f"         {'s' * (room - 3)}... {GROWTH_PART}"


def test_where_cuts_no_path():
    """A path that is too long stays whole, so that a terminal can open it on a click."""
    place = f"{'p' * 70}.py:1 in feed"
    assert location_lines([place], "x" * 60, GROWTH_PART)[0] == f"  where  {place}:"


@given(LINE_TEXTS, LINE_TEXTS)
def test_where_is_printable(place, source):
    """The lines of a guilty line are ASCII and fit a message, except for a long path."""
    place_line, *source_lines = location_lines([place], source, GROWTH_PART)
    assert place_line.isascii()
    assert "\n" not in place_line
    assert all(map(fits_message, source_lines))


@given(LINE_TEXTS, LINE_TEXTS)
@example("agent.py:41 in Reply.feed", "\N{CHECK MARK}" * 20)
def test_where_always_tells_the_part(place, source):
    """The part of the growth is never cut off, however long the place and the source are."""
    assert location_lines([place], source, GROWTH_PART)[-1].endswith(GROWTH_PART)


@given(FOLDERS)
@example("packages/streaming_core/src/streaming_core/accumulators/openai_chat")
@example("\N{CHECK MARK}" * 12)
def test_where_always_tells_the_line(folder):
    """The file name and the line number are never cut off, however deep the folder is."""
    lines = location_lines(
        [f"{folder}/reply.py:141 in Reply.feed"], "self.text += delta", GROWTH_PART
    )
    assert "reply.py:141 in Reply.feed:" in lines[0]


def test_where_without_source():
    """A guilty line whose source cannot be read is shown without colon and without gap."""
    assert location_lines(["<string>:3 in feed"], "", GROWTH_PART) == [
        "  where  <string>:3 in feed (97% of growth)"
    ]


def test_the_first_place_that_fits_is_said():
    """A shorter form of a long place is used before anything is cut."""
    places = ["f" * 100, "folder/agent.py:41 in feed", "agent.py:41 in feed"]
    assert (
        location_lines(places, "s" * 60, GROWTH_PART)[0] == "  where  folder/agent.py:41 in feed:"
    )


# -- advice

# A part of the meaning that the advice gives, by the kind of guilty line.
MEANINGS = {
    "parses": "parses all earlier deltas",
    "renders": "renders all earlier deltas",
    "looks": "searches all earlier deltas",
    "joins": "joins all earlier deltas",
    "bytes": "copies all the bytes before",
    "text": "copies all the text before",
    "goes": "processes all earlier deltas",
}


@pytest.mark.parametrize(
    ("source", "line_kind"),
    [
        ("self.text += delta", "text"),
        ("self.text = self.text + delta", "text"),
        ('text = f"{text}{delta}"', "text"),
        ('message["content"] += delta', "text"),
        ("self.partial_json += event.delta.partial_json", "text"),
        ("self.markdown += delta", "text"),
        ("call.parsed_arguments += delta", "text"),
        ("data += delta.encode()", "bytes"),
        ('self.body = self.body + b"\\n"', "bytes"),
        ("arguments = loads(buffer)", "parses"),
        ("self.arguments = json.loads(self.buffer)", "parses"),
        ("value = partial_json_parser.loads(self.text)", "parses"),
        ("self.value = from_json(self.buffer, allow_partial=True)", "parses"),
        ("self.snapshot = parse_partial(self.buffer)", "parses"),
        ("value, end = decoder.raw_decode(self.buffer)", "parses"),
        ("return Arguments.model_validate_json(self.buffer)", "parses"),
        ("self.html = render(self.text)", "renders"),
        ("self.view.update(Markdown(self.text))", "renders"),
        ("html = markdown.markdown(self.text)", "renders"),
        ("self.out.write(highlight(self.code, lexer, formatter))", "renders"),
        ('fences += "```" in text', "looks"),
        ('if "\\n" in self.buffer:', "looks"),
        ('if b"\\n" in self.buffer:', "looks"),
        ('while "\\n\\n" in buffer:', "looks"),
        ('end = self.buffer.find("\\n")', "looks"),
        ("match = FENCE.search(self.text)", "looks"),
        ('lines = self.buffer.split("\\n")', "looks"),
        ('self.show("".join(self.parts))', "joins"),
        ("for part in self.parts:", "goes"),
        ("total = sum(map(len, self.parts))", "goes"),
        ("snapshot = copy.deepcopy(self.message)", "goes"),
        ("", "goes"),
    ],
)
def test_advice_fits_the_line(source, line_kind):
    """The advice follows from the code of the guilty line."""
    assert MEANINGS[line_kind] in advice_for(source).means


@given(LINE_TEXTS)
def test_there_is_always_advice(source):
    """There is advice for any guilty line, and its meaning and its remedy fit a message."""
    advice = advice_for(source)
    assert advice.means
    assert all(map(fits_message, labelled_lines({"means": advice.means, "try": advice.remedy})))


def test_docstring_examples():
    """The doctests of the modules that hold and write verdicts pass."""
    modules = (verdict, text, units, policy, conclusion)
    assert not any(doctest.testmod(module).failed for module in modules)
