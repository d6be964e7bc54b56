"""The one owner of tracemalloc, the garbage collector, the switch interval and the profiling hooks.

Each context manager here changes one of them for as long as it is open, and leaves it as it found
it, whatever happens inside.
"""

import gc
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

from pytest_streamperf._runtime import interference
from pytest_streamperf.exceptions import StreamperfWarning

# Objects of 512 bytes or less come from pymalloc's arenas, of 1 MiB since CPython 3.10 (256 KiB on
# 32 bits): one of this size marks each quarter of an arena.
_BLOCK = 400
_STRIDE_BITS = 18

_told = False
_readers: "list[Peak]" = []
# How many have `allocations` open, and how many `allocations_untraced`.
_resting = 0

# CPython 3.12 freezes some hundred objects of its own; an application freezes all it has.
_FROZEN_BY_PYTHON = 1_000

# Seconds after which a thread that waits gets its turn.
_TURN = 1e-4


@contextmanager
def only_new_collected() -> Iterator[None]:
    """Leave what there is already out of collections: in a long test session one takes 0.3 s else.

    It is frozen, unless somebody froze it before; what somebody freezes meanwhile thaws at the end.
    """
    if gc.get_freeze_count() >= _FROZEN_BY_PYTHON:
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from running in between: its pauses belong to no delta.

    Who collects meanwhile goes over what is new.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        with only_new_collected():
            yield
    finally:
        (gc.enable if enabled else gc.disable)()


@contextmanager
def threads_in_turns() -> Iterator[None]:
    """Let threads take turns all the time.

    A thread that is fed through a queue gets its first turn after 5 ms, by default, and contends
    for every delta from then on: a step, in a stream of any length, that comes from no code.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def allocations_traced() -> bool:
    """Whether somebody else has tracemalloc on; timings taken meanwhile are not worth much."""
    return tracemalloc.is_tracing() and not interference.our_traces


def calls_traced() -> bool:
    """Whether somebody has a profile function in this thread; some cannot be put back."""
    return sys.getprofile() is not None


@contextmanager
def allocations() -> Iterator[None]:
    """Trace allocations; a tracemalloc that was on before is left running, with its traces.

    If that was somebody else's, its peak is lost, as none can be put back: there is a warning,
    once. Those who read the peak by `peak` keep theirs.
    """
    global _told  # noqa: PLW0603 - once is once for the process
    if allocations_traced():
        if not _told:
            _told = True
            msg = "tracemalloc was on: its traces are kept, but every check resets its peak"
            warnings.warn(msg, StreamperfWarning, stacklevel=2)
        yield
        return
    interference.our_traces += 1
    try:
        tracemalloc.start(1)
        yield
    finally:
        interference.our_traces -= 1
        if not interference.our_traces:  # whoever is the last: they may overlap without nesting
            tracemalloc.stop()


@contextmanager
def allocations_untraced() -> Iterator[None]:
    """Have `allocations` rest, for what is timed; its traces are lost, those who read a peak go on.

    What is allocated meanwhile they do not see, unless it is traced again. Somebody else's
    tracemalloc is left alone.
    """
    global _resting  # noqa: PLW0603 - tracemalloc is one for the process
    if not interference.our_traces:
        yield
        return
    restart_peak()
    live = tracemalloc.get_traced_memory()[0]
    _resting += 1
    try:
        tracemalloc.stop()
        for each in _readers:
            each.forget(live)
        yield
    finally:
        _resting -= 1
        if interference.our_traces and not _resting:  # all who traced may have gone
            tracemalloc.start(1)


class Peak:
    """The most bytes that were traced since it was made, on top of what there was then."""

    def __init__(self) -> None:
        self._before = self.seen = tracemalloc.get_traced_memory()[0]

    @property
    def above(self) -> int | None:
        """So many bytes so far; None where somebody stopped the tracing."""
        if not tracemalloc.is_tracing() and not _resting:
            return None
        return max(self.seen, tracemalloc.get_traced_memory()[1]) - self._before

    def forget(self, live: int) -> None:
        """Go on where tracemalloc knows nothing any more of bytes that are there."""
        self.seen -= live
        self._before -= live


@contextmanager
def peak() -> Iterator[Peak]:
    """Read the peak while open; `allocations` must be. Others may, too, and read theirs.

    >>> with allocations(), peak() as outer:
    ...     del (text := "x" * 5_000)
    ...     with peak() as inner:
    ...         pass
    >>> inner.above < 5_000 <= outer.above
    """
    restart_peak()
    reader = Peak()
    _readers.append(reader)
    try:
        yield reader
    finally:
        _readers.remove(reader)


def restart_peak() -> None:
    """Have tracemalloc's peak begin here; whoever reads from before keeps the greater one."""
    if _readers:
        reached = tracemalloc.get_traced_memory()[1]
        for each in _readers:
            each.seen = max(each.seen, reached)
    tracemalloc.reset_peak()


