"""Tests of `UpdateCounter`: it counts updates and checks them against the contract of a throttle.

`breaches` returns the broken invariants of a `ThrottleRecord`. The first tests write such a record
by hand, as a `Timeline`. The other tests run a throttle in virtual time, and check the record
of the counter, the verdict of `assert_throttled`, and its messages.
"""

import asyncio
import itertools
import json
import threading
import time
from dataclasses import replace
from unittest.mock import AsyncMock, Mock

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    NothingMeasured,
    Text,
    ThrottlingExceeded,
    ThrottlingInconclusive,
    TokenStream,
    ToolCall,
    ToolCallDelta,
    Turn,
    UpdateCounter,
    VirtualClock,
)
from pytest_streamperf.throttling.breaches import breaches
from pytest_streamperf.throttling.invariants import INVARIANTS, ThrottlePolicy
from pytest_streamperf.throttling.record import Arrival, Mark, ThrottleRecord, Update
from pytest_streamperf.throttling.update_counter import check_updates

# The policy of most tests: one update per key in 100 ms; a timer sends a pending value.
POLICY_100_MS = ThrottlePolicy(0.1)
# Every kind of evidence: `breaches` checks all invariants of a record that has it.
ALL_EVIDENCE = frozenset({"of", "key", "value", "parses", "stamp"})


class Timeline:
    """Builds a `ThrottleRecord` by hand: methods add deltas, updates and marks at the current time.

    Each method returns the timeline, so that calls form a chain.
    """

    def __init__(self):
        self._order = itertools.count()
        self.now = 0.0
        self._texts, self._attempt = {}, 0
        self._entries = {"arrivals": [], "updates": [], "marks": []}

    def at(self, hundredths):
        """Set the current time, in hundredths of a second."""
        self.now = hundredths / 100
        return self

    def delta(self, text="abcd", key=None):
        """Add a delta that arrives now; its `key` is None for text, or the id of a tool call."""
        key_attempt = key, self._attempt
        self._texts[key_attempt] = self._texts.get(key_attempt, "") + text
        arrival = Arrival(self.now, next(self._order), key, len(self._texts[key_attempt]))
        self._entries["arrivals"].append(arrival)
        return self

    def update(self, value=None, key=None, *, takes=0.0, stamp=None):
        """Add an update that begins now; by default it carries all the text of its key.

        `takes` is how long the sink takes, in seconds. `stamp` is the timestamp in the update.
        """
        value = self._texts.get((key, self._attempt), "") if value is None else value
        stamp = self.now if stamp is None else stamp
        update = Update(
            self.now, next(self._order), self.now + takes, key, value, stamp, len(value)
        )
        self._entries["updates"].append(update)
        return self

    def mark(self, kind):
        """Add a mark of this kind; a `retry` begins the next attempt."""
        self._entries["marks"].append(Mark(self.now, next(self._order), kind))
        self._attempt += kind == "retry"
        return self

    def record(self, **fields):
        """Return the record of all entries, with every kind of evidence and no parses.

        It lasts until one second after the current time. `fields` replace these values.
        """
        defaults = {
            "until": self.now + 1,
            "evidence": ALL_EVIDENCE,
            "texts": self._texts,
            "parses": 0,
        }
        return ThrottleRecord(**self._entries, **(defaults | fields))


def started():
    """Return a timeline with one delta at 0 s and its immediate update."""
    return Timeline().at(0).delta().update()


def correctly_throttled():
    """Return the timeline of a correct throttle.

    Deltas come every 20 ms, and updates every 100 ms. The final update comes before the end.
    """
    timeline = Timeline()
    for number in range(23):
        timeline.at(2 * number).delta()
        if number % 5 == 0:
            timeline.update()
    return timeline.at(45).mark("source_end").update().mark("end")


def broken_invariants(timeline, policy=POLICY_100_MS, **record_fields):
    """Return the numbers of the invariants that the record of a timeline breaks."""
    return [breach.number for breach in breaches(timeline.record(**record_fields), policy)]


def test_a_healthy_throttle():
    """The record of a correct throttle breaks no invariant."""
    assert broken_invariants(correctly_throttled()) == []


