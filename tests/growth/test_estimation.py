"""Superlinear shares and verdicts, estimated from made-up runs whose true share is known.

A `Run` records the cost of a stream up to each edge between its 64 blocks, and of its finish, which
is the work after the last delta. A share is the part of that cost that exceeds linear growth. A
vote is one of eight estimates of the share from one run. To carry a share means to extrapolate it
to a longer stream. Counts (allocated bytes, calls) are exact; times need several runs.
"""

import doctest
import math
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pytest_streamperf.growth import estimation
from pytest_streamperf.growth.cost_curve import (
    block_costs,
    cost_at_edge,
    cost_per_delta,
    late_growth,
    longest_runs,
)
from pytest_streamperf.growth.estimation import (
    NO_EXCESS,
    carried,
    cost_curve,
    counted_shares,
    counted_verdict,
    finish_excess,
    finish_growth,
    half_at,
    interval,
    steady_share,
    suspicious,
    timed_verdict,
    votes,
)
from pytest_streamperf.growth.metered_stream import BLOCKS, Run
from pytest_streamperf.growth.thresholds import THRESHOLDS

# The default maximum length of a growth check, in deltas, and lengths of runs up to it.
MAX_LENGTH = 20_000
LENGTHS = (78, 312, 1_250, 5_000, 10_000, 20_000)
# The default limit of a growth check: the largest superlinear share that is within.
LIMIT = 0.25
# Number of timed runs of one length. Not measured: the runs are equal, so that more of them would
# change no verdict. A real check makes at most 160 (`Thresholds.max_timed_runs`).
MANY_RUNS = 40

# Strategies for shares, for factors between two lengths, and for costs in any unit.
SHARES = st.floats(0, 1)
FACTORS = st.integers(1, 1_000)
PRICES = st.floats(0.01, 1e6)


