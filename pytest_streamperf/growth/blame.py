"""Who did it: the user's lines whose cost grew.

A run is traced line by line: for a few deltas at a quarter of the way and as many at its end, or
for its finish alone, in two runs of different length. What a line costs late and did not cost early
is its part of the growth. Only the user's own lines are told apart; what a library does is charged
to the line that called it, with the name of the call.
"""

import dis
import linecache
import sys
import sysconfig
import tracemalloc
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

from pytest_streamperf.trace import CalleeTracer, LineTracer, calls_traced, name_of

# The part of all deltas that is traced early, and as much late, if there is time for so many.
_PARTS = 16

_HERE = str(Path(__file__).parents[1])
_OWN = f"{__name__.partition('.')[0]}."
_PATHS = sysconfig.get_paths()
_INSTALLED = tuple({_PATHS["purelib"], _PATHS["platlib"]})
_STANDARD = tuple({_PATHS["stdlib"], _PATHS["platstdlib"]})

# CPython 3.11 extends a local string in place, unless it is traced: then `text += delta` copies. A
# line of that kind is let off if the traced run shows more growth than there was without tracing.
_NO_GROWTH_IN_PLACE = sys.version_info < (3, 12)
_SURPLUS = 1.5

Line = tuple[CodeType, int]
Costs = dict[tuple[Line, str], float]
"""What lines cost, each apart for every callee it was in (\"\" for its own work)."""


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
        tracemalloc.reset_peak()
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
    """A gauge that traces a run line by line in each of `windows`, and sums up in `costs`."""

    each = True

    def __init__(self, spend: Callable[[], float], windows: Sequence[range]) -> None:
        self.costs: list[Costs] = [defaultdict(float) for _ in windows]
        self._windows = windows
        self._spend = spend
        self._tracer = LineTracer(self._visit, self._is_users)
        self._callees = CalleeTracer(self._visit_callee, self._is_users)
        self._files: dict[str, bool] = {}
        self._package: str | None = None
        self._line: Line | None = None
        self._callee = ""
        self._into: Costs | None = None
        self._index = -1

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
                if not calls_traced():
                    self._callees.start()
                self._tracer.start(consumer)
                self._into = costs
                self._spend()

    def read(self) -> float:
        """Stop tracing; nothing is summed up here."""
        self._charge()
        self.close()
        return 0.0

    def close(self) -> None:
        """Put the hooks back, however far `open` came before it was interrupted."""
        self._tracer.stop()
        self._callees.stop()
        self._into = None

    def _visit(self, frame: FrameType, event: str) -> None:
        self._charge()
        self._line, self._callee = (frame.f_code, frame.f_lineno), ""
        if event == "return":
            callee, caller = frame, frame.f_back
            while caller is not None and not self._is_users(caller):
                callee, caller = caller, caller.f_back
            self._line = (caller.f_code, caller.f_lineno) if caller is not None else None
            self._callee = name_of(callee) if callee is not frame else ""
        self._spend()

    def _visit_callee(self, name: str) -> None:
        self._charge()
        self._callee = name
        self._spend()

    def _charge(self) -> None:
        spent = self._spend()
        if self._line and self._into is not None and not self._callee.startswith(_OWN):
            self._into[self._line, self._callee] += spent

    def _is_users(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        if (
            self._index < 0
        ):  # in a thread that was started before the stream was: whose is not known
            return _is_users_own(file, None)
        if file not in self._files:
            self._files[file] = _is_users_own(file, self._package)
        return self._files[file]


def _who_pulls() -> FrameType:
    """The frame that asked for a delta, which took it through frames of ours."""
    frame = sys._getframe(1)  # noqa: SLF001 - the only way to it that is cheap
    while _is_below(frame.f_code.co_filename, _HERE) and frame.f_back:
        frame = frame.f_back
    return frame


def least_of_each(one: Costs, other: Costs) -> Costs:
    """What each line cost in that of two runs in which it cost less."""
    return {where: min(spent, other[where]) for where, spent in one.items() if where in other}


def blamed(early: Costs, late: Costs, expected: float) -> list[Blame]:
    """The lines that grew, guiltiest first; lines under a hundredth of the growth left out.

    `expected` is what all of them really grew by, when nothing was traced: nobody is blamed where
    less than a third of it shows: in a shorter stream it may well be less than its part.
    """
    growth: defaultdict[Line, dict[str, float]] = defaultdict(dict)
    for (line, callee), cost in late.items():
        if cost > early.get((line, callee), 0.0):
            growth[line][callee] = cost - early.get((line, callee), 0.0)
    surplus = sum(sum(parts.values()) for parts in growth.values()) - _SURPLUS * expected
    for line in list(growth):
        others = len(growth) > 1  # where there is no other line, it is this one
        if _NO_GROWTH_IN_PLACE and others and surplus > 0 and _extends_a_local(*line):
            surplus -= sum(growth.pop(line).values())
    whole = sum(sum(parts.values()) for parts in growth.values())
    if whole < expected / 3:
        return []
    found = [
        Blame(code.co_filename, line, code.co_qualname, sum(parts.values()) / whole, _most(parts))
        for (code, line), parts in growth.items()
    ]
    return sorted(
        (guilty for guilty in found if guilty.share > 1 / 100), key=lambda guilty: -guilty.share
    )


def _most(parts: Mapping[str, float]) -> str:
    """The callee that grew by more than half of what its line did; "" if none."""
    callee = max(parts, key=lambda name: parts[name])
    return callee if parts[callee] > sum(parts.values()) / 2 else ""


def _is_users_own(file: str, package: str | None) -> bool:
    if file.startswith("<") or _is_below(file, _HERE):
        return False
    if any(_is_below(file, path) for path in _INSTALLED):
        return package is not None and _is_below(file, package)
    return not any(_is_below(file, path) for path in _STANDARD)


def _is_below(file: str, folder: str) -> bool:
    return file.startswith(folder) and file[len(folder) : len(folder) + 1] in {"/", "\\"}


def _package_of(file: str) -> str | None:
    """The installed package a file belongs to: what pulls the stream counts as the user's own."""
    for folder in _INSTALLED:
        if _is_below(file, folder):
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