# Description of a fault: the number of the broken invariant, and a timeline with the fault.
FAULTY_TIMELINES = {
    "first update late": (1, Timeline().at(0).delta().at(5).update().at(6).mark("end")),
    "no update for a key": (
        1,
        started().delta(key="call_0").at(20).delta().update().at(30).mark("end"),
    ),
    "updates too often": (
        2,
        started().at(5).delta().update().at(6).delta().at(50).update().mark("end"),
    ),
    "stale value": (
        3,
        started().at(20).delta().delta().update("abcdabcd").at(30).update().mark("end"),
    ),
    "pending value not sent during a pause": (
        4,
        started().at(5).delta().at(80).mark("source_end").update(),
    ),
    "update late after a slow sink": (
        4,
        Timeline()
        .at(0)
        .delta()
        .update(takes=0.05)
        .at(5)
        .delta()
        .at(17)
        .update()
        .at(60)
        .mark("end"),
    ),
    "final value never sent": (5, started().at(5).delta().at(6).mark("source_end").mark("end")),
    "final value sent after the end event": (5, started().at(5).delta().at(6).mark("end").update()),
    "final value sent twice": (
        5,
        started().at(5).delta().at(6).mark("source_end").update().update(),
    ),
    "final value incomplete": (
        5,
        started().at(5).delta().at(6).mark("source_end").update("abcdab"),
    ),
    "update after the end": (6, started().at(5).mark("end").at(50).update()),
    "update long after a cancel": (6, started().at(5).delta().at(6).mark("cancel").at(50).update()),
    "pending value sent on cancel": (7, started().at(5).delta().at(6).mark("cancel").update()),
    "pending value dropped on error": (7, started().at(5).delta().at(6).mark("error")),
    "pending value sent after a retry": (
        7,
        started().at(5).delta().at(6).mark("retry").update("abcdabcd"),
    ),
    "one key for two tool calls": (
        8,
        Timeline().at(0).delta(key="a").update(key="").at(1).delta(key="b").at(20).update(key=""),
    ),
    "no update while deltas arrive": (
        9,
        [timeline := started(), [timeline.at(2 * index).delta() for index in range(1, 40)]][0],
    ),
    "text sent after the tool call that it precedes": (
        10,
        Timeline()
        .at(0)
        .delta("", None)
        .update("")
        .at(2)
        .delta()
        .at(4)
        .delta(key="call_0")
        .update(key="call_0")
        .at(10)
        .update(),
    ),
    "final update late": (11, started().at(5).delta().at(6).mark("source_end").at(9).update()),
    "a skipped update uses up the interval": (
        12,
        started().at(20).delta("").at(25).delta("new").at(30).update().at(31).mark("end"),
    ),
    "stale timestamp": (13, started().at(20).delta().update(stamp=0.1).at(21).mark("end")),
    "overlapping updates": (
        15,
        Timeline().at(0).delta().update(takes=0.5).at(20).delta().update().at(60).mark("end"),
    ),
}


@pytest.mark.parametrize(
    ("invariant_number", "timeline"), FAULTY_TIMELINES.values(), ids=FAULTY_TIMELINES
)
def test_what_breaks_an_invariant(invariant_number, timeline):
    """`breaches` reports the invariant that a faulty timeline breaks."""
    assert invariant_number in broken_invariants(timeline)


def test_every_invariant_is_broken_once():
    """The faulty timelines break every invariant but 14, which has a test of its own."""
    assert {number for number, _ in FAULTY_TIMELINES.values()} == set(INVARIANTS) - {14}


def test_parses_are_counted_against_updates():
    """Invariant 14 allows as many parses as updates, and one more parse breaks it."""
    timeline = correctly_throttled()
    updates = len(timeline.record().updates)
    assert broken_invariants(timeline, parses=updates) == []
    assert broken_invariants(timeline, parses=updates + 1) == [14]


def test_what_still_runs():
    """A timer that still runs breaks invariant 6, though it has sent no update yet."""
    assert broken_invariants(correctly_throttled(), left=["a timer"]) == [6]


