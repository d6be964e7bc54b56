"""How often: what is recorded, the contract of a throttle, and what a breach says."""

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

EVERY = ThrottlePolicy(0.1)
ALL = frozenset({"of", "key", "value", "parses", "stamp"})


class Story:
    """Writes a record by hand: what happens, in order, at which hundredth of a second."""

    def __init__(self):
        self._order = itertools.count()
        self.now = 0.0
        self._texts, self._attempt = {}, 0
        self._kept = {"arrivals": [], "updates": [], "marks": []}

    def at(self, hundredths):
        """Go on to this time."""
        self.now = hundredths / 100
        return self

    def delta(self, text="abcd", key=None):
        """A delta arrives."""
        kept = key, self._attempt
        self._texts[kept] = self._texts.get(kept, "") + text
        arrival = Arrival(self.now, next(self._order), key, len(self._texts[kept]))
        self._kept["arrivals"].append(arrival)
        return self

    def sends(self, value=None, key=None, *, takes=0.0, stamp=None):
        """An update goes out, by default with all there is."""
        value = self._texts.get((key, self._attempt), "") if value is None else value
        stamp = self.now if stamp is None else stamp
        update = Update(
            self.now, next(self._order), self.now + takes, key, value, stamp, len(value)
        )
        self._kept["updates"].append(update)
        return self

    def mark(self, kind):
        """Something is noted."""
        self._kept["marks"].append(Mark(self.now, next(self._order), kind))
        self._attempt += kind == "retry"
        return self

    def record(self, **more):
        """All of it, a second later."""
        told = {"until": self.now + 1, "evidence": ALL, "texts": self._texts, "parses": 0}
        return ThrottleRecord(**self._kept, **(told | more))


def story():
    """Begin as a healthy throttle does."""
    return Story().at(0).delta().sends()


def healthy():
    """Deltas every 20 ms, updates every 100 ms, and all out at the end."""
    told = Story()
    for number in range(23):
        told.at(2 * number).delta()
        if number % 5 == 0:
            told.sends()
    return told.at(45).mark("source_end").sends().mark("end")


def numbers(told, policy=EVERY, **more):
    """The invariants that a story breaks."""
    return [breach.number for breach in breaches(told.record(**more), policy)]


def test_a_healthy_throttle():
    """It breaks nothing."""
    assert numbers(healthy()) == []


BROKEN = {
    "first update late": (1, Story().at(0).delta().at(5).sends().at(6).mark("end")),
    "no update at all for a key": (
        1,
        story().delta(key="call_0").at(20).delta().sends().at(30).mark("end"),
    ),
    "too often": (2, story().at(5).delta().sends().at(6).delta().at(50).sends().mark("end")),
    "stale value": (3, story().at(20).delta().delta().sends("abcdabcd").at(30).sends().mark("end")),
    "a pause without a timer": (4, story().at(5).delta().at(80).mark("source_end").sends()),
    "late after a slow sink": (
        4,
        Story().at(0).delta().sends(takes=0.05).at(5).delta().at(17).sends().at(60).mark("end"),
    ),
    "tail lost": (5, story().at(5).delta().at(6).mark("source_end").mark("end")),
    "tail after the end event": (5, story().at(5).delta().at(6).mark("end").sends()),
    "tail sent twice": (5, story().at(5).delta().at(6).mark("source_end").sends().sends()),
    "tail not whole": (5, story().at(5).delta().at(6).mark("source_end").sends("abcdab")),
    "ghost after the end": (6, story().at(5).mark("end").at(50).sends()),
    "ghost after a cancel": (6, story().at(5).delta().at(6).mark("cancel").at(50).sends()),
    "sent on cancel": (7, story().at(5).delta().at(6).mark("cancel").sends()),
    "dropped on error": (7, story().at(5).delta().at(6).mark("error")),
    "shown after a retry": (7, story().at(5).delta().at(6).mark("retry").sends("abcdabcd")),
    "one key for two calls": (
        8,
        Story().at(0).delta(key="a").sends(key="").at(1).delta(key="b").at(20).sends(key=""),
    ),
    "never while deltas come": (
        9,
        [told := story(), [told.at(2 * each).delta() for each in range(1, 40)]][0],
    ),
    "text after its tool call": (
        10,
        Story()
        .at(0)
        .delta("", None)
        .sends("")
        .at(2)
        .delta()
        .at(4)
        .delta(key="call_0")
        .sends(key="call_0")
        .at(10)
        .sends(),
    ),
    "final update late": (11, story().at(5).delta().at(6).mark("source_end").at(9).sends()),
    "a skip uses up the interval": (
        12,
        story().at(20).delta("").at(25).delta("new").at(30).sends().at(31).mark("end"),
    ),
    "stale timestamp": (13, story().at(20).delta().sends(stamp=0.1).at(21).mark("end")),
    "overlapping updates": (
        15,
        Story().at(0).delta().sends(takes=0.5).at(20).delta().sends().at(60).mark("end"),
    ),
}


