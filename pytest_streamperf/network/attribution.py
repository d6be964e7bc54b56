"""Whose is what only the kernel saw? It is joined to what is known of threads and processes.

What is looked for is recent: the last of what was told of a thread.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from pytest_streamperf.network.attempts import COUNT, SESSION, Attempt


class Mark(NamedTuple):
    """From `time` on, what a thread does is of this origin."""

    time: float
    process: int
    thread: int
    origin: str


class Seen(NamedTuple):
    """What the kernel saw, and the processes that did it: numbers and when each was started."""

    attempt: Attempt
    ancestors: Sequence[tuple[int, float]]


# Seconds by which a process's start, which is known to a hundredth, may be told too early or late.
_COARSE = 0.02


class Threads:
    """What Python told of each thread: whose it was from when on, and what it tried.

    >>> threads = Threads()
    >>> threads.marked(Mark(1.0, 7, 7, "test"))
    >>> threads.origin_of(Seen(Attempt(kind="connect", process=7, thread=7, time=2.0), []))
    'test'
    """

    def __init__(self) -> None:
        self._marks: dict[tuple[int, int], list[Mark]] = defaultdict(list)
        self._tried: dict[tuple[int, int], list[Attempt]] = defaultdict(list)
        self._spawns: dict[int, list[Attempt]] = defaultdict(list)

    def marked(self, mark: Mark) -> None:
        """Know from when on a thread's origin is another."""
        insort(self._marks[mark.process, mark.thread], mark, key=_time)

    def tried(self, attempt: Attempt) -> None:
        """Know what Python saw."""
        if attempt.kind == "spawn":
            self._spawns[attempt.process].append(attempt)
        if attempt.kind in COUNT:
            self._tried[attempt.process, attempt.thread].append(attempt)

    def knew(self, seen: Seen) -> bool:
        """Whether Python saw an attempt that the kernel saw, too: the last one in its thread.

        A name that is looked up on the way to a connection is one call with it, and many datagrams.
        A thread that is another origin's since has done with what it tried before.
        """
        kernel = seen.attempt
        tried = self._tried.get((kernel.process, kernel.thread), [])
        call = tried[: bisect_right(tried, kernel.time, key=_time)][-2:]
        if len(call) > 1 and not (call[0].kind == "resolve" and call[0].host == call[1].host):
            del call[0]
        mark = self._last_mark(kernel.process, kernel.thread, kernel.time)
        return any(
            each.kind == kernel.kind
            and (mark is None or mark.time <= each.time)
            and (
                kernel.kind == "resolve"
                or not kernel.address  # it could not be read
                or (each.port == kernel.port and each.address in {"", kernel.address})
            )
            for each in call
        )

    def origin_of(self, seen: Seen) -> str:
        """Who started what only the kernel saw.

        By what its thread was doing, else, as native threads are nobody's, by what its process's
        main thread was; of another process, by who started that.
        """
        kernel = seen.attempt
        mark = self._last_mark(kernel.process, kernel.thread, kernel.time)
        started, coarse = kernel.time, 0.0
        for process, start in seen.ancestors if mark is None else ():
            if process != kernel.process or started != kernel.time:
                spawned = [
                    each
                    for each in self._spawns.get(process, [])
                    if abs(each.time - started) <= _COARSE
                ]
                if spawned:
                    return min(spawned, key=lambda each: abs(each.time - started)).origin
            mark = self._last_mark(process, process, started + coarse)
            if mark is not None:
                break
            started, coarse = start, _COARSE
        return SESSION if mark is None else mark.origin

    def _last_mark(self, process: int, thread: int, time: float) -> Mark | None:
        marks = self._marks.get((process, thread), [])
        before = bisect_right(marks, time, key=_time)
        return marks[before - 1] if before else None


def _time(each: Mark | Attempt) -> float:
    return each.time
