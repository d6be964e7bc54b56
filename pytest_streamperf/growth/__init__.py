"""Is the work linear? The stream measures, and the code under test is called with it.

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