@pytest.mark.parametrize(("number", "told"), BROKEN.values(), ids=BROKEN)
def test_what_breaks_an_invariant(number, told):
    """Each fault is told by the invariant that names it."""
    assert number in numbers(told)


def test_every_invariant_is_broken_once():
    """No invariant is there that nothing breaks."""
    assert {number for number, _ in BROKEN.values()} == set(INVARIANTS) - {14}


def test_parses_are_counted_against_updates():
    """As many as there are updates, and no more."""
    told = healthy()
    updates = len(told.record().updates)
    assert numbers(told, parses=updates) == []
    assert numbers(told, parses=updates + 1) == [14]


def test_what_still_runs():
    """A timer that is left is told, though it has sent nothing yet."""
    assert numbers(healthy(), left=["a timer"]) == [6]


KEPT = {
    "timer": (ThrottlePolicy(0.1), story().at(5).delta().at(10).sends().at(80).mark("end")),
    "next": (
        ThrottlePolicy(0.1, "next"),
        story().at(5).delta().at(80).delta().sends().at(81).mark("end"),
    ),
    "end": (ThrottlePolicy(0.1, "end"), story().at(5).delta().at(80).mark("source_end").sends()),
    "cancel drops": (ThrottlePolicy(0.1), story().at(5).delta().at(6).mark("cancel")),
    "cancel flushes": (
        ThrottlePolicy(0.1, on_cancel="flush"),
        story().at(5).delta().at(6).mark("cancel").sends(),
    ),
    "error flushes": (ThrottlePolicy(0.1), story().at(5).delta().at(6).mark("error").sends()),
    "error drops": (
        ThrottlePolicy(0.1, on_error="drop"),
        story().at(5).delta().at(6).mark("error"),
    ),
    "retry clears": (
        ThrottlePolicy(0.1),
        story().at(5).delta().at(6).mark("retry").at(7).delta("x").sends("x").at(9).mark("end"),
    ),
    "nothing new, nothing sent": (
        ThrottlePolicy(0.1),
        story().at(30).delta("").at(31).mark("source_end"),
    ),
    "a slow sink is waited for": (
        ThrottlePolicy(0.1),
        Story().at(0).delta().sends(takes=0.5).at(20).delta().at(50).sends().at(60).mark("end"),
    ),
    "an interval from when a slow sink has taken it": (
        ThrottlePolicy(0.1),
        Story().at(0).delta().sends(takes=0.05).at(5).delta().at(15).sends().at(60).mark("end"),
    ),
    "in real time, a little late": (
        ThrottlePolicy(0.1, tolerance=0.05),
        story().at(5).delta().at(13).sends().at(60).mark("end"),
    ),
    "cut off before it was due": (ThrottlePolicy(0.1), story().at(5).delta().at(9).mark("cancel")),
}


@pytest.mark.parametrize(("policy", "told"), KEPT.values(), ids=KEPT)
def test_what_a_policy_allows(policy, told):
    """What one policy forbids another may ask for."""
    assert numbers(told, policy) == []


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (ThrottlePolicy(0.1, on_cancel="flush"), KEPT["cancel drops"][1]),
        (ThrottlePolicy(0.1), KEPT["cancel flushes"][1]),
        (ThrottlePolicy(0.1, on_error="drop"), KEPT["error flushes"][1]),
        (ThrottlePolicy(0.1), KEPT["error drops"][1]),
    ],
)
def test_what_the_other_policy_forbids(policy, told):
    """The opposite policy finds invariant 7 broken."""
    assert numbers(told, policy) == [7]


def test_what_was_not_seen_is_not_judged():
    """A value that may still go out in time is not late."""
    assert numbers(story().at(5).delta(), until=0.09) == []


def test_without_evidence_nothing_is_said():
    """Invariants that need what was not passed are left out, not guessed."""
    _, told = BROKEN["stale value"]
    assert numbers(told, evidence=frozenset({"of"})) == []


