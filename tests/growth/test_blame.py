"""Blame names the user's lines whose cost grew, their shares of the growth, and their calls.

The first tests check consumers that are known to be superlinear, and look at the `blame` of the
result, guiltiest line first. Later tests compute blame from costs of lines that they make up.
"""

import json
import queue
import re
import sys
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import partial_json_parser
import pytest

from pytest_streamperf import Blame, measure_growth, object_arguments
from pytest_streamperf._runtime.instrumentation import LineTracer
from pytest_streamperf.growth.blame import (
    LineMeter,
    at_one_speed,
    blamed,
    blamed_for_time,
    early_and_late,
    least_of_each,
    summed,
)
from pytest_streamperf.growth.metered_stream import Run
from pytest_streamperf.growth.options import GrowthOptions
from pytest_streamperf.growth.runner import Runner
from tests.data import accumulators
from tests.data.accumulators import SUPERLINEAR, Reply, attribute

pytestmark = pytest.mark.alone

# Counted metrics give the same verdict in every run, which time does not.
COUNTED_METRICS = ("allocated_bytes", "calls")


def test_the_guilty_line_is_the_line_that_copies():
    """Blame for copied text names the file, function and source of the line that copies."""
    guilty = measure_growth(attribute, metrics=COUNTED_METRICS).blame[0]
    assert guilty.source == "self.text += delta"
    assert (guilty.file, guilty.function, guilty.call) == (accumulators.__file__, "Reply.feed", "")
    assert guilty.share > 0.9


def test_a_local_beside_the_guilty_line_is_not_blamed():
    """A line that extends a local string is not blamed beside a line that copies an attribute.

    CPython 3.11 copies the text at `text += delta` only while the line is traced.
    """

    def consume(stream):
        reply, text = Reply(), ""
        for delta in stream:
            text += delta
            reply.feed(delta)
        return text

    blame = measure_growth(consume).blame
    assert [guilty.source for guilty in blame] == ["self.text += delta"]


def test_growing_calls_are_blamed():
    """If the number of calls grew, the line that makes the calls is blamed."""

    def consume(stream):
        deltas, length = [], 0
        for delta in stream:
            deltas.append(delta)
            length += sum(len(earlier) for earlier in deltas)
        return length

    growth = measure_growth(consume, metrics=["calls"], up_to=1_000)
    assert growth.metric == "calls"
    assert growth.blame[0].source == "length += sum(len(earlier) for earlier in deltas)"


@pytest.mark.parametrize("interval", [64, 250])
def test_work_in_batches_is_blamed(interval):
    """A guilty line that runs only once in 64 or 250 deltas is blamed.

    Blame traces more deltas if the first few show no growth.
    """

    def consume(stream):
        text, matches = "", 0
        for index, delta in enumerate(stream):
            text += delta
            if index % interval == 0:
                matches += text.count("zz")
        return matches

    guilty = measure_growth(consume).blame[0]
    assert (guilty.source, guilty.call) == ('matches += text.count("zz")', "str.count")


def test_two_guilty_lines_share_the_blame():
    """Two guilty lines have shares in proportion to their growth, and the guiltier is first."""

    def consume(stream):
        one, other = Reply(), Reply()
        for delta in stream:
            one.text += delta
            other.text += delta + delta + delta

    blame = measure_growth(consume, metrics=COUNTED_METRICS).blame
    assert [guilty.source for guilty in blame] == [
        "other.text += delta + delta + delta",
        "one.text += delta",
    ]
    assert blame[0].share == pytest.approx(0.75, abs=0.05)
    assert sum(guilty.share for guilty in blame) == pytest.approx(1.0, abs=0.01)


def parses_with_the_standard_library(stream):
    buffer = ""
    for delta in stream:
        buffer += delta
        try:
            json.loads(buffer)
        except ValueError:
            continue


def parses_with_a_package(stream):
    buffer = ""
    for delta in stream:
        buffer += delta
        partial_json_parser.loads(buffer)


