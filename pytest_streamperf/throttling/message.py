"""What a throttle check says: the invariant that broke, when, on a line of time, and why."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._results.metrics import thinned
from pytest_streamperf._results.text import Event, Row, fit_line, labelled_lines, timeline_lines
from pytest_streamperf._results.units import duration, size
from pytest_streamperf._results.verdict import Outcome
from pytest_streamperf.throttling.invariants import INVARIANTS, Breach, Policy
from pytest_streamperf.throttling.record import Evidence, Kind, Record

# What to pass to the counter for each kind of evidence.
_PASS: Mapping[Evidence, str] = {
    "of": "of=stream",
    "key": "key=...",
    "value": "value=...",
    "parses": "parses=Mock(wraps=...)",
    "stamp": "stamp=...",
}
# These are asked for only where there is something to hold against them.
_OPTIONAL: frozenset[Evidence] = frozenset({"parses", "stamp"})
_MOST_KEYS, _AROUND = 2, 2.5
_MARKS: Mapping[Kind, str] = {
    "end": "E",
    "source_end": "E",
    "cancel": "C",
    "retry": "R",
    "error": "!",
}


class Unchecked(NamedTuple):
    """An invariant that was not checked: why, and whether that leaves something inconclusive."""

    says: str
    required: bool
    needs: Sequence[str] = ()


class Findings(NamedTuple):
    """All there is to say."""

    record: Record
    policy: Policy
    breaches: Sequence[Breach]
    over: str
    unchecked: Mapping[int, Unchecked]

    @property
    def verdict(self) -> Outcome:
        """What it comes to: with `of`, all that the policy implies has to be proven."""
        if self.breaches or self.over:
            return "exceeded"
        return "inconclusive" if self.missing and "of" in self.record.evidence else "within"

    @property
    def missing(self) -> dict[int, str]:
        """What to pass, by invariant."""
        return {number: each.says for number, each in self.unchecked.items() if each.required}


def unchecked(record: Record) -> dict[int, Unchecked]:
    """Which invariants were not checked: what to pass for them, or that they did not come up."""
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
    found = {}
    for number, invariant in INVARIANTS.items():
        missing = invariant.needs - record.evidence
        if not came_up.get(number, True) and "of" in record.evidence:
            found[number] = Unchecked("did not come up", required=False)
        elif missing:
            how = [_PASS[name] for name in sorted(missing)]
            required = not missing <= _OPTIONAL
            found[number] = Unchecked(f"pass {', '.join(how)}", required=required, needs=how)
    return found


def over_budget(
    record: Record, sent: int, max_total_bytes: int | None, max_updates: int | None
) -> str:
    """What is over a limit on the whole, if anything is."""
    if max_total_bytes is not None and sent > max_total_bytes:
        return f"{len(record.updates):,} updates sent {size(sent)}, limit {size(max_total_bytes)}"
    if max_updates is not None and len(record.updates) > max_updates:
        return f"{len(record.updates):,} updates, limit {max_updates:,}"
    return ""


def series(record: Record) -> dict[str, Sequence[tuple[float, float]]]:
    """Tell what to draw: the text that had come by when, and what updates carried."""
    began = record.began
    return {
        "deltas": [(each.time - began, each.length) for each in thinned(record.arrivals)],
        "updates": [(each.time - began, each.size) for each in thinned(record.updates)],
    }


def headline(findings: Findings) -> str:
    """Say what was seen, then the limit."""
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
    """Say the rest: the line of time, and what to do about it."""
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
        advice = "send what is new, not all there is; or less often, the longer it gets"
        return ("", *labelled_lines({"means": "what is sent adds up", "try": advice}))
    first = findings.breaches[0]
    invariant = INVARIANTS[first.number]
    others = sorted({each.number for each in findings.breaches} - {first.number})
    return (
        "",
        *_timeline(findings.record, first, findings.policy.every),
        "",
        *labelled_lines(
            {
                "broke": f"{first.number} of 15: {invariant.name}"
                + (f"; also {', '.join(map(str, others))}" if others else ""),
                "means": invariant.means,
                "try": invariant.remedy,
                "left": _left(findings.unchecked),
            }
        ),
    )


def _left(unchecked: Mapping[int, Unchecked]) -> str:
    numbers = [str(number) for number, each in unchecked.items() if each.needs]
    ways = {how for each in unchecked.values() for how in each.needs}
    return f"{', '.join(numbers)} not checked: pass {', '.join(sorted(ways))}" if ways else ""


def _timeline(record: Record, breach: Breach, every: float) -> list[str]:
    """Deltas above and updates below, for each key, around what went wrong."""
    start = max(breach.time - 2 * _AROUND * every, record.began)
    end = max(min(breach.time + _AROUND * every, record.until), start + every)
    attempts = [each for each in record.attempts() if each.arrivals or each.updates]
    rows = []
    for each in sorted(attempts, key=lambda attempt: attempt.name != breach.key)[:_MOST_KEYS]:
        came = [Event(arrival.time, "|") for arrival in each.arrivals]
        marks = [Event(mark.time, _MARKS[mark.kind]) for mark in each.marks]
        went = [Event(update.time, "U") for update in each.updates]
        rows += [Row(each.name, [*came, *marks]), Row("", went)]
    return timeline_lines(rows, start=start, end=end, when=breach.time, began=record.began)
