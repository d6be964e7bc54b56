"""Who did it: the user's lines whose cost grew.

A run is traced line by line: for a few deltas at a quarter of the way and as many at its end, or
for its finish alone, in two runs of different length. What a line costs late and did not cost early
is its part of the growth. Only the user's own lines are told apart; what a library does is charged
to the line that called it, with the name of the call.
"""

import dis
import linecache
import sys
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from pathlib import Path
from types import CodeType, FrameType

from pytest_streamperf._runtime.context import INSTALLED, OWN, STANDARD, is_below
from pytest_streamperf._runtime.instrumentation import (
    CalleeTracer,
    LineTracer,
    calls_traced,
    name_of,
    restart_peak,
)

# The part of all deltas that is traced early, and as much late, if there is time for so many.
_PARTS = 16
# In this many pieces runs are compared: what disturbs one hits another elsewhere.
_PIECES = 16

_OWN = f"{__name__.partition('.')[0]}."

# CPython 3.11 extends a local string in place, unless it is traced: then `text += delta` copies. A
# line of that kind is let off if without it the traced run shows more nearly what there was.
_NO_GROWTH_IN_PLACE = sys.version_info < (3, 12)

# Where so many lines or more, each with so large a part of the cost, all cost more late than early,
# the core was slower then: by as much as the least of them says, or half as slow again.
_SEVERAL, _WEIGHTY, _SLOWEST = 3, 0.05, 1.5
# The time it takes to trace a line wavers by this part of it, and nobody is blamed for that where
# lines that grew by more come to this part of the growth there was without tracing.
_WAVERING, _MOSTLY = 0.1, 1 / 2
# Growth that is less than this part of what all traced lines cost cannot be told by time.
_LOST = 1 / 200

Line = tuple[CodeType, int]
Costs = dict[tuple[Line, str], float]
"""What lines cost, each apart for every callee it was in (\"\" for its own work)."""
Pieces = dict[tuple[Line, str, int], float]
"""The same for each piece of a window, by number."""


@dataclass(frozen=True, slots=True)
class Blame:
    """A line, and the part of the growth that is its own, 0 to 1.

    `call` is the library's or C function that the line spent most of it in, "" if it did not.

    >>> Blame("agent.py", 41, "Reply.feed", 0.97).line
    41
    """

    file: str
    line: int
    function: str
    share: float
    call: str = ""

    @property
    def source(self) -> str:
        """The line's source, if the file can be read."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def places(self) -> list[str]:
        """File, line, function and call, said shorter and shorter.

        The file is relative to the current directory where it is below.
        """
        file, here = Path(self.file), Path.cwd()
        near = file.relative_to(here).as_posix() if file.is_relative_to(here) else file.name
        if not self.call:
            return [f"{near}:{self.line} in {self.function}"]
        calls = (self.call, self.call.partition(".")[2] or self.call)
        return [
            f"{shown}:{self.line} in {self.function}, calling {call}"
            for call in calls
            for shown in (near, file.name)
        ]


class CopiedBytes:
    """Bytes allocated on top of what was live since the last reading."""

    def __init__(self) -> None:
        self._live = 0

    def __call__(self) -> float:
        live, peak = tracemalloc.get_traced_memory()
        spent = peak - self._live
        restart_peak()
        self._live = live
        return spent


class ClockTime:
    """Seconds since the last reading."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = 0.0

    def __call__(self) -> float:
        now = self._clock()
        spent, self._last = now - self._last, now
        return spent


