"""The contract of a throttle: fifteen invariants, as pure functions on a record.

A throttle sends the first value at once and then at most one every so often. What it does with the
value that is pending when the time has come is its policy:

    trailing="timer"   a timer sends it                            (lodash, RxJS auditTime)
    trailing="next"    it waits for the next delta                 (a timestamp and an `if`)
    trailing="end"     it waits for the next delta, or the end     (VS Code's tool calls)
"""

from collections.abc import Iterator
from itertools import pairwise
from math import inf
from typing import Literal, NamedTuple

from pytest_streamperf.cadence.record import Arrival, Attempt, Evidence, Mark, Record, Update
from pytest_streamperf.verdict import duration


class Policy(NamedTuple):
    """What was promised; seconds."""

    every: float
    trailing: Literal["timer", "next", "end"] = "timer"
    on_cancel: Literal["drop", "flush"] = "drop"
    on_error: Literal["drop", "flush"] = "flush"
    on_retry: Literal["clear", "keep"] = "clear"
    tolerance: float = 1e-6


class Breach(NamedTuple):
    """An invariant that does not hold: whose, when, and what was seen."""

    number: int
    key: str
    time: float
    says: str


class Invariant(NamedTuple):
    """One of the fifteen: what it is called, what it takes to check it, what a breach means."""

    name: str
    needs: frozenset[Evidence]
    means: str
    remedy: str


def _needs(*names: Evidence) -> frozenset[Evidence]:
    return frozenset(names)


INVARIANTS = {
    1: Invariant(
        "first update immediate",
        _needs("of"),
        "people see nothing until the first interval is over",
        "send the first value as it comes; start the interval then",
    ),
    2: Invariant(
        "rate bound per key",
        _needs(),
        "more is sent than promised, perhaps an update for every delta",
        "compare the time of the last update before you send another",
    ),
    3: Invariant(
        "latest value",
        _needs("of", "value"),
        "what is shown was out of date when it was sent",
        "take the value when you send it, not when you plan to",
    ),
    4: Invariant(
        "bounded staleness",
        _needs("of"),
        "the last words stay invisible while the stream pauses",
        "when a value has to wait, set a timer for it",
    ),
    5: Invariant(
        "final flush, whole and once",
        _needs("of"),
        "what was pending at the end is lost, late, or sent twice",
        "send what is pending before you say that it is the end",
    ),
    6: Invariant(
        "nothing after the end",
        _needs(),
        "an update comes unexpected, or something still runs",
        "cancel the timer at the end, and when the stream is cancelled",
    ),
    7: Invariant(
        "policy on error, cancel and retry",
        _needs("of"),
        "what is pending when it goes wrong is not treated as decided",
        "flush on error, drop on cancel, clear on retry; or say otherwise",
    ),
    8: Invariant(
        "keys independent",
        _needs("of", "key"),
        "two tool calls share one throttle: one hides the other",
        "throttle by the call's index where it has no id",
    ),
    9: Invariant(
        "no starvation",
        _needs("of"),
        "while deltas keep coming, no update does",
        "do not restart the timer for every delta: that is a debounce",
    ),
    10: Invariant(
        "order across kinds",
        _needs("of", "key"),
        "text appears after the tool call that it announces",
        "flush the text before the first update of a tool call",
    ),
    11: Invariant(
        "terminal updates bypass the throttle",
        _needs("of"),
        "the final state waits for an interval of no more use",
        "send the final state at once",
    ),
    12: Invariant(
        "a skipped update uses up no time",
        _needs("of", "value"),
        "a delta that changed nothing delays the one that does",
        "start the interval when you send, not when you look",
    ),
    13: Invariant(
        "fresh timestamps",
        _needs("stamp"),
        "updates carry the time they were planned for, not sent at",
        "read the clock as you send",
    ),
    14: Invariant(
        "work inside the throttle",
        _needs("parses"),
        "costly work is done for every delta, and thrown away",
        "parse only when an update goes out",
    ),
    15: Invariant(
        "one at a time to a slow sink",
        _needs(),
        "a second update is sent before the first one has arrived",
        "wait for the sink before you send the next",
    ),
}


def breaches(record: Record, policy: Policy) -> list[Breach]:
    """Every invariant that the evidence can be held against and that does not hold, by number."""
    attempts = record.attempts()
    found = [
        breach
        for check in (_rate, _pace, _values, _ending, _cut_off, _slow_sink)
        for attempt in attempts
        for breach in check(attempt, record, policy)
    ]
    for check in (_left, _keys, _kinds, _stamps, _parses):
        found += check(record, policy)
    known = [each for each in found if INVARIANTS[each.number].needs <= record.evidence]
    return sorted({(each.number, each.key): each for each in reversed(known)}.values())


