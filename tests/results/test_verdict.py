"""What a check concluded: exceptions, policies, and every way to put something for people."""

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
# A message is made of lines: what is put into one holds no line break or other control character.
LINES = st.text(st.characters(exclude_categories=["Cc"]), max_size=200)
SOMETHING = st.text(st.characters(exclude_categories=["Cc", "Zs", "Zl", "Zp"]), min_size=1)
FOUND = Verdict(
    stem="growth", verdict="exceeded", headline="84% superlinear, limit 25%", details=["", "  why"]
)


def is_printable(line):
    """Tell whether a line is fit for a failure message."""
    return len(line) <= 72 and line.isascii() and "\n" not in line


# -- verdicts and exceptions


def test_message_is_the_headline_and_the_details():
    """The headline comes first, each detail on a line of its own."""
    assert FOUND.message == "84% superlinear, limit 25%\n\n  why"


def test_verdict_cannot_be_changed():
    """What was concluded stays so."""
    with pytest.raises(AttributeError):
        FOUND.verdict = "within"


@EXCEPTIONS
def test_exception_says_the_message(kind):
    """The text of an exception is the message of its verdict."""
    assert str(kind(FOUND)) == FOUND.message


@EXCEPTIONS
def test_exception_is_an_assertion(kind):
    """A budget that does not hold is a failed assertion, to pytest and to `except`."""
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
    """What is over its limit and what could not be told can each be caught as such."""
    families = {BudgetExceeded, Inconclusive}
    assert {each for each in families if issubclass(kind, each)} == {family}


@EXCEPTIONS
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
)
def test_exception_survives_a_copy(kind, again):
    """An exception that comes from another process is the same one."""
    error = again(kind(FOUND))
    assert (type(error), error.verdict, str(error)) == (kind, FOUND, FOUND.message)


def test_notes_survive_a_copy():
    """What was added to an exception on its way comes along."""
    error = GrowthExceeded(FOUND)
    error.add_note("in worker 3")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["in worker 3"]


CURVE = CostCurve(
    points=((20_000, 84_500.0),),
    block_costs=(84_500.0,) * 64,
    length=20_000,
    total=859e6,
    mostly_finish=False,
    superlinear_share=0.84,
)


def test_growth_survives_a_copy():
    """The evidence of a growth check comes along."""
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
    """The class is shown by its name alone, not with where it is from."""
    last = "".join(traceback.format_exception_only(kind(FOUND)))
    assert last.startswith(f"{kind.__name__}: 84% superlinear, limit 25%\n")


def test_missing_extra_gives_the_command():
    """A library that is not there is named, and how to get it."""
    error = missing_extra("trio", "trio", "backend='trio'")
    assert str(error).startswith("backend='trio' needs trio")
    assert str(error).endswith("pip install 'pytest-streamperf[trio]'")
    assert error.name == "trio"


# -- nothing measured


def test_nothing_measured_is_reported():
    """A check without a measurement is on the record, and an error."""
    reporter = RecordingReporter()
    with reporting_to(reporter):
        error = nothing_measured("growth", "consume took no delta", "iterate over its argument")
    assert isinstance(error, NothingMeasured)
    assert reporter.verdicts == [error.verdict]


def test_nothing_measured_says_what_to_do():
    """The message has what happened and what to try."""
    with reporting_to(RecordingReporter()):
        error = nothing_measured("throttling", "no update came", "call the callback")
    assert str(error) == "no update came\n  try    call the callback"
    assert (error.verdict.stem, error.verdict.verdict) == ("throttling", "inconclusive")


# -- policies

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
    """Two settings make a failure a warning: one the inconclusive only, the other any."""
    assert {outcome for outcome in OUTCOMES if policy.accepts(outcome)} == accepted


def test_without_a_sink_there_are_no_settings():
    """Plain Python goes by the defaults."""
    assert current_policy() == Policy()


