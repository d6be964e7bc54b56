"""Blame the lines of the user's code whose cost grew.

In go two windows of a run, or the finishes of two runs; out comes a list of `Blame`, guiltiest
first. A `LineMeter` traces a run line by line: for a few deltas at a quarter of the way and as many
at its end, or for its finish alone, in two runs of different length. The growth of a line is its
late cost less its early cost. Only the user's own lines are blamed: the cost of a library is
charged to the line that called it, with the name of the call.
"""

import dis
import linecache
import sys
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
)
from pytest_streamperf.growth.thresholds import THRESHOLDS

_OWN = f"{__name__.partition('.')[0]}."

# CPython 3.11 extends a local string in place, unless it is traced: then `text += delta` copies. A
# line of that kind is left out if the traced run then shows more nearly the untraced growth.
_NO_GROWTH_IN_PLACE = sys.version_info < (3, 12)

Line = tuple[CodeType, int]
Costs = dict[tuple[Line, str], float]
"""The cost of each line, separately for each callee that it called (\"\" for its own work)."""
Pieces = dict[tuple[Line, str, int], float]
"""The cost of each line and callee in each piece of a window, by the number of the piece."""


@dataclass(frozen=True, slots=True)
class Blame:
    """A guilty line, and its share of the growth, 0 to 1.

    `call` is the library's or C function in which the line spent most of its share; "" if there is
    none.

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
        """The source of the line; "" if the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def places(self) -> list[str]:
        """File, line, function and call, from the longest form to the shortest.

        The file is relative to the current directory if it is below it.
        """
        file, folder = Path(self.file), Path.cwd()
        near = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
        if not self.call:
            return [f"{near}:{self.line} in {self.function}"]
        short_call = self.call.partition(".")[2] or self.call
        return [
            f"{near}:{self.line} in {self.function}, calling {self.call}",
            f"{near}:{self.line} in {self.function}, calling {short_call}",
            f"{near}:{self.line}, calling {short_call}",
        ]