@given(
    gaps=st.lists(st.integers(0, 30), max_size=60),
    trailing=st.sampled_from(["timer", "next", "end"]),
)
def test_an_ideal_throttle_breaks_nothing(gaps, trailing):
    """However deltas come, a throttle by the book keeps to the contract."""
    told, sent, pending, now = Story(), float("-inf"), False, 0
    for gap in gaps:
        if trailing == "timer" and pending and sent + 10 <= now + gap:
            told.at(sent + 10).sends()
            sent, pending = sent + 10, False
        now += gap
        told.at(now).delta()
        if now - sent >= 10:
            told.sends()
            sent, pending = now, False
        else:
            pending = True
    told.at(now).mark("source_end")
    if pending:
        told.sends()
    assert numbers(told.mark("end"), ThrottlePolicy(0.1, trailing)) == []


# -- the counter


class Throttle:
    """The least that keeps the contract: no timer, all out at the end."""

    def __init__(self, send, every=0.1):
        self._send, self._every = send, every
        self._sent, self._text, self._pending = float("-inf"), "", False

    def feed(self, delta):
        """Take a delta."""
        self._text += delta
        self._pending = time.monotonic() - self._sent < self._every
        if not self._pending:
            self._sent = time.monotonic()
            self._send(self._text)

    def end(self):
        """Send what is pending."""
        if self._pending:
            self._send(self._text)


def counted(stream, **evidence):
    """A counter of text updates."""
    return UpdateCounter(of=stream, value=lambda call: call.args[0], **evidence)


def run_sync(stream, counter, throttle=Throttle):
    """Feed a throttle from a stream, in virtual time."""
    with VirtualClock():
        updates = throttle(counter)
        for delta in stream:
            updates.feed(delta)
        updates.end()
        counter.end()


def test_a_throttle_is_within():
    """A sync test needs no event loop."""
    stream = TokenStream(tokens=500, every=0.02)
    counter = counted(stream)
    run_sync(stream, counter)
    throttling = counter.assert_throttled(every=0.1, trailing="end")
    assert (throttling.verdict, throttling.updates) == ("within", 101)
    assert throttling.headline == "500 deltas, 101 updates, limit 1 per 100 ms"


def test_no_throttle_is_exceeded():
    """The message names the invariant, and draws when."""
    stream = TokenStream(tokens=50, every=0.02)
    counter = counted(stream)
    run_sync(stream, counter, lambda send: Throttle(send, every=0.0))
    with pytest.raises(ThrottlingExceeded) as caught:
        counter.assert_throttled(every=0.1, trailing="end")
    message = str(caught.value)
    assert message.startswith("text: an update came 20.0 ms after the one before it, limit 1")
    assert "broke  2 of 15: rate bound per key" in message
    assert "^ 0.020 s" in message
    assert all(len(line) <= 72 for line in message.splitlines())
    assert len(message.splitlines()) <= 13


def test_the_same_test_gives_the_same_counts():
    """A hundred times."""

    def once():
        stream = TokenStream(tokens=200, every=0.037)
        counter = counted(stream)
        run_sync(stream, counter)
        return counter.assert_throttled(every=0.1, trailing="end").updates

    assert len({once() for _ in range(100)}) == 1


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
def test_ten_minutes(run):
    """Of 50 deltas a second, on either loop, give 6,000 updates."""
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
    """`aio` is awaited, may be slow, and passes on what the real one returns."""
    real = AsyncMock(return_value="shown")
    counter = UpdateCounter(wraps=real, slow=0.5)

    async def main():
        return await counter.aio("text", key=1)

    with VirtualClock() as clock:
        assert asyncio.run(main()) == "shown"
    real.assert_awaited_once_with("text", key=1)
    assert clock.now == 0.5
    assert counter.record.updates[0].ended - counter.record.updates[0].time == 0.5


def test_a_sync_sink_is_wrapped():
    """Its result and its errors are the code's under test."""
    counter = UpdateCounter(wraps=json.loads, slow=0.25)
    with VirtualClock() as clock:
        assert counter("[1]") == [1]
        with pytest.raises(ValueError, match="Expecting"):
            counter("[")
    assert clock.now == 0.5
    assert len(counter.calls) == 2