def block_edges(length):
    """Return the edges between the blocks of a run of this length, in deltas."""
    return tuple(length * block // BLOCKS for block in range(BLOCKS + 1))


def climbing_run(length, base, slope, finish=0.0):
    """Return a run in which delta `i` costs exactly `base + slope * i`."""
    spent = tuple(base * edge + slope * edge**2 / 2 for edge in block_edges(length))
    return Run(length, block_edges(length), spent, finish)


def run_from_costs(costs, finish=0.0):
    """Return a run from the cost of each of its deltas."""
    costs = list(costs)
    spent = list(accumulate(costs, initial=0.0))
    edges = block_edges(len(costs))
    return Run(len(costs), edges, tuple(spent[edge] for edge in edges), finish)


def run_with_spikes(length, base, spikes):
    """Return a run in which delta `i` costs `base`, plus `spikes[i]` if there is one."""
    edges = block_edges(length)
    spike_costs = [
        sum(cost for index, cost in spikes.items() if start <= index < end)
        for start, end in pairwise(edges)
    ]
    spent = (
        base * edge + spent_on_spikes
        for edge, spent_on_spikes in zip(edges, accumulate(spike_costs, initial=0), strict=True)
    )
    return Run(length, edges, tuple(spent), 0.0)


def true_share(length, base, slope):
    """Return the superlinear share by its definition, for a cost of `base + slope * i`."""
    return slope * length / 2 / (base + slope * length / 2)


def verdict_by_counts(runs, limit=LIMIT, max_length=MAX_LENGTH, metric="allocated_bytes"):
    """Return the first verdict that counts give while runs are added one by one.

    A verdict on a run below a quarter of the maximum length does not end the search.
    """
    for count in range(1, len(runs) + 1):
        verdict = counted_verdict(metric, runs[:count], limit, max_length)
        if verdict and runs[count - 1].length >= max_length // 4:
            return verdict
    return counted_verdict(metric, runs, limit, max_length)


def counts_or_times_exceed(make_run):
    """Return whether counts or times exceed the limit for `make_run(length)`, at any length."""
    runs = [make_run(length) for length in LENGTHS]
    by_count = [
        counted_verdict("calls", runs[:count], LIMIT, MAX_LENGTH)
        for count in range(1, len(runs) + 1)
    ]
    by_time = [
        timed_verdict([run] * MANY_RUNS, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) for run in runs
    ]
    return "exceeded" in (*by_count, *by_time)


# -- shares that are carried to another length


@given(SHARES, FACTORS, FACTORS)
def test_carrying_composes(share, first_factor, second_factor):
    """Carrying a share in two steps gives the same share as carrying it in one step."""
    halfway = carried(share, 100, 100 * first_factor)
    assert carried(
        halfway, 100 * first_factor, 100 * first_factor * second_factor
    ) == pytest.approx(carried(share, 100, 100 * first_factor * second_factor), rel=1e-6)


@given(PRICES, PRICES, FACTORS)
def test_carried_is_the_share_there(base, slope, factor):
    """The carried share of a cost with constant slope is its true share at the longer length."""
    short, long = true_share(100, base, slope), true_share(100 * factor, base, slope)
    assume(short < 1)
    assert carried(short, 100, 100 * factor) == pytest.approx(long, rel=1e-6)


@given(SHARES)
def test_carried_nowhere(share):
    """A share that is carried to its own length does not change."""
    assert carried(share, 100, 100) == pytest.approx(share)


@given(SHARES, SHARES, FACTORS)
def test_carrying_keeps_the_order(first_share, second_share, factor):
    """The larger of two shares is still the larger one after both are carried."""
    smaller, larger = sorted((first_share, second_share))
    assert carried(smaller, 100, 100 * factor) <= carried(larger, 100, 100 * factor)


@given(st.floats(-2, 1), FACTORS)
def test_carried_is_a_share(vote, factor):
    """A carried share is between 0 and 1, even if the estimate was below 0."""
    assert 0 <= carried(vote, 100, 100 * factor) <= 1


@given(st.floats(-2, 0), FACTORS)
def test_falling_cost_is_no_growth_anywhere(vote, factor):
    """An estimate of 0 or below, from a falling cost, is carried to a share of 0."""
    assert carried(vote, 100, 100 * factor) == 0


# -- costs


@given(st.lists(st.integers(0, 1_000), min_size=BLOCKS, max_size=300))
def test_per_delta_is_the_mean_of_each_block(costs):
    """The cost per delta in a block is the mean of the costs of its deltas."""
    edges = block_edges(len(costs))
    means = [sum(costs[start:end]) / (end - start) for start, end in pairwise(edges)]
    assert cost_per_delta(run_from_costs(costs)) == pytest.approx(means)


def test_empty_blocks_cost_what_the_one_before_does():
    """An empty block, in a run of fewer deltas than blocks, has the cost of the block before it."""
    costs = cost_per_delta(run_from_costs([5, 7, 9]))
    assert len(costs) == BLOCKS
    assert sorted(set(costs)) == [0, 5, 7, 9]
    assert costs[-1] == 9


def test_least_takes_each_block_by_itself():
    """A disturbance in one of two runs does not show: each block counts its least cost."""
    quiet, first, last = [1] * 128, [1] * 128, [1] * 128
    first[0] = last[-1] = 50
    assert block_costs([run_from_costs(first), run_from_costs(last)]) == cost_per_delta(
        run_from_costs(quiet)
    )


def test_larger_blocks_where_costs_come_rarely():
    """A cost at every 100th of 6,400 deltas keeps 64 blocks, and at every 400th gives 16."""
    often, rarely = (
        [run_with_spikes(6_400, 0.01, dict.fromkeys(range(period - 1, 6_400, period), 8.0))]
        for period in (100, 400)
    )
    assert len(block_costs(often)) == BLOCKS
    assert block_costs(rarely) == pytest.approx([0.01 + 8.0 / 400] * 16)


def test_at_edge_is_the_cost_just_before_it():
    """The cost at a block edge is the mean of the two blocks before it, or of the first block."""
    costs = list(range(BLOCKS))
    assert [cost_at_edge(costs, edge) for edge in (1, 2, 16, 64)] == [0, 0.5, 14.5, 62.5]


@given(PRICES, PRICES)
def test_late_growth_is_what_the_slope_adds(base, slope):
    """`late_growth` returns three quarters of the climb, as it compares the end with a quarter."""
    run = climbing_run(6_400, base, slope)
    assert late_growth([run]) == pytest.approx(0.75 * 6_400 * slope, rel=1e-6)
    assert late_growth([run], 0.25) == pytest.approx(0.75 * 1_600 * slope, rel=1e-6)
    assert late_growth([run], 1 / 1_000) == 0.0


# -- estimates of the share


@given(PRICES, PRICES)
def test_steady_share_is_exact(base, slope):
    """If cost climbs at a constant slope, the steady share equals the true share."""
    run = climbing_run(6_400, base, slope)
    assert steady_share([run]) == pytest.approx(true_share(6_400, base, slope), rel=1e-6)


@given(PRICES, PRICES)
def test_counted_shares_are_exact(base, slope):
    """If cost climbs at a constant slope, both counted shares equal the true share."""
    share = true_share(6_400, base, slope)
    run = climbing_run(6_400, base, slope)
    assert counted_shares([run]) == pytest.approx((share, share), rel=1e-6)


@given(PRICES, PRICES)
def test_votes_are_near(base, slope):
    """If cost climbs at a constant slope, each vote is within an eighth of the true share."""
    run = climbing_run(6_400, base, slope)
    assert votes(run) == pytest.approx([true_share(6_400, base, slope)] * 8, rel=0.125)


@given(PRICES, PRICES)
def test_votes_lie_around_the_share(base, slope):
    """Four of the eight votes are below the true share; the other four are above it, or are 1."""
    run = climbing_run(6_400, base, slope)
    share = true_share(6_400, base, slope)
    below = sum(vote < share for vote in votes(run))
    above = sum(vote > share or vote == 1 for vote in votes(run))
    assert (below, above) == (4, 4)


@given(PRICES)
def test_nothing_climbs_in_linear_code(base):
    """If every delta costs the same, all estimates of the share are 0."""
    run = climbing_run(6_400, base, 0.0)
    estimates = [steady_share([run]), *counted_shares([run]), *votes(run)]
    assert estimates == pytest.approx([0.0] * 11, abs=1e-9)


@given(st.integers(64, 20_000), PRICES, PRICES)
def test_any_length_will_do(length, base, slope):
    """Blocks of unequal length change an estimate of the share by at most 5%."""
    run = climbing_run(length, base, slope)
    share = true_share(length, base, slope)
    assert steady_share([run]) == pytest.approx(share, rel=0.05)
    assert counted_shares([run]) == pytest.approx((share, share), rel=0.05)


@given(PRICES, PRICES, st.floats(0.1, 10))
def test_unit_does_not_matter(base, slope, unit):
    """The estimates of the share do not depend on the unit of the costs."""
    run = climbing_run(6_400, base, slope)
    scaled = climbing_run(6_400, base * unit, slope * unit)
    assert steady_share([run]) == pytest.approx(steady_share([scaled]), rel=1e-6)
    assert votes(run) == pytest.approx(votes(scaled), rel=1e-6)
    assert counted_shares([run]) == pytest.approx(counted_shares([scaled]), rel=1e-6)


# A strategy for the costs of the deltas of one run.
COSTS = st.lists(st.floats(0, 1e6), min_size=BLOCKS, max_size=2 * BLOCKS)


@given(COSTS, st.floats(0, 1e6), st.floats(0, 1e9))
def test_votes_are_never_above_one(costs, finish, excess):
    """No series of costs gives a vote above 1."""
    assert all(vote <= 1 for vote in votes(run_from_costs(costs, finish), excess))


@given(COSTS, st.floats(0, 1e6), st.floats(0, 1e9))
def test_steady_share_is_a_share(costs, finish, excess):
    """No series of costs gives a steady share outside 0 to 1."""
    assert 0 <= steady_share([run_from_costs(costs, finish)], excess) <= 1


@given(st.lists(st.tuples(COSTS, st.floats(0, 1e6)), min_size=1, max_size=3))
def test_counted_shares_are_shares(series):
    """Any runs give two counted shares within 0 to 1, the lower one first."""
    runs = {
        run.length: run
        for run in (run_from_costs(*costs_and_finish) for costs_and_finish in series)
    }
    low, high = counted_shares([runs[length] for length in sorted(runs)])
    assert 0 <= low <= high <= 1


@given(COSTS)
def test_interval_is_in_order(costs):
    """The interval of the share is low, median and high, in this order, within 0 to 1."""
    run = run_from_costs(costs)
    low, share, high = interval([run], NO_EXCESS, 10 * run.length)
    assert 0 <= low <= share <= high <= 1


@given(PRICES, PRICES)
def test_interval_holds_the_share(base, slope):
    """If cost climbs at a constant slope, the interval holds the share at the maximum length."""
    run = climbing_run(6_400, base, slope)
    low, share, high = interval([run] * 3, NO_EXCESS, 64_000)
    assert low <= true_share(64_000, base, slope) * 1.000001
    assert high >= true_share(64_000, base, slope) * 0.999999
    assert share == pytest.approx(true_share(64_000, base, slope), rel=0.125)


def test_nothing_spent_is_nothing_superlinear():
    """A run that cost nothing has a share of 0 and is within."""
    run = climbing_run(MAX_LENGTH, 0.0, 0.0)
    assert [steady_share([run]), *counted_shares([run]), *votes(run)] == [0.0] * 11
    assert verdict_by_counts([run]) == "within"


# -- the finish


def run_of_finish_only(length, base, square):
    """Return a run whose work, `base * n + square * n * n`, all comes after the last delta."""
    return climbing_run(length, 0.0, 0.0, finish=base * length + square * length**2)


@given(PRICES, st.integers(64, 4_999))
def test_quadratic_finish_is_all_excess(square, shorter):
    """A finish that grows with the square of the length is excess as a whole."""
    runs = [run_of_finish_only(length, 0.0, square) for length in (5_000, shorter)]
    assert finish_growth(*runs) == pytest.approx((1.0, square * 5_000**2), rel=1e-6)


@given(PRICES, PRICES, st.integers(64, 4_999))
def test_the_linear_part_of_a_finish_is_no_excess(base, square, shorter):
    """The excess of a finish is its quadratic part, however large its linear part is."""
    runs = [run_of_finish_only(length, base, square) for length in (5_000, shorter)]
    power, excess = finish_growth(*runs)
    assert 0 <= power <= 1
    assert excess == pytest.approx(square * 5_000**2, rel=1e-6, abs=base)


@given(st.floats(0, 1), st.integers(64, 4_000))
def test_the_power_that_a_finish_grows_with(power, shorter):
    """`finish_growth` returns the power of the length that a finish's cost per delta grows with."""
    runs = [climbing_run(n, 0.0, 0.0, finish=float(n) ** (1 + power)) for n in (5_000, shorter)]
    assert finish_growth(*runs)[0] == pytest.approx(power, abs=1e-6)


def test_finish_of_one_run_tells_nothing():
    """Without a pair of runs to compare, a finish has no excess."""
    assert finish_excess([]) == NO_EXCESS


def test_cheaper_finish_has_no_excess():
    """A finish that costs less per delta in the longer run has no excess."""
    runs = [climbing_run(n, 1.0, 0.0, finish=1_000.0) for n in (6_400, 640)]
    assert finish_growth(*runs) == (0.0, 0.0)


@given(PRICES, st.floats(0, 1))
def test_work_that_is_put_off_has_no_excess(per_delta, early):
    """Linear work that a slow thread puts off to the finish of the longer run is no excess."""
    runs = [
        climbing_run(n, per_delta * part, 0.0, finish=per_delta * (1 - part) * n)
        for n, part in ((20_000, early), (5_000, 1.0))
    ]
    assert finish_growth(*runs)[1] == pytest.approx(0.0, abs=per_delta)


def pairs_of_runs(*ratios, finish=1_250.0):
    """Return one pair of runs, of 20,000 and 1,250 deltas, for each ratio.

    All work but 0.01 per delta is in the finish. The cost per delta of the longer run's finish is
    `ratio` times that of the shorter one.
    """
    shorter = climbing_run(1_250, 0.01, 0.0, finish=finish)
    return [
        (climbing_run(20_000, 0.01, 0.0, finish=16 * ratio * finish), shorter) for ratio in ratios
    ]


def verdict_on_finishes(*ratios):
    """Return the verdict by time on one pair of finishes for each of these ratios."""
    compared = pairs_of_runs(*ratios)
    runs = [longer for longer, _ in compared]
    return timed_verdict(runs, finish_excess(compared), LIMIT, MAX_LENGTH, last=False)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.0, 1.0), "within"),
        ((16.0, 16.0, 16.0), "exceeded"),
        ((1.5, 1.5), None),
        ((1.5, 1.6, 1.4, 1.5, 1.4, 1.6), "within"),
        ((4.0, 3.8, 4.2), None),
        ((4.0, 3.8, 4.2, 4.0, 3.8, 4.2, 4.0), "exceeded"),
        ((16**0.35,) * MANY_RUNS, None),
        ((60.0, *[1.5] * 9), "within"),
        ((80.0, 1.0, 1.0, 1.0, 1.0, 1.0), "within"),
    ],
    ids=str,
)
def test_finishes_are_compared_until_it_is_clear(ratios, verdict):
    """Pairs of finishes are added until they show growth or its absence.

    Over 16 times the length, logarithms and caches raise the cost per delta up to twofold. More
    than threefold is quadratic work. Ratios in between need more pairs, and one disturbed pair does
    not decide.
    """
    assert verdict_on_finishes(*ratios) == verdict


