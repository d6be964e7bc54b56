"""What it means: pure functions on what the runs spent.

Work W(n) that n deltas cause is modelled as a*n + b*n*n/2: cost per delta a + b*i. The *share* is
the part b*n*n/2 has in W(n), between 0 and 1. It grows with n; n log n work stays under 0.16 at
any length that is measured here, and counts as linear.

Two estimators have to agree before time fails anything. `votes` compares the second half of a run
with the first, eight times over from interleaved blocks: it sees costs that come every so often,
and is fooled by a step. `steady_share` asks whether the cost climbs all the way along: it is not
fooled by a step (a cache that overflows, memory that is mapped for the first time), and does not
see costs that come rarely.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log
from statistics import fmean, median, median_low
from typing import NamedTuple

from pytest_streamperf._results.verdict import Outcome
from pytest_streamperf.growth.meters import BLOCKS, Run

_GROUPS = 8
# Costs come rarely if the steps from block to block, up and down, come to this part of all of them.
# Where cost climbs evenly that is 2 / 64.
_BUMPY = 0.15
_MERGED = 4

# In one run that is disturbed halfway all eight votes may be wrong: it takes three to fail.
_LEAD_TO_PASS, _RUNS_TO_PASS = 8, 2
_LAST_LEAD_TO_PASS = 4
_LEAD_TO_FAIL, RUNS_TO_FAIL = 16, 3

# The power of the length that a finish's cost per delta grows with: 0 where that is linear, 1 where
# it is quadratic. A logarithm, and caches that are too small, come to a third in 16 times the
# length; in 4 times, where others keep the memory busy, to half and more. Runs are compared until
# what their powers lie above half-way, or below, adds up to this.
_HALFWAY, _CLEARLY, _LATEST = 0.35, 1.0, 3

# Copies that grow by less than this, in bytes per delta per delta, copy under a twentieth of the
# deltas that came before: sizes of containers and of numbers wobble by as much.
_COPIES_FLOOR = 0.25


class Excess(NamedTuple):
    """The superlinear part of a finish: what it is at least, at most, and what it looks like.

    That is more than the most, where it looks as caches make it look.
    """

    least: float
    most: float
    seen: float


NO_EXCESS = Excess(0.0, 0.0, 0.0)


def carried(share: float, length: int, horizon: int) -> float:
    """The share at `horizon` of work that has this share at `length`.

    >>> carried(0.5, 1_000, 9_000)
    0.9
    """
    if not 0 < share < 1:
        return min(1.0, max(0.0, share))
    ratio = share / (1 - share) * horizon / length
    return ratio / (1 + ratio)


def per_delta(run: Run) -> list[float]:
    """Cost per delta in each block of a run; an empty block costs what the one before it does."""
    costs: list[float] = []
    for (start, end), (before, after) in zip(pairwise(run.edges), pairwise(run.spent), strict=True):
        costs.append((after - before) / (end - start) if end > start else (costs or [0.0])[-1])
    return costs


def least(runs: Iterable[Run]) -> list[float]:
    """Cost per delta in each block, the least of several runs of one length.

    In 64 blocks, or in 16 where costs come rarely.
    """
    costs = [min(block) for block in zip(*map(per_delta, runs), strict=True)]
    if sum(abs(after - before) for before, after in pairwise(costs)) <= _BUMPY * sum(costs):
        return costs
    return [fmean(costs[start : start + _MERGED]) for start in range(0, BLOCKS, _MERGED)]


def at_edge(costs: Sequence[float], edge: int) -> float:
    """Cost per delta just before block edge `edge` (from 1 on)."""
    return fmean(costs[max(0, edge - 2) : edge])


def late_growth(runs: Sequence[Run], part: float = 1.0) -> float:
    """By how much a delta costs more at the end than at a quarter of the way.

    Or so it is in the first `part` of the runs, taken for themselves.
    """
    costs = least(runs)
    quarter, end = (max(1, round(part * edge)) for edge in (len(costs) // 4, len(costs)))
    return at_edge(costs, end) - at_edge(costs, quarter)


def longest(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that are as long as any."""
    length = max(run.length for run in runs)
    return [run for run in runs if run.length == length]