# Description: a policy, and a timeline that this policy allows.
ALLOWED_TIMELINES = {
    "timer sends the pending value": (
        ThrottlePolicy(0.1),
        started().at(5).delta().at(10).update().at(80).mark("end"),
    ),
    "next delta sends the pending value": (
        ThrottlePolicy(0.1, "next"),
        started().at(5).delta().at(80).delta().update().at(81).mark("end"),
    ),
    "end sends the pending value": (
        ThrottlePolicy(0.1, "end"),
        started().at(5).delta().at(80).mark("source_end").update(),
    ),
    "cancel drops the value": (ThrottlePolicy(0.1), started().at(5).delta().at(6).mark("cancel")),
    "cancel flushes the value": (
        ThrottlePolicy(0.1, on_cancel="flush"),
        started().at(5).delta().at(6).mark("cancel").update(),
    ),
    "error flushes the value": (
        ThrottlePolicy(0.1),
        started().at(5).delta().at(6).mark("error").update(),
    ),
    "error drops the value": (
        ThrottlePolicy(0.1, on_error="drop"),
        started().at(5).delta().at(6).mark("error"),
    ),
    "retry clears the pending value": (
        ThrottlePolicy(0.1),
        started().at(5).delta().at(6).mark("retry").at(7).delta("x").update("x").at(9).mark("end"),
    ),
    "no update for an empty delta": (
        ThrottlePolicy(0.1),
        started().at(30).delta("").at(31).mark("source_end"),
    ),
    "throttle waits for a slow sink": (
        ThrottlePolicy(0.1),
        Timeline()
        .at(0)
        .delta()
        .update(takes=0.5)
        .at(20)
        .delta()
        .at(50)
        .update()
        .at(60)
        .mark("end"),
    ),
    "interval starts when a slow sink returns": (
        ThrottlePolicy(0.1),
        Timeline()
        .at(0)
        .delta()
        .update(takes=0.05)
        .at(5)
        .delta()
        .at(15)
        .update()
        .at(60)
        .mark("end"),
    ),
    "update late within the tolerance": (
        ThrottlePolicy(0.1, tolerance=0.05),
        started().at(5).delta().at(13).update().at(60).mark("end"),
    ),
    "cancel before the update is due": (
        ThrottlePolicy(0.1),
        started().at(5).delta().at(9).mark("cancel"),
    ),
}


@pytest.mark.parametrize(("policy", "timeline"), ALLOWED_TIMELINES.values(), ids=ALLOWED_TIMELINES)
def test_what_a_policy_allows(policy, timeline):
    """A timeline that its policy allows breaks no invariant."""
    assert broken_invariants(timeline, policy) == []


@pytest.mark.parametrize(
    ("policy", "timeline"),
    [
        (ThrottlePolicy(0.1, on_cancel="flush"), ALLOWED_TIMELINES["cancel drops the value"][1]),
        (ThrottlePolicy(0.1), ALLOWED_TIMELINES["cancel flushes the value"][1]),
        (ThrottlePolicy(0.1, on_error="drop"), ALLOWED_TIMELINES["error flushes the value"][1]),
        (ThrottlePolicy(0.1), ALLOWED_TIMELINES["error drops the value"][1]),
    ],
)
def test_what_the_other_policy_forbids(policy, timeline):
    """A pending value that is dropped or sent against the policy breaks invariant 7."""
    assert broken_invariants(timeline, policy) == [7]


def test_what_was_not_seen_is_not_judged():
    """A pending value breaks no invariant if the record ends before the value is due."""
    assert broken_invariants(started().at(5).delta(), until=0.09) == []


def test_without_evidence_nothing_is_said():
    """A breach is not reported if the record lacks the evidence for its invariant."""
    _, timeline = FAULTY_TIMELINES["stale value"]
    assert broken_invariants(timeline, evidence=frozenset({"of"})) == []


@given(
    gaps=st.lists(st.integers(0, 30), max_size=60),
    trailing=st.sampled_from(["timer", "next", "end"]),
)
def test_an_ideal_throttle_breaks_nothing(gaps, trailing):
    """A throttle that follows its policy breaks no invariant, whatever the gaps between deltas."""
    timeline, sent, pending, now = Timeline(), float("-inf"), False, 0
    for gap in gaps:
        if trailing == "timer" and pending and sent + 10 <= now + gap:
            timeline.at(sent + 10).update()
            sent, pending = sent + 10, False
        now += gap
        timeline.at(now).delta()
        if now - sent >= 10:
            timeline.update()
            sent, pending = now, False
        else:
            pending = True
    timeline.at(now).mark("source_end")
    if pending:
        timeline.update()
    assert broken_invariants(timeline.mark("end"), ThrottlePolicy(0.1, trailing)) == []


