"""What pytest-benchmark is asked to time: see `benchmarks.judges`."""

import os

import pytest

from benchmarks.accumulators import cases
from benchmarks.judges import UP_TO, _deltas

CONSUME, TERMS = next(
    (each[1], each[2]) for each in cases() if each[0] == os.environ["STREAMPERF_CASE"]
)


@pytest.mark.parametrize("length", [UP_TO // 2, UP_TO])
def test_time(benchmark, length):
    """Time one length."""
    benchmark.pedantic(CONSUME, args=(_deltas(length, TERMS),), rounds=5, warmup_rounds=1)
