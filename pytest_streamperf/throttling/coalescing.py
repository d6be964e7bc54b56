"""Check the flushes of a transport against limits on rate, size and delay. Pure functions.

`check_flushes` takes a `FlushRecord` and `FlushLimits`, and returns a `CoalescingResult`. It checks
that every delta is flushed by the end of the stream and that no delta is held back too long. It
also checks that flushes are neither too frequent nor too small. It reports the first broken limit.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from pytest_streamperf._results.metrics import Figures, known, thinned
from pytest_streamperf._results.text import (
    TimelineEvent,
    TimelineRow,
    fit_line,
    labelled_lines,
    timeline_lines,
)
from pytest_streamperf._results.units import duration, size
from pytest_streamperf._results.verdict import Outcome, Verdict
from pytest_streamperf.throttling.record import Arrival

# Not measured: the timeline spans three steps, each a quarter of the time before the breach.
_TIMELINE_STEPS = 4


class Flush(NamedTuple):
    """One push to the transport: `data` joins the bytes of `writes` writes."""

    time: float
    order: int
    writes: int
    data: bytes


class FlushRecord(NamedTuple):
    """The deltas that arrived, with their texts, and the flushes of a transport.

    `unflushed` counts the bytes that were written and not flushed. `ended` is when the stream
    ended. `of` says whether the counter observes a stream. Times are in seconds.
    """

    arrivals: Sequence[Arrival]
    texts: Sequence[str]
    flushes: Sequence[Flush]
    unflushed: int
    ended: float | None
    of: bool


class FlushLimits(NamedTuple):
    """The limits of a check: flushes per second, bytes per flush, seconds of delay per delta."""

    per_second: float | None
    bytes_per_flush: float | None
    max_held: float
    tolerance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CoalescingResult(Verdict):
    """The result of `assert_coalesced`; `longest_held` is in seconds, `sent` in bytes."""

    flushes: int
    writes: int
    sent: int
    longest_held: float | None


class _Breach(NamedTuple):
    says: str
    time: float
    means: str
    remedy: str


def check_flushes(record: FlushRecord, limits: FlushLimits) -> CoalescingResult:
    """Return the result of checking the flushes in `record` against `limits`."""
    sent = sum(len(flush.data) for flush in record.flushes)
    carriers = carried_by(record)
    held = _delays(record, carriers)
    breach = (
        _check_unflushed(record, limits, carriers)
        or _check_delay(limits, held)
        or _check_rate(record, limits)
        or _check_sizes(record, limits, sent)
    )
    verdict: Outcome = "exceeded" if breach else "within" if record.of else "inconclusive"
    longest = max((seconds for seconds, _ in held), default=None)
    began = min([entry[0] for entry in (*record.arrivals[:1], *record.flushes[:1])], default=0.0)
    headline = f"{len(record.arrivals):,} deltas, {len(record.flushes):,} flushes of {size(sent)}"
    details: Sequence[str] = ()
    if breach:
        headline = breach.says
        details = (
            "",
            *_timeline(record, breach.time),
            "",
            *labelled_lines({"means": breach.means, "try": breach.remedy}),
        )
    elif verdict == "inconclusive":
        headline = "no evidence of what the flushes carried"
        details = ("", *labelled_lines({"try": "pass of=stream to the flush counter"}))
    return CoalescingResult(
        stem="throttling",
        verdict=verdict,
        headline=fit_line(headline),
        details=details,
        figures=Figures(
            given={"deltas": len(record.arrivals)},
            counts={"flushes": len(record.flushes), "bytes sent": sent},
            seconds=known({"longest held": longest}),
            limits={"longest held": limits.max_held},
        ),
        series={
            "deltas": [
                (arrival.time - began, arrival.length) for arrival in thinned(record.arrivals)
            ],
            "flushes": [(flush.time - began, len(flush.data)) for flush in thinned(record.flushes)],
        },
        flushes=len(record.flushes),
        writes=sum(flush.writes for flush in record.flushes),
        sent=sent,
        longest_held=longest,
    )


def carried_by(record: FlushRecord) -> list[Flush | None]:
    """Return the flush that carried each delta, or None where a delta was not flushed.

    The function searches the flushed bytes for the text of each delta in order, both raw and
    escaped as JSON. Where the bytes do not contain the text, it takes the next flush.
    """
    ends = list(accumulate(len(flush.data) for flush in record.flushes))
    everything = b"".join(flush.data for flush in record.flushes)
    carriers: list[Flush | None] = []
    position, index, following = 0, 0, 0
    for arrival, text in zip(record.arrivals, record.texts, strict=True):
        while following < len(record.flushes) and record.flushes[following].order < arrival.order:
            following += 1
        at = _find(everything, text, max(position, ends[following - 1] if following else 0))
        if at is not None:
            position = at
            while index < len(ends) and ends[index] < position:
                index += 1
            carriers.append(record.flushes[index])
        else:
            carriers.append(record.flushes[following] if following < len(record.flushes) else None)
    return carriers


def _find(everything: bytes, text: str, start: int) -> int | None:
    """Return the offset where the text ends, searching from `start`; None if it is absent."""
    for form in (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]):
        data = form.encode("utf-8", "surrogatepass")
        at = everything.find(data, start)
        if data and at >= 0:
            return at + len(data)
    return None


def _delays(record: FlushRecord, carriers: Sequence[Flush | None]) -> list[tuple[float, Flush]]:
    """Return the delay in seconds of every flushed delta, with the flush that carried it."""
    return [
        (max(0.0, flush.time - arrival.time), flush)
        for arrival, flush in zip(record.arrivals, carriers, strict=True)
        if flush is not None
    ]


def _check_unflushed(
    record: FlushRecord, limits: FlushLimits, carriers: Sequence[Flush | None]
) -> _Breach | None:
    means, remedy = "the last deltas never leave the buffer", "flush when the stream ends"
    last = record.flushes[-1].time if record.flushes else 0.0
    if record.unflushed:
        says = f"{size(record.unflushed)} were written and never flushed"
        return _Breach(says, last, means, remedy)
    missing = [
        arrival for arrival, flush in zip(record.arrivals, carriers, strict=True) if flush is None
    ]
    if missing and record.ended is not None:
        says = f"{len(missing):,} of {len(record.arrivals):,} deltas were never flushed"
        return _Breach(says, missing[0].time, means, remedy)
    late = last - record.ended if record.ended is not None else 0.0
    if record.arrivals and late > limits.tolerance:
        says = f"the last flush came {duration(late)} after the stream had ended"
        return _Breach(says, last, "the last deltas wait for a timer after the end", remedy)
    return None


def _check_delay(limits: FlushLimits, held: Sequence[tuple[float, Flush]]) -> _Breach | None:
    longest, flush = max(held, default=(0.0, None))
    if flush is None or longest <= limits.max_held + limits.tolerance:
        return None
    return _Breach(
        f"a delta was held for {duration(longest)}, in a block of {size(len(flush.data))}, "
        f"limit {duration(limits.max_held)}",
        flush.time,
        "people see nothing for a while, and then a block at once",
        "flush by time as well as by size",
    )


def _check_rate(record: FlushRecord, limits: FlushLimits) -> _Breach | None:
    if limits.per_second is None:
        return None
    most = int(limits.per_second)
    ended = record.ended if record.ended is not None else float("inf")
    # Flushes at the end do not count.
    times = [flush.time for flush in record.flushes if flush.time < ended]
    for first, last in zip(times, times[most:], strict=False):
        if last - first < 1 - limits.tolerance:
            count = sum(first <= moment < first + 1 - limits.tolerance for moment in times)
            return _Breach(
                f"{count:,} flushes in one second, limit {most:,}",
                last,
                "each delta costs a system call, a packet and a client wake-up",
                "join the deltas of a few milliseconds into one write",
            )
    return None


def _check_sizes(record: FlushRecord, limits: FlushLimits, sent: int) -> _Breach | None:
    least, count = limits.bytes_per_flush, len(record.flushes)
    if least is None or count < 2 or sent / count >= least:  # noqa: PLR2004 - one cannot be larger
        return None
    return _Breach(
        f"{count:,} flushes of {sent / count:.0f} bytes on average, limit {least:.0f}",
        record.flushes[-1].time,
        "the overhead of each flush is larger than its data",
        "join the deltas of a few milliseconds into one write",
    )


def _timeline(record: FlushRecord, when: float) -> list[str]:
    times = [arrival.time for arrival in record.arrivals[:1]]
    began = min([*times, *(flush.time for flush in record.flushes[:1]), when])
    step = max(1e-3, (when - began) / _TIMELINE_STEPS)
    rows = [
        TimelineRow("deltas", [TimelineEvent(arrival.time, "|") for arrival in record.arrivals]),
        TimelineRow("flushes", [TimelineEvent(flush.time, "F") for flush in record.flushes]),
    ]
    return timeline_lines(
        rows, start=max(began, when - 2 * step), end=when + step, when=when, began=began
    )
