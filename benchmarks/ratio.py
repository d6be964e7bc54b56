"""What pytest-benchmark is asked to time: see `benchmarks.judges`."""

import os

import pytest

from benchmarks.judges import CASES, UP_TO, deltas_of, plain

CONSUME, TERMS = CASES[os.environ["STREAMPERF_CASE"]]


@pytest.mark.parametrize("length", [UP_TO // 2, UP_TO])
def test_time(benchmark, length):
    """Time one length."""
    benchmark.pedantic(plain(CONSUME), args=(deltas_of(length, TERMS),), rounds=5, warmup_rounds=1)
