"""Check that the work of code under test grows linearly with the length of its stream.

A check calls the code with streams of different lengths. The streams measure allocations, calls
and CPU time, and the verdict blames the guilty lines.

>>> from pytest_streamperf import measure_growth
>>> measure_growth(lambda stream: "".join(stream)).verdict
'within'
"""

from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.checks import (
    assert_linear,
    assert_linear_async,
    measure_growth,
    measure_growth_async,
)
from pytest_streamperf.growth.cost_curve import CostCurve
from pytest_streamperf.growth.result import GrowthResult

__all__ = [
    "Blame",
    "CostCurve",
    "GrowthResult",
    "assert_linear",
    "assert_linear_async",
    "measure_growth",
    "measure_growth_async",
]
