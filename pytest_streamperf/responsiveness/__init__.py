"""How smoothly does a stream run? Gaps, stalls, garbage collection, memory and CPU shares."""

from pytest_streamperf.responsiveness.gc_pauses import Collections, Pause
from pytest_streamperf.responsiveness.stall_watch import ResponsivenessResult, StallWatch
from pytest_streamperf.responsiveness.stalls import Stall

__all__ = ["Collections", "Pause", "ResponsivenessResult", "Stall", "StallWatch"]
