"""Measure the pauses in which Python's garbage collector runs and no other code can.

A `PauseMeter` listens to `gc.callbacks` while `watching()` is open. It keeps the thousand longest
pauses, and sums up all collections by generation.
"""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from pytest_streamperf._runtime import clock
from pytest_streamperf.responsiveness.stalls import keep


class Pause(NamedTuple):
    """One run of the garbage collector; `seconds`, `sure` and `at` mean the same as in `Stall`."""

    seconds: float
    generation: int
    sure: bool
    at: float = 0.0


class Collections(NamedTuple):
    """Sum of all garbage collections of one generation; `total` and `longest` in seconds."""

    runs: int
    total: float
    longest: float


class PauseMeter:
    """Records collections: `pauses` is a heap of the longest, `generations` has the sums."""

    def __init__(self) -> None:
        self.pauses: list[Pause] = []
        self.generations: dict[int, Collections] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record every collection while open, in whichever thread the collector runs."""
        watch = clock.Stopwatch()

        def collected(phase: str, info: Mapping[str, int]) -> None:
            if phase == "start":
                watch.start()
            elif watch.passed:
                seconds, sure = watch.held()
                self._add(Pause(seconds, info["generation"], sure, clock.wall()))
                watch.stop()

        gc.callbacks.append(collected)
        try:
            yield
        finally:
            gc.callbacks.remove(collected)
            watch.close()

    def _add(self, pause: Pause) -> None:
        keep(self.pauses, pause)
        runs, total, longest = self.generations.get(pause.generation, (0, 0.0, 0.0))
        self.generations[pause.generation] = Collections(
            runs + 1, total + pause.seconds, max(longest, pause.seconds)
        )