def _rate(attempt: Attempt, _record: Record, policy: Policy) -> Iterator[Breach]:
    for before, after in pairwise(attempt.updates):
        apart = after.time - before.time
        if apart < policy.every - policy.tolerance and not _is_last(attempt, after, policy):
            yield Breach(
                2,
                attempt.name,
                after.time,
                f"an update came {duration(apart)} after the one before it",
            )


def _is_last(attempt: Attempt, update: Update, policy: Policy) -> bool:
    """Whether an update is what was pending when the stream ended, one way or another."""
    arrival = attempt.arrival_before(update.order)
    if arrival is not None and attempt.arrivals[-1] is not arrival:
        return False
    return any(
        mark.time <= update.time + policy.tolerance
        and update.time <= mark.time + policy.every
        and (arrival is None or arrival.order < mark.order)
        for mark in attempt.marks
    ) or (arrival is not None and update.time > arrival.time + policy.tolerance)


def _pace(attempt: Attempt, record: Record, policy: Policy) -> Iterator[Breach]:
    """Invariants 1, 4, 9 and 12: when the update comes that a delta is waiting for."""
    cut = attempt.first_mark("end", "cancel", "error", "retry", "source_end")
    updates, index = attempt.updates, 0
    for position, arrival in enumerate(attempt.arrivals):
        while index < len(updates) and updates[index].order < arrival.order:
            index += 1
        last = updates[index - 1] if index else None
        sent = updates[index] if index < len(updates) else None
        opens = max(last.time + policy.every, last.ended) if last else arrival.time
        if policy.trailing != "timer" and opens > arrival.time + policy.tolerance:
            continue
        due = max(arrival.time, opens)
        if sent is not None and sent.time <= due + policy.tolerance:
            continue
        if due > record.until or (cut is not None and cut.time <= due + policy.tolerance):
            continue
        if not _changes(attempt, record, arrival, last):
            continue
        late = "never" if sent is None else f"{duration(sent.time - due)} late"
        says = f"the update for the delta at {arrival.time - record.began:.3f} s came {late}"
        if last is None:
            number, says = 1, says.replace("the update", "the first update")
        elif _skipped(attempt, record, last, arrival):
            number = 12
        else:
            # A whole interval was lost, and deltas kept coming.
            coming = attempt.arrivals[position + 1 : position + 2]
            lost = sent is None or sent.time >= due + policy.every - policy.tolerance
            starved = lost and coming and coming[0].time <= due + policy.every
            number = 9 if starved or policy.trailing != "timer" else 4
        yield Breach(number, attempt.name, due, says)


def _changes(attempt: Attempt, record: Record, arrival: Arrival, last: Update | None) -> bool:
    """Whether there is anything to send for a delta."""
    if "value" not in record.evidence:
        return True
    value = record.latest(attempt.text[: arrival.length])
    return bool(value != (last.value if last else record.latest("")))


def _skipped(attempt: Attempt, record: Record, last: Update, arrival: Arrival) -> bool:
    """Whether a delta between an update and this one had nothing to send."""
    return any(
        last.order < each.order < arrival.order and not _changes(attempt, record, each, last)
        for each in attempt.arrivals
    )


def _values(attempt: Attempt, record: Record, _policy: Policy) -> Iterator[Breach]:
    if "value" not in record.evidence:
        return
    for update in attempt.updates:
        arrival = attempt.arrival_before(update.order)
        text = attempt.text[: arrival.length if arrival else 0]
        if update.value != record.latest(text):
            yield Breach(
                3,
                attempt.name,
                update.time,
                f"an update carried {_short(update.value)}, not {_short(record.latest(text))}",
            )
            return


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:8]}...{text[-13:]}"  # noqa: PLR2004 - a line's room


def _ending(attempt: Attempt, record: Record, policy: Policy) -> Iterator[Breach]:
    """Invariants 5, 6 and 11: what is pending goes out before the end, and nothing after it."""
    said = attempt.first_mark("end")
    cut = attempt.first_mark("cancel", "error", "retry")
    end = said or attempt.first_mark("source_end")
    if said is not None:
        ghost = next((each for each in attempt.updates if each.order > said.order), None)
        if ghost is not None:
            says = f"an update came {duration(ghost.time - said.time)} after the end"
            yield Breach(6, attempt.name, ghost.time, says)
    if end is None or not attempt.arrivals or (cut is not None and cut.order < end.order):
        return
    final = attempt.arrivals[-1]
    out = [each for each in attempt.updates if each.order > final.order]
    in_time = [each for each in out if said is None or each.order < said.order]
    if not in_time:
        before = [each for each in attempt.updates if each.order < final.order]
        if _changes(attempt, record, final, before[-1] if before else None):
            late = " before the end event" if out else ""
            says = f"what came last, at {final.time - record.began:.3f} s, never went out{late}"
            yield Breach(5, attempt.name, end.time, says)
        return
    if "value" in record.evidence:
        if in_time[-1].value != record.latest(attempt.text):
            says = f"the last update carried {_short(in_time[-1].value)}, which is not all"
            yield Breach(5, attempt.name, in_time[-1].time, says)
        again = [each for each in in_time if each.value == in_time[-1].value][1:]
        if again:
            says = f"the final value went out {len(again) + 1} times"
            yield Breach(5, attempt.name, again[0].time, says)
    late_by = in_time[0].time - end.time
    if late_by > policy.tolerance:
        says = f"the final update came {duration(late_by)} after the stream had ended"
        yield Breach(11, attempt.name, in_time[0].time, says)


