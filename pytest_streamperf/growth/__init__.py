"""Is the work linear? The stream is the meter, and the code under test is called with it.

>>> from pytest_streamperf import measure_growth
>>> measure_growth(lambda stream: "".join(stream)).verdict
'within'
"""

from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.checks import (
    GrowthResult,
    assert_linear,
    assert_linear_async,
    measure_growth,
    measure_growth_async,
)

__all__ = [
    "Blame",
    "GrowthResult",
    "assert_linear",
    "assert_linear_async",
    "measure_growth",
    "measure_growth_async",
]
