"""What a responsiveness check says: the worst of it, where, and what to do about it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_streamperf._results.text import fit_line, labelled_lines, location_lines
from pytest_streamperf._results.units import duration, percent, size
from pytest_streamperf._results.verdict import Outcome


class Limits(NamedTuple):
    """What is accepted: seconds, bytes and shares; None for anything."""

    first: float | None = None
    gap: float | None = None
    stall: float | None = None
    pause: float | None = None
    memory: int | None = None
    shares: Mapping[str, float] = {}


class _Kind(NamedTuple):
    says: str
    shown: Callable[[float], str]
    means: str
    remedy: str


_KINDS = {
    "first": _Kind(
        "the first message took {}",
        duration,
        "people look at nothing",
        "send the first delta as soon as it comes",
    ),
    "gap": _Kind(
        "{} passed between two messages",
        duration,
        "the text stands still, and then jumps",
        "send what there is, by time and not by size",
    ),
    "stall": _Kind(
        "the event loop stood still for {}",
        duration,
        "meanwhile nothing else runs: no token is shown",
        "await asyncio.to_thread(...), or do it in pieces",
    ),
    "pause": _Kind(
        "the garbage collector paused for {}",
        duration,
        "everything stands still while it looks through all objects",
        "make fewer objects per delta; gc.freeze() what stays",
    ),
    "memory": _Kind(
        "{} of memory at the peak",
        size,
        "the stream is kept, or copied, as it goes by",
        "hand deltas on and forget them; bound what is buffered",
    ),
}


def judged(found: Mapping[str, Any], limits: Limits) -> tuple[Outcome, str, Sequence[str]]:
    """Hold what was found against the limits: the verdict, the headline, the details."""
    times = {"stall": found["stalls"] or (), "pause": found["pauses"]}
    figures = {"first": found["first"], "gap": found["longest_gap"], "memory": found["peak_memory"]}
    inconclusive = ""
    for name, kind in _KINDS.items():
        limit = getattr(limits, name)
        if limit is None:
            continue
        worst = _worst(times[name], limit) if name in times else None
        value = worst.seconds if worst else figures.get(name)
        if value is None or value <= limit:
            continue
        headline = f"{kind.says.format(kind.shown(value))}, limit {kind.shown(limit)}"
        if worst and not worst.sure:
            inconclusive = inconclusive or headline
            continue
        lines = _where(worst.where, worst.source) if name == "stall" and worst else []
        entries = {"means": kind.means, "try": kind.remedy, "total": _total(name, found)}
        return "exceeded", fit_line(headline), ("", *lines, *labelled_lines(entries))
    for name, limit in limits.shares.items():
        share = found["cpu_shares"][name]
        if share > limit:
            headline = f"{name} took {percent(share)} of the CPU time, limit {percent(limit)}"
            means, remedy = "it is done too often, or too much of it", "do it less often"
            return (
                "exceeded",
                fit_line(headline),
                ("", *labelled_lines({"means": means, "try": remedy})),
            )
    if inconclusive:
        why = "most of that was not spent on the CPU, and how long the thread waited for a core"
        details = labelled_lines({"why": f"{why} is not known here", "try": "run it on Linux"})
        return "inconclusive", fit_line(inconclusive), ("", *details)
    return "within", fit_line(", ".join(_measured(found, limits))), ()


def _measured(found: Mapping[str, Any], limits: Limits) -> Iterator[str]:
    """What was seen, and of what can always be seen what has a limit, or all that there is."""
    parts = [
        f"{found['messages']:,} messages" if found["messages"] else "",
        "" if found["longest_gap"] is None else f"longest gap {duration(found['longest_gap'])}",
        _longest("stall", found["stalls"]),
        "" if found["peak_memory"] is None else f"{size(found['peak_memory'])} at the peak",
        *(f"{name} {percent(share)} of CPU" for name, share in found["cpu_shares"].items()),
    ]
    yield from filter(None, parts)
    if limits.pause is not None or not any(parts):
        yield _longest("pause", found["pauses"])


def _longest(name: str, times: Sequence[Any] | None) -> str:
    """Nothing where they could not have been seen."""
    if times is None:
        return ""
    return f"longest {name} {duration(times[0].seconds)}" if times else f"no {name}"


def _where(place: str, source: str) -> list[str]:
    if not place:
        return labelled_lines({"where": "not seen"})
    return [line.rstrip() for line in location_lines([place], source, "")]


def _worst(times: Sequence[Any], limit: float) -> Any:
    """The longest that is sure, where one is over the limit; else the longest; None where none."""
    sure = (each for each in times if each.sure and each.seconds > limit)
    return next(sure, times[0] if times else None)


def _total(name: str, found: Mapping[str, Any]) -> str:
    if name == "stall" and len(found["stalls"]) > 1:
        total = sum(stall.seconds for stall in found["stalls"])
        return f"{len(found['stalls']):,} times, {duration(total)}"
    if name == "pause":
        generations = sorted(found["collections"].items(), reverse=True)
        return "; ".join(
            f"generation {generation}: {runs:,} times, {duration(total)}"
            for generation, (runs, total, _) in generations
        )
    return ""
