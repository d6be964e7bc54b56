"""What a growth check found out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pytest_streamperf._results.verdict import Outcome
from pytest_streamperf._runtime.clock import Noise
from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.meters import Run
from pytest_streamperf.growth.options import Meter

_UNKNOWN = Noise(None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a check found out; `runs` are those to show."""

    verdict: Outcome
    why: str = ""
    witness: Meter | None = None
    share: float = 0.0
    share_interval: tuple[float, float] = (0.0, 1.0)
    proven_to: int = 0
    blame: list[Blame] = field(default_factory=list)
    runs: Mapping[Meter, Sequence[Run]] = field(default_factory=dict)
    noise: Noise = _UNKNOWN