def scans_in_c(stream):
    buffer = ""
    for delta in stream:
        buffer += delta
        re.findall("yes|no", buffer)


def joins_in_c(stream):
    parts, text = [], ""
    for delta in stream:
        parts.append(delta)
        text = "".join(parts)
    return text


@pytest.mark.parametrize(
    ("consume", "source", "call"),
    [
        (parses_with_the_standard_library, "json.loads(buffer)", "json.loads"),
        (parses_with_a_package, "partial_json_parser.loads(buffer)", "partial_json_parser."),
        (scans_in_c, 're.findall("yes|no", buffer)', "re.findall"),
        (joins_in_c, 'text = "".join(parts)', "str.join"),
    ],
)
def test_a_library_is_charged_to_the_line_that_calls_it(consume, source, call):
    """A library's cost is charged to the user's line that calls it, and the call is named."""
    guilty = measure_growth(consume, delta=object_arguments).blame[0]
    assert (guilty.source, guilty.file) == (source, __file__)
    assert guilty.call.startswith(call)


def test_calls_in_a_row_are_told_apart():
    """If a guilty line makes several calls, blame names the call whose cost grew."""

    def consume(stream):
        buffer, matches = "", 0
        for delta in stream:
            buffer += delta
            matches += len(str.upper(delta)) + str.count(buffer, "zz") + abs(-1)
        return matches

    assert measure_growth(consume).blame[0].call == "str.count"


def test_the_message_names_line_and_call():
    """A failure message names the function of the guilty line and the library call in it."""
    assert "in scans_in_c, calling findall:" in measure_growth(scans_in_c).message


def works_at_the_end(stream):
    text, matches = "", 0
    for delta in list(stream):
        text += delta
        matches += text.count("zz")
    return matches


def generates_and_works_at_the_end(stream):
    yield works_at_the_end(stream)


@pytest.mark.parametrize("consume", [works_at_the_end, generates_and_works_at_the_end])
def test_what_works_at_the_end_is_blamed(consume):
    """If the work after the last delta grew, the guilty line in that work is blamed."""
    assert measure_growth(consume).blame[0].source == 'matches += text.count("zz")'


def test_a_whole_input_is_blamed():
    """If `sizes=` makes the check call `consume(n)` without a stream, blame names its line."""

    def consume(count):
        reply = Reply()
        for _ in range(count):
            reply.feed("delta")

    growth = measure_growth(consume, sizes=(1_000, 4_000, 16_000))
    assert growth.blame, growth.message
    guilty = growth.blame[0]
    assert (guilty.source, guilty.function) == ("self.text += delta", "Reply.feed")


def test_calls_are_blamed_by_their_number():
    """If the number of calls decided, a line's share is that of its calls, not of its time.

    The two lines of this consumer take about the same time, and one makes nearly all calls.
    """

    def consume(stream):
        deltas, words = [], 0
        for delta in stream:
            deltas.append(delta)
            words += sum(map(len, deltas))
            words += sum(earlier.isalpha() for earlier in deltas)
        return words

    growth = measure_growth(consume, up_to=2_000, metrics=("calls",))
    assert growth.metric == "calls"
    guilty = growth.blame[0]
    assert "isalpha()" in guilty.source
    assert guilty.share > 0.99


def test_slow_python_at_the_end_is_traced_in_shorter_streams():
    """A slow finish in pure Python is blamed by tracing shorter streams, within the budget.

    Tracing makes pure Python many times slower. A traced run that is stopped in its finish shows
    nothing, but shorter traced runs have shown the guilty line.
    """

    def consume(stream):
        deltas, pairs = list(stream), 0
        for index in range(len(deltas)):
            for _ in range(index):
                pairs += 1
        return pairs

    growth = measure_growth(consume)
    assert growth.verdict == "exceeded", growth.message
    assert growth.blame[0].source in {"for _ in range(index):", "pairs += 1"}