@pytest.mark.parametrize("pages", [1, 16, 64])
def test_a_finish_of_n_log_n_is_within(pages):
    """A finish of n log n work, such as a sort or a heap merge, is within the limit by time."""
    longer, shorter = (
        climbing_run(n, 0.0, 0.0, finish=n * math.log(n / pages)) for n in (20_000, 1_250)
    )
    excess = finish_excess([(longer, shorter)] * MANY_RUNS)
    assert timed_verdict([longer] * MANY_RUNS, excess, LIMIT, MAX_LENGTH, last=False) == "within"


@given(PRICES, PRICES)
def test_quadratic_finish_is_counted(base, square):
    """The counted shares equal the true share of quadratic work in the finish."""
    runs = [climbing_run(n, base, 0.0, finish=square * n * n) for n in (1_280, 5_120, 20_480)]
    share = square * 20_480 / (base + square * 20_480)
    assert counted_shares(runs) == pytest.approx((share, share), rel=1e-6, abs=1e-9)


def test_linear_finish_is_within():
    """A linear finish, such as a join, is within the limit by counts and by time."""
    runs = [climbing_run(n, 1.0, 0.0, finish=7.0 * n) for n in LENGTHS]
    assert verdict_by_counts(runs) == "within"
    excess = finish_excess([(runs[-1], runs[-2])])
    assert timed_verdict([runs[-1]] * 2, excess, LIMIT, MAX_LENGTH, last=False) == "within"


