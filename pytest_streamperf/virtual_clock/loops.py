"""An asyncio event loop that follows a virtual clock.

When all tasks wait, `VirtualLoop` moves the clock to the next timer instead of sleeping. It gives
threads a limited real time to finish. It raises `VirtualTimeError` if all tasks wait for ever, or
for a connection that leaves the loop. `trio_clock` uses the same helpers.
"""

import asyncio
import functools
import os
import selectors
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from math import inf, nextafter
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from pytest_streamperf._runtime import clock as real
from pytest_streamperf.exceptions import VirtualTimeError

__tracebackhide__ = True  # pytest shows the user's own frames

# Real seconds that a loop waits for busy threads before it moves the clock. Work in threads takes
# no virtual time. Not measured: no benchmark set this value.
PATIENCE = 1.0
# Real seconds that a loop waits for busy threads if no timer is left. Not measured either.
_LAST_PATIENCE = 30.0
# asyncio waits at most this many seconds at once (its MAXIMUM_SELECT_TIMEOUT).
_LONGEST_WAIT = 86_400
# Number of tasks, and of threads, that an error lists, so that it stays readable.
_MOST_SHOWN = 5
_LOOPBACK = "127.0.0.1", "::1"
_LIBRARIES = "asyncio", "trio", "anyio", f"pytest_streamperf{os.sep}virtual_clock"


class Clock(Protocol):
    """The interface of a virtual clock that an event loop uses."""

    monotonic: float
    """Virtual seconds, as returned by `time.monotonic`."""

    threads: "ClockThreads"

    def pass_time(self, seconds: float) -> None:
        """Move the clock forward by `seconds`, 0 or more."""

    @property
    def left(self) -> float | None:
        """The real time at which the clock was left; loops run in real time after that."""

    def since_left(self) -> float:
        """Return the time for loops that run on after the clock was left."""


class ClockThreads:
    """Counts the threads that work for an event loop, and decides when the loop waits for them.

    The loop waits once for each set of threads. A thread that itself waits for the loop would never
    finish, so a second wait would be useless.
    """

    def __init__(self) -> None:
        self.busy = self._begun = 0
        self._waited: int | None = None

    def begin(self) -> None:
        """Count one more busy thread."""
        self.busy += 1
        self._begun += 1

    def end(self, _future: object = None) -> None:
        """Count one busy thread less."""
        self.busy -= 1

    def wait(self) -> bool:
        """Return whether the loop should wait now for busy threads."""
        if not self.busy or self._waited == self._begun:
            return False
        self._waited = self._begun
        return True

    def counted(self, run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wrap a function such as `to_thread.run_sync` so that its threads are counted."""

        @functools.wraps(run)
        async def running(*args: Any, **options: Any) -> Any:
            self.begin()
            try:
                return await run(*args, **options)
            finally:
                self.end()

        return running


class RoundObserver(Protocol):
    """Observer of the start and the end of each round of callbacks."""

    def began(self) -> None:
        """Called before a round of callbacks runs."""

    def ended(self) -> None:
        """Called after a round of callbacks, before the loop waits."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop that jumps to the next timer instead of waiting for it.

    `entered_clock` returns the clock that is entered in this thread. Without a clock, the loop
    behaves like any other. The loop calls `meters` at each round of callbacks.
    """

    def __init__(self, entered_clock: Callable[[], Clock | None]) -> None:
        self._entered_clock = entered_clock
        self._followed: Clock | None = None
        self.meters: list[RoundObserver] = []
        selector = _Selector(self, entered_clock)
        super().__init__(selector)
        selector.own = frozenset(key.fd for key in selector.get_map().values())

    def time(self) -> float:
        """Return the seconds of the clock; after the clock was left, real time from there."""
        clock = self._entered_clock()
        if clock is not None:
            self._followed = clock
            return clock.monotonic
        followed = self._followed
        if followed is None or followed.left is None:
            return super().time()
        return followed.since_left()

    def call_later(self, delay: float, callback: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Schedule a callback like asyncio, and round the time up so that none runs too early."""
        return self.call_at(self.time() + real.to_the_next_step(delay), callback, *args, **options)

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are not due yet, soonest first."""
        now = self.time()
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined] # asyncio's
        future = (
            timer for timer in scheduled if not timer.cancelled() and now < timer.when() < inf
        )
        return sorted(future, key=lambda timer: timer.when())

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run a function in an executor like asyncio, and count its thread as busy."""
        future = super().run_in_executor(executor, func, *args)
        clock = self._entered_clock()
        if clock is not None:
            clock.threads.begin()
            future.add_done_callback(clock.threads.end)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """Shut the executor down like asyncio, and count the thread that asyncio waits for."""
        closing = super().shutdown_default_executor
        clock = self._entered_clock()
        await (closing if clock is None else clock.threads.counted(closing))(*timeout)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop, entered_clock: Callable[[], Clock | None]) -> None:
        super().__init__()
        self.own: frozenset[int] = frozenset()
        self._loop = loop
        self._entered_clock = entered_clock

    def select(self, timeout: float | None = None) -> Any:
        for meter in self._loop.meters:
            meter.ended()
        try:
            return self._next(timeout)
        finally:
            for meter in self._loop.meters:
                meter.began()

    def _next(self, timeout: float | None) -> Any:
        clock = self._entered_clock()
        if clock is None or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        ready = super().select(0)
        if not ready and clock.threads.wait():
            ready = super().select(PATIENCE)
        if ready:
            return ready
        if timeout is not None and timeout >= _LONGEST_WAIT and not self._loop.timers():
            timeout = None  # all timers left are cancelled or never due
        if len(self.get_map()) > len(self.own):
            outside = Connections().outside({key.fd for key in self.get_map().values()} - self.own)
            if outside is not None:
                raise outside
        if timeout is None:
            ready = super().select(_LAST_PATIENCE) if clock.threads.busy else []
            if not ready:
                raise for_ever(map(_where, asyncio.all_tasks(self._loop)))
            return ready
        clock.pass_time(timeout)
        if clock.monotonic + 1e-9 == clock.monotonic:  # floats too coarse for asyncio looking ahead
            clock.monotonic = nextafter(clock.monotonic, inf)
        return []


