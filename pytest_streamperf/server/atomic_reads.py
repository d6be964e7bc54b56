"""Check that state can be read while it is written: each read is whole and not stale.

`assert_atomic_reads` takes a `write` and a `read` function, and returns a `Verdict`. A writer
thread or process publishes 1, 2, 3 and so on without a pause, and reader threads read.

- Every part of a state holds the same number, so unequal parts show a torn read.
- The writer notes each number before and after its write. A read is stale if it returns less than
  the last number that was confirmed before it began.
- Counts decide: the check ends after enough reads that met a new write. A slow machine makes the
  check longer, and does not change the verdict.
"""

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from typing import Any, Literal, NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import fit_line, labelled_lines, table_lines
from pytest_streamperf._results.units import Seconds, argument, duration, seconds_of
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

Write = Callable[[int], object]
Read = Callable[[], Sequence[int] | None]

TORN, MADE_UP, STALE, BACK = "torn", "made up", "stale", "going back"
# The meaning and the advice for each kind of fault, the worst kind first.
_ADVICE = {
    TORN: (
        "a read returns parts of two states, a combination that was never written",
        "keep a version that is odd during a write; read again if it is odd or has changed",
    ),
    MADE_UP: (
        "a read returns a number that was never written, the same in all parts",
        "publish and return the number unchanged; if you do, the number itself is torn",
    ),
    STALE: (
        "a read returns an old state, although a newer one was published before it began",
        "read the state itself each time, or drop cached copies with each write",
    ),
    BACK: (
        "a reader sees a change, and at its next read the state from before the change",
        "read the state in one place; of two answers, keep the one with the higher version",
    ),
}

# Indices into the shared array: the number whose write began last, the number whose write returned
# last, and the request to stop.
_BEGUN, _CONFIRMED, _STOP = range(3)
# Seconds that a writer process has to end before it is killed. Not measured.
_WRITER_EXIT_S = 10.0
# Seconds between two polls of the counts. Not measured.
_POLL_S = 0.01
# Switch interval of the interpreter in seconds with a writer thread, so that threads alternate
# often within a write. Python's default is 5 ms. Not measured.
_SWITCH_INTERVAL_S = 1e-5
# Writes between two checks that the parent process still lives. Not measured.
_WRITES_PER_PARENT_CHECK = 1_000
# Seconds that a reader sleeps when it met no new write. When it wakes up, it takes the processor
# from the writer in the middle of a write (docs/explanation/design.md, "A torn read").
_READER_PAUSE_S = 1e-6
# Faulty reads that end the check early. Not measured.
_MAX_FAULTS = 100
# Different numbers of a faulty read that the table shows.
_MAX_SHOWN = 2


class ReadObservation(NamedTuple):
    """One read: the numbers of its parts, and the writes before and after it.

    `confirmed` is the last number whose write had returned before the read began. `begun` is the
    last number whose write had begun when the read ended. `last` is the number of the last
    correct read by the same reader.
    """

    parts: Sequence[int]
    confirmed: int
    begun: int
    last: int = 0


@dataclass
class ReadEvidence:
    """The counts of one reader, or the sum of several.

    `overlapping` counts the reads that met a write which their reader had not met before.
    `unanswered` counts the reads that returned nothing. `faults` counts the faulty reads of each
    kind, and `first` holds the first read of each kind.
    """

    reads: int = 0
    overlapping: int = 0
    unanswered: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ADVICE, 0))
    first: dict[str, ReadObservation] = field(default_factory=dict)

    def __add__(self, other: "ReadEvidence") -> "ReadEvidence":
        return ReadEvidence(
            self.reads + other.reads,
            self.overlapping + other.overlapping,
            self.unanswered + other.unanswered,
            {fault: count + other.faults[fault] for fault, count in self.faults.items()},
            other.first | self.first,
        )


