"""Compare the measurements of a responsiveness check with its limits, and word the verdict.

`verdict_on_responsiveness` takes the measurements of a `StallWatch` and the limits. It returns the
verdict, the headline, and the detail lines: the place, the meaning, and the remedy. The first limit
that is certainly exceeded decides. A doubtful excess makes the check inconclusive.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_streamperf._results.text import fit_line, labelled_lines, location_lines
from pytest_streamperf._results.units import duration, percent, size
from pytest_streamperf._results.verdict import Outcome


class Limits(NamedTuple):
    """Upper limits of one check, in seconds, bytes and shares; None means no limit."""

    first: float | None = None
    gap: float | None = None
    stall: float | None = None
    pause: float | None = None
    memory: int | None = None
    shares: Mapping[str, float] = {}


class _Wording(NamedTuple):
    """Texts about one kind of excess; `headline` has a gap for the value, as `text_of` shows it."""

    headline: str
    text_of: Callable[[float], str]
    means: str
    remedy: str


_WORDINGS = {
    "first": _Wording(
        "the first message took {}",
        duration,
        "people see nothing until then",
        "send the first delta as soon as it comes",
    ),
    "gap": _Wording(
        "{} passed between two messages",
        duration,
        "the text stops, and then a block appears at once",
        "send the deltas so far by time, not by size",
    ),
    "stall": _Wording(
        "the event loop stood still for {}",
        duration,
        "no other task runs meanwhile, so no delta is shown",
        "await asyncio.to_thread(...), or do it in pieces",
    ),
    "pause": _Wording(
        "the garbage collector paused for {}",
        duration,
        "no Python code runs while it visits all objects",
        "make fewer objects per delta; gc.freeze() objects that stay",
    ),
    "memory": _Wording(
        "{} of memory at the peak",
        size,
        "the stream is kept in memory as a whole, or copied",
        "hand deltas on without keeping them; limit each buffer",
    ),
}


def verdict_on_responsiveness(
    measured: Mapping[str, Any], limits: Limits
) -> tuple[Outcome, str, Sequence[str]]:
    """Return the verdict on the measurements, its headline, and its detail lines."""
    times = {"stall": measured["stalls"] or (), "pause": measured["pauses"]}
    figures = {
        "first": measured["first"],
        "gap": measured["longest_gap"],
        "memory": measured["peak_memory"],
    }
    inconclusive = ""
    for name, wording in _WORDINGS.items():
        limit = getattr(limits, name)
        if limit is None:
            continue
        worst = _worst(times[name], limit) if name in times else None
        value = worst.seconds if worst else figures.get(name)
        if value is None or value <= limit:
            continue
        headline = (
            f"{wording.headline.format(wording.text_of(value))}, limit {wording.text_of(limit)}"
        )
        if worst and not worst.sure:
            inconclusive = inconclusive or headline
            continue
        lines = _lines_about_place(worst.where, worst.source) if name == "stall" and worst else []
        entries = {
            "means": wording.means,
            "try": wording.remedy,
            "total": _total(name, measured),
        }
        return "exceeded", fit_line(headline), ("", *lines, *labelled_lines(entries))
    for name, limit in limits.shares.items():
        share = measured["cpu_shares"][name]
        if share > limit:
            headline = f"{name} took {percent(share)} of the CPU time, limit {percent(limit)}"
            means, remedy = (
                "it is called too often, or does too much",
                "call it less often, or give it less to do",
            )
            return (
                "exceeded",
                fit_line(headline),
                ("", *labelled_lines({"means": means, "try": remedy})),
            )
    if inconclusive:
        why = "most of that was not spent on the CPU, and how long the thread waited for a core"
        details = labelled_lines({"why": f"{why} is not known here", "try": "run it on Linux"})
        return "inconclusive", fit_line(inconclusive), ("", *details)
    return "within", fit_line(", ".join(_summary(measured, limits))), ()


def _summary(measured: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    """Yield a text for each measurement.

    Pauses are always measured. They are listed only if they have a limit, or if nothing else was
    measured.
    """
    gap, peak = measured["longest_gap"], measured["peak_memory"]
    parts = [
        f"{measured['messages']:,} messages" if measured["messages"] else "",
        "" if gap is None else f"longest gap {duration(gap)}",
        _longest("stall", measured["stalls"]),
        "" if peak is None else f"{size(peak)} at the peak",
        *(f"{name} {percent(share)} of CPU" for name, share in measured["cpu_shares"].items()),
    ]
    yield from filter(None, parts)
    if limits.pause is not None or not any(parts):
        yield _longest("pause", measured["pauses"])


def _longest(name: str, times: Sequence[Any] | None) -> str:
    """Return the longest time as text; "" where the watch could not measure any."""
    if times is None:
        return ""
    return f"longest {name} {duration(times[0].seconds)}" if times else f"no {name}"


def _lines_about_place(place: str, source: str) -> list[str]:
    if not place:
        return labelled_lines({"where": "not seen"})
    return [line.rstrip() for line in location_lines([place], source, "")]


def _worst(times: Sequence[Any], limit: float) -> Any:
    """Return the longest certain time above the limit, or else the longest time; None if empty."""
    sure = (time for time in times if time.sure and time.seconds > limit)
    return next(sure, times[0] if times else None)


def _total(name: str, measured: Mapping[str, Any]) -> str:
    """Return the count and the sum of all stalls, or of the pauses in each generation."""
    if name == "stall" and len(measured["stalls"]) > 1:
        total = sum(stall.seconds for stall in measured["stalls"])
        return f"{len(measured['stalls']):,} times, {duration(total)}"
    if name == "pause":
        generations = sorted(measured["collections"].items(), reverse=True)
        return "; ".join(
            f"generation {generation}: {runs:,} times, {duration(total)}"
            for generation, (runs, total, _) in generations
        )
    return ""
