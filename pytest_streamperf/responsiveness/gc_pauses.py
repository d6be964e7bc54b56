"""Pauses for garbage collection: while the collector runs, no other code does."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from pytest_streamperf._runtime import clock
from pytest_streamperf.responsiveness.stalls import keep


class Pause(NamedTuple):
    """A run of the garbage collector: `seconds`, `sure` and `at` as a stall's are."""

    seconds: float
    generation: int
    sure: bool
    at: float = 0.0


class Collections(NamedTuple):
    """All runs of the garbage collector over one generation; `total` and `longest` in seconds."""

    runs: int
    total: float
    longest: float


class PauseMeter:
    """Takes down collections: `pauses` is a heap of the longest, `generations` sums up all."""

    def __init__(self) -> None:
        self.pauses: list[Pause] = []
        self.generations: dict[int, Collections] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to the collector; Python tells of it in whichever thread it runs."""
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
