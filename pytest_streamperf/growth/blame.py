"""Who did it: the user's lines whose cost grew between early and late deltas.

One more run is traced line by line, for a few deltas at a quarter of the way and as many at its
end. What a line costs late and did not cost early is its part of the growth. Only the user's own
lines are told apart; what a library does is charged to the line that called it.
"""

import dis
import linecache
import sys
import sysconfig
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

from pytest_streamperf.trace import LineTracer

WINDOW = 48
"""How many deltas are traced early and how many late."""

_HERE = str(Path(__file__).parents[1])
_PATHS = sysconfig.get_paths()
_INSTALLED = tuple({_PATHS["purelib"], _PATHS["platlib"]})
_STANDARD = tuple({_PATHS["stdlib"], _PATHS["platstdlib"]})

# CPython 3.11 extends a local string in place, unless it is traced: then `text += delta` copies. A
# line of that kind is let off if the traced run shows more growth than there was without tracing.
_NO_GROWTH_IN_PLACE = sys.version_info < (3, 12)
_SURPLUS = 1.25

Site = tuple[CodeType, int]


@dataclass(frozen=True, slots=True)
class Blame:
    """A line, and the part of the growth that is its own, 0 to 1.

    >>> Blame("agent.py", 41, "Reply.feed", 0.97).line
    41
    """

    file: str
    line: int
    function: str
    share: float

    @property
    def source(self) -> str:
        """The line's source, if the file can be read."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def place(self) -> str:
        """File, line and function, the file relative to the current directory where it is below."""
        file, here = Path(self.file), Path.cwd()
        shown = file.relative_to(here) if file.is_relative_to(here) else Path(file.name)
        return f"{shown.as_posix()}:{self.line} in {self.function}"


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


class Lines:
    """A gauge that traces a run of `length` deltas line by line in two windows of it."""

    each = True

    def __init__(self, length: int, spend: Callable[[], float]) -> None:
        window = min(WINDOW, length // 4)
        self._early = range(length // 4 - window, length // 4)
        self._late = range(length - window, length)
        self._costs = {
            window: defaultdict[Site, float](float) for window in (self._early, self._late)
        }
        self._spend = spend
        self._tracer = LineTracer(self._visit, self._is_users)
        self._package: str | None = None
        self._site: Site | None = None
        self._into: defaultdict[Site, float] | None = None
        self._index = -1

    def open(self) -> None:
        """Begin to trace, if the next delta is in a window."""
        self._index += 1
        for window, costs in self._costs.items():
            if self._index in window:
                self._into = costs
                consumer = sys._getframe(1)  # noqa: SLF001 - the only way to it that is cheap
                while _is_below(consumer.f_code.co_filename, _HERE) and consumer.f_back:
                    consumer = consumer.f_back
                self._package = _package_of(consumer.f_code.co_filename)
                self._site = consumer.f_code, consumer.f_lineno
                self._tracer.start(consumer)
                self._spend()

    def read(self) -> float:
        """Stop tracing; nothing is summed up here."""
        self._charge()
        self.close()
        return 0.0

    def close(self) -> None:
        """Put the trace function back."""
        if self._into is not None:
            self._tracer.stop()
            self._into = None

    def blame(self, expected: float) -> list[Blame]:
        """The lines that grew, guiltiest first; lines under a hundredth of the growth left out.

        `expected` is by how much the cost of a delta really grew between the two windows, when
        nothing was traced.
        """
        early, late = self._costs[self._early], self._costs[self._late]
        growth = {site: cost - early.get(site, 0.0) for site, cost in late.items()}
        growth = {site: part for site, part in growth.items() if part > 0}
        surplus = sum(growth.values()) - _SURPLUS * expected * len(self._late)
        for site in list(growth):
            if _NO_GROWTH_IN_PLACE and surplus > 0 and _extends_a_local(*site):
                surplus -= growth.pop(site)
        whole = sum(growth.values())
        return [
            Blame(code.co_filename, line, code.co_qualname, part / whole)
            for (code, line), part in sorted(growth.items(), key=lambda item: -item[1])
            if part > whole / 100
        ]

    def _visit(self, frame: FrameType, event: str) -> None:
        self._charge()
        code, line = frame.f_code, frame.f_lineno
        if event == "return":
            caller = frame.f_back
            while caller is not None and not self._is_users(caller):
                caller = caller.f_back
            self._site = (caller.f_code, caller.f_lineno) if caller is not None else None
        else:
            self._site = code, line
        self._spend()

    def _charge(self) -> None:
        spent = self._spend()
        if self._site is not None and self._into is not None:
            self._into[self._site] += spent

    def _is_users(self, frame: FrameType) -> bool:
        file = frame.f_code.co_filename
        if file.startswith("<") or _is_below(file, _HERE):
            return False
        if any(_is_below(file, path) for path in _INSTALLED):
            return self._package is not None and _is_below(file, self._package)
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
