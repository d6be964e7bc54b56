"""Tests of paces: jitter, bursts and stalls, as gaps in seconds and as times of a virtual clock."""

import doctest
import time
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import TokenStream, VirtualClock
from pytest_streamperf.streams import pacing
from pytest_streamperf.streams.pacing import Bursts, Jittered, Stalled, slow_first

# Gaps of a pace, in seconds.
SECONDS = st.floats(0, 10)


def gaps(pace, count=6):
    """Return the first `count` gaps of a pace, in seconds."""
    return list(islice(pace, count))


@given(every=SECONDS, part=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_jitter_stays_within_its_part(every, part, seed):
    """A jittered gap differs from `every` by at most the share `part`.

    Every iteration over the pace gives the same gaps.
    """
    first, *later_gaps = gaps(Jittered(every, part, seed))
    assert first == 0.0
    assert all(every * (1 - part) <= gap <= every * (1 + part) + 1e-9 for gap in later_gaps)
    assert gaps(Jittered(every, part, seed)) == [first, *later_gaps]


def test_jitter_differs_by_its_seed():
    """Jittered gaps differ from seed to seed, and from one delta to the next."""
    assert gaps(Jittered(1.0, seed=1)) != gaps(Jittered(1.0, seed=2))
    assert len(set(gaps(Jittered(1.0)))) == 6


@pytest.mark.parametrize(
    ("pace", "expected"),
    [
        (Bursts(1, 0.5), [0.0, 0.5, 0.5, 0.5, 0.5, 0.5]),
        (Bursts(3, 0.5), [0.0, 0.0, 0.0, 0.5, 0.0, 0.0]),
        (Bursts(9, 0.5), [0.0] * 6),
        (Stalled(2, 3.0), [0.0, 0.0, 3.0, 0.0, 0.0, 0.0]),
        (Stalled(2, 3.0, every=0.5), [0.0, 0.5, 3.5, 0.5, 0.5, 0.5]),
        (Stalled(0, 3.0, every=0.5), [3.0, 0.5, 0.5, 0.5, 0.5, 0.5]),
        (slow_first(3.0, 0.5), [3.0, 0.5, 0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_gaps(pace, expected):
    """A pace gives the expected gaps, and gives them again when it is iterated again."""
    assert gaps(pace) == gaps(pace) == expected


@pytest.mark.parametrize(
    ("pace", "times"),
    [
        (Bursts(2, 0.5), [0.0, 0.0, 0.5, 0.5, 1.0]),
        (Stalled(2, 3.0, every=0.5), [0.0, 0.5, 4.0, 4.5, 5.0]),
        (slow_first(2.0), [2.0, 2.0, 2.0, 2.0, 2.0]),
        ([0.25, 0.5, 0.25, 0.0, 1.0], [0.25, 0.75, 1.0, 1.0, 2.0]),
    ],
)
def test_streams_keep_a_pace_in_virtual_time(pace, times):
    """A stream hands out deltas at the times of its pace, counted from the first request."""
    with VirtualClock():
        start = time.monotonic()
        assert [time.monotonic() - start for _ in TokenStream(5, every=pace)] == times


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: Jittered(-1.0), "every must be a time, 0 or more and finite, as .*, not -1.0"),
        (lambda: Jittered(1.0, part=1.5), "part must be from 0 to 1, as '50%' or 0.5, not 1.5"),
        (lambda: Bursts(0, 1.0), "deltas must be at least 1, not 0"),
        (
            lambda: Bursts(1, float("inf")),
            "every must be a time, 0 or more and finite, as .*, not inf",
        ),
        (lambda: Stalled(-1, 1.0), "at must be the index of a delta, from 0 on, not -1"),
        (lambda: Stalled(1, float("nan")), "seconds must be a time, 0 or more and finite"),
        (
            lambda: TokenStream(3, every=[0.1, -0.1, 0.1]),
            "every must be a time, 0 or more and finite, as .*, not -0.1",
        ),
        (lambda: TokenStream(3, every=[0.1]), "before 1 deltas, and there are 3"),
        (lambda: TokenStream(3, every=(gap for gap in gaps(Bursts(1, 1.0)))), "an iterable"),
    ],
)
def test_bad_argument_is_named(make, pattern):
    """A bad argument of a pace raises an error that names it and the allowed values."""
    with pytest.raises((ValueError, TypeError), match=pattern):
        make()


def test_examples_in_docstrings():
    """The doctests of `streams.pacing` pass."""
    failed, attempted = doctest.testmod(pacing)
    assert attempted
    assert not failed