def fault_of(observation: ReadObservation) -> str:
    """Return the kind of fault of a read, or "" for a correct read.

    >>> fault_of(ReadObservation([7, 7, 8], confirmed=6, begun=8))
    'torn'
    >>> fault_of(ReadObservation([7, 7], confirmed=7, begun=8, last=7))
    ''
    """
    low, high = min(observation.parts), max(observation.parts)
    rules = (
        (low != high or not low, TORN),  # struct.pack_into fills with zeros before it packs
        (not 1 <= low <= observation.begun, MADE_UP),
        (low < observation.confirmed, STALE),
        (low < observation.last, BACK),
    )
    return next((fault for holds, fault in rules if holds), "")


def assert_atomic_reads(  # noqa: PLR0913 - options of the writer and of the readers
    write: Write,
    read: Read,
    *,
    writer: Literal["thread", "process"] = "thread",
    readers: int = 2,
    reads: int = 2_000,
    within: Seconds = 60.0,
) -> Verdict:
    """Write without a pause while threads read, and check that every read is whole and not stale.

    `write(number)` is called with 1, 2, 3 and so on. It publishes a state whose every part holds
    that number, and readers must see the state once `write` returns. `read()` returns the numbers
    of the parts, or None if it gives up. All parts of a read must come from one write. The read may
    not be older than the last write that returned before it began, nor older than the read before
    by the same reader.

    The writer is a "thread" or a "process". Use a process for shared memory, which only a second
    processor tears. `write` is then pickled: give a function of a module, or a `functools.partial`
    of one. `readers` is a number of threads. The check goes on until `reads` reads met a write that
    their reader had not met before. The message counts the reads that gave up; they are no fault.

    The check stops after `within` seconds. It waits without a limit for a call of `read` or `write`
    that is then under way: give a function that may block a timeout of its own.

    Raises `ServerExceeded` for a faulty read, and `NothingMeasured` where too few reads met a
    write. Raises `TypeError` and `ValueError` for a bad argument, `RuntimeError` for a writer
    process that ends, and the errors of `read` and `write`.

        write = partial(publish_number, memory)
        assert_atomic_reads(write, lambda: numbers(memory), writer="process")
    """
    if writer not in _WRITERS:
        msg = f"writer must be 'thread' or 'process', not {writer!r}"
        raise ValueError(msg)
    for name, value in {"readers": readers, "reads": reads}.items():
        if value < 1:
            msg = f"{name} must be 1 or more, not {value!r}"
            raise ValueError(msg)
    shared = get_context("spawn").RawArray(ctypes.c_uint64, 3)
    evidence = [ReadEvidence() for _ in range(readers)]
    seconds = argument("within", seconds_of, within)
    deadline = time.monotonic() + seconds
    with (
        _WRITERS[writer](write, shared) as check_writer,
        ThreadPoolExecutor(readers, "reading") as pool,
    ):
        stop = threading.Event()
        futures = [
            pool.submit(_read, read, shared, reader_evidence, stop) for reader_evidence in evidence
        ]
        try:
            while time.monotonic() < deadline and not any(future.done() for future in futures):
                check_writer()
                so_far = sum(evidence, ReadEvidence())
                if so_far.overlapping >= reads or sum(so_far.faults.values()) >= _MAX_FAULTS:
                    break
                time.sleep(_POLL_S)
        finally:
            stop.set()
        for future in futures:
            future.result()
    return concluded(verdict_on_reads(sum(evidence, ReadEvidence()), reads, seconds, writer))


def _read(read: Read, shared: Any, evidence: ReadEvidence, stop: threading.Event) -> None:
    """Read and count into `evidence` until `stop` is set."""
    last = last_met = 0
    while not stop.is_set():
        confirmed = shared[_CONFIRMED]
        if not confirmed:  # before the first write the state may be of an earlier check
            time.sleep(_POLL_S)
            continue
        parts = read()
        begun = shared[_BEGUN]
        if not parts:
            evidence.unanswered += 1
            continue
        evidence.reads += 1
        if begun > max(confirmed, last_met):
            evidence.overlapping += 1
            last_met = begun
        else:
            time.sleep(_READER_PAUSE_S)
        observation = ReadObservation(parts, confirmed, begun, last)
        fault = fault_of(observation)
        if fault:
            evidence.faults[fault] += 1
            evidence.first.setdefault(fault, observation)
        else:
            last = parts[0]