# -- cost curves


def test_along_an_octave_apart():
    """The cost curve has seven points, an octave apart, with the cost per delta at each length."""
    run = climbing_run(6_400, 1.0, 0.01)
    points = list(cost_curve([run]).points)
    assert [length for length, _ in points] == [100, 200, 400, 800, 1_600, 3_200, 6_400]
    for length, cost in points[1:]:
        assert cost == pytest.approx(1.0 + 0.01 * (length - 100))


def test_along_with_rare_costs():
    """If costs come once in 400 deltas, the cost curve has no point below that length."""
    run = run_with_spikes(6_400, 0.01, dict.fromkeys(range(399, 6_400, 400), 8.0))
    assert list(cost_curve([run]).points) == [
        (n, pytest.approx(0.03)) for n in (400, 800, 1_600, 3_200, 6_400)
    ]


def test_along_takes_the_longest_and_the_least():
    """The cost curve shows the longest runs alone, and the least cost of these in each block."""
    quiet, disturbed, shorter = (
        climbing_run(length, base, 0.0) for length, base in ((6_400, 2.0), (6_400, 3.0), (640, 1.0))
    )
    assert {cost for _, cost in list(cost_curve([shorter, disturbed, quiet]).points)} == {2.0}
    assert longest_runs([shorter, disturbed, quiet]) == [disturbed, quiet]