# -- records of the counter


class TimerlessThrottle:
    """A correct throttle without a timer: a pending value waits for the next delta or the end."""

    def __init__(self, send, every=0.1):
        self._send, self._every = send, every
        self._sent, self._text, self._pending = float("-inf"), "", False

    def feed(self, delta):
        """Add a delta to the text, and send the text if the interval is over."""
        self._text += delta
        self._pending = time.monotonic() - self._sent < self._every
        if not self._pending:
            self._sent = time.monotonic()
            self._send(self._text)

    def end(self):
        """Send the text if it is pending."""
        if self._pending:
            self._send(self._text)


def text_counter(stream, **evidence):
    """Return a counter of updates made from `stream`, with the first argument as their value."""
    return UpdateCounter(of=stream, value=lambda call: call.args[0], **evidence)


def feed_throttle(stream, counter, make_throttle=TimerlessThrottle):
    """Feed the deltas of a stream to a throttle that calls `counter`, in virtual time."""
    with VirtualClock():
        throttle = make_throttle(counter)
        for delta in stream:
            throttle.feed(delta)
        throttle.end()
        counter.end()


def test_a_throttle_is_within():
    """A correct throttle in a sync test is within; the headline counts its deltas and updates."""
    stream = TokenStream(tokens=500, every=0.02)
    counter = text_counter(stream)
    feed_throttle(stream, counter)
    throttling = counter.assert_throttled(every=0.1, trailing="end")
    assert (throttling.verdict, throttling.updates) == ("within", 101)
    assert throttling.headline == "500 deltas, 101 updates, limit 1 per 100 ms"


def test_no_throttle_is_exceeded():
    """An update for every delta exceeds the rate limit.

    The message names the broken invariant, and draws the time of the breach.
    """
    stream = TokenStream(tokens=50, every=0.02)
    counter = text_counter(stream)
    feed_throttle(stream, counter, lambda send: TimerlessThrottle(send, every=0.0))
    with pytest.raises(ThrottlingExceeded) as caught:
        counter.assert_throttled(every=0.1, trailing="end")
    message = str(caught.value)
    assert message.startswith("text: an update came 20.0 ms after the one before it, limit 1")
    assert "broke  2 of 15: rate bound per key" in message
    assert "^ 0.020 s" in message
    assert all(len(line) <= 72 for line in message.splitlines())
    assert len(message.splitlines()) <= 13


def test_the_same_test_gives_the_same_counts():
    """A hundred equal runs in virtual time count the same number of updates."""

    def count_updates():
        stream = TokenStream(tokens=200, every=0.037)
        counter = text_counter(stream)
        feed_throttle(stream, counter)
        return counter.assert_throttled(every=0.1, trailing="end").updates

    assert len({count_updates() for _ in range(100)}) == 1


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_ten_minutes(run):
    """A stream of 50 deltas a second gives 6,001 updates in ten minutes, under asyncio and trio."""
    stream = TokenStream(tokens=30_000, every=0.02)
    counter = UpdateCounter(of=stream, value=lambda call: call.args[0], latest=len)

    async def main():
        sent, length, shown = float("-inf"), 0, 0
        async for delta in stream:
            length += len(delta)
            if time.monotonic() - sent >= 0.1 - 1e-9:
                sent, shown = time.monotonic(), length
                counter(length)
        if shown < length:
            counter(length)

    with VirtualClock() as clock:
        trio.run(main) if run is not asyncio.run else asyncio.run(main())
    assert counter.assert_throttled(every=0.1, trailing="end").updates == 6_001
    assert clock.now == pytest.approx(599.98)


