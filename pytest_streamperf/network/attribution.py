"""Assign attempts that only the kernel observed to the test that started them.

In go the records from Python: which thread worked for which origin from when on, and which attempts
and processes Python observed. Out comes, for a kernel attempt, whether Python observed it too, and
its origin. The latest record of a thread before the attempt decides.
"""

from bisect import bisect_right, insort
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from pytest_streamperf.network.attempts import COUNT, SESSION, Attempt


class Mark(NamedTuple):
    """The start of a period, at `time` in seconds, in which a thread works for an origin."""

    time: float
    process: int
    thread: int
    origin: str


class KernelAttempt(NamedTuple):
    """An attempt that the kernel observed.

    `ancestors` holds the number and the start time of its process, of the parent, and so on.
    """

    attempt: Attempt
    ancestors: Sequence[tuple[int, float]]


# Linux gives the start of a process in hundredths of a second (proc(5), `starttime`), so it may be
# wrong by one step in each direction.
_START_TOLERANCE_SECONDS = 0.02


class Threads:
    """The records of all threads: their origins over time, and the attempts that Python observed.

    >>> threads = Threads()
    >>> threads.marked(Mark(1.0, 7, 7, "test"))
    >>> threads.origin_of(KernelAttempt(Attempt(kind="connect", process=7, thread=7, time=2.0), []))
    'test'
    """

    def __init__(self) -> None:
        self._marks: dict[tuple[int, int], list[Mark]] = defaultdict(list)
        self._tried: dict[tuple[int, int], list[Attempt]] = defaultdict(list)
        self._spawns: dict[int, list[Attempt]] = defaultdict(list)

    def marked(self, mark: Mark) -> None:
        """Add the start of a period in which a thread works for another origin."""
        insort(self._marks[mark.process, mark.thread], mark, key=_time)

    def tried(self, attempt: Attempt) -> None:
        """Add an attempt that Python observed."""
        if attempt.kind == "spawn":
            self._spawns[attempt.process].append(attempt)
        if attempt.kind in COUNT:
            self._tried[attempt.process, attempt.thread].append(attempt)

    def has_python_attempt(self, observed: KernelAttempt) -> bool:
        """Return whether Python observed this attempt, too: as the latest one in its thread.

        A connection to a host name is one call with two Python attempts, a lookup and a connection,
        and with many datagrams in the kernel. Attempts from before a change of the thread's origin
        do not match.
        """
        kernel = observed.attempt
        tried = self._tried.get((kernel.process, kernel.thread), [])
        call = tried[: bisect_right(tried, kernel.time, key=_time)][-2:]
        if len(call) > 1 and not (call[0].kind == "resolve" and call[0].host == call[1].host):
            del call[0]
        mark = self._last_mark(kernel.process, kernel.thread, kernel.time)
        return any(
            attempt.kind == kernel.kind
            and (mark is None or mark.time <= attempt.time)
            and (
                kernel.kind == "resolve"
                or not kernel.address  # it could not be read
                or (attempt.port == kernel.port and attempt.address in {"", kernel.address})
            )
            for attempt in call
        )

    def origin_of(self, observed: KernelAttempt) -> str:
        """Return the origin of an attempt that only the kernel observed.

        The origin of its thread decides. A native thread has none, so the main thread of its
        process decides then. In another process, the origin that started that process decides.
        """
        kernel = observed.attempt
        mark = self._last_mark(kernel.process, kernel.thread, kernel.time)
        started, tolerance = kernel.time, 0.0
        for process, start in observed.ancestors if mark is None else ():
            if process != kernel.process or started != kernel.time:
                spawned = [
                    spawn
                    for spawn in self._spawns.get(process, [])
                    if abs(spawn.time - started) <= _START_TOLERANCE_SECONDS
                ]
                if spawned:
                    return min(spawned, key=lambda spawn: abs(spawn.time - started)).origin
            mark = self._last_mark(process, process, started + tolerance)
            if mark is not None:
                break
            started, tolerance = start, _START_TOLERANCE_SECONDS
        return SESSION if mark is None else mark.origin

    def _last_mark(self, process: int, thread: int, time: float) -> Mark | None:
        marks = self._marks.get((process, thread), [])
        before = bisect_right(marks, time, key=_time)
        return marks[before - 1] if before else None


def _time(record: Mark | Attempt) -> float:
    return record.time
