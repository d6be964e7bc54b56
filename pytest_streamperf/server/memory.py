"""Measure the memory of the process that runs a server under test, and find steady growth in it.

`memory_of` takes an ASGI app or a URL, and a process id. It yields a `ProcessMemory`, or None if
the process of the server is unknown. An app runs in this process, so its memory is the memory that
Python has allocated (`PythonMemory`), and the line that allocates most can be named.

- Readings are in bytes.
- `steadily` tells a leak, which grows all the time, from memory that an allocator takes once.
"""

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

# Each half of the readings must hold this share of the growth, else it is no leak. Not measured:
# a constant leak has 0.5 in each half, memory that is taken once has 0 in one.
_MIN_HALF_SHARE = 0.2
# A line of the user's code is named if it is among the 5 lines that grew most, with at least 10% of
# the growth of the first. Not measured: both are choices.
_MAX_LINES, _MIN_SHARE = 5, 0.1


def steadily(memory: Sequence[int]) -> bool:
    """Return whether memory grew in both halves of the readings, as it does with a leak.

    >>> steadily([100, 150, 200]), steadily([100, 200, 200])
    (True, False)
    """
    half = memory[len(memory) // 2]
    return min(half - memory[0], memory[-1] - half) >= _MIN_HALF_SHARE * (memory[-1] - memory[0])


class ProcessMemory:
    """The resident memory of another process, given by its id.

    The process may take `warm` rounds of requests to find its size. After that, growth below
    `noise` bytes is no leak. Not measured: 5 rounds and 1 MiB are choices.
    """

    warm, noise = 5, 2**20

    def __init__(self, pid: int) -> None:
        import psutil  # type: ignore[import-untyped] # noqa: PLC0415

        self._process = psutil.Process(pid)

    def read(self) -> int:
        """Return the resident memory of the process in bytes."""
        return int(self._process.memory_info().rss)

    def where(self) -> str:
        """Return "": the lines that allocate in another process are unknown."""
        return ""


class PythonMemory(ProcessMemory):
    """The memory of this process: its size at the start, plus what Python has allocated since then.

    The resident memory alone would hide growth, because the process reuses memory that it already
    has. Allocations must be traced. Not measured: 2 rounds and 32 KiB are choices.
    """

    warm, noise = 2, 2**15

    def __init__(self) -> None:
        super().__init__(os.getpid())
        self._untraced_bytes = super().read() - tracemalloc.get_traced_memory()[0]
        self._first_snapshot: tracemalloc.Snapshot | None = None

    def read(self) -> int:
        """Return the memory in bytes after a garbage collection, without unreachable objects."""
        gc.collect()
        self._first_snapshot = self._first_snapshot or tracemalloc.take_snapshot()
        return self._untraced_bytes + tracemalloc.get_traced_memory()[0]

    def where(self) -> str:
        """Return the line whose allocations grew most since the first reading, or "" for none.

        A line of the user's code comes before lines of libraries that grew about as much.
        """
        if self._first_snapshot is None:
            return ""
        changes = tracemalloc.take_snapshot().compare_to(self._first_snapshot, "lineno")
        # The changes are sorted by absolute size, so lines that freed memory may come first.
        grown = [change for change in changes if change.size_diff > 0]
        if not grown:
            return ""
        least = grown[0].size_diff * _MIN_SHARE
        largest = [change for change in grown[:_MAX_LINES] if change.size_diff >= least]
        chosen = next(filter(_is_user_code, largest), grown[0])
        frame = chosen.traceback[0]
        return (
            f"{Path(frame.filename).name}:{frame.lineno} "
            f"allocated {size(chosen.size_diff)} of the growth"
        )


def _is_user_code(line: tracemalloc.StatisticDiff) -> bool:
    """Return whether a line is in the user's own code: in no library, and not in this package."""
    file = line.traceback[0].filename
    return not (file.startswith("<") or is_below(file, OWN) or is_installed(file))


@contextmanager
def memory_of(server: App | str, pid: int | None) -> Iterator[ProcessMemory | None]:
    """Yield the memory of the process `pid`, or of this process for an app; None for a bare URL.

    with memory_of(app, None) as process:
        process.read()
    """
    if pid is not None:
        yield ProcessMemory(pid)
    elif isinstance(server, str):
        yield None
    else:
        with instrumentation.allocations(), instrumentation.only_new_collected():
            yield PythonMemory()