def test_an_async_sink():
    """`counter.aio` awaits the async sink, takes `slow` seconds and returns the sink's result."""
    sink = AsyncMock(return_value="shown")
    counter = UpdateCounter(wraps=sink, slow=0.5)

    async def main():
        return await counter.aio("text", key=1)

    with VirtualClock() as clock:
        assert asyncio.run(main()) == "shown"
    sink.assert_awaited_once_with("text", key=1)
    assert clock.now == 0.5
    assert counter.record.updates[0].ended - counter.record.updates[0].time == 0.5


def test_a_sync_sink_is_wrapped():
    """A call of the counter returns the result of the wrapped sink, or raises its error."""
    counter = UpdateCounter(wraps=json.loads, slow=0.25)
    with VirtualClock() as clock:
        assert counter("[1]") == [1]
        with pytest.raises(ValueError, match="Expecting"):
            counter("[")
    assert clock.now == 0.5
    assert len(counter.calls) == 2


def test_what_is_sent_is_kept_as_it_was():
    """The counter copies each value, so a later change of the object does not change the record."""
    counter = UpdateCounter(value=lambda call: call.args[0])
    state = {"text": "a"}
    counter(state)
    state["text"] = "ab"
    counter(state)
    assert [update.value for update in counter.record.updates] == [{"text": "a"}, {"text": "ab"}]


def test_tool_calls_have_a_key_each():
    """A delta of text has the key None, and a delta of a tool call has the id of the call."""
    stream = TokenStream.turn(Text("Let me look."), ToolCall("a", {}), ToolCall("b", {}))
    counter = UpdateCounter(of=stream)
    list(stream)
    record = counter.record
    assert record.names() == [None, "call_0", "call_1"]
    assert record.texts == {
        (None, 0): "Let me look.",
        ("call_0", 0): "{}",
        ("call_1", 0): "{}",
    }
    assert [mark.kind for mark in record.marks] == ["source_end"]


def test_marks_are_in_order():
    """The record lists the marks in the order in which the test made them."""
    counter = UpdateCounter()
    for add_mark in (counter.retry, counter.error, counter.cancel, counter.end):
        add_mark()
    assert [mark.kind for mark in counter.record.marks] == ["retry", "error", "cancel", "end"]


def test_a_stream_that_is_read_again():
    """The second reading of a stream with an update counter raises a `RuntimeError`."""
    stream = TokenStream(3)
    UpdateCounter(of=stream)
    list(stream)
    with pytest.raises(RuntimeError, match="can be read once"):
        list(stream)


def test_what_was_left_running():
    """`record.left` names timers, tasks and threads that the code under test did not stop."""

    async def main():
        counter = UpdateCounter()
        asyncio.get_running_loop().call_later(60, print)
        task = asyncio.create_task(asyncio.sleep(3600), name="refresher")
        await asyncio.sleep(0)
        release = threading.Event()
        thread = threading.Thread(target=release.wait, name="worker")
        thread.start()
        names = counter.record.left
        release.set()
        thread.join()
        task.cancel()
        return names

    with VirtualClock():
        names = asyncio.run(main())
    assert "task refresher" in names
    assert "thread worker" in names
    assert len([name for name in names if name.startswith("a timer")]) == 2


# -- verdicts, messages and errors


def test_missing_evidence_is_inconclusive():
    """A counter with a stream but without `value` is inconclusive, and the message asks for it."""
    stream = TokenStream(tokens=50, every=0.02)
    counter = UpdateCounter(of=stream)
    feed_throttle(stream, counter)
    with pytest.raises(ThrottlingInconclusive, match="no evidence for 2 of 15") as caught:
        counter.assert_throttled(every=0.1, trailing="end")
    assert "latest value (3)" in str(caught.value)
    assert "value=..." in str(caught.value)


def test_without_a_stream_what_can_be_told_is_told():
    """A counter without a stream checks the rate, and lists the unchecked invariants."""
    counter = UpdateCounter()
    with VirtualClock():
        for _ in range(3):
            counter("text")
            time.sleep(0.2)
    throttling = counter.assert_throttled(every=0.1)
    assert throttling.verdict == "within"
    assert throttling.unchecked[3] == "pass of=stream, value=..."
    assert set(throttling.unchecked) == set(INVARIANTS) - {2, 6, 15}


def test_a_counter_that_was_never_called():
    """A check of a counter that was never called raises `NothingMeasured`."""
    with pytest.raises(NothingMeasured, match="never called"):
        UpdateCounter().assert_throttled(every=0.1)


