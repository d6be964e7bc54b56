"""What was spent: the stream that is handed to the code under test, and the gauges in it.

The stream is the meter. Between two pulls it knows what the consumer spent on one delta, because
it opens its gauge as it hands the delta out and reads it at the next pull:

    copies   bytes allocated on top of what was live, at the highest point within the delta; blind
             to work that allocates nothing and to a copy that replaces one of the same size
    calls    Python and C calls in the thread that pulls; blind to what one C call does
    time     CPU seconds of the process; noisy, so only ever compared within one run

What is spent before the first pull is set-up and not counted. What is spent after the last one is
kept apart, as the finish.
"""

import gc
import threading
import time
import tracemalloc
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import length_hint
from typing import Any, Protocol, Self

from pytest_streamperf._runtime.context import loop_running_here
from pytest_streamperf._runtime.instrumentation import CallCounter, restart_peak
from pytest_streamperf.streams.token_stream import TokenStream

BLOCKS = 64
"""A run is recorded in this many equal blocks, so that its last six octaves lie on edges."""

# Blocks of this many CPU seconds, and what is done to tell how fast the core is: 0.1 ms or so.
_LONG_BLOCK, _STANDARD_SIZE = 2e-3, 5_000

# Seconds to wait for other threads; it takes 0.06 ms or so, in which most do what they were handed.
_TURN = 1e-6
# What a run leaves behind itself, in bytes: its records, not the consumer's.
_OWN = 400
# How often, and after how many seconds, memory that seems to be kept is looked at again.
_MOMENTS, _MOMENT, _SELDOM = 31, 0.005, 10


@dataclass(frozen=True, slots=True)
class Run:
    """What one complete run spent: `spent[k]` up to delta `edges[k]`, and `finish` after the last.

    Bytes, calls or CPU seconds, as the gauge reads. `held` is the memory in bytes that the
    consumer kept as it went, `kept` what was still there after it had returned; both are 0 unless
    the gauge was `Copies`.
    """

    length: int
    edges: tuple[int, ...]
    spent: tuple[float, ...]
    finish: float
    held: int = 0
    kept: int = 0

    @property
    def total(self) -> float:
        """Everything spent from the first delta on."""
        return self.spent[-1] + self.finish


class Gauge(Protocol):
    """Reads what was spent since it was opened."""

    each: bool
    """Whether every delta is read by itself; else a whole block is, where the stream is sync."""

    def open(self) -> None:
        """Start from here."""

    def read(self) -> float:
        """What was spent since `open`."""

    def close(self) -> None:
        """Release what the gauge holds."""


class Copies:
    """Transient allocation in bytes; `trace.allocations` must be open."""

    each = True

    def __init__(self) -> None:
        self._first: int | None = None
        self._live = 0

    @property
    def held(self) -> int:
        """Bytes that were live when it was last opened, and not when it was first."""
        return self._live - (self._first or 0)

    def open(self) -> None:
        restart_peak()
        self._live = tracemalloc.get_traced_memory()[0]
        if self._first is None:
            self._first = self._live

    def read(self) -> float:
        return tracemalloc.get_traced_memory()[1] - self._live

    def close(self) -> None:
        pass


class Calls:
    """Python and C calls in the thread that pulls."""

    each = False

    def __init__(self) -> None:
        self._counter = CallCounter()
        self._opened = 0

    def open(self) -> None:
        self._counter.start()
        self._opened = self._counter.count

    def read(self) -> float:
        return self._counter.count - self._opened

    def close(self) -> None:
        self._counter.stop()