def mostly_finish(runs: Sequence[Run]) -> bool:
    """Whether most of the work is done after the last delta."""
    last = longest(runs)
    return min(run.finish for run in last) > min(run.spent[-1] for run in last)


def along(runs: Sequence[Run]) -> list[tuple[int, float]]:
    """Lengths in deltas, an octave apart, and what a delta costs there.

    In the longest run, least of those that are as long; where most of the work is left to the
    finish, in runs of each length, all work divided by it.
    """
    if mostly_finish(runs):
        lengths = sorted({run.length for run in runs})
        return [(n, min(run.total for run in runs if run.length == n) / n) for n in lengths]
    last = longest(runs)
    costs = least(last)
    edges = last[0].edges[:: BLOCKS // len(costs)]
    return [(edges[2**k], at_edge(costs, 2**k)) for k in range(len(costs).bit_length())]


def half_at(share: float, length: int) -> int | None:
    """The length, in deltas, at which half of the work is superlinear; None where none is.

    >>> half_at(0.2, 1_000)
    4000
    """
    return round(length * (1 - share) / share) if share > 0 else None


def finish_growth(run: Run, shorter: Run) -> tuple[float, float]:
    """By which power of the length a finish's cost per delta grows, and the part that would be.

    From 0 to 1, and the part of the finish that grows with the square of the length, if it does.
    Work that is put off, to a thread that lags behind, say, may come before the last delta or after
    it: the finish has grown by no more than all the work has, and by as great a power.
    """
    longer = run.length / shorter.length
    finish, work = shorter.finish / shorter.length, shorter.total / shorter.length
    more_work = run.total / run.length - work
    growth = min(run.finish / run.length - finish, more_work)
    if growth <= 0:
        return 0.0, 0.0
    power = max(_power(finish, growth, longer), _power(work, more_work, longer))
    return power, growth * run.length / (1 - 1 / longer)


def _power(before: float, growth: float, longer: float) -> float:
    return min(1.0, log(1 + growth / before) / log(longer)) if before else 1.0


def finish_excess(pairs: Sequence[tuple[Run, Run]]) -> Excess:
    """The part of the finish that grows with the square of the length, by runs and shorter ones.

    A sequential test: what each pair shows, made one right after the other, weighs as much as it
    lies off half-way, and no more than the pairs just before it do: a core that slows down for a
    while does so within few pairs.
    """
    if not pairs:
        return NO_EXCESS
    powers, parts = zip(*(finish_growth(*pair) for pair in pairs), strict=True)
    latest = [powers[max(0, end - _LATEST) : end] for end in range(1, len(powers) + 1)]
    evidence, part = sum(median_low(each) - _HALFWAY for each in latest), median(parts)
    return Excess(
        part if evidence >= _CLEARLY else 0.0, 0.0 if evidence <= -_CLEARLY else part, part
    )


def votes(run: Run, excess: float = 0.0) -> list[float]:
    """Eight estimates of the share at the run's length, from interleaved blocks.

    Where costs come rarely they are one and the same, of all blocks but the dearest of each half: a
    single cost is no growth. `excess` is the superlinear part of the finish. An estimate may be
    below 0 where cost falls.
    """
    costs = least([run])
    half = len(costs) // 2
    if len(costs) == BLOCKS:
        groups = [
            (costs[each:half:_GROUPS], costs[half + each :: _GROUPS]) for each in range(_GROUPS)
        ]
    else:
        groups = [(sorted(costs[:half])[:-1], sorted(costs[half:])[:-1])] * _GROUPS
    shares = []
    for early, late in ((fmean(early), fmean(late)) for early, late in groups):
        total = run.length * (early + late) / 2 + run.finish
        share = (run.length * (late - early) + excess) / total if total > 0 else 0.0
        shares.append(min(1.0, share))
    return shares


def steady_share(runs: Sequence[Run], excess: float = 0.0) -> float:
    """The share at the runs' length if cost climbs as it does over four fifths of the way.

    The fifth-lowest percentile of the slopes between blocks at least a quarter of the run apart.
    """
    costs = least(runs)
    blocks = len(costs)
    slopes = sorted(
        (costs[late] - costs[early]) / (late - early)
        for early in range(blocks)
        for late in range(early + blocks // 4, blocks)
    )
    slope = max(0.0, slopes[len(slopes) // 5])
    length = runs[0].length
    total = fmean(costs) * length + min(run.finish for run in runs)
    return min(1.0, (slope * blocks / 2 * length + excess) / total) if total > 0 else 0.0


def timed_verdict(
    runs: Sequence[Run], excess: Excess, limit: float, horizon: int, *, last: bool
) -> Outcome | None:
    """Hold timed runs of one length against `limit`: "within", "exceeded" or None for not sure yet.

    Below the horizon a pass must hold for the share carried to it, of all that was seen of the
    finish; a fail must not need that.
    `last` says that no second run of this length can be afforded.
    """
    length = runs[0].length
    most = excess.most if length == horizon else excess.seen
    over = sum(1 if vote > limit else -1 for run in runs for vote in votes(run, excess.least))
    under = sum(
        1 if carried(vote, length, horizon) <= limit else -1
        for run in runs
        for vote in votes(run, most)
    )
    enough = over >= _LEAD_TO_FAIL and len(runs) >= RUNS_TO_FAIL
    if enough and steady_share(runs, excess.least) > limit:
        return "exceeded"
    enough = under >= _LEAD_TO_PASS and len(runs) >= _RUNS_TO_PASS
    enough = enough or (last and under >= _LAST_LEAD_TO_PASS)
    if enough and steady_share(runs, most) <= limit:
        return "within"
    return None


def suspicious(run: Run, excess: float, limit: float) -> bool:
    """Whether most of a run's votes are over the limit."""
    return sum(vote > limit for vote in votes(run, excess)) > _GROUPS // 2


def interval(runs: Sequence[Run], excess: Excess, horizon: int) -> tuple[float, float, float]:
    """The share at the horizon: low, median and high of the votes of timed runs of one length."""
    least, most, seen = (
        sorted(
            carried(max(0.0, min(1.0, vote)), run.length, horizon)
            for run in runs
            for vote in votes(run, part)
        )
        for part in excess
    )
    edge = len(most) // 10
    return least[edge], most[len(most) // 2], seen[-1 - edge]


def counted_shares(runs: Sequence[Run]) -> tuple[float, float]:
    """The least and the greatest share that counts of one run of each length, shortest first, show.

    Counts are exact, but containers grow in steps: one that doubles costs the same in every octave,
    one that quadruples costs something in every other. Growth is what shows in both of the last two
    steps from one octave to the next, or all the way along; and for the finish, in both of the last
    two steps in length.
    """
    run = runs[-1]
    slopes, finish = _octave_slopes(run), _finish_slopes(runs)
    least = max(_superlinear(run, min(slopes), min(finish)), steady_share([run]))
    return least, max(least, _superlinear(run, max(slopes), max(finish)))


def counted_verdict(meter: str, runs: Sequence[Run], limit: float, horizon: int) -> Outcome | None:
    """Hold counts of one run of each length, shortest first, against `limit`; None for not sure.

    A single step, of a container or a window that is full, may pass for growth: the last two
    lengths must both show it.
    """
    if not runs:
        return None
    least, greatest = counted_shares(runs)
    length = runs[-1].length
    if least > limit and len(runs) > 1:
        shorter = runs[:-1]
        if counted_shares(shorter)[0] > carried(limit, length, shorter[-1].length):
            return "exceeded"
        if length == horizon:
            return None
    first, second = _octave_slopes(runs[-1])
    # Over both steps, the second of which is twice as long; a fall before it takes nothing off it.
    slope = max((max(0.0, first) + 2 * second) / 3, *_finish_slopes(runs))
    if (
        length == horizon
        or carried(greatest, length, horizon) <= limit
        or (meter == "copies" and slope < _COPIES_FLOOR)
    ):
        return "within"
    return None


def _octave_slopes(run: Run) -> tuple[float, float]:
    costs = per_delta(run)
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


def _superlinear(run: Run, slope: float, finish_slope: float) -> float:
    if not run.total:
        return 0.0
    return min(1.0, max(0.0, (slope / 2 + finish_slope) * run.length**2 / run.total))
