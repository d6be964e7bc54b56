"""State that one writes while others read it: what they see is whole, and not older than it is."""

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
_ADVICE = {
    TORN: (
        "who reads gets half of one state and half of the next, which nobody wrote",
        "a version that is odd while you write: read again where it is odd or changes",
    ),
    MADE_UP: (
        "who reads gets a number that was never written, in all of its parts",
        "publish the number, and return it, as it is; where you do, it is torn in itself",
    ),
    STALE: (
        "who asks is told how things were, after they were changed",
        "read it where it is kept, each time, or drop what was kept with each write",
    ),
    BACK: (
        "who asks twice sees a change, and then sees it undone",
        "read it in one place; of two answers keep the one with the higher version",
    ),
}

# What the writer says of itself, and is told.
_BEGUN, _CONFIRMED, _STOP = range(3)
# Seconds for a writer to end, from look to look at how far it is, and for threads to take turns.
_TO_END, _LOOK, _TURN = 10.0, 0.01, 1e-5
_WRITES_BEFORE_LOOK = 1_000
# A reader that met no new write lets others run; who wakes up does so in the middle of a write.
_NAP = 1e-6
# So many faults tell enough.
_ENOUGH = 100
_MOST_SHOWN = 2


class Seen(NamedTuple):
    """One read: what the parts said, and what was written around it.

    `confirmed` is the last number whose write had returned before it began, `begun` the last whose
    write had begun when it ended, and `last` the one that this reader saw before.
    """

    parts: Sequence[int]
    confirmed: int
    begun: int
    last: int = 0


@dataclass
class Evidence:
    """What a reader saw, the first of each fault, and how many reads had a write of their own."""

    reads: int = 0
    overlapping: int = 0
    unanswered: int = 0
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ADVICE, 0))
    first: dict[str, Seen] = field(default_factory=dict)

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.reads + other.reads,
            self.overlapping + other.overlapping,
            self.unanswered + other.unanswered,
            {fault: count + other.faults[fault] for fault, count in self.faults.items()},
            other.first | self.first,
        )


def fault_of(seen: Seen) -> str:
    """What is wrong with a read; "" where nothing is.

    >>> fault_of(Seen([7, 7, 8], confirmed=6, begun=8)), fault_of(Seen([7, 7], 7, 8, last=7))
    ('torn', '')
    """
    low, high = min(seen.parts), max(seen.parts)
    rules = (
        (low != high or not low, TORN),  # zeros are of what is being filled
        (not 1 <= low <= seen.begun, MADE_UP),
        (low < seen.confirmed, STALE),
        (low < seen.last, BACK),
    )
    return next((fault for holds, fault in rules if holds), "")


def assert_atomic_reads(  # noqa: PLR0913 - who writes, who reads, and how much of it
    write: Write,
    read: Read,
    *,
    writer: Literal["thread", "process"] = "thread",
    readers: int = 2,
    reads: int = 2_000,
    within: Seconds = 60.0,
) -> Verdict:
    """Write without a pause while others read, and hold that every read is whole and not stale.

    `write(number)` is called with 1, 2, 3 and so on, and publishes a state of which every part
    says that number; once it returns, readers are to see it. `read()` returns what the parts say,
    each a number, or None where it gives up. A state must have been written with all its parts; it
    may not be older than the last whose write returned before the read began, nor older than what
    the same reader saw before.

    The writer is a thread, or a `process`: shared memory is torn by another processor alone.
    `write` is sent there, so it is a function of a module, or a `functools.partial` of one.
    `readers` are threads. It goes on until `reads` of them met a write that their reader had not
    met yet: counts decide, on a busy machine as well. Reads that give up are told, and no fault.

    Raises `ServerExceeded`; `NothingMeasured` where they do not meet so often in `within` seconds,
    and what is then under way is waited for, however long: give what may block a timeout;
    `RuntimeError` for a process that ends, and what `read` and `write` raise.

        write = partial(publish_number, memory)
        assert_atomic_reads(write, lambda: numbers(memory), writer="process")
    """
    if writer not in _WRITING:
        msg = f"writer must be 'thread' or 'process', not {writer!r}"
        raise ValueError(msg)
    for name, value in {"readers": readers, "reads": reads}.items():
        if value < 1:
            msg = f"{name} must be 1 or more, not {value!r}"
            raise ValueError(msg)
    shared = get_context("spawn").RawArray(ctypes.c_uint64, 3)
    found = [Evidence() for _ in range(readers)]
    seconds = argument("within", seconds_of, within)
    until = time.monotonic() + seconds
    with (
        _WRITING[writer](write, shared) as check,
        ThreadPoolExecutor(readers, "reading") as pool,
    ):
        over = threading.Event()
        reading = [pool.submit(_read, read, shared, each, over) for each in found]
        try:
            while time.monotonic() < until and not any(each.done() for each in reading):
                check()
                so_far = sum(found, Evidence())
                if so_far.overlapping >= reads or sum(so_far.faults.values()) >= _ENOUGH:
                    break
                time.sleep(_LOOK)
        finally:
            over.set()
        for each in reading:
            each.result()
    outcome = judged(sum(found, Evidence()), reads, seconds, writer)
    return concluded(outcome)


