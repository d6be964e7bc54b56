"""Who did it: the user's own line, its part of the growth, and the call that it was in."""

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

COUNTS = ("allocated_bytes", "calls")


def test_the_guilty_line_is_the_line_that_copies():
    """Blame names the file, the line, the function and the source."""
    guilty = measure_growth(attribute, metrics=COUNTS).blame[0]
    assert guilty.source == "self.text += delta"
    assert (guilty.file, guilty.function, guilty.call) == (accumulators.__file__, "Reply.feed", "")
    assert guilty.share > 0.9


def test_a_local_beside_the_guilty_line_is_not_blamed():
    """CPython 3.11 copies `text += delta` while it is traced, and then only."""

    def consume(stream):
        reply, text = Reply(), ""
        for delta in stream:
            text += delta
            reply.feed(delta)
        return text

    blame = measure_growth(consume).blame
    assert [guilty.source for guilty in blame] == ["self.text += delta"]


def test_growing_calls_are_blamed():
    """Where calls told, their lines are found by the time they take."""

    def consume(stream):
        deltas, length = [], 0
        for delta in stream:
            deltas.append(delta)
            length += sum(len(each) for each in deltas)
        return length

    growth = measure_growth(consume, metrics=["calls"], up_to=1_000)
    assert growth.metric == "calls"
    assert growth.blame[0].source == "length += sum(len(each) for each in deltas)"


@pytest.mark.parametrize("every", [64, 250])
def test_work_in_batches_is_blamed(every):
    """Deltas are traced by the hundred: the guilty line need not be reached at each."""

    def consume(stream):
        text, found = "", 0
        for index, delta in enumerate(stream):
            text += delta
            if index % every == 0:
                found += text.count("zz")
        return found

    guilty = measure_growth(consume).blame[0]
    assert (guilty.source, guilty.call) == ('found += text.count("zz")', "str.count")


def test_two_guilty_lines_share_the_blame():
    """Each is given its own part, and the guiltier comes first."""

    def consume(stream):
        one, other = Reply(), Reply()
        for delta in stream:
            one.text += delta
            other.text += delta + delta + delta

    blame = measure_growth(consume, metrics=COUNTS).blame
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
    """The user's own line is named, and the library's function or C code that it called."""
    guilty = measure_growth(consume, delta=object_arguments).blame[0]
    assert (guilty.source, guilty.file) == (source, __file__)
    assert guilty.call.startswith(call)


def test_calls_in_a_row_are_told_apart():
    """Of several calls in one line, the one that grew is named."""

    def consume(stream):
        buffer, found = "", 0
        for delta in stream:
            buffer += delta
            found += len(str.upper(delta)) + str.count(buffer, "zz") + abs(-1)
        return found

    assert measure_growth(consume).blame[0].call == "str.count"


def test_the_message_names_line_and_call():
    """Both stand in `where`."""
    assert "in scans_in_c, calling re.findall:" in measure_growth(scans_in_c).message


def works_at_the_end(stream):
    text, found = "", 0
    for delta in list(stream):
        text += delta
        found += text.count("zz")
    return found


def generates_and_works_at_the_end(stream):
    yield works_at_the_end(stream)


@pytest.mark.parametrize("consume", [works_at_the_end, generates_and_works_at_the_end])
def test_what_works_at_the_end_is_blamed(consume):
    """The finish is traced where the finish grew."""
    assert measure_growth(consume).blame[0].source == 'found += text.count("zz")'


def test_a_whole_input_is_blamed():
    """With `sizes=` everything is traced."""

    def run(count):
        reply = Reply()
        for _ in range(count):
            reply.feed("delta")

    growth = measure_growth(run, sizes=(1_000, 4_000, 16_000))
    assert growth.blame, growth.message
    guilty = growth.blame[0]
    assert (guilty.source, guilty.function) == ("self.text += delta", "Reply.feed")


def test_calls_are_blamed_by_their_number():
    """Not by the time they take, which is about the same here for two lines."""

    def consume(stream):
        seen, words = [], 0
        for delta in stream:
            seen.append(delta)
            words += sum(map(len, seen))
            words += sum(each.isalpha() for each in seen)
        return words

    growth = measure_growth(consume, up_to=2_000, metrics=("calls",))
    assert growth.metric == "calls"
    guilty = growth.blame[0]
    assert "isalpha()" in guilty.source
    assert guilty.share > 0.99


