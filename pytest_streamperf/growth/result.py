"""The result of a growth check: what the scheduler found out, and the verdict that users get.

The scheduler makes a `GrowthResult` with the figures; `message.worded` returns it with its texts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.clock import Noise
from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.cost_curve import CostCurve
from pytest_streamperf.growth.options import Metric

_UNKNOWN = Noise(None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthResult(Verdict):
    """The result of `measure_growth`.

    `superlinear_share` is the superlinear part of all work at the maximum length, 0 to 1, in the
    unit of `metric`, the metric that decided: bytes, calls or CPU seconds. `superlinear_interval`
    bounds it. Work of n log n counts as linear, and so does what caches cost where work is left to
    the end: up to 2.6 times the time per delta in a stream that is sixteen times as long. Where the
    check failed below the maximum length, the share is that at `measured_to`, the length of the
    longest run. `half_at` is the length, in deltas, at which the share reaches a half.

    `curves` maps each metric to its `CostCurve`, `blame` has the guilty lines, guiltiest first,
    `noise` is what disturbed the measurement, `why` the reason of an inconclusive verdict, and
    `warning` what `copies="warn"` accepted.

    >>> measure_growth(lambda stream: "".join(stream), up_to=1_000).measured_to
    1000
    """

    stem: str = "growth"
    headline: str = ""
    superlinear_share: float = 0.0
    superlinear_interval: tuple[float, float] = (0.0, 1.0)
    measured_to: int = 0
    metric: Metric | None = None
    curves: Mapping[Metric, CostCurve] = field(default_factory=dict)
    blame: Sequence[Blame] = ()
    half_at: int | None = None
    noise: Noise = _UNKNOWN
    why: str = ""
    warning: str = ""