def early_and_late(length: int, window: int) -> tuple[range, range]:
    """Return the indexes of the deltas to trace in a run, early and late: `window` or fewer."""
    window = min(window, max(1, length // THRESHOLDS.traced_window_divisor))
    return range(length // 4 - window, length // 4), range(length - window, length)


def finish_only(length: int) -> tuple[range]:
    """Return the window of the finish: the work after the last delta."""
    return (range(length, length + 1),)


class LineMeter:
    """A meter that traces a run line by line and adds up the `costs` in each of `windows`.

    `spend` returns the cost since its last call; if it is None, calls are counted. The meter
    itself always reads 0.
    """

    reads_each_delta = True

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
        """Trace the consumer's own threads, too: threads that are started while this is open."""
        with self._tracer.in_new_threads(), self._callees.in_new_threads():
            yield

    def open(self) -> None:
        """Start to trace, if the next delta is in a window."""
        self._index += 1
        if self._index == 0:
            self._package = _package_of(_pulling_frame().f_code.co_filename)
        for window, costs in zip(self._windows, self.costs, strict=True):
            if self._index in window:
                consumer = _pulling_frame()
                self._line, self._callee = (consumer.f_code, consumer.f_lineno), ""
                self._into = costs
                self._tracer.start(consumer)
                if not calls_traced():  # last, and stopped first: it sees what starts the other
                    self._callees.start()
                self._piece = (self._index - window.start) * THRESHOLDS.trace_pieces // len(window)
                self._spend()

    def read(self) -> float:
        """Stop tracing; return 0, as the costs are kept by line."""
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


def _pulling_frame() -> FrameType:
    """Return the frame that asked for a delta, outside of this package."""
    frame = sys._getframe(1)  # noqa: SLF001 - the only way to it that is cheap
    while is_below(frame.f_code.co_filename, OWN) and frame.f_back:
        frame = frame.f_back
    return frame


def least_of_each(one: Pieces, other: Pieces) -> Pieces:
    """Return what each line cost in the cheaper of two runs, piece by piece."""
    return {where: min(spent, other[where]) for where, spent in one.items() if where in other}


def summed(pieces: Pieces) -> Costs:
    """Return what each line cost in all pieces."""
    costs: Costs = defaultdict(float)
    for (line, callee, _), spent in pieces.items():
        costs[line, callee] += spent
    return costs


def at_one_speed(
    early: Costs, late: Costs, *, several: int = THRESHOLDS.slow_core_lines, least: float = 1.0
) -> Costs:
    """Return what lines cost late, at the speed that the core had early.

    Where `several` or more weighty lines all cost more late, the core was slower then, by the
    factor of the line that grew least. Between two runs the core may have got faster, too: `least`,
    the smallest factor, is less than 1 there.
    """
    weighty = sum(early.values()) * THRESHOLDS.slow_core_weighty_part
    ratios = [late.get(where, 0.0) / cost for where, cost in early.items() if cost > weighty]
    slower = (
        min(THRESHOLDS.slow_core_max_factor, max(least, min(ratios)))
        if len(ratios) >= several
        else 1.0
    )
    return {where: cost / slower for where, cost in late.items()}


def blamed(early: Costs, late: Costs, expected: float, wavering: float = 0.0) -> list[Blame]:
    """Return the guilty lines, guiltiest first; lines with under 1% of the growth are left out.

    `expected` is the growth of all lines in an untraced run. If the traced lines show less than a
    third of it, no line is blamed: in a shorter stream their growth may be less than their part.
    Growth of up to the part `wavering` of a line's cost is noise.
    """
    growth: dict[Line, dict[str, float]] = defaultdict(dict)
    for (line, callee), cost in late.items():
        if cost > early.get((line, callee), 0.0):
            growth[line][callee] = cost - early.get((line, callee), 0.0)
    clear = {
        line: parts
        for line, parts in growth.items()
        if _relative_growth(line, parts, early) > wavering
    }
    surplus = _total_growth(clear) - expected
    for line, parts in list(clear.items()):
        several_grew = len(growth) > 1  # a line that grew alone is the guilty one
        mostly = surplus > sum(parts.values()) / 2
        if _NO_GROWTH_IN_PLACE and several_grew and mostly and _extends_a_local(*line):
            surplus -= sum(clear.pop(line).values())
            del growth[line]
    if _total_growth(clear) >= expected * THRESHOLDS.explained_part > 0:
        growth = clear
    whole = _total_growth(growth)
    if whole < expected * THRESHOLDS.seen_part:
        return []
    lines = [
        Blame(
            code.co_filename,
            line,
            code.co_qualname,
            sum(parts.values()) / whole,
            _main_callee(parts),
        )
        for (code, line), parts in growth.items()
    ]
    return sorted(
        (line for line in lines if line.share > THRESHOLDS.min_blamed_part),
        key=lambda line: -line.share,
    )


def blamed_for_time(
    early: Costs,
    late: Costs,
    expected: float,
    *,
    several: int = THRESHOLDS.slow_core_lines,
    least: float = 1.0,
) -> list[Blame]:
    """Return the lines whose time grew, as `blamed` does, with regard to noise and the core."""
    if expected < THRESHOLDS.lost_part * sum(late.values()):
        return []
    late = at_one_speed(early, late, several=several, least=least)
    return blamed(early, late, expected, THRESHOLDS.wavering_part)


def _total_growth(growth: Mapping[Line, Mapping[str, float]]) -> float:
    return sum(sum(parts.values()) for parts in growth.values())


def _relative_growth(line: Line, parts: Mapping[str, float], early: Costs) -> float:
    """Return the growth of a line as a part of its early cost; infinite if it cost nothing then."""
    before = sum(cost for (other, _), cost in early.items() if other == line)
    return sum(parts.values()) / before if before else inf


def _main_callee(parts: Mapping[str, float]) -> str:
    """Return the callee with more than half of the growth of its line; "" if there is none."""
    callee = max(parts, key=lambda name: parts[name])
    return callee if parts[callee] > sum(parts.values()) / 2 else ""


def _is_users_own(file: str, package: str | None) -> bool:
    if file.startswith("<") or is_below(file, OWN):
        return False
    if any(is_below(file, path) for path in INSTALLED):
        return package is not None and is_below(file, package)
    return not any(is_below(file, path) for path in STANDARD)


def _package_of(file: str) -> str | None:
    """Return the folder of the installed package that a file belongs to; None if it has none.

    The package that pulls the stream counts as the user's own code.
    """
    for folder in INSTALLED:
        if is_below(file, folder):
            return str(Path(folder, Path(file).relative_to(folder).parts[0]))
    return None


def _extends_a_local(code: CodeType, line: int) -> bool:
    """Return whether a line adds to a local: `text += delta` or `text = text + delta`."""
    steps = [
        step
        for step in dis.get_instructions(code)
        if step.positions and step.positions.lineno == line
    ]
    return any(
        step.opname == "BINARY_OP" and step.argrepr in {"+", "+="} and after.opname == "STORE_FAST"
        for step, after in pairwise(steps)
    )