class Time:
    """CPU seconds by `clock`, less what reading the clock itself takes.

    A block long enough is held against a small standard piece of work done right after it: other
    processes slow a core down by a half, for a second or so, and that is not the consumer's.
    """

    each = False

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._opened = 0.0
        self._own = min(-(clock() - clock()) for _ in range(9))
        self._standard = 0.0

    def open(self) -> None:
        self._opened = self._clock()

    def read(self) -> float:
        spent = max(0.0, self._clock() - self._opened - self._own)
        if spent < _LONG_BLOCK:
            return spent
        self._standard = self._standard or min(self._standard_work() for _ in range(5))
        now = min(self._standard_work() for _ in range(2))
        return spent * self._standard / now if now else spent

    def _standard_work(self) -> float:
        started = self._clock()
        sum(list(range(_STANDARD_SIZE)))
        return self._clock() - started

    def close(self) -> None:
        pass


class MeteredStream(TokenStream):
    """The stream of one measured run. It can be read once, by `for` or `async for`.

    What an event loop does between two deltas is not the consumer's, unless `charge_loop` is set:
    then the loop is its own, and so are all the tasks on it.

    `stop` is asked at the end of each block, and by `watch`: if it says yes the stream ends there.
    """

    def __init__(self, deltas: Sequence[Any], gauge: Gauge, stop: Callable[[], bool]) -> None:
        super().__init__(deltas)
        self._tape = _Tape(len(deltas), gauge, stop)
        self.charge_loop = False
        self._read_each = gauge.each
        self._started = False
        self._ready: list[Any] = []
        self._block: Iterator[Any] = iter(self._ready)

    @property
    def pulled(self) -> int:
        """How many deltas were taken so far."""
        return self._tape.handed - length_hint(self._block)

    def watch(self) -> int:
        """How many deltas were taken so far; if it is time to stop, the next pull is the end."""
        pulled = self.pulled
        if self._tape.stops_here(pulled):
            self._ready.clear()
        return pulled

    @property
    def cut(self) -> bool:
        """Whether the stream ended before all its deltas were handed out."""
        return self._tape.cut

    def __iter__(self) -> Iterator[Any]:
        self._start()
        return self._each() if self._read_each else self._blocks()

    def __aiter__(self) -> AsyncIterator[Any]:
        self._start()
        return _AsyncMetered(self.deltas, self._tape, charge_loop=self.charge_loop)

    def _start(self) -> None:
        if self._started:
            msg = "this stream was consumed already: a stream that is measured can be read once"
            raise RuntimeError(msg)
        self._started = True

    def _each(self) -> Iterator[Any]:
        tape = self._tape
        for start, end in pairwise(tape.edges):
            if tape.ends_at(start):
                return
            for index in range(start, end):
                tape.hand_out(index + 1)
                yield self.deltas[index]
                tape.take_back()
                if tape.cut:
                    break
        tape.ends_at(len(self.deltas))

    def _blocks(self) -> Iterator[Any]:
        tape = self._tape
        for start, end in pairwise(tape.edges):
            if tape.ends_at(start):
                return
            self._ready = list(self.deltas[start:end])
            self._block = iter(self._ready)
            tape.hand_out(end)
            yield from self._block
            tape.take_back()
        tape.ends_at(len(self.deltas))

    def finish(self) -> None:
        """Take down what was spent since the last delta; to be called as the consumer returns."""
        self._tape.finish()

    def cut_short(self) -> None:
        """Let the record end at the last edge that was reached."""
        self._tape.cut = True

    def run(self) -> Run | None:
        """Return the record of this run.

        Where the stream was cut, that of a run of the length it had then; None if the consumer
        did not take all there was.
        """
        if not self.cut and self.pulled < len(self.deltas):
            return None
        return self._tape.record()


class _AsyncMetered:
    def __init__(self, deltas: Sequence[Any], tape: "_Tape", *, charge_loop: bool) -> None:
        self._deltas = deltas
        self._tape = tape
        self._charge_loop = charge_loop
        self._index = 0
        self._checkpoint: Callable[[], Awaitable[None]] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        tape = self._tape
        if tape.out and not self._charge_loop:
            tape.take_back()
        if self._checkpoint is None:
            self._checkpoint = loop_running_here().checkpoint
        await self._checkpoint()
        if tape.out:
            tape.take_back()
        index = self._index  # only now: other tasks may read this stream, too
        if tape.ended or tape.ends_at(index):
            raise StopAsyncIteration
        self._index = index + 1
        tape.hand_out(self._index)
        return self._deltas[index]


