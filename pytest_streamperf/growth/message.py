"""What a growth check says: the headline, the table, and what to do about it."""

from collections.abc import Callable, Sequence

from pytest_streamperf._results.metrics import Figures, known
from pytest_streamperf._results.text import labelled_lines, location_lines, sparkline, table_lines
from pytest_streamperf._results.units import duration, percent, size, thousands
from pytest_streamperf.growth import estimation
from pytest_streamperf.growth.advice import advice_for
from pytest_streamperf.growth.options import Meter, Terms
from pytest_streamperf.growth.result import Evidence

_ACCEPT = "if these streams stay short"
_MOST_ROWS = 3

# What the column of a meter is called, and how its figures are said, for people.
_COLUMNS: dict[Meter, tuple[str, Callable[[float], str]]] = {
    "time": ("per delta", duration),
    "copies": ("copied per delta", size),
    "calls": ("calls per delta", thousands),
}


def headline(evidence: Evidence, terms: Terms) -> str:
    """Say what was measured, then the limit."""
    limit = f"limit {percent(terms.limit)}"
    if evidence.verdict == "inconclusive":
        return f"not proven linear up to {terms.horizon:,} deltas, {limit}"
    share = f"{percent(evidence.share)} superlinear, {limit}"
    if evidence.verdict == "within":
        run = "" if evidence.proven_to == terms.horizon else f" ({evidence.proven_to:,} run)"
        return f"{terms.horizon:,} deltas{run}, {share}"
    return f"{evidence.proven_to:,} deltas{_spent(evidence)}, {share}"


def _spent(evidence: Evidence) -> str:
    assert evidence.witness is not None  # noqa: S101 - without one nothing is exceeded
    total = min(run.total for run in estimation.longest(evidence.runs[evidence.witness]))
    return {
        "copies": f" copied {size(total)}",
        "calls": f", {thousands(total)} calls",
        "time": f" took {duration(total)}",
    }[evidence.witness]


def details(evidence: Evidence, terms: Terms) -> Sequence[str]:
    """Say the rest: the table and the advice, or why nothing could be told."""
    if evidence.verdict == "within":
        return ()
    if evidence.verdict == "inconclusive":
        return ("", *labelled_lines({"why": evidence.why}))
    guilty = evidence.blame[0] if evidence.blame else None
    source = guilty.source if guilty else ""
    call = guilty.call if guilty else ""
    advice = advice_for(source, call, counted=evidence.witness == "calls")
    if guilty:
        lines = location_lines(guilty.places, source, f"({percent(guilty.share)} of growth)")
    else:
        lines = labelled_lines({"where": "not found: no line of yours was seen to grow"})
    lines += labelled_lines(
        {
            "means": advice.means,
            "costs": _costs(evidence, terms),
            "try": advice.remedy,
            "allow": _allow(evidence),
        }
    )
    return ("", *_rows(evidence), "", *lines)


def _allow(evidence: Evidence) -> str:
    if evidence.witness == "copies":
        return f'copies="warn", {_ACCEPT}'
    # In steps of 5%, and no nearer than one: a share near its limit could not be told.
    return f"limit={min(1.0, (evidence.share * 100 // 5 + 2) * 0.05):.2f}, {_ACCEPT}"


def _rows(evidence: Evidence) -> list[str]:
    """Lay out the cost of a delta along the way: in CPU time, and in what the witness counts."""
    assert evidence.witness is not None  # noqa: S101 - without one nothing is exceeded
    lengths = [at for at, _ in estimation.along(evidence.runs[evidence.witness])]
    lengths = lengths[:: -2 if len(lengths) > 2 * _MOST_ROWS else -1][:_MOST_ROWS][::-1]
    columns = {
        meter: [costs[at] for at in lengths]
        for meter in _COLUMNS
        if meter in {"time", evidence.witness} and evidence.runs.get(meter)
        if set(lengths) <= set(costs := dict(estimation.along(evidence.runs[meter])))
    }
    head, cells = ["deltas"], [[f"{at:,}" for at in lengths]]
    for meter, column in columns.items():
        title, say = _COLUMNS[meter]
        head.append(title)
        cells.append([say(cost) for cost in column])
    first = next(iter(columns))
    note = f"linear: about {_COLUMNS[first][1](min(columns[first]))}"
    return table_lines(head, [list(row) for row in zip(*cells, strict=True)], note)


