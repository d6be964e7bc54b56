"""Estimate superlinear shares, verdicts and cost curves from runs, by pure functions.

In go the runs of one metric; out come shares (0 to 1), `Excess` of the finish, votes, a verdict or
None for "not sure yet", and the `CostCurve` that the result carries.

Work W(n) of n deltas is modelled as a*n + b*n*n/2: cost per delta a + b*i. The *share* is the part
b*n*n/2 has in W(n), between 0 and 1. It grows with n; n log n work stays under 0.16 at any length
that is measured here, and counts as linear.

Two estimators have to agree before time fails anything. `votes` compares the second half of a run
with the first, eight times over from interleaved blocks: it sees costs that come every so often,
and is fooled by a step. `steady_share` asks whether the cost climbs all the way along: it is not
fooled by a step (a cache that overflows, memory that is mapped for the first time), and does not
see costs that come rarely.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import log
from statistics import fmean, median, median_low
from typing import NamedTuple

from pytest_streamperf._results.verdict import Outcome
from pytest_streamperf.growth.cost_curve import (
    CostCurve,
    block_costs,
    cost_at_edge,
    cost_per_delta,
    longest_runs,
)
from pytest_streamperf.growth.metered_stream import BLOCKS, Run
from pytest_streamperf.growth.options import Metric
from pytest_streamperf.growth.thresholds import THRESHOLDS


class Excess(NamedTuple):
    """The superlinear part of a finish, in the unit of its metric.

    `lower` and `upper` bound it. `observed` is the raw estimate, which is above `upper` where the
    growth looks like that of caches.
    """

    lower: float
    upper: float
    observed: float


NO_EXCESS = Excess(0.0, 0.0, 0.0)


def carried(share: float, length: int, max_length: int) -> float:
    """Return the share at `max_length` of work that has this share at `length`.

    >>> carried(0.5, 1_000, 9_000)
    0.9
    """
    if not 0 < share < 1:
        return min(1.0, max(0.0, share))
    ratio = share / (1 - share) * max_length / length
    return ratio / (1 + ratio)


def cost_curve(runs: Sequence[Run]) -> CostCurve:
    """Return the cost curve of one or more runs of one metric.

    The least of several runs of one length counts, as what disturbs a run makes it dearer.

    >>> curve = cost_curve([Run(64, tuple(range(65)), tuple(range(65)), 0.0)])
    >>> curve.total, curve.points[-1]
    (64.0, (64, 1.0))
    """
    longest = longest_runs(runs)
    costs, length = block_costs(longest), longest[0].length
    mostly_finish = min(run.finish for run in longest) > min(run.spent[-1] for run in longest)
    if mostly_finish:
        lengths = sorted({run.length for run in runs})
        points = [(n, min(run.total for run in runs if run.length == n) / n) for n in lengths]
    else:
        edges = longest[0].edges[:: BLOCKS // len(costs)]
        octaves = [2**power for power in range(len(costs).bit_length())]
        points = [(edges[edge], cost_at_edge(costs, edge)) for edge in octaves]
    shares = sorted(max(0.0, vote) for run in longest for vote in votes(run))
    return CostCurve(
        points=tuple(points),
        block_costs=tuple(costs),
        length=length,
        total=min(run.total for run in longest),
        mostly_finish=mostly_finish,
        superlinear_share=shares[len(shares) // 2],
    )


def half_at(share: float, length: int) -> int | None:
    """Return the length, in deltas, at which half of the work is superlinear; None if none is.

    >>> half_at(0.2, 1_000)
    4000
    """
    return round(length * (1 - share) / share) if share > 0 else None


def finish_growth(run: Run, shorter: Run) -> tuple[float, float]:
    """Return the power of the length that a finish's cost per delta grows with, and its excess.

    The power is 0 to 1. The excess is the part of the finish that grows with the square of the
    length, if it does. Work that is put off, to a thread that lags behind for example, may come
    before the last delta or after it: the finish has grown by no more than all the work has, and by
    as great a power.
    """
    longer = run.length / shorter.length
    finish, work = shorter.finish / shorter.length, shorter.total / shorter.length
    more_work = run.total / run.length - work
    growth = min(run.finish / run.length - finish, more_work)
    if growth <= 0:
        return 0.0, 0.0
    power = max(_growth_power(finish, growth, longer), _growth_power(work, more_work, longer))
    return power, growth * run.length / (1 - 1 / longer)


def _growth_power(before: float, growth: float, longer: float) -> float:
    return min(1.0, log(1 + growth / before) / log(longer)) if before else 1.0


def finish_excess(pairs: Sequence[tuple[Run, Run]]) -> Excess:
    """Return the part of the finish that grows with the square of the length, by pairs of runs.

    A pair is a run and a shorter one, made one right after the other. A linear finish has the power
    0, a quadratic one 1. This is a sequential test: each pair counts by how far its power lies off
    half-way, and by no more than the pairs just before it, as a core that slows down for a while
    does so within few pairs.
    """
    if not pairs:
        return NO_EXCESS
    powers, excesses = zip(*(finish_growth(*pair) for pair in pairs), strict=True)
    newest = THRESHOLDS.finish_latest_pairs
    latest = [powers[max(0, end - newest) : end] for end in range(1, len(powers) + 1)]
    evidence = sum(median_low(group) - THRESHOLDS.finish_halfway_power for group in latest)
    excess, enough = median(excesses), THRESHOLDS.finish_evidence
    return Excess(
        lower=excess if evidence >= enough else 0.0,
        upper=0.0 if evidence <= -enough else excess,
        observed=excess,
    )


def votes(run: Run, excess: float = 0.0) -> list[float]:
    """Return eight estimates of the share at the run's length, from interleaved blocks.

    Where costs come rarely they are all the same, of all blocks but the dearest of each half: a
    single cost is no growth. `excess` is the superlinear part of the finish. An estimate is at most
    1, and below 0 where cost falls.
    """
    costs, groups = block_costs([run]), THRESHOLDS.vote_groups
    half = len(costs) // 2
    if len(costs) == BLOCKS:
        halves = [
            (costs[group:half:groups], costs[half + group :: groups]) for group in range(groups)
        ]
    else:
        halves = [(sorted(costs[:half])[:-1], sorted(costs[half:])[:-1])] * groups
    shares = []
    for early, late in ((fmean(early), fmean(late)) for early, late in halves):
        total = run.length * (early + late) / 2 + run.finish
        share = (run.length * (late - early) + excess) / total if total > 0 else 0.0
        shares.append(min(1.0, share))
    return shares


def steady_share(runs: Sequence[Run], excess: float = 0.0) -> float:
    """Return the share at the runs' length if cost climbs as it does over four fifths of the way.

    That is the fifth-lowest part of the slopes between blocks a quarter of the run or more apart.
    """
    costs = block_costs(runs)
    blocks = len(costs)
    distance = int(blocks * THRESHOLDS.steady_distance_part)
    slopes = sorted(
        (costs[late] - costs[early]) / (late - early)
        for early in range(blocks)
        for late in range(early + distance, blocks)
    )
    slope = max(0.0, slopes[int(len(slopes) * THRESHOLDS.steady_percentile)])
    length = runs[0].length
    total = fmean(costs) * length + min(run.finish for run in runs)
    return min(1.0, (slope * blocks / 2 * length + excess) / total) if total > 0 else 0.0


def timed_verdict(
    runs: Sequence[Run], excess: Excess, limit: float, max_length: int, *, last: bool
) -> Outcome | None:
    """Return "within", "exceeded" or None (not sure yet) for timed runs of one length.

    Below the maximum length a pass must hold for the share carried to it, with all that was
    observed of the finish; a fail must not need that. `last` says that no second run of this length
    can be afforded.
    """
    length, least = runs[0].length, THRESHOLDS
    upper = excess.upper if length == max_length else excess.observed
    over = sum(1 if vote > limit else -1 for run in runs for vote in votes(run, excess.lower))
    under = sum(
        1 if carried(vote, length, max_length) <= limit else -1
        for run in runs
        for vote in votes(run, upper)
    )
    enough = over >= least.votes_to_fail and len(runs) >= least.runs_to_fail
    if enough and steady_share(runs, excess.lower) > limit:
        return "exceeded"
    enough = under >= least.votes_to_pass and len(runs) >= least.runs_to_pass
    enough = enough or (last and under >= least.last_votes_to_pass)
    if enough and steady_share(runs, upper) <= limit:
        return "within"
    return None


def suspicious(run: Run, excess: float, limit: float) -> bool:
    """Return whether most of a run's votes are over the limit."""
    return sum(vote > limit for vote in votes(run, excess)) > THRESHOLDS.vote_groups // 2