def _write(write: Write, shared: Any) -> None:
    """Write 1, 2, 3 and so on until `_STOP` is set, or the parent process is gone."""
    parent, number = parent_process(), 0
    while not shared[_STOP]:
        number += 1
        shared[_BEGUN] = number
        write(number)
        shared[_CONFIRMED] = number
        if parent and number % _WRITES_PER_PARENT_CHECK == 0 and not parent.is_alive():
            return


@contextmanager
def _thread_writer(write: Write, shared: Any) -> Iterator[Callable[[], None]]:
    """Run the writer in a thread, and yield a function that raises the error of the writer."""
    earlier_interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        with ThreadPoolExecutor(1, "writing") as pool:
            future = pool.submit(_write, write, shared)

            def check_writer() -> None:
                if future.done():
                    future.result()

            try:
                yield check_writer
            finally:
                shared[_STOP] = 1
            check_writer()
    finally:
        sys.setswitchinterval(earlier_interval)


@contextmanager
def _process_writer(write: Write, shared: Any) -> Iterator[Callable[[], None]]:
    """Run the writer in a process, and yield a function that raises if the process has ended."""
    process = get_context("spawn").Process(target=_write, args=(write, shared), daemon=True)
    process.start()

    def check_writer() -> None:
        if not process.is_alive():
            msg = f"the writer process ended with status {process.exitcode}: see its output"
            raise RuntimeError(msg)

    try:
        yield check_writer
    finally:
        shared[_STOP] = 1
        process.join(_WRITER_EXIT_S)
        process.kill()
        process.join()
        process.close()


_WRITERS = {"thread": _thread_writer, "process": _process_writer}


def verdict_on_reads(evidence: ReadEvidence, reads: int, within: float, writer: str) -> Verdict:
    """Return the verdict on the reads of all readers.

    Raises `NothingMeasured` where all reads are correct, but too few of them met a write.
    """
    faults = [fault for fault in _ADVICE if evidence.faults[fault]]
    if not faults and evidence.overlapping < reads:
        overlap = f"{evidence.overlapping:,} of {reads:,} reads met a new write"
        raise nothing_measured(
            "server",
            f"{overlap} in {duration(within)}",
            "check that write= publishes the state that read= returns; give writer='process' "
            "for shared memory, or a smaller reads=",
        )
    figures = Figures(
        given={"reads": reads, "writer": writer},
        counts=evidence.faults,
        limits=dict.fromkeys(_ADVICE, 0),
        facts={"gave up": f"{evidence.unanswered:,}"} if evidence.unanswered else {},
    )
    met = f"{evidence.overlapping:,} of {evidence.reads:,} reads met a write"
    if not faults:
        gave_up = f"; {evidence.unanswered:,} reads gave up" if evidence.unanswered else ""
        return passed(f"{met}, all whole and not stale{gave_up}", figures)
    worst = faults[0]
    means, advice = _ADVICE[worst]
    rows = [
        [f"{evidence.faults[fault]:,}", fault, *_row_of(evidence.first[fault])] for fault in faults
    ]
    header = ["reads", "fault", "first read", "confirmed", "begun", "read before"]
    headline = f"{evidence.faults[worst]:,} of {evidence.reads:,} reads are {worst}, limit 0"
    lines = labelled_lines({"means": means, "try": advice})
    table = [fit_line(line) for line in table_lines(header, rows)]
    return exceeded(headline, figures, lines, table)


def _row_of(observation: ReadObservation) -> list[str]:
    """Return the table cells of a read: its first different numbers, then the writes around it."""
    numbers = list(dict.fromkeys(observation.parts))
    more = ["..."] if len(numbers) > _MAX_SHOWN else []
    return [
        " ".join([*map(str, numbers[:_MAX_SHOWN]), *more]),
        *map(str, (observation.confirmed, observation.begun, observation.last)),
    ]