def test_what_is_sent_is_kept_as_it_was():
    """A state that is changed later on was sent as it was then."""
    counter = UpdateCounter(value=lambda call: call.args[0])
    state = {"text": "a"}
    counter(state)
    state["text"] = "ab"
    counter(state)
    assert [update.value for update in counter.record.updates] == [{"text": "a"}, {"text": "ab"}]


def test_tool_calls_have_a_key_each():
    """Text has none, a tool call its id."""
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
    """What the test notes is noted when it does."""
    counter = UpdateCounter()
    for note in (counter.retry, counter.error, counter.cancel, counter.end):
        note()
    assert [mark.kind for mark in counter.record.marks] == ["retry", "error", "cancel", "end"]


def test_a_stream_that_is_read_again():
    """A stream that is counted can be read once."""
    stream = TokenStream(3)
    UpdateCounter(of=stream)
    list(stream)
    with pytest.raises(RuntimeError, match="can be read once"):
        list(stream)


def test_what_was_left_running():
    """A timer, a task or a thread that the code under test did not stop."""

    async def main():
        counter = UpdateCounter()
        asyncio.get_running_loop().call_later(60, print)
        task = asyncio.create_task(asyncio.sleep(3600), name="refresher")
        await asyncio.sleep(0)
        gate = threading.Event()
        thread = threading.Thread(target=gate.wait, name="worker")
        thread.start()
        left = counter.record.left
        gate.set()
        thread.join()
        task.cancel()
        return left

    with VirtualClock():
        left = asyncio.run(main())
    assert "task refresher" in left
    assert "thread worker" in left
    assert len([each for each in left if each.startswith("a timer")]) == 2


# -- what a verdict says


def test_missing_evidence_is_inconclusive():
    """With a stream, everything that the policy implies is required; the message says what for."""
    stream = TokenStream(tokens=50, every=0.02)
    counter = UpdateCounter(of=stream)
    run_sync(stream, counter)
    with pytest.raises(ThrottlingInconclusive, match="no evidence for 2 of 15") as caught:
        counter.assert_throttled(every=0.1, trailing="end")
    assert "latest value (3)" in str(caught.value)
    assert "value=..." in str(caught.value)


def test_without_a_stream_what_can_be_told_is_told():
    """The rate is bounded whatever else is known."""
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
    """Nothing was measured: that is not green."""
    with pytest.raises(NothingMeasured, match="never called"):
        UpdateCounter().assert_throttled(every=0.1)


def test_snapshots_add_up():
    """Whole values, even throttled, are quadratic in bytes."""
    stream = TokenStream(tokens=500, every=0.02)
    counter = counted(stream)
    run_sync(stream, counter)
    with pytest.raises(ThrottlingExceeded, match=r"101 updates sent .* kB, limit 10.0 kB"):
        counter.assert_throttled(every=0.1, trailing="end", max_total_bytes=10_000)
    with pytest.raises(ThrottlingExceeded, match="101 updates, limit 100"):
        counter.assert_throttled(every=0.1, trailing="end", max_updates=100)


def test_what_is_not_checked_is_said():
    """A failure tells what else it could have looked at."""
    told = replace(story().at(5).delta().sends().record(), evidence=frozenset({"of"}))
    throttling = check_updates(told, EVERY)
    assert throttling.verdict == "exceeded"
    assert "3, 12, 13, 14 not checked: pass" in " ".join(throttling.message.split())


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
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
def test_bad_policies(arguments, error, says):
    """The text names what was wrong and what is allowed."""
    with pytest.raises(error, match=says):
        UpdateCounter().assert_throttled(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"of": Turn(Text("a"))}, TypeError, "of must be a TokenStream"),
        ({"slow": -1}, ValueError, "slow must be a time, 0 or more and finite"),
        ({"parses": len}, TypeError, "parses must count calls"),
    ],
)
def test_bad_evidence(arguments, error, says):
    """So does a counter's."""
    with pytest.raises(error, match=says):
        UpdateCounter(**arguments)


def test_a_spy_counts_parses():
    """A mock that wraps the parser is evidence for invariant 14."""
    stream = TokenStream.turn(ToolCall("write", {"content": "word " * 40}), every=0.02)
    spy = Mock(wraps=len)
    counter = UpdateCounter(
        of=stream, key=lambda _: "call_0", value=lambda call: call.args[0], parses=spy
    )

    class Parses(Throttle):
        def feed(self, delta):
            spy(delta.arguments)
            super().feed(delta.arguments)

    run_sync(stream, counter, Parses)
    with pytest.raises(ThrottlingExceeded, match=r"\d+ parses for \d+ updates"):
        counter.assert_throttled(every=0.1, trailing="end")