def _through_queue(stream, work):
    """Call `work` with each delta in a thread that takes the deltas from a queue."""
    deltas = queue.Queue()
    thread = threading.Thread(target=lambda: deque(map(work, iter(deltas.get, None)), maxlen=0))
    thread.start()
    for delta in stream:
        deltas.put(delta)
    deltas.put(None)
    thread.join()


def _through_executor(stream, work):
    """Call `work` with each delta in the thread of an executor."""
    with ThreadPoolExecutor(1) as executor:
        for delta in stream:
            executor.submit(work, delta)


@pytest.mark.parametrize("feed_thread", [_through_queue, _through_executor])
def test_a_thread_that_is_handed_deltas_is_blamed(feed_thread):
    """The guilty line is blamed if it runs in a thread that the consumer hands the deltas to.

    Other processes may keep the thread from a core, so one of three checks has to name the line.
    """

    def consume(stream):
        reply = Reply()
        feed_thread(stream, reply.feed)

    def verdict_and_guiltiest_line():
        growth = measure_growth(consume, metrics=COUNTED_METRICS)
        assert growth.verdict != "within", growth.message
        return growth.verdict, [guilty.source for guilty in growth.blame[:1]]

    assert any(
        verdict_and_guiltiest_line() == ("exceeded", ["self.text += delta"]) for _ in range(3)
    )


def test_a_callback_that_a_library_calls_is_blamed():
    """A user's method that a library calls back is blamed, not the line that calls the library."""

    def feed_in_callbacks(stream):
        reply = Reply()
        re.sub("", lambda _: reply.feed(next(deltas, "")) or "", "x" * (len(stream) - 1))
        for delta in deltas:
            reply.feed(delta)

    def consume(stream):
        nonlocal deltas
        deltas = iter(stream)
        feed_in_callbacks(stream)

    deltas = iter(())
    assert measure_growth(consume, metrics=COUNTED_METRICS).blame[0].function == "Reply.feed"


@pytest.mark.parametrize("raises", [False, True])
def test_the_hooks_are_as_they_were(raises):
    """Tracing for blame restores the trace and profile functions, even if the consumer raises."""

    def consume(stream):
        reply = Reply()
        for delta in stream:
            reply.feed(delta)
            if raises and sys.gettrace() is not before[0]:
                raise LookupError

    before = sys.gettrace(), sys.getprofile()
    if raises:
        with pytest.raises(LookupError):
            measure_growth(consume)
    else:
        assert measure_growth(consume).verdict == "exceeded"
    assert (sys.gettrace(), sys.getprofile()) == before


def test_the_hooks_are_as_they_were_if_it_is_stopped_at_once(monkeypatch):
    """If a deadline passes in `LineMeter.open`, `close` restores trace and profile functions."""

    def start_too_late(*_):
        raise TimeoutError

    monkeypatch.setattr(LineTracer, "start", start_too_late)
    before = sys.gettrace(), sys.getprofile()
    line_meter = LineMeter(float, early_and_late(4, 1))
    with pytest.raises(TimeoutError):
        line_meter.open()
    line_meter.close()
    assert (sys.gettrace(), sys.getprofile()) == before


def test_reparsed_is_blamed_in_its_own_file():
    """A consumer that parses its whole buffer at each delta is blamed at the line that parses."""
    consume, arguments = SUPERLINEAR["reparsed_objects"]
    assert measure_growth(consume, **arguments).blame[0].source == "arguments = loads(buffer)"


# -- blame that is computed from given costs of lines

# Three lines of one function. Blame knows a line by its code object and its number.
CODE = attribute.__code__
LINE_1, LINE_2, LINE_3 = ((CODE, line) for line in (1, 2, 3))


def test_nothing_grew():
    """Without growth, no line is blamed."""
    assert blamed({(LINE_1, ""): 2.0}, {(LINE_1, ""): 1.0}, 0.0) == []
    assert blamed({}, {}, 0.0) == []


