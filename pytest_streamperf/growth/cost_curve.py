"""Cost curves: the cost per delta along a stream, from the runs of one metric.

`estimation.cost_curve` makes one `CostCurve` for each metric, once, from the runs of a check; the
result carries it. The functions below work on runs of one length, while runs are still being added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from pytest_streamperf.growth.metered_stream import BLOCKS, Run
from pytest_streamperf.growth.thresholds import THRESHOLDS


@dataclass(frozen=True, slots=True)
class CostCurve:
    """The cost per delta along the longest measured stream, in bytes, calls or CPU seconds.

    `points` are pairs of a length, an octave apart, and the cost per delta there. `block_costs` are
    the costs per delta in 64 equal blocks of the stream, or in 16 where costs come rarely. `total`
    is the least that a run of this `length` cost. Where `mostly_finish` is set, most of the work
    was done after the last delta: then a point is all work of a run, divided by its length.

    `superlinear_share` is the share at this length that the deltas show, without the finish.
    """

    points: tuple[tuple[int, float], ...]
    block_costs: tuple[float, ...]
    length: int
    total: float
    mostly_finish: bool
    superlinear_share: float


def longest_runs(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that are as long as any."""
    runs = list(runs)
    length = max(run.length for run in runs)
    return [run for run in runs if run.length == length]


def cost_per_delta(run: Run) -> list[float]:
    """Return the cost per delta in each block; an empty block costs what the one before it does."""
    costs: list[float] = []
    for (start, end), (before, after) in zip(pairwise(run.edges), pairwise(run.spent), strict=True):
        costs.append((after - before) / (end - start) if end > start else (costs or [0.0])[-1])
    return costs


def block_costs(runs: Iterable[Run]) -> list[float]:
    """Return the cost per delta in each block, the least of several runs of one length.

    There are 64 blocks, or 16 where costs come rarely.
    """
    costs = [min(block) for block in zip(*map(cost_per_delta, runs), strict=True)]
    steps = sum(abs(after - before) for before, after in pairwise(costs))
    if steps <= THRESHOLDS.bumpy_part * sum(costs):
        return costs
    merged = THRESHOLDS.merged_blocks
    return [fmean(costs[start : start + merged]) for start in range(0, BLOCKS, merged)]


def cost_at_edge(costs: Sequence[float], edge: int) -> float:
    """Return the cost per delta just before a block edge, from 1 on."""
    return fmean(costs[max(0, edge - 2) : edge])


def late_growth(runs: Sequence[Run], part: float = 1.0) -> float:
    """Return by how much more a delta costs at the end than at a quarter of the way.

    `part` looks at the first part of the runs only, as if they had ended there.
    """
    costs = block_costs(runs)
    quarter, end = (max(1, round(part * edge)) for edge in (len(costs) // 4, len(costs)))
    return cost_at_edge(costs, end) - cost_at_edge(costs, quarter)