def early_and_late(length: int, window: int) -> tuple[range, range]:
    """The deltas to trace in a run of this length, by index: `window` or fewer, each time."""
    window = min(window, max(1, length // _PARTS))
    return range(length // 4 - window, length // 4), range(length - window, length)


def finish_only(length: int) -> tuple[range]:
    """What comes after the last delta, and nothing else."""
    return (range(length, length + 1),)


class Lines:
    """A gauge that traces a run line by line in each of `windows`, and sums up in `costs`.

    `spend` tells what was spent since it was last asked; if it is None, calls are counted.
    """

    each = True

    def __init__(self, spend: Callable[[], float] | None, windows: Sequence[range]) -> None:
        self.costs: list[Pieces] = [defaultdict(float) for _ in windows]
        self._windows = windows
        self._spend = spend or self._calls_made
        self._made = 0
        self._tracer = LineTracer(self._visit, self._is_users)
        self._callees = CalleeTracer(self._visit_callee, self._is_users)
        self._files: dict[str, bool] = {}
        self._package: str | None = None
        self._line: Line | None = None
        self._callee = ""
        self._into: Pieces | None = None
        self._index, self._piece = -1, 0

    @contextmanager
    def in_new_threads(self) -> Iterator[None]:
        """Trace the consumer's own threads, too: those started while this is open."""
        with self._tracer.in_new_threads(), self._callees.in_new_threads():
            yield

    def open(self) -> None:
        """Begin to trace, if the next delta is in a window."""
        self._index += 1
        if self._index == 0:
            self._package = _package_of(_who_pulls().f_code.co_filename)
        for window, costs in zip(self._windows, self.costs, strict=True):
            if self._index in window:
                consumer = _who_pulls()
                self._line, self._callee = (consumer.f_code, consumer.f_lineno), ""
                self._into = costs
                self._tracer.start(consumer)
                if not calls_traced():  # last, and stopped first: it sees what starts the other
                    self._callees.start()
                self._piece = (self._index - window.start) * _PIECES // len(window)
                self._spend()

    def read(self) -> float:
        """Stop tracing; nothing is summed up here."""
        spent, into = self._spend(), self._into
        self.close()
        self._charge(spent, into)
        return 0.0

    def close(self) -> None:
        """Put the hooks back, however far `open` came before it was interrupted."""
        self._callees.stop()
        self._tracer.stop()
        self._into = None

    def _calls_made(self) -> float:
        made, self._made = self._callees.count - self._made, self._callees.count
        return made

    def _visit(self, frame: FrameType, event: str) -> None:
        self._charge(self._spend(), self._into)
        self._line, self._callee = (frame.f_code, frame.f_lineno), ""
        if event == "return":
            callee, caller = frame, frame.f_back
            while caller is not None and not self._is_users(caller):
                callee, caller = caller, caller.f_back
            self._line = (caller.f_code, caller.f_lineno) if caller is not None else None
            self._callee = name_of(callee) if callee is not frame else ""
        self._spend()

    def _visit_callee(self, name: str) -> None:
        self._charge(self._spend(), self._into)
        self._callee = name
        self._spend()

    def _charge(self, spent: float, into: Pieces | None) -> None:
        if self._line and into is not None and not self._callee.startswith(_OWN):
            into[self._line, self._callee, self._piece] += spent

    def _is_users(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        # In a thread that was started before the stream was: whose it is is not known.
        if self._index < 0:
            return _is_users_own(file, None)
        if file not in self._files:
            self._files[file] = _is_users_own(file, self._package)
        return self._files[file]


def _who_pulls() -> FrameType:
    """The frame that asked for a delta, which took it through frames of ours."""
    frame = sys._getframe(1)  # noqa: SLF001 - the only way to it that is cheap
    while is_below(frame.f_code.co_filename, OWN) and frame.f_back:
        frame = frame.f_back
    return frame


def least_of_each(one: Pieces, other: Pieces) -> Pieces:
    """What each line cost in that of two runs in which it cost less, piece by piece."""
    return {where: min(spent, other[where]) for where, spent in one.items() if where in other}


def summed(pieces: Pieces) -> Costs:
    """What each line cost in all."""
    costs: Costs = defaultdict(float)
    for (line, callee, _), spent in pieces.items():
        costs[line, callee] += spent
    return costs


def at_one_speed(
    early: Costs, late: Costs, *, several: int = _SEVERAL, least: float = 1.0
) -> Costs:
    """What lines cost late, but for what all of them cost more: so much slower was the core.

    Between two runs it may have been faster, too: `least` is less than 1 there.
    """
    weighty = sum(early.values()) * _WEIGHTY
    ratios = [late.get(where, 0.0) / cost for where, cost in early.items() if cost > weighty]
    slower = min(_SLOWEST, max(least, min(ratios))) if len(ratios) >= several else 1.0
    return {where: cost / slower for where, cost in late.items()}


def blamed(early: Costs, late: Costs, expected: float, wavering: float = 0.0) -> list[Blame]:
    """The lines that grew, guiltiest first; lines under a hundredth of the growth left out.

    `expected` is what all of them really grew by, when nothing was traced: nobody is blamed where
    less than a third of it shows: in a shorter stream it may well be less than its part. By the
    part `wavering` of its cost, a line may be seen to grow that does not.
    """
    growth: dict[Line, dict[str, float]] = defaultdict(dict)
    for (line, callee), cost in late.items():
        if cost > early.get((line, callee), 0.0):
            growth[line][callee] = cost - early.get((line, callee), 0.0)
    clear = {line: parts for line, parts in growth.items() if _grew(line, parts, early) > wavering}
    surplus = _whole(clear) - expected
    for line, parts in list(clear.items()):
        others = len(growth) > 1  # where there is no other line, it is this one
        mostly = surplus > sum(parts.values()) / 2
        if _NO_GROWTH_IN_PLACE and others and mostly and _extends_a_local(*line):
            surplus -= sum(clear.pop(line).values())
            del growth[line]
    if _whole(clear) >= expected * _MOSTLY > 0:
        growth = clear
    whole = _whole(growth)
    if whole < expected / 3:
        return []
    found = [
        Blame(code.co_filename, line, code.co_qualname, sum(parts.values()) / whole, _most(parts))
        for (code, line), parts in growth.items()
    ]
    return sorted(
        (guilty for guilty in found if guilty.share > 1 / 100), key=lambda guilty: -guilty.share
    )


def blamed_for_time(
    early: Costs, late: Costs, expected: float, *, several: int = _SEVERAL, least: float = 1.0
) -> list[Blame]:
    """The same for time, which wavers where counts are exact."""
    if expected < _LOST * sum(late.values()):
        return []
    late = at_one_speed(early, late, several=several, least=least)
    return blamed(early, late, expected, _WAVERING)


def _whole(growth: Mapping[Line, Mapping[str, float]]) -> float:
    return sum(sum(parts.values()) for parts in growth.values())


def _grew(line: Line, parts: Mapping[str, float], early: Costs) -> float:
    """By which part of what it cost early a line grew."""
    before = sum(cost for (each, _), cost in early.items() if each == line)
    return sum(parts.values()) / before if before else inf


def _most(parts: Mapping[str, float]) -> str:
    """The callee that grew by more than half of what its line did; "" if none."""
    callee = max(parts, key=lambda name: parts[name])
    return callee if parts[callee] > sum(parts.values()) / 2 else ""


def _is_users_own(file: str, package: str | None) -> bool:
    if file.startswith("<") or is_below(file, OWN):
        return False
    if any(is_below(file, path) for path in INSTALLED):
        return package is not None and is_below(file, package)
    return not any(is_below(file, path) for path in STANDARD)


def _package_of(file: str) -> str | None:
    """The installed package a file belongs to: what pulls the stream counts as the user's own."""
    for folder in INSTALLED:
        if is_below(file, folder):
            return str(Path(folder, Path(file).relative_to(folder).parts[0]))
    return None


def _extends_a_local(code: CodeType, line: int) -> bool:
    """Whether a line adds to a local variable: `text += delta` or `text = text + delta`."""
    here = [
        step
        for step in dis.get_instructions(code)
        if step.positions and step.positions.lineno == line
    ]
    return any(
        step.opname == "BINARY_OP" and step.argrepr in {"+", "+="} and after.opname == "STORE_FAST"
        for step, after in pairwise(here)
    )