@contextmanager
def arenas_held(size: int) -> Iterator[None]:
    """Keep `size` bytes of small-object memory mapped while open.

    Arenas that are freed by one run and mapped again by the next make the late deltas of linear
    code pay for page faults that the early ones did not: 46 to 84 ns a delta for code that keeps
    one dict each. One live block in each keeps them.
    """
    blocks = [bytes(_BLOCK) for _ in range(size // _BLOCK)]
    held = list({id(block) >> _STRIDE_BITS: block for block in blocks}.values())
    del blocks
    try:
        yield
    finally:
        held.clear()


@contextmanager
def _in_new_threads(hook: str, see: Callable[[FrameType, str, Any], bool]) -> Iterator[None]:
    """Have threads that are started while this is open call `see`, until it is closed.

    `hook` is "trace" or "profile". Trace functions see into a frame if they say so at its call.
    """
    before, over = getattr(threading, f"get{hook}")(), False

    def seen(frame: FrameType, event: str, arg: object) -> Any:
        if over:
            getattr(sys, f"set{hook}")(before)
            return None
        return seen if see(frame, event, arg) else None

    getattr(threading, f"set{hook}")(seen)
    try:
        yield
    finally:
        over = True
        getattr(threading, f"set{hook}")(before)


class _Profiler:
    """Puts `_event` in as the profile function of one thread, from `start` to `stop`.

    A profile function can only be taken out by the thread it is in. When `stop` is called in
    another one, the function takes itself out at the next call there.
    """

    def __init__(self) -> None:
        self._installed = False
        self._stopped = False
        self._before: Any = None
        # Memray's is in C, and shows nowhere; what puts it into threads that start puts it back
        # here, too. Without it memray no longer knows whose an allocation is.
        hook = threading.getprofile()
        self._by_hook = hook if getattr(hook, "__module__", "").startswith("memray.") else None

    def start(self) -> None:
        """Profile the current thread; once started, further calls do nothing."""
        if not self._installed:
            self._installed, self._stopped = True, False
            self._before = sys.getprofile() or self._by_hook
            sys.setprofile(self._event)

    def stop(self) -> None:
        """Put back the profile function that was there before."""
        self._stopped = True
        if self._installed and sys.getprofile() == self._event:
            sys.setprofile(self._before)
            self._installed = False

    def in_new_threads(self) -> AbstractContextManager[None]:
        """Profile threads that are started while this is open, too, from `start` to `stop`."""

        def see(frame: FrameType, event: str, arg: object) -> bool:
            if self._installed and not self._stopped:
                self._seen(frame, event, arg)
            return True

        return _in_new_threads("profile", see)

    def _event(self, frame: FrameType, event: str, arg: object) -> None:
        if self._stopped:
            self.stop()
        else:
            self._seen(frame, event, arg)

    def _seen(self, frame: FrameType, event: str, arg: object) -> None:
        raise NotImplementedError


_CALLS = {"call", "c_call"}


class CallCounter(_Profiler):
    """Counts Python and C calls made in one thread, from `start` to `stop`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def _seen(self, _frame: FrameType, event: str, _arg: object) -> None:
        self.count += event in _CALLS


class CalleeTracer(_Profiler):
    """Calls `visit(name)` when a frame that `wanted` picks calls one that it does not, or C code.

    `name` is the callee's, behind its package's: `json.loads`, `str.find`. It is "" when the callee
    has returned. `count` is how many calls were made, by anybody.
    """

    def __init__(self, visit: Callable[[str], None], wanted: Callable[[FrameType], bool]) -> None:
        super().__init__()
        self.count = 0
        self._visit = visit
        self._wanted = wanted

    def _seen(self, frame: FrameType, event: str, arg: object) -> None:
        self.count += event in _CALLS
        in_c = event.startswith("c_")
        caller = frame if in_c else frame.f_back
        if caller is None or not self._wanted(caller) or (not in_c and self._wanted(frame)):
            return
        if event == "c_call":
            self._visit(_name(getattr(arg, "__module__", None), getattr(arg, "__qualname__", "")))
        elif event == "call":
            self._visit(name_of(frame))
        else:
            self._visit("")


def name_of(frame: FrameType) -> str:
    """The function of a frame, behind its package's name."""
    return _name(frame.f_globals.get("__name__"), frame.f_code.co_qualname)


def _name(module: object, function: str) -> str:
    package = module.partition(".")[0] if isinstance(module, str) else "builtins"
    return function if package == "builtins" else f"{package.lstrip('_')}.{function}"


class LineTracer:
    """Calls `visit(frame, event)` at every line, call and return of frames that `wanted` picks.

    Between `start` and `stop` it takes the place of the trace function of the current thread (a
    debugger's, a coverage tool's), also in the frames that are already running.
    """

    def __init__(
        self, visit: Callable[[FrameType, str], None], wanted: Callable[[FrameType], bool]
    ) -> None:
        self._visit = visit
        self._wanted = wanted
        self._before: Any = None
        self._thread: int | None = None
        self._stopped = False
        self._frames: dict[FrameType, Any] = {}

    def start(self, frame: FrameType | None) -> None:
        """Trace from now on: `frame`, its callers, and whatever they call."""
        self._before = sys.gettrace()
        self._thread, self._stopped = threading.get_ident(), False
        while frame is not None:
            if self._wanted(frame):
                self._frames[frame] = frame.f_trace
                frame.f_trace = self._local
            frame = frame.f_back
        sys.settrace(self._call)

    def stop(self) -> None:
        """Put everything back as it was; in another thread, as soon as that goes on."""
        if self._thread == threading.get_ident():
            sys.settrace(self._before)
            for frame, before in self._frames.items():
                frame.f_trace = before
            self._frames.clear()
            self._thread = None  # last: what interrupts this does it again
        else:
            self._stopped = self._thread is not None

    def in_new_threads(self) -> AbstractContextManager[None]:
        """Trace threads that are started while this is open, too, between `start` and `stop`."""

        def see(frame: FrameType, event: str, _arg: object) -> bool:
            if event == "call" and not self._wanted(frame):
                return False
            if self._thread is not None:
                self._visit(frame, event)
            return True

        return _in_new_threads("trace", see)

    def _call(self, frame: FrameType, event: str, _arg: object) -> Any:
        if self._stopped:
            self.stop()
        elif self._wanted(frame):
            self._visit(frame, event)
            return self._local
        else:
            frame.f_trace = None  # it has one if it is a generator's: that did not see the call
        return None

    def _local(self, frame: FrameType, event: str, arg: object) -> Any:
        if self._stopped:
            self.stop()
            return None
        self._visit(frame, event)
        if event == "return":  # who saw the call must see this
            before = self._frames.pop(frame, None)
            if before is not None:
                before(frame, event, arg)
        return self._local