def _slow_sink(attempt: Attempt, _record: Record, policy: Policy) -> Iterator[Breach]:
    for before, after in pairwise(attempt.updates):
        if after.time < before.ended - policy.tolerance:
            early = duration(before.ended - after.time)
            says = f"an update began {early} before the last one was over"
            yield Breach(15, attempt.name, after.time, says)
            return


def _cut_off(attempt: Attempt, record: Record, policy: Policy) -> Iterator[Breach]:
    """Invariants 6 and 7: after a cancel, an error, a retry."""
    if attempt.number and policy.on_retry == "clear" and attempt.updates:
        shown = attempt.updates[0]
        if attempt.arrival_before(shown.order) is None:
            says = "what was pending at the retry was sent after it"
            yield Breach(7, attempt.name, shown.time, says)
    for mark in attempt.marks:
        if mark.kind in {"cancel", "error"}:
            decided = policy.on_cancel if mark.kind == "cancel" else policy.on_error
            yield from _after(attempt, record, policy, mark, decided)


def _after(
    attempt: Attempt, record: Record, policy: Policy, mark: Mark, decided: str
) -> Iterator[Breach]:
    final = attempt.arrival_before(mark.order)
    if final is None:
        return
    soon = mark.time + policy.tolerance
    again = next((each.order for each in attempt.arrivals if each.order > mark.order), inf)
    after = [each for each in attempt.updates if mark.order < each.order < again]
    if after and after[-1].time > soon:
        says = f"an update came {duration(after[-1].time - mark.time)} after the {mark.kind}"
        yield Breach(6, attempt.name, after[-1].time, says)
    if decided == "drop":
        if after and after[0].time <= soon:
            says = f"on {mark.kind}, what was pending was sent, not dropped"
            yield Breach(7, attempt.name, mark.time, says)
        return
    before = [each for each in attempt.updates if each.order < final.order]
    out = any(each.order > final.order and each.time <= soon for each in attempt.updates)
    if not out and _changes(attempt, record, final, before[-1] if before else None):
        says = f"on {mark.kind}, what was pending was dropped, not sent"
        yield Breach(7, attempt.name, mark.time, says)


def _left(record: Record, _policy: Policy) -> Iterator[Breach]:
    if record.left:
        yield Breach(6, "", record.until, f"still running: {', '.join(record.left)}")


def _keys(record: Record, _policy: Policy) -> Iterator[Breach]:
    keys = record.names() if record.arrivals else []
    named = {update.key for update in record.updates}
    missing = [key for key in keys if key not in named]
    if len(keys) > 1 and missing and named:
        shown = ", ".join(map(repr, sorted(named, key=str)[:3]))
        says = (
            f"{len(keys)} keys had deltas; none of the updates was for {missing[0]!r}, but {shown}"
        )
        yield Breach(8, str(missing[0]), record.updates[-1].time, says)


def _kinds(record: Record, _policy: Policy) -> Iterator[Breach]:
    """Text that came before a tool call is out before the call's first update."""
    text = [each for each in record.arrivals if each.key is None]
    for key in record.names():
        first = next((each for each in record.arrivals if each.key == key), None)
        shown = next((each for each in record.updates if each.key == key), None)
        if key is None or first is None or shown is None:
            continue
        announced = max((each.order for each in text if each.order < first.order), default=None)
        if announced is not None and not any(
            each.key is None and announced < each.order < shown.order for each in record.updates
        ):
            says = f"the tool call {key!r} was shown before the text that came before it"
            yield Breach(10, str(key), shown.time, says)


def _stamps(record: Record, policy: Policy) -> Iterator[Breach]:
    for update in record.updates:
        if update.stamp is not None and abs(update.stamp - update.time) > policy.tolerance:
            off = duration(abs(update.stamp - update.time))
            yield Breach(13, str(update.key), update.time, f"an update's timestamp was {off} off")
            return


def _parses(record: Record, _policy: Policy) -> Iterator[Breach]:
    if record.parses is not None and record.parses > len(record.updates):
        says = f"{record.parses:,} parses for {len(record.updates):,} updates"
        yield Breach(14, "", record.until, says)