def test_a_core_that_is_slower_late_is_nobodys_guilt():
    """A rise that at least three lines share is that of a slower core and is left out of blame.

    Late costs are divided by the smallest rise of a line. Two lines alone do not show a slower
    core, unless the caller says that two are enough.
    """
    early = {(LINE_1, ""): 10.0, (LINE_2, ""): 10.0, (LINE_3, ""): 10.0}
    late = {(LINE_1, ""): 12.0, (LINE_2, ""): 14.0, (LINE_3, ""): 15.0}
    guiltiest, second = blamed_for_time(early, late, 3.0)
    assert (guiltiest.line, second.line) == (3, 2)
    assert guiltiest.share == pytest.approx((15 / 1.2 - 10) / (29 / 1.2 - 20))
    assert at_one_speed(early, dict.fromkeys(early, 13.0)) == pytest.approx(early)
    early_two = {(LINE_1, ""): 10.0, (LINE_2, ""): 10.0}
    assert at_one_speed(early_two, dict.fromkeys(early_two, 13.0)) == dict.fromkeys(early_two, 13.0)
    late_two = {(LINE_1, ""): 7.0, (LINE_2, ""): 10.0}
    assert at_one_speed(early_two, late_two, several=2, least=0.5)[LINE_2, ""] == pytest.approx(
        10 / 0.7
    )


def test_a_line_that_wavers_is_let_off():
    """A line whose time rose by less than 10% is blamed only if the others explain too little.

    The time that it takes to trace a line varies by as much. Counts do not vary.
    """
    early = {(LINE_1, ""): 9_000.0, (LINE_2, "str.count"): 80.0}
    late = {(LINE_1, ""): 9_450.0, (LINE_2, "str.count"): 340.0}
    assert [guilty.line for guilty in blamed_for_time(early, late, 260.0)] == [2]
    assert [guilty.line for guilty in blamed_for_time(early, late, 700.0)] == [1, 2]
    assert [guilty.line for guilty in blamed(early, late, 260.0)] == [1, 2]


def test_nobody_is_blamed_for_time_that_is_lost_in_tracing():
    """No line is blamed for time if growth is below 1/200 of the time of all traced lines.

    The time that tracing takes varies by more, so blame would be chance.
    """
    early, late = {(LINE_1, ""): 1_000.0}, {(LINE_1, ""): 1_200.0}
    assert [guilty.line for guilty in blamed_for_time(early, late, 7.0)] == [1]
    assert blamed_for_time(early, late, 5.0) == []


def test_one_line_that_extends_a_local_is_let_off_and_not_the_other(monkeypatch):
    """A line that extends a local is not blamed on CPython 3.11 if it shows too much growth.

    CPython 3.11 copies the local's text only while the line is traced. Another line that extends a
    local, and shows about the expected growth, is blamed.
    """
    monkeypatch.setattr("pytest_streamperf.growth.blame._NO_GROWTH_IN_PLACE", True)

    def consume(text, matches, delta):
        text += delta
        matches += text.count("zz")
        return text, matches

    code = consume.__code__
    text_line, matches_line = ((code, code.co_firstlineno + line) for line in (1, 2))
    late = {(text_line, ""): 2_500.0, (matches_line, "str.count"): 440.0, (LINE_1, ""): 170.0}
    early = {(LINE_1, ""): 47_000.0}
    late[LINE_1, ""] += early[LINE_1, ""]
    (guilty,) = blamed_for_time(early, late, 370.0)
    assert guilty.call == "str.count"


def test_a_line_is_all_its_callees():
    """The growth of a line is the sum of its own growth and that of all its callees.

    No callee is named, as none has more than half of it.
    """
    late = {(LINE_1, "str.find"): 3.0, (LINE_1, "len"): 2.0, (LINE_1, ""): 1.0, (LINE_2, ""): 2.0}
    first, second = blamed({}, late, 8.0)
    assert (first.line, first.share, first.call) == (1, 0.75, "")
    assert (second.line, second.share) == (2, 0.25)


