"""Write the message of a throttle check from its findings.

`Findings` holds the breaches of a record, the exceeded totals and the unchecked invariants.
`headline` returns the measured value and the limit. `details` returns a timeline around the first
breach, its meaning and the next thing to do. `series` returns the points of the plot.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._results.metrics import thinned
from pytest_streamperf._results.text import (
    TimelineEvent,
    TimelineRow,
    fit_line,
    labelled_lines,
    timeline_lines,
)
from pytest_streamperf._results.units import duration, size
from pytest_streamperf._results.verdict import Outcome
from pytest_streamperf.throttling.invariants import INVARIANTS, Breach, ThrottlePolicy
from pytest_streamperf.throttling.record import EvidenceKind, Kind, ThrottleRecord

# The argument of `UpdateCounter` that provides each kind of evidence.
_COUNTER_ARGUMENTS: Mapping[EvidenceKind, str] = {
    "of": "of=stream",
    "key": "key=...",
    "value": "value=...",
    "parses": "parses=Mock(wraps=...)",
    "stamp": "stamp=...",
}
# A check may be within without these: few sinks parse, and few updates carry a timestamp.
_OPTIONAL: frozenset[EvidenceKind] = frozenset({"parses", "stamp"})
# Two keys take four rows of the 16 lines of a message.
_MAX_TIMELINE_KEYS = 2
# Not measured: intervals shown after a breach; the timeline shows twice as many before it.
_INTERVALS_AFTER_BREACH = 2.5
_MARKS: Mapping[Kind, str] = {
    "end": "E",
    "source_end": "E",
    "cancel": "C",
    "retry": "R",
    "error": "!",
}


class Unchecked(NamedTuple):
    """The reason why an invariant was not checked; `required` makes the check inconclusive."""

    says: str
    required: bool
    needs: Sequence[str] = ()


class Findings(NamedTuple):
    """The record and policy of a check, with everything that the message reports."""

    record: ThrottleRecord
    policy: ThrottlePolicy
    breaches: Sequence[Breach]
    over: str
    unchecked: Mapping[int, Unchecked]

    @property
    def verdict(self) -> Outcome:
        """The verdict. A counter with `of` is within only if no required evidence is missing."""
        if self.breaches or self.over:
            return "exceeded"
        return "inconclusive" if self.missing and "of" in self.record.evidence else "within"

    @property
    def missing(self) -> dict[int, str]:
        """The advice for each required invariant that was not checked, by number."""
        return {number: reason.says for number, reason in self.unchecked.items() if reason.required}


def unchecked(record: ThrottleRecord) -> dict[int, Unchecked]:
    """Return the invariants that were not checked, by number, with the reason."""
    kinds = {mark.kind for mark in record.marks}
    many, ended = len(record.names()) > 1, bool(kinds & {"end", "source_end"})
    came_up = {
        5: ended,
        7: bool(kinds & {"cancel", "error", "retry"}),
        8: many,
        10: many and None in record.names(),
        11: ended,
        15: any(update.ended > update.time for update in record.updates),
    }
    reasons = {}
    for number, invariant in INVARIANTS.items():
        missing = invariant.needs - record.evidence
        if not came_up.get(number, True) and "of" in record.evidence:
            reasons[number] = Unchecked("did not come up", required=False)
        elif missing:
            how = [_COUNTER_ARGUMENTS[name] for name in sorted(missing)]
            required = not missing <= _OPTIONAL
            reasons[number] = Unchecked(f"pass {', '.join(how)}", required=required, needs=how)
    return reasons


def over_budget(
    record: ThrottleRecord, sent: int, max_total_bytes: int | None, max_updates: int | None
) -> str:
    """Return the headline for an exceeded limit on bytes or updates; empty if none is exceeded."""
    if max_total_bytes is not None and sent > max_total_bytes:
        return f"{len(record.updates):,} updates sent {size(sent)}, limit {size(max_total_bytes)}"
    if max_updates is not None and len(record.updates) > max_updates:
        return f"{len(record.updates):,} updates, limit {max_updates:,}"
    return ""


def series(record: ThrottleRecord) -> dict[str, Sequence[tuple[float, float]]]:
    """Return the points to plot: the text length at each delta, and the size of each update."""
    began = record.began
    return {
        "deltas": [(arrival.time - began, arrival.length) for arrival in thinned(record.arrivals)],
        "updates": [(update.time - began, update.size) for update in thinned(record.updates)],
    }


def headline(findings: Findings) -> str:
    """Return the measured value, then the limit."""
    record, limit = findings.record, f"limit 1 per {duration(findings.policy.every)}"
    if findings.verdict == "inconclusive":
        return f"no evidence for {len(findings.missing)} of 15 invariants of a throttle, {limit}"
    if findings.breaches:
        first = findings.breaches[0]
        return fit_line(f"{f'{first.key}: ' if first.key else ''}{first.says}, {limit}")
    if findings.over:
        return findings.over
    deltas = f"{len(record.arrivals):,} deltas, " if record.arrivals else ""
    return f"{deltas}{len(record.updates):,} updates, {limit}"


def details(findings: Findings) -> Sequence[str]:
    """Return the lines below the headline: the timeline, the meaning and the advice."""
    if findings.verdict == "within":
        return ()
    if findings.verdict == "inconclusive":
        missing = findings.missing
        names = ", ".join(f"{INVARIANTS[number].name} ({number})" for number in missing)
        return (
            "",
            *labelled_lines({"why": names, "try": "; ".join(dict.fromkeys(missing.values()))}),
        )
    if not findings.breaches:
        advice = "send only the new part, or send less often as the text grows"
        return ("", *labelled_lines({"means": "the sizes of the updates add up", "try": advice}))
    first = findings.breaches[0]
    invariant = INVARIANTS[first.number]
    also_broken = sorted({breach.number for breach in findings.breaches} - {first.number})
    return (
        "",
        *_timeline(findings.record, first, findings.policy.every),
        "",
        *labelled_lines(
            {
                "broke": f"{first.number} of 15: {invariant.name}"
                + (f"; also {', '.join(map(str, also_broken))}" if also_broken else ""),
                "means": invariant.means,
                "try": invariant.remedy,
                "left": _unchecked_text(findings.unchecked),
            }
        ),
    )


def _unchecked_text(unchecked: Mapping[int, Unchecked]) -> str:
    numbers = [str(number) for number, reason in unchecked.items() if reason.needs]
    ways = {need for reason in unchecked.values() for need in reason.needs}
    return f"{', '.join(numbers)} not checked: pass {', '.join(sorted(ways))}" if ways else ""


def _timeline(record: ThrottleRecord, breach: Breach, every: float) -> list[str]:
    """Draw a row of deltas and a row of updates per key, around the breach."""
    start = max(breach.time - 2 * _INTERVALS_AFTER_BREACH * every, record.began)
    end = max(min(breach.time + _INTERVALS_AFTER_BREACH * every, record.until), start + every)
    attempts = [attempt for attempt in record.attempts() if attempt.arrivals or attempt.updates]
    rows = []
    other_keys_last = sorted(attempts, key=lambda attempt: attempt.name != breach.key)
    for attempt in other_keys_last[:_MAX_TIMELINE_KEYS]:
        came = [TimelineEvent(arrival.time, "|") for arrival in attempt.arrivals]
        marks = [TimelineEvent(mark.time, _MARKS[mark.kind]) for mark in attempt.marks]
        went = [TimelineEvent(update.time, "U") for update in attempt.updates]
        rows += [TimelineRow(attempt.name, [*came, *marks]), TimelineRow("", went)]
    return timeline_lines(rows, start=start, end=end, when=breach.time, began=record.began)