class _Tape:
    """Takes down what was spent up to each edge between blocks."""

    def __init__(self, length: int, gauge: Gauge, stop: Callable[[], bool]) -> None:
        self.length = length
        self.edges = [length * block // BLOCKS for block in range(BLOCKS + 1)]
        self.handed = 0
        self.out = self.cut = self.ended = False
        self._gauge = gauge
        self._stop = stop
        self._threads = threading.active_count()
        # Filled in place: what the tape itself allocates must not look like the consumer's.
        self._spent = array("d", bytes(8 * (BLOCKS + 1)))
        self._marked = 1
        self._total = 0.0
        self._finish = 0.0

    def hand_out(self, handed: int) -> None:
        self.handed = handed
        self.out = True
        self._gauge.open()

    def take_back(self) -> None:
        # Threads of the consumer's own are to do now what came of this delta, not whenever.
        if self._gauge.each and threading.active_count() > self._threads:
            time.sleep(_TURN)
        self._total += self._gauge.read()
        self.out = False

    def ends_at(self, index: int) -> bool:
        """Take down the edges up to here, unless it was cut; tell whether the stream ends here."""
        marked = self._marked
        while not self.cut and self._marked <= BLOCKS and self.edges[self._marked] <= index:
            self._spent[self._marked] = self._total
            self._marked += 1
        if self._marked > marked and index < self.length:
            self.cut = self._stop()
        if self.cut or index == self.length:
            self.ended = True
            self._gauge.open()
        return self.ended

    def stops_here(self, pulled: int) -> bool:
        """Tell whether the stream ends between two edges, after so many deltas."""
        if not self.ended and not self.cut and self._stop():
            self.cut, self.handed = True, pulled
        return self.cut

    def finish(self) -> None:
        if self.ended:
            self._finish = self._gauge.read()
        elif self.out:  # the last delta was taken by `next`, and no more was asked for
            self.take_back()

    def record(self) -> Run | None:
        if self.cut:
            return _shortened(self.edges, self._spent[: self._marked])
        rest = [self._total] * (BLOCKS + 1 - self._marked)
        spent = (*self._spent[: self._marked], *rest)
        return Run(self.length, tuple(self.edges), spent, self._finish)


def _shortened(edges: Sequence[int], spent: Sequence[float]) -> Run | None:
    """A complete record from the first blocks of one: those are divided into blocks again."""
    length = edges[len(spent) - 1]
    if not length:
        return None
    finer = [length * block // BLOCKS for block in range(BLOCKS + 1)]
    at = [spent[0]]
    block = 0
    for edge in finer[1:]:
        while edges[block + 1] < edge:
            block += 1
        width = edges[block + 1] - edges[block]
        part = (edge - edges[block]) / width if width else 1.0
        at.append(spent[block] + part * (spent[block + 1] - spent[block]))
    return Run(length, tuple(finer), tuple(at), 0.0)


def kept_since(before: int, least: int) -> int:
    """Bytes of traced memory that are left of a run; if `least` or more, without garbage cycles.

    Nor what another thread, a server's say, lets go of in the next moments.
    """
    kept = tracemalloc.get_traced_memory()[0] - before - _OWN
    for moment in range(_MOMENTS):
        if kept < least:
            break
        # Through all there is, which empties the free lists, now and then only: it takes a while.
        # What is let go of in cycles is among what was live the last time, and found by no less.
        gc.collect(0 if moment % _SELDOM else 2)
        time.sleep(_MOMENT)
        kept = tracemalloc.get_traced_memory()[0] - before - _OWN
    return max(0, kept)