def test_along_a_finish():
    """If most work is in the finish, each point of the cost curve is a run's total per delta."""
    runs = [run_of_finish_only(length, 1.0, 0.5) for length in LENGTHS]
    assert cost_curve(runs).mostly_finish
    assert list(cost_curve(runs).points) == [
        (length, pytest.approx(1.0 + 0.5 * length)) for length in LENGTHS
    ]


@given(st.floats(1e-6, 1), st.integers(64, 10**9))
def test_half_of_the_work(share, length):
    """A share that is carried to the length that `half_at` returns is a half."""
    half_length = half_at(share, length)
    assume(half_length > 100)
    assert carried(share, length, half_length) == pytest.approx(0.5, abs=0.01) or share == 1.0


def test_no_share_is_never_a_half():
    """`half_at` returns None for linear work, as its share is a half at no length."""
    assert half_at(0.0, 20_000) is None


# -- verdicts on growth


@given(st.floats(0.4, 1), PRICES)
def test_quadratic_code_always_exceeds_by_count(share, base):
    """A share from 40% to 100% at the maximum length exceeds the limit of 25% by counts."""
    slope = 2 * base / MAX_LENGTH * min(share / (1 - share), 1e6) if share < 1 else base
    base = base if share < 1 else 0.0
    runs = [climbing_run(length, base, slope) for length in LENGTHS]
    assert verdict_by_counts(runs, metric="calls") == "exceeded"