def interval(runs: Sequence[Run], excess: Excess, max_length: int) -> tuple[float, float, float]:
    """Return the share at the maximum length: low, median and high vote of runs of one length."""
    lower, upper, observed = (
        sorted(
            carried(max(0.0, min(1.0, vote)), run.length, max_length)
            for run in runs
            for vote in votes(run, part)
        )
        for part in excess
    )
    edge = int(len(upper) * THRESHOLDS.interval_tail)
    return lower[edge], upper[len(upper) // 2], observed[-1 - edge]


def counted_shares(runs: Sequence[Run]) -> tuple[float, float]:
    """Return the least and the greatest share that counts show.

    `runs` has one run of each length, shortest first. Counts are exact, but containers grow in
    steps: one that doubles costs the same in every octave, one that quadruples costs something in
    every other. Growth is what shows in both of the last two steps from one octave to the next, or
    all the way along; and for the finish, in both of the last two steps in length.
    """
    run = runs[-1]
    slopes, finish = _octave_slopes(run), _finish_slopes(runs)
    least = max(_superlinear_share(run, min(slopes), min(finish)), steady_share([run]))
    return least, max(least, _superlinear_share(run, max(slopes), max(finish)))


def counted_verdict(
    metric: Metric, runs: Sequence[Run], limit: float, max_length: int
) -> Outcome | None:
    """Return "within", "exceeded" or None (not sure yet) for counts, one run of each length.

    The shortest run comes first. A single step, of a container or a window that is full, may pass
    for growth: the last two lengths must both show it.
    """
    if not runs:
        return None
    least, greatest = counted_shares(runs)
    length = runs[-1].length
    if least > limit and len(runs) > 1:
        shorter = runs[:-1]
        if counted_shares(shorter)[0] > carried(limit, length, shorter[-1].length):
            return "exceeded"
        if length == max_length:
            return None
    first, second = _octave_slopes(runs[-1])
    # Average both steps; the second is twice as long. A fall in the first counts as no growth.
    slope = max((max(0.0, first) + 2 * second) / 3, *_finish_slopes(runs))
    small = metric == "allocated_bytes" and slope < THRESHOLDS.min_allocation_slope_bytes
    if length == max_length or carried(greatest, length, max_length) <= limit or small:
        return "within"
    return None


def _octave_slopes(run: Run) -> tuple[float, float]:
    costs = cost_per_delta(run)
    early, middle, late = (
        fmean(costs[start : 2 * start]) for start in (BLOCKS // 8, BLOCKS // 4, BLOCKS // 2)
    )
    step = run.length * 3 / 16
    return (middle - early) / step, (late - middle) / (2 * step)


def _finish_slopes(runs: Sequence[Run]) -> tuple[float, ...]:
    return tuple(
        (longer.finish / longer.length - shorter.finish / shorter.length)
        / (longer.length - shorter.length)
        for shorter, longer in pairwise(runs[-3:])
    ) or (0.0,)


def _superlinear_share(run: Run, slope: float, finish_slope: float) -> float:
    if not run.total:
        return 0.0
    return min(1.0, max(0.0, (slope / 2 + finish_slope) * run.length**2 / run.total))