def test_the_callee_with_most_of_the_growth_is_named():
    """Blame names the callee that has more than half of the growth of its line."""
    early = {(LINE_1, "len"): 50.0}
    late = {(LINE_1, "str.find"): 3.0, (LINE_1, "len"): 50.0, (LINE_1, ""): 1.0}
    assert [guilty.call for guilty in blamed(early, late, 4.0)] == ["str.find"]


def test_a_hundredth_is_left_out():
    """A line with less than 1% of the growth is not blamed."""
    late = {(LINE_1, ""): 1_000.0, (LINE_2, ""): 9.0, (LINE_3, ""): 30.0}
    assert [guilty.line for guilty in blamed({}, late, 2_000.0)] == [1, 3]


def test_too_little_was_seen():
    """If the traced lines show less than a third of the expected growth, no line is blamed.

    Growth that small is noise.
    """
    assert blamed({(LINE_1, ""): 1.0}, {(LINE_1, ""): 2.0}, 1.0)[0].share == 1.0
    assert blamed({(LINE_1, ""): 1.0}, {(LINE_1, ""): 2.0}, 3.1) == []


def test_the_least_of_two_runs():
    """A piece of a line's cost is that of the cheaper of two traced runs.

    A line that only one of the two runs shows is left out.
    """
    first_run = {(LINE_1, "", 0): 1.0, (LINE_1, "", 1): 9.0, (LINE_2, "", 0): 3.0}
    second_run = {(LINE_1, "", 0): 8.0, (LINE_1, "", 1): 2.0, (LINE_3, "", 0): 1.0}
    assert (
        summed(least_of_each(first_run, second_run))
        == summed(least_of_each(second_run, first_run))
        == {(LINE_1, ""): 3.0}
    )


# -- the length of the traced stream, in deltas


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [
        (60.0, [353]),
        (20.0, [353, 500]),  # less time than planned, so a longer stream is traced, too
        (8.0, [353, 866]),
        (2.0, [353, 1_000]),
        (400.0, [353, 44]),  # the first traced run was cut
        (4_000.0, [353, 44, 16]),  # two runs were cut, and 16 deltas are the least
    ],
)
def test_as_long_a_stream_is_traced_as_there_is_time_for(monkeypatch, seconds, lengths):
    """Blame traces the longest stream that fits the CPU time left; after a cut, a shorter one.

    Tracing all 1,000 deltas takes `seconds`, the plan expects 80 s, and 10 s are left.
    """
    options, now, traced = GrowthOptions(seconds=10.0), [0.0], []

    def trace(_runner, _metric, length, _windows):
        yield from ()
        traced.append(length)
        needed, allowed = seconds * (length / 1_000) ** 2, (options.seconds - now[0]) * 3 / 4
        now[0] += min(needed, allowed)
        return [{}, {} if needed > allowed else {(LINE_1, ""): 1e6}]

    monkeypatch.setattr("pytest_streamperf._runtime.clock.cpu", lambda: now[0])
    monkeypatch.setattr(Runner, "_traced_costs", trace)
    monkeypatch.setattr(Runner, "cost", lambda _runner, _metric, length: 20.0 * length / 1_000)
    edges = tuple(1_000 * block // 64 for block in range(65))
    run = Run(1_000, edges, tuple(edge**2 / 2 for edge in edges), 0.0)
    with suppress(StopIteration):
        next(Runner(options).blame("allocated_bytes", [run]))
    assert traced == lengths


# -- places: file, line, function and call


def test_places_get_shorter():
    """Shorter spellings of a place leave out the package of the call, then the function."""
    file = str(Path.cwd() / "agents" / "reply.py")
    assert Blame(file, 4, "feed", 1.0, "json.loads").places == [
        "agents/reply.py:4 in feed, calling json.loads",
        "agents/reply.py:4 in feed, calling loads",
        "agents/reply.py:4, calling loads",
    ]


def test_a_place_elsewhere_is_said_by_its_name():
    """A file outside the current directory appears in `Blame.places` by its name only."""
    assert Blame("/elsewhere/reply.py", 4, "feed", 1.0).places == ["reply.py:4 in feed"]