@given(st.floats(0.4, 1), PRICES)
def test_quadratic_code_always_exceeds_by_time(share, base):
    """Three noiseless timed runs with a share from 40% to 100% exceed the limit of 25%."""
    slope = 2 * base / MAX_LENGTH * min(share / (1 - share), 1e6) if share < 1 else base
    base = base if share < 1 else 0.0
    run = climbing_run(MAX_LENGTH, base, slope)
    assert timed_verdict([run] * 3, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "exceeded"


@given(st.sampled_from(LENGTHS), PRICES)
def test_linear_code_is_always_within(length, base):
    """A constant cost per delta is within at every length, by counts and by time."""
    run = climbing_run(length, base, 0.0)
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@given(st.sampled_from(LENGTHS), st.floats(0, 0.9), PRICES)
def test_falling_cost_is_always_within(length, fall, base):
    """A falling cost per delta is within at every length, by counts and by time."""
    run = climbing_run(length, base, -fall * base / length)
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@given(st.integers(1, 20_000), PRICES, PRICES)
def test_periodic_spikes_never_exceed(period, base, spike):
    """A flush of constant cost at every n-th delta never exceeds, however dear it is."""
    spikes = dict.fromkeys(range(period, MAX_LENGTH, period), spike)
    assert not counts_or_times_exceed(lambda length: run_with_spikes(length, base, spikes))


@given(st.integers(50, MAX_LENGTH // 16), st.floats(0, 0.2))
def test_growing_work_in_batches_exceeds(period, base):
    """A scan of the whole text at every n-th delta is quadratic work, and exceeds by time."""
    spikes = {index: float(period * index) for index in range(period - 1, MAX_LENGTH, period)}
    run = run_with_spikes(MAX_LENGTH, base * MAX_LENGTH, spikes)
    assert timed_verdict([run] * 4, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "exceeded"


@given(st.integers(50, MAX_LENGTH // 64), st.floats(0, 0.2))
def test_growing_work_in_batches_exceeds_by_count(period, base):
    """Counts of two lengths that each hold 16 or more scans of the whole text exceed."""
    spikes = {index: float(period * index) for index in range(period - 1, MAX_LENGTH, period)}
    runs = [run_with_spikes(n, base * MAX_LENGTH, spikes) for n in (MAX_LENGTH // 4, MAX_LENGTH)]
    assert counted_verdict("allocated_bytes", runs, LIMIT, MAX_LENGTH) == "exceeded"


@given(st.integers(50, MAX_LENGTH // 16), PRICES)
def test_periodic_spikes_are_within(period, spike):
    """A constant cost at every n-th delta is within, by counts and by time."""
    run = run_with_spikes(
        MAX_LENGTH, 1.0, dict.fromkeys(range(period - 1, MAX_LENGTH, period), spike)
    )
    assert timed_verdict([run] * MANY_RUNS, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"


@pytest.mark.parametrize("ratio", [1.125, 2, 3, 4, 8])
@settings(max_examples=15)  # for each ratio
@given(first=st.floats(4, 64), base=st.sampled_from([0.0, 0.01, 1.0, 10.0]), item_price=PRICES)
def test_growing_containers_never_exceed(ratio, first, base, item_price):
    """A container that grows by a constant factor whenever it is full never exceeds."""
    spikes, capacity = {}, first
    while capacity < MAX_LENGTH:
        spikes[int(capacity)] = item_price * capacity
        capacity *= ratio
    assert not counts_or_times_exceed(
        lambda length: run_with_spikes(length, base * item_price, spikes)
    )


@given(st.integers(0, MAX_LENGTH), PRICES, PRICES)
def test_one_step_never_exceeds(index, before, after):
    """A cost that changes once, as when a window is full and slides, never exceeds."""

    def make_run(length):
        edges = block_edges(length)
        spent = (min(edge, index) * before + max(0, edge - index) * after for edge in edges)
        return Run(length, edges, tuple(spent), 0.0)

    assert not counts_or_times_exceed(make_run)


@pytest.mark.parametrize("index", [3_000, 9_000, 13_000, 19_000])
def test_one_large_cost_is_within(index):
    """A single late cost, as when a large container is moved in memory, is within by time."""
    run = run_with_spikes(MAX_LENGTH, 1.0, {index: 0.8 * MAX_LENGTH})
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@given(st.integers(0, MAX_LENGTH), PRICES)
def test_one_late_spike_never_exceeds(index, spike):
    """A single costly delta never exceeds, at any place in the stream."""
    assert not counts_or_times_exceed(lambda length: run_with_spikes(length, 1.0, {index: spike}))


@pytest.mark.parametrize("base", [0.0, 1.0])
def test_log_linear_code_is_within(base):
    """Work of n log n is within at the default maximum length, by counts and by time."""
    runs = [
        run_from_costs(base + math.log2(index + 1) for index in range(length)) for length in LENGTHS
    ]
    assert verdict_by_counts(runs, metric="calls") == "within"
    assert timed_verdict([runs[-1]] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@pytest.mark.parametrize("length", [300, 1_000, 5_000, 20_000])
def test_log_linear_code_has_a_small_share(length):
    """The share of n log n work is below 20% from 300 deltas on."""
    run = run_from_costs(math.log2(index + 1) for index in range(length))
    assert max(steady_share([run]), counted_shares([run])[0]) < 0.2


def test_bound_is_carried_to_the_max_length():
    """A short run does not pass if its share, carried to the maximum length, exceeds the limit."""
    run = climbing_run(1_000, 1.0, 2e-4)  # a share of 9%, and of 67% at 20,000 deltas
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) is None
    assert timed_verdict([run] * MANY_RUNS, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_bound_is_enough_to_pass():
    """A short run passes if its share, carried to the maximum length, is below the limit."""
    run = climbing_run(1_000, 1.0, 1e-5)  # a share of 0.5%, and of 9% at 20,000 deltas
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


def test_extrapolation_is_not_enough_to_fail():
    """Time does not fail a short run whose carried share alone exceeds the limit."""
    run = climbing_run(1_000, 1.0, 4e-4)  # a share of 17%, and of 80% at 20,000 deltas
    assert timed_verdict([run] * MANY_RUNS, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_one_timed_run_is_not_enough():
    """A single timed run never fails, and passes only if a second run cannot be afforded."""
    flat = climbing_run(MAX_LENGTH, 1.0, 0.0)
    steep = climbing_run(MAX_LENGTH, 0.0, 1.0)
    assert timed_verdict([flat], NO_EXCESS, LIMIT, MAX_LENGTH, last=False) is None
    assert timed_verdict([flat], NO_EXCESS, LIMIT, MAX_LENGTH, last=True) == "within"
    assert timed_verdict([steep], NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_two_timed_runs_do_not_fail():
    """Two timed runs never fail, as both may be disturbed: a failure takes three."""
    steep = climbing_run(MAX_LENGTH, 0.0, 1.0)
    assert timed_verdict([steep] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_one_disturbed_run_does_not_fail():
    """Two undisturbed runs outvote one that was slowed down halfway."""
    quiet = climbing_run(MAX_LENGTH, 1.0, 0.0)
    disturbed = run_from_costs([1.0] * 10_000 + [9.0] * 10_000)
    assert timed_verdict([disturbed, quiet], NO_EXCESS, LIMIT, MAX_LENGTH, last=False) is None
    runs = [disturbed, quiet, quiet]
    assert timed_verdict(runs, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


def test_share_at_the_limit_is_not_told_by_time():
    """A share equal to the limit gives no verdict by time, after any number of runs."""
    run = climbing_run(MAX_LENGTH, 1.0, 2 / 3 / MAX_LENGTH)  # a share of 25%
    assert timed_verdict([run] * MANY_RUNS, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


@pytest.mark.parametrize(("limit", "verdict"), [(0.49, "exceeded"), (0.51, "within")])
def test_counts_are_held_against_the_limit(limit, verdict):
    """A share of 50% by counts exceeds a limit of 49% and is within one of 51%."""
    runs = [climbing_run(length, 1.0, 2 / MAX_LENGTH) for length in (MAX_LENGTH // 4, MAX_LENGTH)]
    assert counted_verdict("calls", runs, limit, MAX_LENGTH) == verdict  # the share is 50%


@pytest.mark.parametrize(("limit", "verdict"), [(0.4, "exceeded"), (0.6, "within")])
def test_times_are_held_against_the_limit(limit, verdict):
    """A share of 50% by time exceeds a limit of 40% and is within one of 60%."""
    run = climbing_run(MAX_LENGTH, 1.0, 2 / MAX_LENGTH)  # a share of 50%
    assert timed_verdict([run] * 3, NO_EXCESS, limit, MAX_LENGTH, last=False) == verdict


def test_limit_of_one_accepts_everything():
    """A limit of 100% accepts even work that is all superlinear."""
    run = climbing_run(MAX_LENGTH, 0.0, 1.0)
    assert counted_verdict("calls", [run], 1.0, MAX_LENGTH) == "within"


def test_no_counts_no_verdict():
    """Counts give no verdict before the first run."""
    assert counted_verdict("allocated_bytes", [], LIMIT, MAX_LENGTH) is None


def test_small_length_alone_does_not_fail():
    """Far below the maximum length, counts need two lengths to fail, as one step is no growth."""
    runs = [climbing_run(length, 0.0, 1.0) for length in (78, 312)]
    assert counted_verdict("calls", runs[:1], LIMIT, MAX_LENGTH) is None
    assert counted_verdict("calls", runs, LIMIT, MAX_LENGTH) == "exceeded"


def test_small_copies_are_not_growth():
    """A slope below the threshold is within for allocated bytes, and undecided for calls."""
    slopes = (factor * THRESHOLDS.min_allocation_slope_bytes for factor in (0.9, 1.1))
    runs = [climbing_run(1_250, 1_000.0, slope) for slope in slopes]
    assert counted_verdict("allocated_bytes", runs[:1], LIMIT, MAX_LENGTH) == "within"
    assert counted_verdict("allocated_bytes", runs[1:], LIMIT, MAX_LENGTH) is None
    assert counted_verdict("calls", runs[:1], LIMIT, MAX_LENGTH) is None


def test_suspicious_runs():
    """A run is suspicious if most of its votes are over the limit."""
    assert suspicious(climbing_run(1_250, 0.0, 1.0), 0.0, LIMIT)
    assert not suspicious(climbing_run(1_250, 1.0, 0.0), 0.0, LIMIT)


def test_excess_makes_a_run_suspicious():
    """A flat run is suspicious if its finish has a large enough excess."""
    run = climbing_run(1_250, 1.0, 0.0, finish=1_250.0)
    assert suspicious(run, 1_250.0, LIMIT)


def test_docstring_examples():
    """The doctests of the module `estimation` pass."""
    assert doctest.testmod(estimation).failed == 0