def test_snapshots_add_up():
    """Throttled updates that carry the whole text can exceed `max_total_bytes` and `max_updates`.

    The bytes of such updates grow quadratically with the length of the stream.
    """
    stream = TokenStream(tokens=500, every=0.02)
    counter = text_counter(stream)
    feed_throttle(stream, counter)
    with pytest.raises(ThrottlingExceeded, match=r"101 updates sent .* kB, limit 10.0 kB"):
        counter.assert_throttled(every=0.1, trailing="end", max_total_bytes=10_000)
    with pytest.raises(ThrottlingExceeded, match="101 updates, limit 100"):
        counter.assert_throttled(every=0.1, trailing="end", max_updates=100)


def test_what_is_not_checked_is_said():
    """A failure message lists the invariants that were not checked, and the missing arguments."""
    record = replace(started().at(5).delta().update().record(), evidence=frozenset({"of"}))
    throttling = check_updates(record, POLICY_100_MS)
    assert throttling.verdict == "exceeded"
    assert "3, 12, 13, 14 not checked: pass" in " ".join(throttling.message.split())


@pytest.mark.parametrize(
    ("arguments", "error", "pattern"),
    [
        ({"every": -1}, ValueError, "every must be a time, 0 or more and finite"),
        ({"every": 0}, ValueError, "every must be more than 0 seconds"),
        ({"every": "0.1"}, ValueError, "every must be a time, as '200ms'"),
        ({"every": None}, TypeError, "every must be a time, as '200ms'"),
        ({"every": 0.1, "max_total_bytes": "9"}, ValueError, "max_total_bytes must be a number"),
        ({"every": 0.1, "tolerance": -1}, ValueError, "tolerance must be"),
        ({"every": 0.1, "trailing": "debounce"}, ValueError, "one of 'timer', 'next', 'end'"),
        ({"every": 0.1, "on_cancel": "keep"}, ValueError, "on_cancel must be one of"),
        ({"every": 0.1, "on_error": "raise"}, ValueError, "on_error must be one of"),
        ({"every": 0.1, "on_retry": "drop"}, ValueError, "on_retry must be one of"),
    ],
)
def test_bad_policies(arguments, error, pattern):
    """A bad argument of `assert_throttled` raises an error that names it and the allowed values."""
    with pytest.raises(error, match=pattern):
        UpdateCounter().assert_throttled(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "pattern"),
    [
        ({"of": Turn(Text("a"))}, TypeError, "of must be a TokenStream"),
        ({"slow": -1}, ValueError, "slow must be a time, 0 or more and finite"),
        ({"parses": len}, TypeError, "parses must count calls"),
    ],
)
def test_bad_evidence(arguments, error, pattern):
    """A bad argument of `UpdateCounter` raises an error that names it and the allowed values."""
    with pytest.raises(error, match=pattern):
        UpdateCounter(**arguments)


def test_a_spy_counts_parses():
    """A mock given as `parses` counts parses; more parses than updates raise an error."""
    stream = TokenStream.turn(ToolCall("write", {"content": "word " * 40}), every=0.02)
    spy = Mock(wraps=len)
    counter = UpdateCounter(
        of=stream, key=lambda _: "call_0", value=lambda call: call.args[0], parses=spy
    )

    class ParsingThrottle(TimerlessThrottle):
        def feed(self, delta):
            spy(delta.arguments)
            super().feed(delta.arguments)

    feed_throttle(stream, counter, ParsingThrottle)
    with pytest.raises(ThrottlingExceeded, match=r"\d+ parses for \d+ updates"):
        counter.assert_throttled(every=0.1, trailing="end")


# -- cases that a review found


def test_an_id_that_comes_once_is_kept():
    """A tool call keeps its id as key, though only its first delta carries the id."""
    counter = UpdateCounter(of=TokenStream(0))
    for number in range(3):
        counter.arrived(ToolCallDelta(0, "call_0" if number == 0 else "", "", "word "))
    assert counter.record.names() == ["call_0"]