# -- found by review


def test_an_id_that_comes_once_is_kept():
    """Some servers send it with the first delta of a call only."""
    counter = UpdateCounter(of=TokenStream(0))
    for number in range(3):
        counter.arrived(ToolCallDelta(0, "call_0" if number == 0 else "", "", "word "))
    assert counter.record.names() == ["call_0"]


def test_text_that_is_flushed_for_a_tool_call():
    """May come sooner than an interval after the update before it."""
    told = Story().at(0).delta().sends().at(4).delta().at(6).delta(key="call_0")
    told.sends().sends(key="call_0").at(50).delta().sends().at(51).mark("end")
    assert numbers(told) == []


def test_the_next_policy_drops_what_waits():
    """A timestamp and an `if` sends nothing at the end; the other policies do."""
    told = story().at(5).delta().at(6).mark("source_end")
    assert numbers(told, ThrottlePolicy(0.1, "next")) == []
    assert numbers(told, ThrottlePolicy(0.1, "end")) == [5]


def test_stamps_of_either_clock():
    """`time.time` and `time.monotonic` are both the time."""
    with VirtualClock():
        for clock in (time.time, time.monotonic):
            counter = UpdateCounter(stamp=lambda call: call.args[0])
            counter(clock())
            time.sleep(1)
            counter(clock() - 0.5)
            assert [b.number for b in breaches(counter.record, EVERY)] == [13]


def test_empty_deltas_ask_for_nothing():
    """Neither text that is empty, nor a tool call without arguments."""
    assert numbers(story().at(30).delta("").at(31).mark("end"), evidence=frozenset({"of"})) == []
    told = story().at(1).delta("", key="call_0").at(20).delta().sends().at(30).mark("end")
    assert numbers(told) == []


def test_without_keys_nobody_is_accused():
    """Where deltas have several, whose an update is is not known."""
    stream = TokenStream.turn(Text("Let me look."), ToolCall("a", {"b": 1}), every=0.02)
    counter = UpdateCounter(of=stream, value=lambda call: call.args[0])
    with VirtualClock():
        for _ in stream:
            time.sleep(0.2)
            counter("x")
    throttling = check_updates(counter.record, EVERY)
    assert throttling.verdict == "inconclusive"
    assert "pass key=..." in " ".join(throttling.details)


def test_threads_of_pools_are_nobodys():
    """They wait for work."""

    async def main():
        counter = UpdateCounter()
        counter("text")
        await asyncio.to_thread(int)
        return counter.record.left

    assert asyncio.run(main()) == []


def test_an_update_before_anything_came():
    """That it thinks, say, is no stale value."""
    told = Story().at(0).sends("Thinking...").at(20).delta().sends().at(30).mark("end")
    assert numbers(told) == []


class Uncopied:
    """Cannot be copied."""

    def __deepcopy__(self, _memo):
        raise TypeError("not me")


@pytest.mark.parametrize(
    ("evidence", "sent", "error"),
    [
        ({"value": lambda call: call.args[0]}, Uncopied(), "not me"),
        ({"value": lambda call: call.args[1]}, "text", "tuple index out of range"),
        ({"key": lambda _: []}, "text", "key must make something hashable"),
    ],
)
def test_what_is_wrong_with_evidence_is_told_to_the_test(evidence, sent, error):
    """Not to the code under test."""
    counter = UpdateCounter(**evidence)
    counter(sent)
    with pytest.raises((TypeError, IndexError), match=error):
        counter.assert_throttled(every=0.1)


@pytest.mark.parametrize("value", ["\ud800", {(1, 2): 3}, {1, 2}, b"x"])
def test_anything_has_a_size(value):
    """Half a surrogate pair, and what JSON does not know."""
    counter = UpdateCounter(value=lambda call: call.args[0])
    counter(value)
    assert counter.record.updates[0].size > 0


def test_a_long_stream_without_updates_is_judged_in_time():
    """The check is linear: a thousand late deltas are told by one."""
    told = story()
    for number in range(1, 5_000):
        told.at(2 * number).delta()
    calls = 0

    def latest(text):
        nonlocal calls
        calls += 1
        return text

    breaches(told.record(latest=latest), EVERY)
    assert calls < 20_000
