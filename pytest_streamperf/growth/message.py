"""What a growth check says: the headline, the table, and what to do about it."""

from collections.abc import Callable, Sequence

from pytest_streamperf.growth import fit
from pytest_streamperf.growth.meters import BLOCKS
from pytest_streamperf.growth.plan import Evidence
from pytest_streamperf.growth.terms import Terms
from pytest_streamperf.verdict import (
    advice_for,
    duration,
    lines_of,
    percent,
    size,
    table,
    thousands,
    where,
)

_ROW_EDGES = (BLOCKS // 16, BLOCKS // 4, BLOCKS)
_ACCEPT = "if these streams stay short"


def headline(evidence: Evidence, terms: Terms) -> str:
    """Say what was measured, then the limit."""
    limit = f"limit {percent(terms.limit)}"
    if evidence.verdict == "unproven":
        return f"not proven linear up to {terms.horizon:,} deltas, {limit}"
    share = f"{percent(evidence.share)} superlinear, {limit}"
    if evidence.verdict == "within":
        run = "" if evidence.proven_to == terms.horizon else f" ({evidence.proven_to:,} run)"
        return f"{terms.horizon:,} deltas{run}, {share}"
    return f"{evidence.proven_to:,} deltas{_spent(evidence)}, {share}"


def _spent(evidence: Evidence) -> str:
    if evidence.counted is None:
        return f" took {duration(min(run.total for run in evidence.timed))}"
    total = evidence.counted.total
    return (
        f" copied {size(total)}" if evidence.witness == "copies" else f", {thousands(total)} calls"
    )


def details(evidence: Evidence, terms: Terms) -> Sequence[str]:
    """Say the rest: the table and the advice, or why nothing could be told."""
    if evidence.verdict == "within":
        return ()
    if evidence.verdict == "unproven":
        return ("", *lines_of({"why": evidence.why}))
    guilty = evidence.blame[0] if evidence.blame else None
    source = guilty.source if guilty else ""
    advice = advice_for(source)
    if guilty:
        lines = where(guilty.place, source, f"({percent(guilty.share)} of growth)")
    else:
        lines = lines_of({"where": "not found: no line of yours was seen to grow"})
    lines += lines_of(
        {
            "means": advice.means,
            "costs": _costs(evidence, terms),
            "try": advice.remedy,
            "allow": _allow(evidence),
        }
    )
    rows = _rows(evidence)
    return ("", *rows, "", *lines) if rows else ("", *lines)


def _allow(evidence: Evidence) -> str:
    if evidence.witness == "copies":
        return f'copies="warn", {_ACCEPT}'
    return f"limit={min(1.0, -(-evidence.share * 100 // 5) * 0.05):.2f}, {_ACCEPT}"


def _rows(evidence: Evidence) -> list[str]:
    length = evidence.proven_to
    head, columns, stays = ["deltas"], [[f"{length * edge // BLOCKS:,}" for edge in _ROW_EDGES]], ""
    if evidence.timed and evidence.timed[0].spent[-1]:
        costs = fit.least(evidence.timed)
        head.append("per delta")
        columns.append([duration(fit.at_edge(costs, edge)) for edge in _ROW_EDGES])
        stays = duration(min(costs[: BLOCKS // 4]))
    if evidence.counted is not None and evidence.counted.spent[-1]:
        costs = fit.per_delta(evidence.counted)
        say = size if evidence.witness == "copies" else thousands
        head.append("copied per delta" if evidence.witness == "copies" else "calls per delta")
        columns.append([say(fit.at_edge(costs, edge)) for edge in _ROW_EDGES])
        stays = stays or say(min(costs[: BLOCKS // 4]))
    if not stays:
        return []
    rows = [list(row) for row in zip(*columns, strict=True)]
    return table(head, rows, f"linear: about {stays}")


def _costs(evidence: Evidence, terms: Terms) -> str:
    """Say what the work comes to at the horizon, and at ten times that."""
    say: Callable[[float], str] = duration
    if evidence.timed:
        share = fit.interval(evidence.timed, 0.0, evidence.proven_to)[1]
        spent = min(run.total for run in evidence.timed)
    elif evidence.counted is not None:
        share, spent = evidence.share, evidence.counted.total
        say = size if evidence.witness == "copies" else thousands
    else:
        return ""
    at, later = (
        say(spent * ((1 - share) * factor + share * factor**2))
        for factor in (terms.horizon / evidence.proven_to, 10 * terms.horizon / evidence.proven_to)
    )
    return f"{at} at {terms.horizon:,} deltas, about {later} at {10 * terms.horizon:,}"