def test_text_that_is_flushed_for_a_tool_call():
    """Text before a tool call may be sent before the interval of the text is over."""
    timeline = Timeline().at(0).delta().update().at(4).delta().at(6).delta(key="call_0")
    timeline.update().update(key="call_0").at(50).delta().update().at(51).mark("end")
    assert broken_invariants(timeline) == []


def test_the_next_policy_drops_what_waits():
    """The policy `next` allows that a pending value is lost at the end; `end` does not."""
    timeline = started().at(5).delta().at(6).mark("source_end")
    assert broken_invariants(timeline, ThrottlePolicy(0.1, "next")) == []
    assert broken_invariants(timeline, ThrottlePolicy(0.1, "end")) == [5]


def test_stamps_of_either_clock():
    """A timestamp that is 0.5 s old breaks invariant 13, from `time.time` and `time.monotonic`."""
    with VirtualClock():
        for clock in (time.time, time.monotonic):
            counter = UpdateCounter(stamp=lambda call: call.args[0])
            counter(clock())
            time.sleep(1)
            counter(clock() - 0.5)
            assert [breach.number for breach in breaches(counter.record, POLICY_100_MS)] == [13]


def test_empty_deltas_ask_for_nothing():
    """An empty text delta, or a tool call without arguments, needs no update."""
    assert (
        broken_invariants(started().at(30).delta("").at(31).mark("end"), evidence=frozenset({"of"}))
        == []
    )
    timeline = started().at(1).delta("", key="call_0").at(20).delta().update().at(30).mark("end")
    assert broken_invariants(timeline) == []


def test_without_keys_nobody_is_accused():
    """A counter without `key` is inconclusive if the deltas have several keys."""
    stream = TokenStream.turn(Text("Let me look."), ToolCall("a", {"b": 1}), every=0.02)
    counter = UpdateCounter(of=stream, value=lambda call: call.args[0])
    with VirtualClock():
        for _ in stream:
            time.sleep(0.2)
            counter("x")
    throttling = check_updates(counter.record, POLICY_100_MS)
    assert throttling.verdict == "inconclusive"
    assert "pass key=..." in " ".join(throttling.details)


def test_threads_of_pools_are_nobodys():
    """Idle threads of a pool are not in `record.left`, because the pool keeps them for reuse."""

    async def main():
        counter = UpdateCounter()
        counter("text")
        await asyncio.to_thread(int)
        return counter.record.left

    assert asyncio.run(main()) == []


def test_an_update_before_anything_came():
    """An update before the first delta, such as a thinking notice, is not a stale value."""
    timeline = Timeline().at(0).update("Thinking...").at(20).delta().update().at(30).mark("end")
    assert broken_invariants(timeline) == []


class Uncopied:
    """A value that raises a `TypeError` when it is copied."""

    def __deepcopy__(self, _memo):
        raise TypeError("not me")


@pytest.mark.parametrize(
    ("evidence", "update_value", "error"),
    [
        ({"value": lambda call: call.args[0]}, Uncopied(), "not me"),
        ({"value": lambda call: call.args[1]}, "text", "tuple index out of range"),
        ({"key": lambda _: []}, "text", "key must make something hashable"),
    ],
)
def test_what_is_wrong_with_evidence_is_told_to_the_test(evidence, update_value, error):
    """`assert_throttled` raises an error of `key` or `value`, and the code under test does not."""
    counter = UpdateCounter(**evidence)
    counter(update_value)
    with pytest.raises((TypeError, IndexError), match=error):
        counter.assert_throttled(every=0.1)


@pytest.mark.parametrize("value", ["\ud800", {(1, 2): 3}, {1, 2}, b"x"])
def test_anything_has_a_size(value):
    """An update has a size in bytes, also if UTF-8 or JSON cannot encode its value."""
    counter = UpdateCounter(value=lambda call: call.args[0])
    counter(value)
    assert counter.record.updates[0].size > 0


def test_a_long_stream_without_updates_is_judged_in_time():
    """A check of 5,000 late deltas calls `latest` at most four times per delta, so it is linear."""
    timeline = started()
    for number in range(1, 5_000):
        timeline.at(2 * number).delta()
    calls = 0

    def latest(text):
        nonlocal calls
        calls += 1
        return text

    breaches(timeline.record(latest=latest), POLICY_100_MS)
    assert calls < 20_000
