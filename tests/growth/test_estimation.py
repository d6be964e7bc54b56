"""What it means: shares and verdicts of series whose answer is known."""

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

MAX_LENGTH = 20_000
LENGTHS = (78, 312, 1_250, 5_000, 10_000, 20_000)
LIMIT = 0.25
# More runs of one length than a check ever makes: whatever is not said by then never will be.
MANY = 40

SHARES = st.floats(0, 1)
FACTORS = st.integers(1, 1_000)
PRICES = st.floats(0.01, 1e6)


def edges_of(length):
    """Give the edges between the blocks of a run."""
    return tuple(length * block // BLOCKS for block in range(BLOCKS + 1))


def linear_and_quadratic(length, base, slope, finish=0.0):
    """Record a run in which delta `i` costs `base + slope * i`, exactly."""
    spent = tuple(base * edge + slope * edge**2 / 2 for edge in edges_of(length))
    return Run(length, edges_of(length), spent, finish)


def run_of(costs, finish=0.0):
    """Record a run from the cost of each delta."""
    costs = list(costs)
    spent = list(accumulate(costs, initial=0.0))
    edges = edges_of(len(costs))
    return Run(len(costs), edges, tuple(spent[edge] for edge in edges), finish)


def with_spikes(length, base, spikes):
    """Record a run in which delta `i` costs `base`, and `spikes[i]` on top."""
    edges = edges_of(length)
    on_top = [
        sum(cost for at, cost in spikes.items() if start <= at < end)
        for start, end in pairwise(edges)
    ]
    spent = (
        base * edge + sum_ for edge, sum_ in zip(edges, accumulate(on_top, initial=0), strict=True)
    )
    return Run(length, edges, tuple(spent), 0.0)


def share_of(length, base, slope):
    """Work out the share by its definition."""
    return slope * length / 2 / (base + slope * length / 2)


def counted(runs, limit=LIMIT, max_length=MAX_LENGTH, metric="allocated_bytes"):
    """Say what counts conclude as runs are added, until they conclude something."""
    for more in range(1, len(runs) + 1):
        verdict = counted_verdict(metric, runs[:more], limit, max_length)
        if verdict and runs[more - 1].length >= max_length // 4:
            return verdict
    return counted_verdict(metric, runs, limit, max_length)


def ever_exceeded(make):
    """Tell whether any meter, at any length, ever says of `make(length)` that it exceeds."""
    runs = [make(length) for length in LENGTHS]
    by_count = [
        counted_verdict("calls", runs[:more], LIMIT, MAX_LENGTH) for more in range(1, len(runs) + 1)
    ]
    by_time = [timed_verdict([run] * MANY, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) for run in runs]
    return "exceeded" in (*by_count, *by_time)


# -- shares, carried to another length


@given(SHARES, FACTORS, FACTORS)
def test_carrying_composes(share, one, other):
    """Carried there and on from there is carried all the way."""
    halfway = carried(share, 100, 100 * one)
    assert carried(halfway, 100 * one, 100 * one * other) == pytest.approx(
        carried(share, 100, 100 * one * other), rel=1e-6
    )


@given(PRICES, PRICES, FACTORS)
def test_carried_is_the_share_there(base, slope, factor):
    """Carried, the share of a cost that climbs evenly is what it is at that length."""
    here, there = share_of(100, base, slope), share_of(100 * factor, base, slope)
    assume(here < 1)
    assert carried(here, 100, 100 * factor) == pytest.approx(there, rel=1e-6)


@given(SHARES)
def test_carried_nowhere(share):
    """At its own length a share is what it is."""
    assert carried(share, 100, 100) == pytest.approx(share)


@given(SHARES, SHARES, FACTORS)
def test_carrying_keeps_the_order(one, other, factor):
    """A greater share is the greater one at any length."""
    less, more = sorted((one, other))
    assert carried(less, 100, 100 * factor) <= carried(more, 100, 100 * factor)


@given(st.floats(-2, 1), FACTORS)
def test_carried_is_a_share(vote, factor):
    """What is carried is a share, also of an estimate below zero."""
    assert 0 <= carried(vote, 100, 100 * factor) <= 1


@given(st.floats(-2, 0), FACTORS)
def test_falling_cost_is_no_growth_anywhere(vote, factor):
    """Where cost falls there is no growth, however far it is carried."""
    assert carried(vote, 100, 100 * factor) == 0


# -- costs


@given(st.lists(st.integers(0, 1_000), min_size=BLOCKS, max_size=300))
def test_per_delta_is_the_mean_of_each_block(costs):
    """The cost of a block is what its deltas cost on average."""
    edges = edges_of(len(costs))
    means = [sum(costs[start:end]) / (end - start) for start, end in pairwise(edges)]
    assert cost_per_delta(run_of(costs)) == pytest.approx(means)


def test_empty_blocks_cost_what_the_one_before_does():
    """A run of fewer deltas than blocks has a cost in each all the same."""
    costs = cost_per_delta(run_of([5, 7, 9]))
    assert len(costs) == BLOCKS
    assert sorted(set(costs)) == [0, 5, 7, 9]
    assert costs[-1] == 9


def test_least_takes_each_block_by_itself():
    """A disturbance in one run does not show where another was left alone."""
    quiet, first, last = [1] * 128, [1] * 128, [1] * 128
    first[0] = last[-1] = 50
    assert block_costs([run_of(first), run_of(last)]) == cost_per_delta(run_of(quiet))


def test_larger_blocks_where_costs_come_rarely():
    """A flush every so many deltas is in every one of 16 blocks, if not in every one of 64."""
    often, rarely = (
        [with_spikes(6_400, 0.01, dict.fromkeys(range(period - 1, 6_400, period), 8.0))]
        for period in (100, 400)
    )
    assert len(block_costs(often)) == BLOCKS
    assert block_costs(rarely) == pytest.approx([0.01 + 8.0 / 400] * 16)


def test_at_edge_is_the_cost_just_before_it():
    """The cost at an edge is the mean of the two blocks before it, of one at the start."""
    costs = list(range(BLOCKS))
    assert [cost_at_edge(costs, edge) for edge in (1, 2, 16, 64)] == [0, 0.5, 14.5, 62.5]


@given(PRICES, PRICES)
def test_late_growth_is_what_the_slope_adds(base, slope):
    """From a quarter of the way to its end, three quarters of the whole climb are added."""
    run = linear_and_quadratic(6_400, base, slope)
    assert late_growth([run]) == pytest.approx(0.75 * 6_400 * slope, rel=1e-6)
    assert late_growth([run], 0.25) == pytest.approx(0.75 * 1_600 * slope, rel=1e-6)
    assert late_growth([run], 1 / 1_000) == 0.0


# -- estimates of the share


@given(PRICES, PRICES)
def test_steady_share_is_exact(base, slope):
    """Where cost climbs evenly the steady share is the share."""
    run = linear_and_quadratic(6_400, base, slope)
    assert steady_share([run]) == pytest.approx(share_of(6_400, base, slope), rel=1e-6)


@given(PRICES, PRICES)
def test_counted_shares_are_exact(base, slope):
    """Where cost climbs evenly counts show the share, and nothing less or more."""
    share = share_of(6_400, base, slope)
    run = linear_and_quadratic(6_400, base, slope)
    assert counted_shares([run]) == pytest.approx((share, share), rel=1e-6)


@given(PRICES, PRICES)
def test_votes_are_near(base, slope):
    """Where cost climbs evenly each vote is within an eighth of the share."""
    run = linear_and_quadratic(6_400, base, slope)
    assert votes(run) == pytest.approx([share_of(6_400, base, slope)] * 8, rel=0.125)


@given(PRICES, PRICES)
def test_votes_lie_around_the_share(base, slope):
    """Half of the votes are below the share and half above, or as high as can be."""
    run = linear_and_quadratic(6_400, base, slope)
    share = share_of(6_400, base, slope)
    below = sum(vote < share for vote in votes(run))
    above = sum(vote > share or vote == 1 for vote in votes(run))
    assert (below, above) == (4, 4)


@given(PRICES)
def test_nothing_climbs_in_linear_code(base):
    """Where every delta costs the same all estimates are zero."""
    run = linear_and_quadratic(6_400, base, 0.0)
    estimates = [steady_share([run]), *counted_shares([run]), *votes(run)]
    assert estimates == pytest.approx([0.0] * 11, abs=1e-9)


@given(st.integers(64, 20_000), PRICES, PRICES)
def test_any_length_will_do(length, base, slope):
    """Blocks of unequal length change an estimate by little."""
    run = linear_and_quadratic(length, base, slope)
    share = share_of(length, base, slope)
    assert steady_share([run]) == pytest.approx(share, rel=0.05)
    assert counted_shares([run]) == pytest.approx((share, share), rel=0.05)


@given(PRICES, PRICES, st.floats(0.1, 10))
def test_unit_does_not_matter(base, slope, unit):
    """A share is the same in seconds and in milliseconds."""
    one = linear_and_quadratic(6_400, base, slope)
    other = linear_and_quadratic(6_400, base * unit, slope * unit)
    assert steady_share([one]) == pytest.approx(steady_share([other]), rel=1e-6)
    assert votes(one) == pytest.approx(votes(other), rel=1e-6)
    assert counted_shares([one]) == pytest.approx(counted_shares([other]), rel=1e-6)


COSTS = st.lists(st.floats(0, 1e6), min_size=BLOCKS, max_size=2 * BLOCKS)


@given(COSTS, st.floats(0, 1e6), st.floats(0, 1e9))
def test_votes_are_never_above_one(costs, finish, excess):
    """No series, however wild, is more than all superlinear."""
    assert all(vote <= 1 for vote in votes(run_of(costs, finish), excess))


@given(COSTS, st.floats(0, 1e6), st.floats(0, 1e9))
def test_steady_share_is_a_share(costs, finish, excess):
    """No series, however wild, has a steady share outside 0 to 1."""
    assert 0 <= steady_share([run_of(costs, finish)], excess) <= 1


@given(st.lists(st.tuples(COSTS, st.floats(0, 1e6)), min_size=1, max_size=3))
def test_counted_shares_are_shares(series):
    """No series, however wild, has counted shares outside 0 to 1, or in the wrong order."""
    runs = {run.length: run for run in (run_of(*each) for each in series)}
    low, high = counted_shares([runs[length] for length in sorted(runs)])
    assert 0 <= low <= high <= 1


@given(COSTS)
def test_interval_is_in_order(costs):
    """The interval is three shares: low, median and high."""
    run = run_of(costs)
    low, share, high = interval([run], NO_EXCESS, 10 * run.length)
    assert 0 <= low <= share <= high <= 1


@given(PRICES, PRICES)
def test_interval_holds_the_share(base, slope):
    """Where cost climbs evenly the share at the max_length is in the interval."""
    run = linear_and_quadratic(6_400, base, slope)
    low, share, high = interval([run] * 3, NO_EXCESS, 64_000)
    assert low <= share_of(64_000, base, slope) * 1.000001
    assert high >= share_of(64_000, base, slope) * 0.999999
    assert share == pytest.approx(share_of(64_000, base, slope), rel=0.125)


def test_nothing_spent_is_nothing_superlinear():
    """A run that cost nothing has a share of zero, and is within."""
    run = linear_and_quadratic(MAX_LENGTH, 0.0, 0.0)
    assert [steady_share([run]), *counted_shares([run]), *votes(run)] == [0.0] * 11
    assert counted([run]) == "within"


# -- the finish


def all_finish(length, base, square):
    """Record a run that leaves all its work to the end: `base * n + square * n * n`."""
    return linear_and_quadratic(length, 0.0, 0.0, finish=base * length + square * length**2)


@given(PRICES, st.integers(64, 4_999))
def test_quadratic_finish_is_all_excess(square, shorter):
    """Of a finish that grows with the square of the length, everything is excess."""
    runs = [all_finish(length, 0.0, square) for length in (5_000, shorter)]
    assert finish_growth(*runs) == pytest.approx((1.0, square * 5_000**2), rel=1e-6)


@given(PRICES, PRICES, st.integers(64, 4_999))
def test_the_linear_part_of_a_finish_is_no_excess(base, square, shorter):
    """However great it is."""
    runs = [all_finish(length, base, square) for length in (5_000, shorter)]
    power, part = finish_growth(*runs)
    assert 0 <= power <= 1
    assert part == pytest.approx(square * 5_000**2, rel=1e-6, abs=base)


@given(st.floats(0, 1), st.integers(64, 4_000))
def test_the_power_that_a_finish_grows_with(power, shorter):
    """Whichever lengths are compared."""
    runs = [
        linear_and_quadratic(n, 0.0, 0.0, finish=float(n) ** (1 + power)) for n in (5_000, shorter)
    ]
    assert finish_growth(*runs)[0] == pytest.approx(power, abs=1e-6)


def test_finish_of_one_run_tells_nothing():
    """A finish can only be compared with that of a shorter run."""
    assert finish_excess([]) == NO_EXCESS


def test_cheaper_finish_has_no_excess():
    """A finish that costs less per delta in a longer run does not grow."""
    runs = [linear_and_quadratic(n, 1.0, 0.0, finish=1_000.0) for n in (6_400, 640)]
    assert finish_growth(*runs) == (0.0, 0.0)


@given(PRICES, st.floats(0, 1))
def test_work_that_is_put_off_has_no_excess(per_delta, early):
    """A thread that lags behind leaves more to the finish of one run than to that of another."""
    runs = [
        linear_and_quadratic(n, per_delta * part, 0.0, finish=per_delta * (1 - part) * n)
        for n, part in ((20_000, early), (5_000, 1.0))
    ]
    assert finish_growth(*runs)[1] == pytest.approx(0.0, abs=per_delta)


def pairs(*ratios, finish=1_250.0):
    """Runs of 20,000 and of 1,250 deltas, where a delta costs so many times as much."""
    shorter = linear_and_quadratic(1_250, 0.01, 0.0, finish=finish)
    return [
        (linear_and_quadratic(20_000, 0.01, 0.0, finish=16 * ratio * finish), shorter)
        for ratio in ratios
    ]


def finished(*ratios):
    """The verdict on them."""
    found = pairs(*ratios)
    runs = [run for run, _ in found]
    return timed_verdict(runs, finish_excess(found), LIMIT, MAX_LENGTH, last=False)


@pytest.mark.parametrize(
    ("ratios", "verdict"),
    [
        ((1.0, 1.0), "within"),
        ((16.0, 16.0, 16.0), "exceeded"),
        ((1.5, 1.5), None),
        ((1.5, 1.6, 1.4, 1.5, 1.4, 1.6), "within"),
        ((4.0, 3.8, 4.2), None),
        ((4.0, 3.8, 4.2, 4.0, 3.8, 4.2, 4.0), "exceeded"),
        ((16**0.35,) * MANY, None),
        ((60.0, *[1.5] * 9), "within"),
        ((80.0, 1.0, 1.0, 1.0, 1.0, 1.0), "within"),
    ],
    ids=str,
)
def test_finishes_are_compared_until_it_is_clear(ratios, verdict):
    """Up to twice in 16 times the length is a logarithm, or the caches; over three times is not.

    The nearer to that, the more pairs it takes; one that was disturbed weighs as one.
    """
    assert finished(*ratios) == verdict


@pytest.mark.parametrize("pages", [1, 16, 64])
def test_a_finish_of_n_log_n_is_within(pages):
    """A sort, a heap: it is no nearer to quadratic than what caches cost."""
    longer, shorter = (
        linear_and_quadratic(n, 0.0, 0.0, finish=n * math.log(n / pages)) for n in (20_000, 1_250)
    )
    excess = finish_excess([(longer, shorter)] * MANY)
    assert timed_verdict([longer] * MANY, excess, LIMIT, MAX_LENGTH, last=False) == "within"


@given(PRICES, PRICES)
def test_quadratic_finish_is_counted(base, square):
    """Work put off to the end shows in the counted shares, exactly."""
    runs = [
        linear_and_quadratic(n, base, 0.0, finish=square * n * n) for n in (1_280, 5_120, 20_480)
    ]
    share = square * 20_480 / (base + square * 20_480)
    assert counted_shares(runs) == pytest.approx((share, share), rel=1e-6, abs=1e-9)


def test_linear_finish_is_within():
    """A join at the end passes on every meter."""
    runs = [linear_and_quadratic(n, 1.0, 0.0, finish=7.0 * n) for n in LENGTHS]
    assert counted(runs) == "within"
    excess = finish_excess([(runs[-1], runs[-2])])
    assert timed_verdict([runs[-1]] * 2, excess, LIMIT, MAX_LENGTH, last=False) == "within"


# -- along the way


def test_along_an_octave_apart():
    """Seven lengths, and what a delta costs just before each."""
    run = linear_and_quadratic(6_400, 1.0, 0.01)
    found = list(cost_curve([run]).points)
    assert [length for length, _ in found] == [100, 200, 400, 800, 1_600, 3_200, 6_400]
    for length, cost in found[1:]:
        assert cost == pytest.approx(1.0 + 0.01 * (length - 100))


def test_along_with_rare_costs():
    """Where costs come rarely the shortest lengths are left out: what they hold is chance."""
    run = with_spikes(6_400, 0.01, dict.fromkeys(range(399, 6_400, 400), 8.0))
    assert list(cost_curve([run]).points) == [
        (n, pytest.approx(0.03)) for n in (400, 800, 1_600, 3_200, 6_400)
    ]


def test_along_takes_the_longest_and_the_least():
    """Shorter runs do not show, nor does what disturbed one of the longest."""
    quiet, disturbed, shorter = (
        linear_and_quadratic(length, base, 0.0)
        for length, base in ((6_400, 2.0), (6_400, 3.0), (640, 1.0))
    )
    assert {cost for _, cost in list(cost_curve([shorter, disturbed, quiet]).points)} == {2.0}
    assert longest_runs([shorter, disturbed, quiet]) == [disturbed, quiet]


def test_along_a_finish():
    """Where most of the work is left to the end, all of it is divided by the length."""
    runs = [all_finish(length, 1.0, 0.5) for length in LENGTHS]
    assert cost_curve(runs).mostly_finish
    assert list(cost_curve(runs).points) == [
        (length, pytest.approx(1.0 + 0.5 * length)) for length in LENGTHS
    ]


@given(st.floats(1e-6, 1), st.integers(64, 10**9))
def test_half_of_the_work(share, length):
    """At the length that is told, the share carried to it is a half."""
    at = half_at(share, length)
    assume(at > 100)
    assert carried(share, length, at) == pytest.approx(0.5, abs=0.01) or share == 1.0


def test_no_share_is_never_a_half():
    """Linear work has no such length."""
    assert half_at(0.0, 20_000) is None


# -- verdicts on growth


@given(st.floats(0.4, 1), PRICES)
def test_quadratic_code_always_exceeds_by_count(share, base):
    """Counts fail every cost that climbs, at the max_length or a quarter of the way."""
    slope = 2 * base / MAX_LENGTH * min(share / (1 - share), 1e6) if share < 1 else base
    base = base if share < 1 else 0.0
    runs = [linear_and_quadratic(length, base, slope) for length in LENGTHS]
    assert counted(runs, metric="calls") == "exceeded"


@given(st.floats(0.4, 1), PRICES)
def test_quadratic_code_always_exceeds_by_time(share, base):
    """Times without noise fail every cost that climbs, with three runs at the max_length."""
    slope = 2 * base / MAX_LENGTH * min(share / (1 - share), 1e6) if share < 1 else base
    base = base if share < 1 else 0.0
    run = linear_and_quadratic(MAX_LENGTH, base, slope)
    assert timed_verdict([run] * 3, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "exceeded"


@given(st.sampled_from(LENGTHS), PRICES)
def test_linear_code_is_always_within(length, base):
    """What costs the same for every delta passes at every length, on every meter."""
    run = linear_and_quadratic(length, base, 0.0)
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@given(st.sampled_from(LENGTHS), st.floats(0, 0.9), PRICES)
def test_falling_cost_is_always_within(length, fall, base):
    """Code that becomes cheaper as it goes passes, at any distance from the max_length."""
    run = linear_and_quadratic(length, base, -fall * base / length)
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@given(st.integers(1, 20_000), PRICES, PRICES)
def test_periodic_spikes_never_exceed(period, base, spike):
    """A flush every so many deltas is linear, at whatever cost."""
    spikes = dict.fromkeys(range(period, MAX_LENGTH, period), spike)
    assert not ever_exceeded(lambda length: with_spikes(length, base, spikes))


@given(st.integers(50, MAX_LENGTH // 16), st.floats(0, 0.2))
def test_growing_work_in_batches_exceeds(period, base):
    """What looks at everything so far, every so many deltas, is quadratic all the same."""
    spikes = {at: float(period * at) for at in range(period - 1, MAX_LENGTH, period)}
    run = with_spikes(MAX_LENGTH, base * MAX_LENGTH, spikes)
    assert timed_verdict([run] * 4, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "exceeded"


@given(st.integers(50, MAX_LENGTH // 64), st.floats(0, 0.2))
def test_growing_work_in_batches_exceeds_by_count(period, base):
    """Counts need two lengths that each hold enough of it."""
    spikes = {at: float(period * at) for at in range(period - 1, MAX_LENGTH, period)}
    runs = [with_spikes(n, base * MAX_LENGTH, spikes) for n in (MAX_LENGTH // 4, MAX_LENGTH)]
    assert counted_verdict("allocated_bytes", runs, LIMIT, MAX_LENGTH) == "exceeded"


@given(st.integers(50, MAX_LENGTH // 16), PRICES)
def test_periodic_spikes_are_within(period, spike):
    """What costs the same every so many deltas passes, on every meter."""
    run = with_spikes(MAX_LENGTH, 1.0, dict.fromkeys(range(period - 1, MAX_LENGTH, period), spike))
    assert timed_verdict([run] * MANY, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"


@pytest.mark.parametrize("ratio", [1.125, 2, 3, 4, 8])
@settings(max_examples=15)  # of each
@given(first=st.floats(4, 64), base=st.sampled_from([0.0, 0.01, 1.0, 10.0]), each=PRICES)
def test_growing_containers_never_exceed(ratio, first, base, each):
    """A container that doubles, triples or quadruples when it is full is linear."""
    spikes, capacity = {}, first
    while capacity < MAX_LENGTH:
        spikes[int(capacity)] = each * capacity
        capacity *= ratio
    assert not ever_exceeded(lambda length: with_spikes(length, base * each, spikes))


@given(st.integers(0, MAX_LENGTH), PRICES, PRICES)
def test_one_step_never_exceeds(at, before, after):
    """A cost that changes once, as when a window is full and slides, is linear."""

    def make(length):
        edges = edges_of(length)
        spent = (min(edge, at) * before + max(0, edge - at) * after for edge in edges)
        return Run(length, edges, tuple(spent), 0.0)

    assert not ever_exceeded(make)


@pytest.mark.parametrize("at", [3_000, 9_000, 13_000, 19_000])
def test_one_large_cost_is_within(at):
    """A container that is moved once, late, costs what it costs: the rest is linear."""
    run = with_spikes(MAX_LENGTH, 1.0, {at: 0.8 * MAX_LENGTH})
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@given(st.integers(0, MAX_LENGTH), PRICES)
def test_one_late_spike_never_exceeds(at, spike):
    """One costly delta, wherever it is, is not growth."""
    assert not ever_exceeded(lambda length: with_spikes(length, 1.0, {at: spike}))


@pytest.mark.parametrize("base", [0.0, 1.0])
def test_log_linear_code_is_within(base):
    """Work of n log n counts as linear at the default max_length, on every meter."""
    runs = [run_of(base + math.log2(index + 1) for index in range(length)) for length in LENGTHS]
    assert counted(runs, metric="calls") == "within"
    assert timed_verdict([runs[-1]] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


@pytest.mark.parametrize("length", [300, 1_000, 5_000, 20_000])
def test_log_linear_code_has_a_small_share(length):
    """The share of n log n work stays under a fifth from three hundred deltas on."""
    run = run_of(math.log2(index + 1) for index in range(length))
    assert max(steady_share([run]), counted_shares([run])[0]) < 0.2


def test_bound_is_carried_to_the_max_length():
    """Below the max_length, a share that would be over the limit there does not pass."""
    run = linear_and_quadratic(1_000, 1.0, 2e-4)  # 9% here, 67% at the max_length
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) is None
    assert timed_verdict([run] * MANY, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_bound_is_enough_to_pass():
    """Below the max_length, a share that would be under the limit there passes."""
    run = linear_and_quadratic(1_000, 1.0, 1e-5)  # 0.5% here, 9% at the max_length
    assert counted_verdict("calls", [run], LIMIT, MAX_LENGTH) == "within"
    assert timed_verdict([run] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


def test_extrapolation_is_not_enough_to_fail():
    """No time fails by what it would come to at the max_length, only by what was measured."""
    run = linear_and_quadratic(1_000, 1.0, 4e-4)  # 17% here, 80% at the max_length
    assert timed_verdict([run] * MANY, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_one_timed_run_is_not_enough():
    """One run passes only where there is no time for a second, and never fails."""
    flat = linear_and_quadratic(MAX_LENGTH, 1.0, 0.0)
    steep = linear_and_quadratic(MAX_LENGTH, 0.0, 1.0)
    assert timed_verdict([flat], NO_EXCESS, LIMIT, MAX_LENGTH, last=False) is None
    assert timed_verdict([flat], NO_EXCESS, LIMIT, MAX_LENGTH, last=True) == "within"
    assert timed_verdict([steep], NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_two_timed_runs_do_not_fail():
    """It takes three runs to fail: one may be disturbed, and so may two."""
    steep = linear_and_quadratic(MAX_LENGTH, 0.0, 1.0)
    assert timed_verdict([steep] * 2, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


def test_one_disturbed_run_does_not_fail():
    """A run that was slowed down halfway does not outvote the others."""
    quiet = linear_and_quadratic(MAX_LENGTH, 1.0, 0.0)
    disturbed = run_of([1.0] * 10_000 + [9.0] * 10_000)
    assert timed_verdict([disturbed, quiet], NO_EXCESS, LIMIT, MAX_LENGTH, last=False) is None
    runs = [disturbed, quiet, quiet]
    assert timed_verdict(runs, NO_EXCESS, LIMIT, MAX_LENGTH, last=False) == "within"


def test_share_at_the_limit_is_not_told_by_time():
    """A share on the limit is neither passed nor failed, however often it is run."""
    run = linear_and_quadratic(MAX_LENGTH, 1.0, 2 / 3 / MAX_LENGTH)  # 25%
    assert timed_verdict([run] * MANY, NO_EXCESS, LIMIT, MAX_LENGTH, last=True) is None


@pytest.mark.parametrize(("limit", "verdict"), [(0.49, "exceeded"), (0.51, "within")])
def test_counts_are_held_against_the_limit(limit, verdict):
    """Counts are exact: a share is on one side of the limit or on the other."""
    runs = [
        linear_and_quadratic(length, 1.0, 2 / MAX_LENGTH)
        for length in (MAX_LENGTH // 4, MAX_LENGTH)
    ]
    assert counted_verdict("calls", runs, limit, MAX_LENGTH) == verdict  # 50%


@pytest.mark.parametrize(("limit", "verdict"), [(0.4, "exceeded"), (0.6, "within")])
def test_times_are_held_against_the_limit(limit, verdict):
    """Times are told on either side, where the limit is not too near."""
    run = linear_and_quadratic(MAX_LENGTH, 1.0, 2 / MAX_LENGTH)  # 50%
    assert timed_verdict([run] * 3, NO_EXCESS, limit, MAX_LENGTH, last=False) == verdict


def test_limit_of_one_accepts_everything():
    """Nothing is more than all superlinear."""
    run = linear_and_quadratic(MAX_LENGTH, 0.0, 1.0)
    assert counted_verdict("calls", [run], 1.0, MAX_LENGTH) == "within"


def test_no_counts_no_verdict():
    """Before the first run there is nothing to say."""
    assert counted_verdict("allocated_bytes", [], LIMIT, MAX_LENGTH) is None


def test_small_length_alone_does_not_fail():
    """Far below the max_length two lengths must show growth: one may be a container's step."""
    runs = [linear_and_quadratic(length, 0.0, 1.0) for length in (78, 312)]
    assert counted_verdict("calls", runs[:1], LIMIT, MAX_LENGTH) is None
    assert counted_verdict("calls", runs, LIMIT, MAX_LENGTH) == "exceeded"


def test_small_copies_are_not_growth():
    """A slope of allocated bytes below the threshold is no growth."""
    slopes = (part * THRESHOLDS.min_allocation_slope_bytes for part in (0.9, 1.1))
    runs = [linear_and_quadratic(1_250, 1_000.0, slope) for slope in slopes]
    assert counted_verdict("allocated_bytes", runs[:1], LIMIT, MAX_LENGTH) == "within"
    assert counted_verdict("allocated_bytes", runs[1:], LIMIT, MAX_LENGTH) is None
    assert counted_verdict("calls", runs[:1], LIMIT, MAX_LENGTH) is None


def test_suspicious_runs():
    """A run is worth another look when most of its votes are over the limit."""
    assert suspicious(linear_and_quadratic(1_250, 0.0, 1.0), 0.0, LIMIT)
    assert not suspicious(linear_and_quadratic(1_250, 1.0, 0.0), 0.0, LIMIT)


def test_excess_makes_a_run_suspicious():
    """A finish that grows is a reason to look too."""
    run = linear_and_quadratic(1_250, 1.0, 0.0, finish=1_250.0)
    assert suspicious(run, 1_250.0, LIMIT)


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(estimation).failed == 0