def test_slow_python_at_the_end_is_traced_in_shorter_streams():
    """Tracing pure Python line by line takes its time: a check keeps to its budget all the same.

    A run that is stopped at its end ends only itself: shorter ones have told.
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


def _queue_and_thread(stream, work):
    """Hand every delta to a thread, through a queue."""
    deltas = queue.Queue()
    thread = threading.Thread(target=lambda: deque(map(work, iter(deltas.get, None)), maxlen=0))
    thread.start()
    for delta in stream:
        deltas.put(delta)
    deltas.put(None)
    thread.join()


def _executor(stream, work):
    """Hand every delta to a thread, through an executor."""
    with ThreadPoolExecutor(1) as executor:
        for delta in stream:
            executor.submit(work, delta)


@pytest.mark.parametrize("hand_over", [_queue_and_thread, _executor])
def test_a_thread_that_is_handed_deltas_is_blamed(hand_over):
    """It does its work whenever it likes, and yet it is seen what comes of each delta.

    Not where it waits for a core that others have: so it may take three checks.
    """

    def consume(stream):
        reply = Reply()
        hand_over(stream, reply.feed)

    def blamed_first():
        growth = measure_growth(consume, metrics=COUNTS)
        assert growth.verdict != "within", growth.message
        return growth.verdict, [guilty.source for guilty in growth.blame[:1]]

    assert any(blamed_first() == ("exceeded", ["self.text += delta"]) for _ in range(3))


def test_a_callback_that_a_library_calls_is_blamed():
    """The user's own code below a library's is told apart from the library's caller."""

    def consume(stream):
        reply = Reply()
        re.sub("", lambda _: reply.feed(next(deltas, "")) or "", "x" * (len(stream) - 1))
        for delta in deltas:
            reply.feed(delta)

    def consume_from(stream):
        nonlocal deltas
        deltas = iter(stream)
        consume(stream)

    deltas = iter(())
    assert measure_growth(consume_from, metrics=COUNTS).blame[0].function == "Reply.feed"


@pytest.mark.parametrize("raises", [False, True])
def test_the_hooks_are_as_they_were(raises):
    """Tracing for blame leaves nothing behind, also when the consumer raises in it."""

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
    """The deadline may come while tracing begins."""

    def stopped(*_):
        raise TimeoutError

    monkeypatch.setattr(LineTracer, "start", stopped)
    before = sys.gettrace(), sys.getprofile()
    lines = LineMeter(float, early_and_late(4, 1))
    with pytest.raises(TimeoutError):
        lines.open()
    lines.close()
    assert (sys.gettrace(), sys.getprofile()) == before


def test_reparsed_is_blamed_in_its_own_file():
    """The benchmark's accumulators are users' code too."""
    consume, terms = SUPERLINEAR["reparsed_objects"]
    assert measure_growth(consume, **terms).blame[0].source == "arguments = loads(buffer)"


# -- the arithmetic

CODE = attribute.__code__
ONE, OTHER, THIRD = ((CODE, line) for line in (1, 2, 3))


def test_nothing_grew():
    """Without growth nobody is guilty."""
    assert blamed({(ONE, ""): 2.0}, {(ONE, ""): 1.0}, 0.0) == []
    assert blamed({}, {}, 0.0) == []


def test_a_core_that_is_slower_late_is_nobodys_guilt():
    """What three lines or more all rise by alike is taken off; growth in one shows all the more."""
    early = {(ONE, ""): 10.0, (OTHER, ""): 10.0, (THIRD, ""): 10.0}
    late = {(ONE, ""): 12.0, (OTHER, ""): 14.0, (THIRD, ""): 15.0}
    guilty, other = blamed_for_time(early, late, 3.0)
    assert (guilty.line, other.line) == (3, 2)
    assert guilty.share == pytest.approx((15 / 1.2 - 10) / (29 / 1.2 - 20))
    assert at_one_speed(early, dict.fromkeys(early, 13.0)) == pytest.approx(early)
    two = {(ONE, ""): 10.0, (OTHER, ""): 10.0}
    assert at_one_speed(two, dict.fromkeys(two, 13.0)) == dict.fromkeys(two, 13.0)
    faster = {(ONE, ""): 7.0, (OTHER, ""): 10.0}
    assert at_one_speed(two, faster, several=2, least=0.5)[OTHER, ""] == pytest.approx(10 / 0.7)


def test_a_line_that_wavers_is_let_off():
    """What costs much more to trace than growth comes to is blamed if nothing else explains it."""
    early = {(ONE, ""): 9_000.0, (OTHER, "str.count"): 80.0}
    late = {(ONE, ""): 9_450.0, (OTHER, "str.count"): 340.0}
    assert [guilty.line for guilty in blamed_for_time(early, late, 260.0)] == [2]
    assert [guilty.line for guilty in blamed_for_time(early, late, 700.0)] == [1, 2]
    assert [guilty.line for guilty in blamed(early, late, 260.0)] == [1, 2]


def test_nobody_is_blamed_for_time_that_is_lost_in_tracing():
    """A few lines of nothing but what it costs to trace them would be drawn by lot."""
    early, late = {(ONE, ""): 1_000.0}, {(ONE, ""): 1_200.0}
    assert [guilty.line for guilty in blamed_for_time(early, late, 7.0)] == [1]
    assert blamed_for_time(early, late, 5.0) == []