def concluded(outcome, policy):
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
    """A verdict that is within its limit is reported and nothing else."""
    (reported,) = concluded("within", Policy())
    assert reported.verdict == "within"


@pytest.mark.parametrize(
    ("outcome", "kind"), [("exceeded", GrowthExceeded), ("inconclusive", GrowthInconclusive)]
)
def test_what_is_not_within_is_raised(outcome, kind):
    """Each outcome by its own exception."""
    with pytest.raises(kind, match="84%"):
        concluded(outcome, Policy())


@pytest.mark.parametrize("outcome", ["exceeded", "inconclusive"])
def test_what_is_accepted_is_a_warning(outcome):
    """It is reported all the same, and the warning points at the line that asked."""
    with pytest.warns(StreamperfWarning, match="84%") as caught:
        (reported,) = concluded(outcome, Policy(mode="warn"))
    assert reported.verdict == outcome
    assert caught[0].filename == __file__


# -- figures


@given(st.lists(st.floats(0, 1e9), min_size=1))
def test_sparkline_has_a_bar_for_each_value(values):
    """No bar is lower than one for a lesser value; the greatest is full."""
    bars = sparkline(values)
    assert len(bars) == len(values)
    assert sorted(bars) == [bar for _, bar in sorted(zip(values, bars, strict=True))]
    assert max(bars) == ("\N{FULL BLOCK}" if max(values) else "\N{LOWER ONE EIGHTH BLOCK}")


def test_sparkline_of_nothing():
    """No values, no bars."""
    assert sparkline([]) == ""


POWERS = {"k": 3, "M": 6, "G": 9, "T": 12, "u": -6, "m": -3}


def value_of(text):
    """Read a figure back."""
    number, power = re.fullmatch(r"([\d.,]+) ?([kMGTum]?)[Bs]?", text).groups()
    return float(number.replace(",", "")) * 10.0 ** POWERS.get(power, 0)


@given(st.floats(0, 9.99e14))
@example(999.5)
@example(99_949.9)
@example(99_950)
@example(999_499.9)
@example(999_500)
def test_sizes_have_three_digits(count):
    """A size has at most three digits and a unit."""
    assert re.fullmatch(r"\d{1,3} B|(\d{1,2}\.\d|\d{3}) [kMGT]B", size(count))


@given(st.floats(0, 9.99e11))
@example(999.5)
@example(99_949.9)
@example(99_950)
@example(999_499.9)
@example(999_500)
def test_counts_have_three_digits(count):
    """A large count has at most three digits and a unit."""
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
    """A duration has three digits and a unit; beyond it, whole seconds."""
    assert re.fullmatch(
        r"\d{1,2}\.\d\d us|\d{3} us|(\d{1,2}\.\d|\d{3}) ms|\d{1,2}\.\d s|[\d,]{3,7} s",
        duration(seconds),
    )


@pytest.mark.parametrize(
    ("say", "most", "least_unit"),
    [(size, 1e15, 1.0), (thousands, 1e12, 1.0), (duration, 1e6, 1e-8)],
)
@given(st.data())
def test_figures_are_true(say, most, least_unit, data):
    """Read back, a figure is what was said, to a twentieth or to its last digit."""
    value = data.draw(st.floats(0, most))
    assert value_of(say(value)) == pytest.approx(value, rel=0.0501, abs=least_unit / 2 * 1.001)


@pytest.mark.parametrize(("say", "most"), [(size, 1e15), (thousands, 1e12), (duration, 1e6)])
@given(st.data())
def test_figures_keep_their_order(say, most, data):
    """What is more is never shown as less, at the edge of a unit neither."""
    less, more = sorted(data.draw(st.tuples(st.floats(0, most), st.floats(0, most))))
    assert value_of(say(less)) <= value_of(say(more))


