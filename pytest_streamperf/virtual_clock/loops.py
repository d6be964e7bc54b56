"""asyncio's event loop in virtual time, moved on when everything waits."""

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

# Seconds of real time that work in threads, which takes no virtual time, is waited for before time
# goes on; and where nothing else is to come.
PATIENCE, _LAST_PATIENCE = 1.0, 30.0
# asyncio asks for no longer waits, though its next timer be later.
_LONGEST_WAIT = 86_400
_MOST_SHOWN = 5
_LOOPBACK = "127.0.0.1", "::1"
_LIBRARIES = "asyncio", "trio", "anyio", f"pytest_streamperf{os.sep}virtual_clock"


class Clock(Protocol):
    """What a loop needs of the clock it follows."""

    monotonic: float
    """What `time.monotonic` says."""

    threads: "Threads"

    def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, 0 or more."""

    @property
    def left(self) -> float | None:
        """When, in real time, the clock was left: what goes on after that goes on in real time."""

    def since_left(self) -> float:
        """What the time is for whoever goes on by it."""


class Threads:
    """How many threads work for an event loop, and whether they were waited for.

    They are waited for once, whatever they do: one that waits for the loop in turn would not end.
    """

    def __init__(self) -> None:
        self.busy = self._begun = 0
        self._waited: int | None = None

    def begin(self) -> None:
        """Another one works."""
        self.busy += 1
        self._begun += 1

    def end(self, _future: object = None) -> None:
        """One is done."""
        self.busy -= 1

    def wait(self) -> bool:
        """Whether to wait for them now."""
        if not self.busy or self._waited == self._begun:
            return False
        self._waited = self._begun
        return True

    def counted(self, run: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Make of `to_thread.run_sync` one that is counted."""

        @functools.wraps(run)
        async def running(*args: Any, **options: Any) -> Any:
            self.begin()
            try:
                return await run(*args, **options)
            finally:
                self.end()

        return running


class Meter(Protocol):
    """What wants to know when a round of callbacks began, and when it ended."""

    def began(self) -> None:
        """The loop goes on."""

    def ended(self) -> None:
        """The loop is about to wait."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio's event loop, which jumps to the next timer instead of waiting for it.

    `here` tells the clock that is entered; where none is, this is a loop as any other. `meters` are
    told of each round of callbacks.
    """

    def __init__(self, here: Callable[[], Clock | None]) -> None:
        self._here = here
        self._followed: Clock | None = None
        self.meters: list[Meter] = []
        selector = _Selector(self, here)
        super().__init__(selector)
        selector.own = frozenset(key.fd for key in selector.get_map().values())

    def time(self) -> float:
        """Seconds, as `time.monotonic` says; when the clock is left, it goes on from there."""
        clock = self._here()
        if clock is not None:
            self._followed = clock
            return clock.monotonic
        followed = self._followed
        if followed is None or followed.left is None:
            return super().time()
        return followed.since_left()

    def call_later(self, delay: float, callback: Any, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        """Do as asyncio does, and never too early."""
        return self.call_at(self.time() + real.to_the_next_step(delay), callback, *args, **options)

    def timers(self) -> list[asyncio.TimerHandle]:
        """Those that are still to come, soonest first."""
        now = self.time()
        every: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined] # its own
        coming = (each for each in every if not each.cancelled() and now < each.when() < inf)
        return sorted(coming, key=lambda timer: timer.when())

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Do as asyncio does, and know that a thread is busy."""
        future = super().run_in_executor(executor, func, *args)
        clock = self._here()
        if clock is not None:
            clock.threads.begin()
            future.add_done_callback(clock.threads.end)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """Do as asyncio does, which waits for a thread."""
        closing = super().shutdown_default_executor
        clock = self._here()
        await (closing if clock is None else clock.threads.counted(closing))(*timeout)


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop, here: Callable[[], Clock | None]) -> None:
        super().__init__()
        self.own: frozenset[int] = frozenset()
        self._loop = loop
        self._here = here

    def select(self, timeout: float | None = None) -> Any:
        for meter in self._loop.meters:
            meter.ended()
        try:
            return self._next(timeout)
        finally:
            for meter in self._loop.meters:
                meter.began()

    def _next(self, timeout: float | None) -> Any:
        clock = self._here()
        if clock is None or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        ready = super().select(0)
        if not ready and clock.threads.wait():
            ready = super().select(PATIENCE)
        if ready:
            return ready
        if timeout is not None and timeout >= _LONGEST_WAIT and not self._loop.timers():
            timeout = None  # those that there are never fire
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
        if clock.monotonic + 1e-9 == clock.monotonic:  # asyncio's look ahead is lost: go on for it
            clock.monotonic = nextafter(clock.monotonic, inf)
        return []


class Connections:
    """Tells connections within an event loop from those to somebody elsewhere."""

    def __init__(self) -> None:
        self._ours: set[Any] = set()

    def note(self, fd: int) -> tuple[str, Any] | None:
        """Know a descriptor of this loop; return what it is and whom it waits for, if for any."""
        with suppress(OSError), socket.socket(fileno=os.dup(fd)) as one:
            name = one.getsockname() or fd
            self._ours.add(name)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                if isinstance(name, tuple):  # who connects to any address gets one of its own
                    self._ours.update((host, *name[1:]) for host in _LOOPBACK)
                return None
            with suppress(OSError):
                return f"a connection to {one.getpeername()}", one.getpeername() or fd
            return None
        return f"file descriptor {fd}, a pipe or a subprocess", None

    def outside(
        self, fds: Iterable[int], others: Callable[[], Iterable[int]] = tuple
    ) -> VirtualTimeError | None:
        """Return the error for one that leads elsewhere; `others` are descriptors of this loop."""
        for what, peer in [*filter(None, map(self.note, fds))]:
            if peer not in self._ours:
                for fd in others():
                    self.note(fd)
            if peer not in self._ours:
                return VirtualTimeError(
                    f"everything waits for {what}, which takes real time: in virtual time that is "
                    "never. Use a transport in memory, or leave out the virtual clock"
                )
        return None


def for_ever(waiting: Iterable[tuple[str, str]]) -> VirtualTimeError:
    """The error that says who waits, and where."""
    lines = sorted(f"{name} at {place}" for name, place in waiting if place)
    more = f"\n  and {len(lines) - _MOST_SHOWN} more" if len(lines) > _MOST_SHOWN else ""
    shown = "".join(f"\n  {line}" for line in lines[:_MOST_SHOWN])
    threads = [
        each.name for each in threading.enumerate() if each is not threading.current_thread()
    ]
    also = f"\n  while these threads run: {', '.join(threads[:_MOST_SHOWN])}" if threads else ""
    return VirtualTimeError(
        f"everything waits, and no timer is set: this would take for ever{shown}{more}{also}"
    )


def _where(task: asyncio.Task[Any]) -> tuple[str, str]:
    return task.get_name(), place(_frames(task.get_coro()))


def _frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine that waits, outermost first."""
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
    """The innermost frame that is not an event loop's own, as text; "" if there is none."""
    for frame in reversed(list(frames)):
        code = frame.f_code
        if not any(f"{os.sep}{library}{os.sep}" in code.co_filename for library in _LIBRARIES):
            return f"{Path(code.co_filename).name}:{frame.f_lineno} in {code.co_qualname}"
    return ""