def test_one_line_that_extends_a_local_is_let_off_and_not_the_other(monkeypatch):
    """The one whose growth is more than there was; not the one that explains it."""
    monkeypatch.setattr("pytest_streamperf.growth.blame._NO_GROWTH_IN_PLACE", True)

    def consume(text, found, delta):
        text += delta
        found += text.count("zz")
        return text, found

    code = consume.__code__
    text, found = ((code, code.co_firstlineno + line) for line in (1, 2))
    late = {(text, ""): 2_500.0, (found, "str.count"): 440.0, (ONE, ""): 170.0}
    early = {(ONE, ""): 47_000.0}
    late[ONE, ""] += early[ONE, ""]
    (guilty,) = blamed_for_time(early, late, 370.0)
    assert guilty.call == "str.count"


def test_a_line_is_all_its_callees():
    """What one line spent in several callees, and by itself, is one part of the growth."""
    late = {(ONE, "str.find"): 3.0, (ONE, "len"): 2.0, (ONE, ""): 1.0, (OTHER, ""): 2.0}
    first, second = blamed({}, late, 8.0)
    assert (first.line, first.share, first.call) == (1, 0.75, "")
    assert (second.line, second.share) == (2, 0.25)


def test_the_callee_with_most_of_the_growth_is_named():
    """A callee that grew by more than half of what its line did is guilty with it."""
    early = {(ONE, "len"): 50.0}
    late = {(ONE, "str.find"): 3.0, (ONE, "len"): 50.0, (ONE, ""): 1.0}
    assert [guilty.call for guilty in blamed(early, late, 4.0)] == ["str.find"]


def test_a_hundredth_is_left_out():
    """LineMeter that hardly grew are not named."""
    late = {(ONE, ""): 1_000.0, (OTHER, ""): 9.0, (THIRD, ""): 30.0}
    assert [guilty.line for guilty in blamed({}, late, 2_000.0)] == [1, 3]


def test_too_little_was_seen():
    """Where two thirds of the growth did not show nobody is blamed: what did show is noise."""
    assert blamed({(ONE, ""): 1.0}, {(ONE, ""): 2.0}, 1.0)[0].share == 1.0
    assert blamed({(ONE, ""): 1.0}, {(ONE, ""): 2.0}, 3.1) == []


def test_the_least_of_two_runs():
    """A line costs what it did where it was less disturbed; one that is not in both is chance."""
    one = {(ONE, "", 0): 1.0, (ONE, "", 1): 9.0, (OTHER, "", 0): 3.0}
    other = {(ONE, "", 0): 8.0, (ONE, "", 1): 2.0, (THIRD, "", 0): 1.0}
    assert (
        summed(least_of_each(one, other)) == summed(least_of_each(other, one)) == {(ONE, ""): 3.0}
    )


# -- how long a stream is traced


@pytest.mark.parametrize(
    ("seconds", "lengths"),
    [
        (60.0, [353]),
        (20.0, [353, 500]),  # less than planned, so there is time for more
        (8.0, [353, 866]),
        (2.0, [353, 1_000]),
        (400.0, [353, 44]),  # cut
        (4_000.0, [353, 44, 16]),  # and cut again; streams are no shorter than that
    ],
)
def test_as_long_a_stream_is_traced_as_there_is_time_for(monkeypatch, seconds, lengths):
    """All deltas would take `seconds` to trace, where 80 s are planned and 10 s are left."""
    options, now, traced = GrowthOptions(seconds=10.0), [0.0], []

    def trace(_runner, _metric, length, _windows):
        yield from ()
        traced.append(length)
        took, most = seconds * (length / 1_000) ** 2, (options.seconds - now[0]) * 3 / 4
        now[0] += min(took, most)
        return [{}, {} if took > most else {(ONE, ""): 1e6}]

    monkeypatch.setattr("pytest_streamperf._runtime.clock.cpu", lambda: now[0])
    monkeypatch.setattr(Runner, "_traced", trace)
    monkeypatch.setattr(Runner, "cost", lambda _runner, _metric, length: 20.0 * length / 1_000)
    edges = tuple(1_000 * block // 64 for block in range(65))
    run = Run(1_000, edges, tuple(edge**2 / 2 for edge in edges), 0.0)
    with suppress(StopIteration):
        next(Runner(options).blame("allocated_bytes", [run]))
    assert traced == lengths


# -- the places


def test_places_get_shorter():
    """The folders go first, then the call's package."""
    file = str(Path.cwd() / "agents" / "reply.py")
    assert Blame(file, 4, "feed", 1.0, "json.loads").places == [
        "agents/reply.py:4 in feed, calling json.loads",
        "reply.py:4 in feed, calling json.loads",
        "agents/reply.py:4 in feed, calling loads",
        "reply.py:4 in feed, calling loads",
    ]


def test_a_place_elsewhere_is_said_by_its_name():
    """Outside of the current directory the file's name has to do."""
    assert Blame("/elsewhere/reply.py", 4, "feed", 1.0).places == ["reply.py:4 in feed"]