@pytest.mark.parametrize("edge", [999.5, 99_950, 999_500, 99.95e6, 999.5e6, 999.5e9])
def test_size_changes_its_unit_without_a_gap(edge):
    """Next to where the unit or the digits change, a size is the same on either side."""
    below, above = value_of(size(edge * (1 - 1e-9))), value_of(size(edge * (1 + 1e-9)))
    assert below <= above <= below * 1.002


@pytest.mark.parametrize("edge", [99.995e-6, 0.9995e-3, 0.09995, 0.9995, 99.95])
def test_duration_changes_its_unit_without_a_gap(edge):
    """Next to where the unit or the digits change, a duration is the same on either side."""
    below, above = value_of(duration(edge * (1 - 1e-9))), value_of(duration(edge * (1 + 1e-9)))
    assert below <= above <= below * 1.002


@pytest.mark.parametrize(
    ("said", "text"),
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
def test_figures(said, text):
    """Figures look like this."""
    assert said == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0%"), (0.04, "4%"), (0.25, "25%"), (0.844, "84%"), (1, "100%")]
)
def test_percent(share, text):
    """A share is shown in whole percents."""
    assert percent(share) == text


# -- lines


@given(LINES)
def test_fit_makes_a_line_printable(text):
    """Any text is cut to one ASCII line of a message."""
    assert is_printable(fit_line(text))


def test_fit_shows_that_it_cut():
    """A line that was cut ends in dots; one that fits is left alone."""
    assert fit_line("a" * 73) == "a" * 69 + "..."
    assert fit_line("a" * 72) == "a" * 72


@given(st.dictionaries(st.sampled_from(["where", "means", "costs", "try", "allow"]), st.text()))
def test_entries_are_printable(entries):
    """Whatever an entry says, its lines are fit for a message."""
    assert all(map(is_printable, labelled_lines(entries)))


def test_entries_stand_in_one_column():
    """What is said starts in the same column on every line."""
    lines = labelled_lines({"why": "word " * 30, "try": "less"})
    assert lines[0].startswith("  why    word word")
    assert lines[-1] == "  try    less"
    assert all(line.startswith(" " * 9 + "word") for line in lines[1:-1])


def test_long_entries_lose_nothing():
    """A long text goes on in the next lines."""
    assert "".join(labelled_lines({"try": "x" * 200})).count("x") == 200


def test_empty_entries_are_left_out():
    """An entry that says nothing has no line."""
    assert labelled_lines({"means": "", "try": "less"}) == ["  try    less"]


@given(
    st.lists(st.tuples(*[st.from_regex(r"[0-9]{1,9} us", fullmatch=True)] * 3), min_size=1), LINES
)
def test_tables_are_printable(rows, note):
    """Whatever the note says, the lines are fit for a message."""
    assert all(map(is_printable, table_lines(["deltas", "per delta", "copied"], rows, note)))


def test_table_is_right_aligned():
    """The cells of a column end at the same place; the note stands behind the last row."""
    assert table_lines(
        ["deltas", "per delta"], [["1,250", "0.31 us"], ["20,000", "2.40 us"]], "high"
    ) == [
        "  deltas   per delta",
        "   1,250     0.31 us",
        "  20,000     2.40 us   <- high",
    ]


def test_table_has_no_missing_cells():
    """A row that is short of a cell is a mistake, not a narrow table."""
    with pytest.raises(ValueError, match="argument"):
        table_lines(["deltas", "per delta"], [["1,250"]], "high")


# -- the guilty line

PART = "(97% of growth)"


def test_where_in_one_line():
    """A short guilty line is named in one line."""
    assert location_lines(["agent.py:41 in feed"], "self.text += delta", PART) == [
        "  where  agent.py:41 in feed: self.text += delta (97% of growth)"
    ]


def test_where_in_two_lines():
    """A longer one has the source on a line of its own."""
    assert location_lines(
        ["agents/streaming.py:41 in Reply.feed"], "self.text += delta.text", PART
    ) == [
        "  where  agents/streaming.py:41 in Reply.feed:",
        "         self.text += delta.text (97% of growth)",
    ]


