"""The memory of a process that serves: what it is now, and whether it grows."""

import gc
import os
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_streamperf._results.units import size
from pytest_streamperf._runtime import instrumentation
from pytest_streamperf._runtime.context import OWN, is_below, is_installed
from pytest_streamperf.server.serving import App

# The part of what memory grew by that each half of the readings has in a leak.
_STEADY = 0.2
# Of so many lines whose allocations grew most the user's is told, if that is a part of the most.
_LINES, _PART = 5, 0.1


def steadily(memory: Sequence[int]) -> bool:
    """Whether it grew in both halves: what an allocator keeps for itself it takes once.

    >>> steadily([100, 150, 200]), steadily([100, 200, 200])
    (True, False)
    """
    half = memory[len(memory) // 2]
    return min(half - memory[0], memory[-1] - half) >= _STEADY * (memory[-1] - memory[0])


class Process:
    """The memory of another process, by its id; what it is for is not seen.

    `warm` is how many rounds it may take to find its size, `noise` the bytes that it may take for
    itself after that, whatever it does.
    """

    warm, noise = 5, 2**20

    def __init__(self, pid: int) -> None:
        import psutil  # type: ignore[import-untyped] # noqa: PLC0415

        self._process = psutil.Process(pid)

    def read(self) -> int:
        """Bytes, now."""
        return int(self._process.memory_info().rss)

    def where(self) -> str:
        """What it is for, if that is known."""
        return ""


class Python(Process):
    """The memory of this process: what it was, and what Python has allocated since, while traced.

    What it takes from the system says little: it has room that was taken before.
    """

    warm, noise = 2, 2**15

    def __init__(self) -> None:
        super().__init__(os.getpid())
        self._before = super().read() - tracemalloc.get_traced_memory()[0]
        self._first: tracemalloc.Snapshot | None = None

    def read(self) -> int:
        """Bytes, without what nobody holds."""
        gc.collect()
        self._first = self._first or tracemalloc.take_snapshot()
        return self._before + tracemalloc.get_traced_memory()[0]

    def where(self) -> str:
        """The line whose allocations grew most since it was read first: of a few, the user's."""
        if self._first is None:
            return ""
        changed = tracemalloc.take_snapshot().compare_to(self._first, "lineno")
        grown = [each for each in changed if each.size_diff > 0]  # what shrank may come first
        if not grown:
            return ""
        least = grown[0].size_diff * _PART
        many = [each for each in grown[:_LINES] if each.size_diff >= least]
        most = next(filter(_is_theirs, many), grown[0])
        frame = most.traceback[0]
        return f"{Path(frame.filename).name}:{frame.lineno} allocated {size(most.size_diff)} of it"


def _is_theirs(line: tracemalloc.StatisticDiff) -> bool:
    """Whether a line is the user's, who knows little of those of libraries; nor of ours."""
    file = line.traceback[0].filename
    return not (file.startswith("<") or is_below(file, OWN) or is_installed(file))


@contextmanager
def memory_of(server: App | str, pid: int | None) -> Iterator[Process | None]:
    """The memory of the process that serves, if it is known which that is.

    with memory_of(app, None) as process:
        process.read()
    """
    if pid is not None:
        yield Process(pid)
    elif isinstance(server, str):
        yield None
    else:
        with instrumentation.allocations(), instrumentation.only_new_collected():
            yield Python()
