"""Measure responsiveness: message gaps, stalls, garbage collection, peak memory and CPU shares.

`StallWatch` measures; `ResponsivenessResult` holds the measurements and the verdict.
"""

from pytest_streamperf.responsiveness.gc_pauses import Collections, Pause
from pytest_streamperf.responsiveness.stall_watch import ResponsivenessResult, StallWatch
from pytest_streamperf.responsiveness.stalls import Stall

__all__ = ["Collections", "Pause", "ResponsivenessResult", "Stall", "StallWatch"]