def test_where_fills_one_line():
    """One line is enough up to its last column."""
    source = "x" * (72 - len("  where  agent.py:41 in feed:  ") - len(PART))
    (line,) = location_lines(["agent.py:41 in feed"], source, PART)
    assert len(line) == 72
    assert len(location_lines(["agent.py:41 in feed"], source + "x", PART)) == 2


def test_where_cuts_no_sooner_than_it_must():
    """A place and a source that just fill their lines are not cut."""
    place, source = "p" * 62, "s" * (62 - len(PART))
    assert location_lines([place], source, PART) == [
        f"  where  {place}:",
        f"         {source} {PART}",
    ]
    assert {len(line) for line in location_lines([place], source, PART)} == {72}


def test_where_cuts_what_it_must():
    """A function and a source that are too long lose their ends."""
    room = 62 - len(PART)
    first, second = location_lines(["a.py:1 in " + "f" * 62], "s" * room + "z", PART)
    assert first == f"  where  a.py:1 in {'f' * 49}...:"
    assert second == f"         {'s' * (room - 3)}... {PART}"


def test_where_cuts_no_path():
    """A path that is too long stays whole, so that a terminal can open it on a click."""
    place = f"{'p' * 70}.py:1 in feed"
    assert location_lines([place], "x" * 60, PART)[0] == f"  where  {place}:"


@given(LINES, LINES)
def test_where_is_printable(place, source):
    """Whatever the guilty line holds, what is said of it is fit for a message."""
    place_line, *source_lines = location_lines([place], source, PART)
    assert place_line.isascii()
    assert "\n" not in place_line
    assert all(map(is_printable, source_lines))


@given(LINES, LINES)
@example("agent.py:41 in Reply.feed", "\N{CHECK MARK}" * 20)
def test_where_always_tells_the_part(place, source):
    """The part of the growth is not cut off, however long the rest is."""
    assert location_lines([place], source, PART)[-1].endswith(PART)


@given(SOMETHING)
@example("packages/streaming_core/src/streaming_core/accumulators/openai_chat")
@example("\N{CHECK MARK}" * 12)
def test_where_always_tells_the_line(folder):
    """The name of the file and the line's number are not cut off, however deep the folder."""
    lines = location_lines([f"{folder}/reply.py:141 in Reply.feed"], "self.text += delta", PART)
    assert "reply.py:141 in Reply.feed:" in lines[0]


def test_where_without_source():
    """A line whose source cannot be read leaves no gap."""
    assert location_lines(["<string>:3 in feed"], "", PART) == [
        "  where  <string>:3 in feed (97% of growth)"
    ]


def test_the_first_place_that_fits_is_said():
    """A long place gives way to a shorter form of it before anything is cut."""
    places = ["f" * 100, "folder/agent.py:41 in feed", "agent.py:41 in feed"]
    assert location_lines(places, "s" * 60, PART)[0] == "  where  folder/agent.py:41 in feed:"


# -- advice

WHAT = {
    "parses": "parses all earlier deltas",
    "renders": "renders all earlier deltas",
    "looks": "searches all earlier deltas",
    "joins": "joins all earlier deltas",
    "bytes": "copies all the bytes before",
    "text": "copies all the text before",
    "goes": "processes all earlier deltas",
}


@pytest.mark.parametrize(
    ("source", "what"),
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
def test_advice_fits_the_line(source, what):
    """What a line means is told by how it looks."""
    assert WHAT[what] in advice_for(source).means


@given(LINES)
def test_there_is_always_advice(source):
    """Every line has a meaning and a remedy, each fit for a message."""
    advice = advice_for(source)
    assert advice.means
    assert all(map(is_printable, labelled_lines({"means": advice.means, "try": advice.remedy})))


def test_docstring_examples():
    """What the documentation shows is what happens."""
    modules = (verdict, text, units, policy, conclusion)
    assert not any(doctest.testmod(module).failed for module in modules)