def _read(read: Read, shared: Any, found: Evidence, over: threading.Event) -> None:
    """Be a reader."""
    last = met = 0
    while not over.is_set():
        confirmed = shared[_CONFIRMED]
        if not confirmed:  # what is there is of another time
            time.sleep(_LOOK)
            continue
        parts = read()
        begun = shared[_BEGUN]
        if not parts:
            found.unanswered += 1
            continue
        found.reads += 1
        if begun > max(confirmed, met):
            found.overlapping += 1
            met = begun
        else:
            time.sleep(_NAP)
        seen = Seen(parts, confirmed, begun, last)
        fault = fault_of(seen)
        if fault:
            found.faults[fault] += 1
            found.first.setdefault(fault, seen)
        else:
            last = parts[0]


def _write(write: Write, shared: Any) -> None:
    """Be a writer, for as long as somebody reads."""
    parent, number = parent_process(), 0
    while not shared[_STOP]:
        number += 1
        shared[_BEGUN] = number
        write(number)
        shared[_CONFIRMED] = number
        if parent and number % _WRITES_BEFORE_LOOK == 0 and not parent.is_alive():
            return


@contextmanager
def _in_a_thread(write: Write, shared: Any) -> Iterator[Callable[[], None]]:
    """Write; what is yielded raises what the writer did."""
    turn = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        with ThreadPoolExecutor(1, "writing") as pool:
            writing = pool.submit(_write, write, shared)

            def check() -> None:
                if writing.done():
                    writing.result()

            try:
                yield check
            finally:
                shared[_STOP] = 1
            check()
    finally:
        sys.setswitchinterval(turn)


@contextmanager
def _in_a_process(write: Write, shared: Any) -> Iterator[Callable[[], None]]:
    """Write; what is yielded raises where the process ended."""
    process = get_context("spawn").Process(target=_write, args=(write, shared), daemon=True)
    process.start()

    def check() -> None:
        if not process.is_alive():
            msg = f"the process that writes ended with {process.exitcode}: see what it printed"
            raise RuntimeError(msg)

    try:
        yield check
    finally:
        shared[_STOP] = 1
        process.join(_TO_END)
        process.kill()
        process.join()
        process.close()


_WRITING = {"thread": _in_a_thread, "process": _in_a_process}


def judged(found: Evidence, reads: int, within: float, writer: str) -> Verdict:
    """Hold what readers saw to what was written."""
    faults = [fault for fault in _ADVICE if found.faults[fault]]
    if not faults and found.overlapping < reads:
        what = f"{found.overlapping:,} of {reads:,} reads met a write of their own"
        raise nothing_measured(
            "server",
            f"{what} in {duration(within)}",
            "have write= publish, and read= read it, again and again; writer='process' for what "
            "processes share; or ask for fewer reads=",
        )
    figures = Figures(
        given={"reads": reads, "writer": writer},
        counts=found.faults,
        limits=dict.fromkeys(_ADVICE, 0),
        facts={"gave up": f"{found.unanswered:,}"} if found.unanswered else {},
    )
    met = f"{found.overlapping:,} of {found.reads:,} reads met a write"
    if not faults:
        gave_up = f"; {found.unanswered:,} gave up" if found.unanswered else ""
        return passed(f"{met}, whole and not stale{gave_up}", figures)
    worst = faults[0]
    means, advice = _ADVICE[worst]
    rows = [[f"{found.faults[fault]:,}", fault, *_shown(found.first[fault])] for fault in faults]
    head = ["reads", "are", "the first says", "confirmed", "begun", "seen"]
    headline = f"{found.faults[worst]:,} of {found.reads:,} reads are {worst}, limit 0"
    lines = labelled_lines({"means": means, "try": advice})
    table = [fit_line(line) for line in table_lines(head, rows)]
    return exceeded(headline, figures, lines, table)


def _shown(seen: Seen) -> list[str]:
    said = list(dict.fromkeys(seen.parts))
    more = ["..."] if len(said) > _MOST_SHOWN else []
    return [
        " ".join([*map(str, said[:_MOST_SHOWN]), *more]),
        *map(str, (seen.confirmed, seen.begun, seen.last)),
    ]