def _costs(evidence: Evidence, terms: Terms) -> str:
    """Say what the work comes to at the horizon, and at ten times that."""
    meter: Meter = "time" if evidence.runs.get("time") else evidence.witness or "time"
    runs = estimation.longest(evidence.runs[meter])
    spent, share = min(run.total for run in runs), evidence.share
    if meter != evidence.witness and not estimation.mostly_finish(runs):
        share = estimation.interval(runs, estimation.NO_EXCESS, evidence.proven_to)[1]
    at, later = (
        _COLUMNS[meter][1](spent * ((1 - share) * factor + share * factor**2))
        for factor in (terms.horizon / evidence.proven_to, 10 * terms.horizon / evidence.proven_to)
    )
    return f"{at} at {terms.horizon:,} deltas, about {later} at {10 * terms.horizon:,}"


def figures(evidence: Evidence, terms: Terms) -> Figures:
    """Say what machines want to read."""
    low, high = evidence.share_interval
    costs = {meter: estimation.along(runs)[-2:] for meter, runs in evidence.runs.items() if runs}
    at = {meter: (f" per delta at {last[-1][0]:,}", last[-1][1]) for meter, last in costs.items()}
    calls = [round(cost) for _, cost in costs.get("calls", ())]
    return Figures(
        given={"up_to": terms.horizon},
        # Those that waver are not the same everywhere.
        counts={"calls per delta": calls[-1]} if calls and calls[0] == calls[-1] else {},
        shares={"superlinear": evidence.share, "superlinear low": low, "superlinear high": high},
        seconds=known({"waited for a core": evidence.noise.waited})
        | {f"CPU{of}": cost for meter, (of, cost) in at.items() if meter == "time"},
        bytes={f"copied{of}": cost for meter, (of, cost) in at.items() if meter == "copies"},
        limits={"superlinear": terms.limit},
        facts={"proven to": f"{evidence.proven_to:,}", "witness": evidence.witness or "none"},
    )


def series(evidence: Evidence, terms: Terms) -> dict[str, Sequence[Sequence[float]]]:
    """Tell what to draw: what a delta costs along the way, and the line that was fitted to it."""
    along = {meter: estimation.along(runs) for meter, runs in evidence.runs.items() if runs}
    if not along or not evidence.proven_to:
        return dict(along.items())
    told = next(iter(along))
    if evidence.witness is not None:
        told = evidence.witness
    last = estimation.longest(evidence.runs[told])
    length, mean = last[0].length, min(run.total for run in last) / last[0].length
    # A share of the work that is superlinear is a slope of twice that of the mean cost.
    known_at = evidence.proven_to if evidence.verdict == "exceeded" else terms.horizon
    share = estimation.carried(evidence.share, known_at, length)
    return dict(along.items()) | {"fit": [(0, mean * (1 - share)), (length, mean * (1 + share))]}


def picture(evidence: Evidence) -> Sequence[str]:
    """Draw what a delta costs along the way, by every meter, and the curve of the one that told."""
    along = {meter: dict(estimation.along(runs)) for meter, runs in evidence.runs.items() if runs}
    if not along:
        return ()
    head = ["deltas", *(_COLUMNS[meter][0] for meter in along)]
    rows = [
        [
            f"{at:,}",
            *(
                _COLUMNS[meter][1](costs[at]) if at in costs else ""
                for meter, costs in along.items()
            ),
        ]
        for at in sorted(set().union(*along.values()))
    ]
    told = evidence.witness or ("time" if "time" in along else min(along))
    runs = estimation.longest(evidence.runs[told])
    curve = list(along[told].values()) if estimation.mostly_finish(runs) else estimation.least(runs)
    return (*table_lines(head, rows), f"  {sparkline(curve)} {_COLUMNS[told][0]}, from 0")
