"""Find the broken invariants of a throttle in a record. Pure functions.

`breaches` takes a `ThrottleRecord` and a `ThrottlePolicy`. It returns a `Breach` for each invariant
and key. A throttle sends the first value at once, and then at most one value per interval. The
policy decides which trigger sends a value that is pending when the interval is over:

    trailing="timer"   a timer sends it                            (lodash, RxJS auditTime)
    trailing="next"    it waits for the next delta, if one comes   (a timestamp and an `if`)
    trailing="end"     it waits for the next delta, or the end     (VS Code's tool calls)

Entries at the same instant are compared by `order`. A test must therefore record a cancel before it
cancels the throttle, and record an end after it ends the throttle.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import inf

from pytest_streamperf._results.units import duration
from pytest_streamperf.throttling.invariants import INVARIANTS, Breach, ThrottlePolicy
from pytest_streamperf.throttling.record import Arrival, AttemptRecord, Mark, ThrottleRecord, Update

# The most specific breach comes first: a shared key also looks like a missing update.
_REPORT_ORDER = (8, 14, 10, 15, 13, 9, 12, 2, 1, 4, 7, 3, 5, 6, 11)


def breaches(record: ThrottleRecord, policy: ThrottlePolicy) -> list[Breach]:
    """Return the first breach of each invariant and key, the most specific invariant first.

    Breaches that need evidence which the record does not have are left out.
    """
    attempts = record.attempts()
    all_breaches = [
        breach
        for check in (
            _check_rate,
            _check_pace,
            _check_values,
            _check_final_update,
            _check_nothing_after_end,
            _check_cut_off,
            _check_slow_sink,
        )
        for attempt in attempts
        for breach in check(attempt, record, policy)
    ]
    for check in (
        _check_leftovers,
        _check_keys,
        _check_order_of_kinds,
        _check_timestamps,
        _check_parses,
    ):
        all_breaches += check(record, policy)
    proven = [
        breach for breach in all_breaches if INVARIANTS[breach.number].needs <= record.evidence
    ]
    if len({arrival.key for arrival in record.arrivals}) > 1 and "key" not in record.evidence:
        # Without `key`, an update cannot be assigned to one of several keys.
        proven = [breach for breach in proven if "of" not in INVARIANTS[breach.number].needs]
    first = {(breach.number, breach.key): breach for breach in reversed(proven)}.values()
    return sorted(first, key=lambda breach: (_REPORT_ORDER.index(breach.number), breach))


def _check_rate(
    attempt: AttemptRecord, _record: ThrottleRecord, policy: ThrottlePolicy
) -> Iterator[Breach]:
    for before, after in pairwise(attempt.updates):
        apart = after.time - before.time
        if apart < policy.every - policy.tolerance and not _is_last(attempt, after, policy):
            yield Breach(
                2,
                attempt.name,
                after.time,
                f"an update came {duration(apart)} after the one before it",
            )


def _is_last(attempt: AttemptRecord, update: Update, policy: ThrottlePolicy) -> bool:
    """Return whether an update is a final one, which may be sent before its interval is over."""
    arrival = attempt.arrival_before(update.order)
    if arrival is not None and attempt.arrivals[-1] is not arrival:
        # More deltas follow, but another key came first, and this update had to precede it.
        return any(arrival.order < other < update.order for other in attempt.other_key_orders)
    return any(
        mark.time <= update.time + policy.tolerance
        and update.time <= mark.time + policy.every
        and (arrival is None or arrival.order < mark.order)
        for mark in attempt.marks
    ) or (arrival is not None and update.time > arrival.time + policy.tolerance)


def _check_pace(
    attempt: AttemptRecord, record: ThrottleRecord, policy: ThrottlePolicy
) -> Iterator[Breach]:
    """Check invariants 1, 4, 9 and 12: the update for each delta comes on time."""
    cut = attempt.first_mark("end", "cancel", "error", "retry", "source_end")
    updates, index, reported = attempt.updates, 0, set[int]()
    for position, arrival in enumerate(attempt.arrivals):
        while index < len(updates) and updates[index].order < arrival.order:
            index += 1
        last = updates[index - 1] if index else None
        sent = updates[index] if index < len(updates) else None
        # The interval starts when the sink returned: a throttle may wait for a slow sink.
        opens = last.ended + policy.every if last else arrival.time
        if policy.trailing != "timer" and opens > arrival.time + policy.tolerance:
            continue
        due = max(arrival.time, opens)
        if sent is not None and sent.time <= due + policy.tolerance:
            continue
        if due > record.until or (cut is not None and cut.time <= due + policy.tolerance):
            continue
        if not _changes_value(attempt, record, arrival, last):
            continue
        late = "never" if sent is None else f"{duration(sent.time - due)} late"
        says = f"the update for the delta at {arrival.time - record.began:.3f} s came {late}"
        if last is None:
            number, says = 1, says.replace("the update", "the first update")
        elif not reported and _is_late_by_skip(attempt, record, policy, last, arrival, sent):
            number = 12
        else:
            # Starvation: the update missed a whole interval while deltas kept coming.
            coming = attempt.arrivals[position + 1 : position + 2]
            lost = sent is None or sent.time >= due + policy.every - policy.tolerance
            starved = lost and coming and coming[0].time <= due + policy.every
            number = 9 if starved or policy.trailing != "timer" else 4
        if number not in reported:
            yield Breach(number, attempt.name, due, says)
        reported.add(number)


def _changes_value(
    attempt: AttemptRecord, record: ThrottleRecord, arrival: Arrival, last: Update | None
) -> bool:
    """Return whether a delta changes the value that the last update carried."""
    if "value" not in record.evidence or not arrival.length:
        shown = attempt.arrival_before(last.order) if last else None
        return arrival.length > (shown.length if shown else 0)
    value = record.latest(attempt.text[: arrival.length])
    return bool(value is not None if last is None else value != last.value)


def _is_late_by_skip(  # noqa: PLR0913, PLR0917 - the state of `_check_pace` at one delta
    attempt: AttemptRecord,
    record: ThrottleRecord,
    policy: ThrottlePolicy,
    last: Update,
    arrival: Arrival,
    sent: Update | None,
) -> bool:
    """Return whether an earlier delta that changed nothing explains why the update is late."""
    return sent is not None and any(
        last.order < earlier.order < arrival.order
        and sent.time <= earlier.time + policy.every + policy.tolerance
        and not _changes_value(attempt, record, earlier, last)
        for earlier in attempt.arrivals
    )


def _check_values(
    attempt: AttemptRecord, record: ThrottleRecord, _policy: ThrottlePolicy
) -> Iterator[Breach]:
    if "value" not in record.evidence:
        return
    for update in attempt.updates:
        arrival = attempt.arrival_before(update.order)
        if arrival is None:  # no delta yet: a "thinking" notice, for example
            continue
        text = attempt.text[: arrival.length]
        if update.value != record.latest(text):
            yield Breach(
                3,
                attempt.name,
                update.time,
                f"an update carried {_shortened(update.value)}, "
                f"not {_shortened(record.latest(text))}",
            )
            return


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 24 else f"{text[:8]}...{text[-13:]}"  # noqa: PLR2004 - a line's room


def _check_final_update(
    attempt: AttemptRecord, record: ThrottleRecord, policy: ThrottlePolicy
) -> Iterator[Breach]:
    """Check invariants 5 and 11: a pending value is sent once, in full, before the end."""
    end_mark = attempt.first_mark("end")
    cut = attempt.first_mark("cancel", "error", "retry")
    end = end_mark or attempt.first_mark("source_end")
    if end is None or not attempt.arrivals or (cut is not None and cut.order < end.order):
        return
    final = attempt.arrivals[-1]
    final_updates = [update for update in attempt.updates if update.order > final.order]
    in_time = [
        update for update in final_updates if end_mark is None or update.order < end_mark.order
    ]
    if not in_time:
        last = attempt.update_before(final.order)
        closed = last is not None and final.time < last.time + policy.every - policy.tolerance
        if policy.trailing == "next" and closed:
            return
        if _changes_value(attempt, record, final, last):
            late = " before the end event" if final_updates else ""
            says = f"the last value, at {final.time - record.began:.3f} s, never went out{late}"
            yield Breach(5, attempt.name, end.time, says)
        return
    if "value" in record.evidence:
        if in_time[-1].value != record.latest(attempt.text):
            says = f"the last update carried {_shortened(in_time[-1].value)}, not the whole value"
            yield Breach(5, attempt.name, in_time[-1].time, says)
        repeats = [update for update in in_time if update.value == in_time[-1].value][1:]
        if repeats:
            says = f"the final value went out {len(repeats) + 1} times"
            yield Breach(5, attempt.name, repeats[0].time, says)
    late_by = in_time[0].time - end.time
    if late_by > policy.tolerance:
        says = f"the final update came {duration(late_by)} after the stream had ended"
        yield Breach(11, attempt.name, in_time[0].time, says)


def _check_nothing_after_end(
    attempt: AttemptRecord, _record: ThrottleRecord, _policy: ThrottlePolicy
) -> Iterator[Breach]:
    end_mark = attempt.first_mark("end")
    if end_mark is not None:
        ghost = next((update for update in attempt.updates if update.order > end_mark.order), None)
        if ghost is not None:
            says = f"an update came {duration(ghost.time - end_mark.time)} after the end"
            yield Breach(6, attempt.name, ghost.time, says)


def _check_slow_sink(
    attempt: AttemptRecord, _record: ThrottleRecord, policy: ThrottlePolicy
) -> Iterator[Breach]:
    for before, after in pairwise(attempt.updates):
        if after.time < before.ended - policy.tolerance:
            early = duration(before.ended - after.time)
            says = f"an update began {early} before the last one had returned"
            yield Breach(15, attempt.name, after.time, says)
            return


def _check_cut_off(
    attempt: AttemptRecord, record: ThrottleRecord, policy: ThrottlePolicy
) -> Iterator[Breach]:
    """Check invariants 6 and 7 after a cancel, an error or a retry."""
    if attempt.number and policy.on_retry == "clear" and attempt.updates:
        shown = attempt.updates[0]
        if attempt.arrival_before(shown.order) is None:
            says = "the value that was pending at the retry was sent after it"
            yield Breach(7, attempt.name, shown.time, says)
    for mark in attempt.marks:
        if mark.kind in {"cancel", "error"}:
            decided = policy.on_cancel if mark.kind == "cancel" else policy.on_error
            yield from _check_after_mark(attempt, record, policy, mark, decided)


def _check_after_mark(
    attempt: AttemptRecord, record: ThrottleRecord, policy: ThrottlePolicy, mark: Mark, decided: str
) -> Iterator[Breach]:
    final = attempt.arrival_before(mark.order)
    if final is None:
        return
    deadline = mark.time + policy.tolerance
    next_order = next(
        (arrival.order for arrival in attempt.arrivals if arrival.order > mark.order), inf
    )
    after = [update for update in attempt.updates if mark.order < update.order < next_order]
    if after and after[-1].time > deadline:
        says = f"an update came {duration(after[-1].time - mark.time)} after the {mark.kind}"
        yield Breach(6, attempt.name, after[-1].time, says)
    if decided == "drop":
        if after and after[0].time <= deadline:
            says = f"on {mark.kind}, the pending value was sent, not dropped"
            yield Breach(7, attempt.name, mark.time, says)
        return
    flushed = any(
        update.order > final.order and update.time <= deadline for update in attempt.updates
    )
    if not flushed and _changes_value(attempt, record, final, attempt.update_before(final.order)):
        says = f"on {mark.kind}, the pending value was dropped, not sent"
        yield Breach(7, attempt.name, mark.time, says)


def _check_leftovers(record: ThrottleRecord, _policy: ThrottlePolicy) -> Iterator[Breach]:
    if record.left:
        yield Breach(6, "", record.until, f"still running: {', '.join(record.left)}")


def _check_keys(record: ThrottleRecord, _policy: ThrottlePolicy) -> Iterator[Breach]:
    keys = record.names() if record.arrivals else []
    named = {update.key for update in record.updates}
    with_text = {key for (key, _), text in record.texts.items() if text}
    missing = [key for key in keys if key not in named and key in with_text]
    if len(keys) > 1 and missing and named:
        shown = ", ".join(map(repr, sorted(named, key=str)[:3]))
        says = (
            f"{len(keys)} keys had deltas; none of the updates was for {missing[0]!r}, but {shown}"
        )
        yield Breach(8, str(missing[0]), record.updates[-1].time, says)


def _check_order_of_kinds(record: ThrottleRecord, _policy: ThrottlePolicy) -> Iterator[Breach]:
    """Check invariant 10: text from before a tool call is sent before the call's first update."""
    if not any(key is not None for key in record.names()):
        return
    full_text = "".join(text for (key, _), text in record.texts.items() if key is None)
    text_arrivals = [
        arrival
        for before, arrival in pairwise(
            [None, *(arrival for arrival in record.arrivals if arrival.key is None)]
        )
        if arrival is not None and _changes_text(record, full_text, before, arrival)
    ]
    for key in record.names():
        first = next((arrival for arrival in record.arrivals if arrival.key == key), None)
        shown = next((update for update in record.updates if update.key == key), None)
        if key is None or first is None or shown is None:
            continue
        announced = max(
            (arrival.order for arrival in text_arrivals if arrival.order < first.order),
            default=None,
        )
        if announced is not None and not any(
            update.key is None and announced < update.order < shown.order
            for update in record.updates
        ):
            says = f"the tool call {key!r} was shown before the text that came before it"
            yield Breach(10, str(key), shown.time, says)


def _changes_text(
    record: ThrottleRecord, text: str, before: Arrival | None, arrival: Arrival
) -> bool:
    """Return whether a text delta changes the value to send."""
    if "value" not in record.evidence:
        return arrival.length > (before.length if before else 0)
    shown = record.latest(text[: before.length]) if before and before.length else None
    return bool(arrival.length and record.latest(text[: arrival.length]) != shown)


def _check_timestamps(record: ThrottleRecord, policy: ThrottlePolicy) -> Iterator[Breach]:
    for update in record.updates:
        if update.stamp is not None and abs(update.stamp - update.time) > policy.tolerance:
            off = duration(abs(update.stamp - update.time))
            yield Breach(13, "", update.time, f"an update's timestamp was {off} off")
            return


def _check_parses(record: ThrottleRecord, _policy: ThrottlePolicy) -> Iterator[Breach]:
    if record.parses is not None and record.parses > len(record.updates):
        says = f"{record.parses:,} parses for {len(record.updates):,} updates"
        yield Breach(14, "", record.until, says)
