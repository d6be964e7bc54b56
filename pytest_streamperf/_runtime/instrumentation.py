"""The one owner of tracemalloc, the garbage collector, the switch interval and the profiling hooks.

Each context manager of this module changes one of them while it is open. It restores the earlier
state at the end, also after an exception.
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

# Whether the warning about a foreign tracemalloc was given in this process.
_warned = False
_readers: "list[Peak]" = []
# Number of open `allocations_untraced`.
_resting = 0

# More frozen objects than this mean that the application called `gc.freeze()`: CPython 3.12 freezes
# only some hundred objects of its own.
_FROZEN_BY_PYTHON = 1_000

# Switch interval, in seconds, so that threads take turns often. Not measured: no benchmark set it.
_SWITCH_SECONDS = 1e-4


@contextmanager
def only_new_collected() -> Iterator[None]:
    """Make garbage collections skip all objects that exist at the start.

    In a long test session, a full collection takes 0.3 s otherwise. The objects are frozen, unless
    the application froze them before. Objects that it freezes meanwhile are unfrozen at the end.
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
    """Turn the garbage collector off while open, because its pauses belong to no delta.

    An explicit `gc.collect()` goes over new objects only.
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
    """Shorten the switch interval, so that threads take turns from the first delta on.

    By default, a thread that a queue feeds gets its first turn after 5 ms, and contends for every
    later delta. That is a step in the cost of a stream which no code under test causes.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def allocations_traced() -> bool:
    """Return whether other code has tracemalloc on, which makes timings unreliable."""
    return tracemalloc.is_tracing() and not interference.our_traces


def calls_traced() -> bool:
    """Return whether this thread has a profile function; some of them cannot be restored."""
    return sys.getprofile() is not None


@contextmanager
def allocations() -> Iterator[None]:
    """Trace allocations while open; a tracemalloc that was on before keeps running.

    If other code started it, it keeps its traces but loses its peak, which cannot be restored. A
    warning says so once. Readers of `peak` keep their values.
    """
    global _warned  # noqa: PLW0603 - one warning for the process
    if allocations_traced():
        if not _warned:
            _warned = True
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
        if not interference.our_traces:  # the last to close; they may overlap without nesting
            tracemalloc.stop()


@contextmanager
def allocations_untraced() -> Iterator[None]:
    """Pause `allocations` for timed code; its traces are lost, but open `peak` readers go on.

    The readers do not see allocations of the pause, unless the code traces again. A tracemalloc
    that other code started keeps running.
    """
    global _resting  # noqa: PLW0603 - one tracemalloc for the process
    if not interference.our_traces:
        yield
        return
    restart_peak()
    live = tracemalloc.get_traced_memory()[0]
    _resting += 1
    try:
        tracemalloc.stop()
        for reader in _readers:
            reader.forget(live)
        yield
    finally:
        _resting -= 1
        if interference.our_traces and not _resting:  # every `allocations` may have closed
            tracemalloc.start(1)


class Peak:
    """Reader of the highest number of traced bytes since its creation, above the number then."""

    def __init__(self) -> None:
        self._before = self.seen = tracemalloc.get_traced_memory()[0]

    @property
    def above(self) -> int | None:
        """Highest number of bytes above the start so far; None if tracing was stopped."""
        if not tracemalloc.is_tracing() and not _resting:
            return None
        return max(self.seen, tracemalloc.get_traced_memory()[1]) - self._before

    def forget(self, live: int) -> None:
        """Subtract `live` bytes, which tracemalloc forgot although they are still allocated."""
        self.seen -= live
        self._before -= live


@contextmanager
def peak() -> Iterator[Peak]:
    """Read the peak while open; needs an open `allocations`. Readers may overlap.

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
    """Reset tracemalloc's peak; open readers keep the higher value."""
    if _readers:
        reached = tracemalloc.get_traced_memory()[1]
        for reader in _readers:
            reader.seen = max(reader.seen, reached)
    tracemalloc.reset_peak()


@contextmanager
def arenas_held(size: int) -> Iterator[None]:
    """Keep `size` bytes of small-object memory mapped while open.

    If one run frees arenas and the next maps them again, only the late deltas of linear code pay
    for page faults: 46 to 84 ns a delta for code that keeps one dict per delta. One live block in
    each arena keeps it mapped.
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
    """Call `see` in threads that start while this is open, until it is closed.

    `hook` is "trace" or "profile". A frame is traced further if `see` returns True at its call.
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
    """Installs `_profile` as the profile function of one thread, from `start` to `stop`.

    Only that thread can remove its profile function. If another thread calls `stop`, the function
    removes itself at the next call in its own thread.
    """

    def __init__(self) -> None:
        self._installed = False
        self._stopped = False
        self._before: Any = None
        # Memray's profile function is in C and invisible. Its hook for new threads can restore it;
        # otherwise memray no longer knows which frame allocates.
        hook = threading.getprofile()
        self._by_hook = hook if getattr(hook, "__module__", "").startswith("memray.") else None

    def start(self) -> None:
        """Profile the current thread; once started, further calls do nothing."""
        if not self._installed:
            self._installed, self._stopped = True, False
            self._before = sys.getprofile() or self._by_hook
            sys.setprofile(self._profile)

    def stop(self) -> None:
        """Put back the profile function that was there before."""
        self._stopped = True
        if self._installed and sys.getprofile() == self._profile:
            sys.setprofile(self._before)
            self._installed = False

    def in_new_threads(self) -> AbstractContextManager[None]:
        """Profile threads that are started while this is open, too, from `start` to `stop`."""

        def see(frame: FrameType, event: str, arg: object) -> bool:
            if self._installed and not self._stopped:
                self._on_event(frame, event, arg)
            return True

        return _in_new_threads("profile", see)

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        if self._stopped:
            self.stop()
        else:
            self._on_event(frame, event, arg)

    def _on_event(self, frame: FrameType, event: str, arg: object) -> None:
        raise NotImplementedError


_CALLS = {"call", "c_call"}


class CallCounter(_Profiler):
    """Counts Python and C calls made in one thread, from `start` to `stop`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def _on_event(self, _frame: FrameType, event: str, _arg: object) -> None:
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

    def _on_event(self, frame: FrameType, event: str, arg: object) -> None:
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
                frame.f_trace = self._trace_line
            frame = frame.f_back
        sys.settrace(self._trace_call)

    def stop(self) -> None:
        """Restore the trace functions; if another thread is traced, it does so when it runs on."""
        if self._thread == threading.get_ident():
            sys.settrace(self._before)
            for frame, before in self._frames.items():
                frame.f_trace = before
            self._frames.clear()
            self._thread = None  # last, so that an interrupted `stop` can be repeated
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

    def _trace_call(self, frame: FrameType, event: str, _arg: object) -> Any:
        if self._stopped:
            self.stop()
        elif self._wanted(frame):
            self._visit(frame, event)
            return self._trace_line
        else:
            frame.f_trace = None  # a resumed generator may have one
        return None

    def _trace_line(self, frame: FrameType, event: str, arg: object) -> Any:
        if self._stopped:
            self.stop()
            return None
        self._visit(frame, event)
        if event == "return":  # the earlier tracer saw the call
            before = self._frames.pop(frame, None)
            if before is not None:
                before(frame, event, arg)
        return self._trace_line
