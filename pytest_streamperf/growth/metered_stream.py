"""The stream that is handed to the code under test, and the record of one run of it.

The stream measures. Between two pulls it knows what the consumer spent on one delta, because it
opens its meter as it hands the delta out and reads the meter at the next pull. A `MeteredStream`
takes deltas and a meter, and gives a `Run`: the cost up to each of 64 block edges.

Work before the first pull is set-up and not counted. Work after the last delta is kept apart, as
the finish.
"""

import threading
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import length_hint
from typing import Any, Self

from pytest_streamperf._runtime.context import loop_running_here
from pytest_streamperf._runtime.meters import Meter
from pytest_streamperf.growth.thresholds import THRESHOLDS
from pytest_streamperf.streams.token_stream import TokenStream

BLOCKS = 64
"""A run is recorded in this many equal blocks, so that its last six octaves lie on edges."""


@dataclass(frozen=True, slots=True)
class Run:
    """The costs of a complete run: `spent[k]` up to delta `edges[k]`, and `finish` after the last.

    Costs are in the meter's unit: bytes, calls or CPU seconds. `held` is the memory in bytes that
    the consumer held during the run, and `kept` the memory that was left after it had returned.
    Both are 0 unless the meter was an `AllocationMeter`.
    """

    length: int
    edges: tuple[int, ...]
    spent: tuple[float, ...]
    finish: float
    held: int = 0
    kept: int = 0

    @property
    def total(self) -> float:
        """The cost of the run from the first delta on."""
        return self.spent[-1] + self.finish


class MeteredStream(TokenStream):
    """A stream for one measured run. It can be read once, by `for` or `async for`.

    The consumer is not charged for what an event loop does between two deltas, unless
    `charge_loop` is set: then the loop and all tasks on it belong to the consumer.

    `stop()` is called at the end of each block, and by `watch`. The stream ends where it returns
    True.
    """

    def __init__(self, deltas: Sequence[Any], meter: Meter, stop: Callable[[], bool]) -> None:
        super().__init__(deltas)
        self._tape = _Tape(len(deltas), meter, stop)
        self.charge_loop = False
        self._reads_each_delta = meter.reads_each_delta
        self._started = False
        self._ready: list[Any] = []
        self._block: Iterator[Any] = iter(self._ready)

    @property
    def pulled(self) -> int:
        """The number of deltas that the consumer has taken."""
        return self._tape.handed - length_hint(self._block)

    def watch(self) -> int:
        """Return the number of deltas that the consumer took; if time is up, end the stream."""
        pulled = self.pulled
        if self._tape.stops_here(pulled):
            self._ready.clear()
        return pulled

    @property
    def cut(self) -> bool:
        """True if the stream ended before all its deltas were handed out."""
        return self._tape.cut

    def __iter__(self) -> Iterator[Any]:
        self._start()
        return self._single_deltas() if self._reads_each_delta else self._blocks()

    def __aiter__(self) -> AsyncIterator[Any]:
        self._start()
        return _AsyncMetered(self.deltas, self._tape, charge_loop=self.charge_loop)

    def _start(self) -> None:
        if self._started:
            msg = "this stream was read already: a measured stream can be read once"
            raise RuntimeError(msg)
        self._started = True

    def _single_deltas(self) -> Iterator[Any]:
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
        """Record the cost since the last delta; call this as the consumer returns."""
        self._tape.finish()

    def cut_short(self) -> None:
        """End the record at the last edge that was reached."""
        self._tape.cut = True

    def run(self) -> Run | None:
        """Return the record of this run; None if the consumer did not take all deltas.

        The record of a stream that was cut is that of a run of the shorter length.
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
        index = self._index  # read after the wait: other tasks may read this stream, too
        if tape.ended or tape.ends_at(index):
            raise StopAsyncIteration
        self._index = index + 1
        tape.hand_out(self._index)
        return self._deltas[index]


class _Tape:
    """A record of the costs up to each edge between blocks."""

    def __init__(self, length: int, meter: Meter, stop: Callable[[], bool]) -> None:
        self.length = length
        self.edges = [length * block // BLOCKS for block in range(BLOCKS + 1)]
        self.handed = 0
        self.out = self.cut = self.ended = False
        self._meter = meter
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
        self._meter.open()

    def take_back(self) -> None:
        # Let threads of the consumer do the work for this delta now, so that it is charged here.
        if self._meter.reads_each_delta and threading.active_count() > self._threads:
            time.sleep(THRESHOLDS.thread_turn_seconds)
        self._total += self._meter.read()
        self.out = False

    def ends_at(self, index: int) -> bool:
        """Record the edges up to `index`; return whether the stream ends here."""
        marked = self._marked
        while not self.cut and self._marked <= BLOCKS and self.edges[self._marked] <= index:
            self._spent[self._marked] = self._total
            self._marked += 1
        if self._marked > marked and index < self.length:
            self.cut = self._stop()
        if self.cut or index == self.length:
            self.ended = True
            self._meter.open()
        return self.ended

    def stops_here(self, pulled: int) -> bool:
        """Return whether the stream ends between two edges, after `pulled` deltas."""
        if not self.ended and not self.cut and self._stop():
            self.cut, self.handed = True, pulled
        return self.cut

    def finish(self) -> None:
        if self.ended:
            self._finish = self._meter.read()
        elif self.out:  # the last delta was taken by `next`, and no more was asked for
            self.take_back()

    def record(self) -> Run | None:
        if self.cut:
            return _shortened_run(self.edges, self._spent[: self._marked])
        rest = [self._total] * (BLOCKS + 1 - self._marked)
        spent = (*self._spent[: self._marked], *rest)
        return Run(self.length, tuple(self.edges), spent, self._finish)


def _shortened_run(edges: Sequence[int], spent: Sequence[float]) -> Run | None:
    """Return the record of a shorter run, made from the first blocks of a longer one.

    Those blocks are divided into 64 again. None if they hold no delta.
    """
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
