"""Run trio in virtual time.

`starter` wraps `trio.run` so that it uses a `TrioClock`, which follows the entered `VirtualClock`.
When all tasks wait, the clock jumps to the next deadline. If there is no deadline, or if a task
waits for a connection that leaves the run, the run ends with `VirtualTimeError`.
"""

import functools
import gc
from collections.abc import Awaitable, Callable, Iterable, Iterator
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import Any

import trio

from pytest_streamperf.exceptions import VirtualTimeError
from pytest_streamperf.virtual_clock.loops import PATIENCE, Clock, Connections, for_ever, place

__tracebackhide__ = True  # pytest shows the user's own frames

STARTERS: tuple[Callable[..., Any], ...] = (trio.run, trio.lowlevel.start_guest_run)
# Names of the trio functions in which a task waits for a descriptor.
_WAITERS = "wait_readable", "wait_writable"


def starter(
    start: Callable[..., Any], entered_clock: Callable[[], Clock | None]
) -> Callable[..., Any]:
    """Wrap `trio.run` or `start_guest_run` so that the run follows the entered clock."""

    @functools.wraps(start)
    def started(
        async_fn: Any, *args: Any, clock: Any = None, instruments: Any = (), **options: Any
    ) -> Any:
        virtual = entered_clock()
        if virtual is not None:
            if clock is not None:
                msg = (
                    f"a VirtualClock is entered, and {clock!r} cannot be right, too: pass no clock="
                )
                raise VirtualTimeError(msg)
            clock = TrioClock(virtual)
            async_fn, instruments = clock.ending(async_fn), [*instruments, clock.instrument]
        return start(async_fn, *args, clock=clock, instruments=instruments, **options)

    return started


class TrioClock(trio.abc.Clock):
    """Trio clock that jumps to the next deadline when all tasks wait, and ends stuck runs."""

    def __init__(self, follows: Clock) -> None:
        self.follows = follows
        self.instrument = _Steps(self)
        self.polled = False
        self.waiting_for_idle = 0
        self._connections = Connections()
        self._scope = trio.CancelScope()
        self._stuck: VirtualTimeError | None = None
        self._waking: list[tuple[float, int, trio.lowlevel.Task]] = []
        self._numbers = count()

    def start_clock(self) -> None:
        """Do nothing: the `VirtualClock` runs already."""

    def current_time(self) -> float:
        """Return the virtual time, in seconds of `time.monotonic`."""
        return self.follows.since_left()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return how long trio may wait; jump to the deadline if no socket was ready meanwhile."""
        if self.follows.left is not None:  # a guest run may outlive the clock
            return deadline - self.current_time()
        if not self.polled:
            self.polled = True
        elif self.waiting_for_idle:  # trio wakes them before any real wait
            return 1e-6
        elif self.follows.threads.wait():
            return PATIENCE
        else:
            due = min(deadline, self._waking[0][0]) if self._waking else deadline
            if due == inf and self.follows.threads.busy:
                return inf
            outside = self._outside() if due == deadline else None
            if outside is not None:
                self._end(outside)
            elif due == inf:
                self._end(for_ever(map(_where, _tasks(_nurseries()))))
            else:
                self._jump(due)
        return 0.0

    def _end(self, why: VirtualTimeError) -> None:
        if self._stuck is not None:  # the cancelled run still waits for ever
            raise self._stuck
        self._stuck = why
        self._scope.cancel()

    def _outside(self) -> VirtualTimeError | None:
        """Return the error for a connection that leaves the run; None if there is none."""
        counts = trio.lowlevel.current_statistics().io_statistics
        waiting = sum(getattr(counts, name) for name in dir(counts) if name.startswith("tasks_"))
        if waiting <= 1 or self._stuck is not None:  # trio itself has one waiting task
            return None
        return self._connections.outside(_waited_for(), _sockets)

    def _jump(self, due: float) -> None:
        self.follows.pass_time(max(0.0, due - self.current_time()))
        while self._waking and self._waking[0][0] <= self.current_time():
            trio.lowlevel.reschedule(heappop(self._waking)[2])

    async def sleep_until(self, due: float) -> None:
        """Sleep like `trio.sleep_until` at a third of its cost: streams sleep before each delta."""
        waking = due, next(self._numbers), trio.lowlevel.current_task()
        heappush(self._waking, waking)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waking.remove(waking)
            self._waking.sort()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def ending(self, async_fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Wrap the main function of a run so that it ends if all tasks wait for ever."""

        @functools.wraps(async_fn)
        async def main(*args: Any) -> Any:
            result = None
            with self._scope:
                result = await async_fn(*args)
            if self._stuck is not None:
                raise self._stuck
            return result

        return main


def idle_waiter(wait: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Wrap `wait_all_tasks_blocked` so that the clock counts the tasks that wait in it."""

    @functools.wraps(wait)
    async def waiting(*args: Any, **options: Any) -> None:
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, TrioClock):
            return await wait(*args, **options)
        clock.waiting_for_idle += 1
        try:
            await wait(*args, **options)
        finally:
            clock.waiting_for_idle -= 1

    return waiting


class _Steps(trio.abc.Instrument):
    def __init__(self, clock: TrioClock) -> None:
        self._clock = clock

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio passes it by name
        self._clock.polled = False


def _nurseries() -> list[trio.Nursery]:
    """Return the nurseries of the root task: first trio's own, last the one of the main task."""
    root: Any = trio.lowlevel.current_root_task()
    return list(root.child_nurseries)


def _tasks(nurseries: Iterable[trio.Nursery]) -> Iterator[trio.lowlevel.Task]:
    for nursery in nurseries:
        for task in nursery.child_tasks:
            yield task
            yield from _tasks(task.child_nurseries)


def _waited_for() -> Iterator[int]:
    """Yield the descriptors that tasks wait for, except the one that wakes trio."""
    for task in _tasks(_nurseries()[1:]):
        for frame, _ in task.iter_await_frames():
            if frame.f_code.co_name in _WAITERS:
                file: Any = frame.f_locals.get("fd", frame.f_locals.get("sock"))  # on Windows
                yield file if isinstance(file, int) else file.fileno()
                break


def _sockets() -> Iterator[int]:
    """Yield the descriptors of all trio sockets, because a peer's socket may have no waiter now."""
    for candidate in gc.get_objects():
        if issubclass(type(candidate), trio.socket.SocketType):
            yield candidate.fileno()


def _where(task: trio.lowlevel.Task) -> tuple[str, str]:
    return task.name, place(frame for frame, _ in task.iter_await_frames())