class Connections:
    """Distinguishes connections inside an event loop from connections that leave it."""

    def __init__(self) -> None:
        self._ours: set[Any] = set()

    def note(self, fd: int) -> tuple[str, Any] | None:
        """Record a descriptor of this loop; return its description and its peer, if any."""
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as one:
            name = one.getsockname() or fd
            self._ours.add(name)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                if isinstance(name, tuple):  # reached by loopback
                    self._ours.update((host, *name[1:]) for host in _LOOPBACK)
                return None
            with suppress(OSError):
                return f"a connection to {one.getpeername()}", one.getpeername() or fd
            return None
        return f"file descriptor {fd}, a pipe or a subprocess", None

    def outside(
        self, fds: Iterable[int], further: Callable[[], Iterable[int]] = tuple
    ) -> VirtualTimeError | None:
        """Return the error for a descriptor whose peer is outside this loop; None if all are in it.

        `further` returns further descriptors of this loop.
        """
        for description, peer in [*filter(None, map(self.note, fds))]:
            if peer not in self._ours:
                for fd in further():
                    self.note(fd)
            if peer not in self._ours:
                return VirtualTimeError(
                    f"everything waits for {description}, which takes real time: in virtual time "
                    "that is never. Use a transport in memory, or leave out the virtual clock"
                )
        return None


def for_ever(waiting: Iterable[tuple[str, str]]) -> VirtualTimeError:
    """Return the error that lists the waiting tasks and their lines."""
    lines = sorted(f"{name} at {place}" for name, place in waiting if place)
    more = f"\n  and {len(lines) - _MOST_SHOWN} more" if len(lines) > _MOST_SHOWN else ""
    shown = "".join(f"\n  {line}" for line in lines[:_MOST_SHOWN])
    threads = [
        thread.name for thread in threading.enumerate() if thread is not threading.current_thread()
    ]
    also = f"\n  while these threads run: {', '.join(threads[:_MOST_SHOWN])}" if threads else ""
    return VirtualTimeError(
        f"everything waits, and no timer is set: this would take for ever{shown}{more}{also}"
    )


def _where(task: asyncio.Task[Any]) -> tuple[str, str]:
    return task.get_name(), place(_frames(task.get_coro()))


def _frames(awaited: Any) -> Iterator[FrameType]:
    """Yield the frames of a waiting coroutine, outermost first."""
    while awaited is not None:
        for frame, inner in (
            ("cr_frame", "cr_await"),
            ("ag_frame", "ag_await"),
            ("gi_frame", "gi_yieldfrom"),
        ):
            if getattr(awaited, frame, None) is not None:
                yield getattr(awaited, frame)
                awaited = getattr(awaited, inner)
                break
        else:
            return


def place(frames: Iterable[FrameType]) -> str:
    """Return the innermost frame outside event-loop libraries as text; "" if there is none."""
    for frame in reversed(list(frames)):
        code = frame.f_code
        if not any(f"{os.sep}{library}{os.sep}" in code.co_filename for library in _LIBRARIES):
            return f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_qualname}"
    return ""
