"""Trio's run loop in virtual time, moved on when everything waits."""

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
_WAITERS = "wait_readable", "wait_writable"


def starter(start: Callable[..., Any], here: Callable[[], Clock | None]) -> Callable[..., Any]:
    """Make of `trio.run`, or `start_guest_run`, one that follows the clock that is entered."""

    @functools.wraps(start)
    def started(
        async_fn: Any, *args: Any, clock: Any = None, instruments: Any = (), **options: Any
    ) -> Any:
        virtual = here()
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
    """Jumps to the next deadline when all tasks wait, and ends a run in which there is none."""

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
        """Nothing is to be done."""

    def current_time(self) -> float:
        """What `time.monotonic` says."""
        return self.follows.since_left()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Jump, if nothing came over sockets since the last task did something."""
        if self.follows.left is not None:  # a guest run goes on when the clock was left
            return deadline - self.current_time()
        if not self.polled:
            self.polled = True
        elif self.waiting_for_idle:  # trio wakes those before it waits for any length of time
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
        if self._stuck is not None:  # it was cancelled, and waits for ever all the same
            raise self._stuck
        self._stuck = why
        self._scope.cancel()

    def _outside(self) -> VirtualTimeError | None:
        """The error for a connection to somebody elsewhere, who has no time to answer."""
        counts = trio.lowlevel.current_statistics().io_statistics
        waiting = sum(getattr(counts, each) for each in dir(counts) if each.startswith("tasks_"))
        if waiting <= 1 or self._stuck is not None:  # one is trio's own
            return None
        return self._connections.outside(_waited_for(), _sockets)

    def _jump(self, due: float) -> None:
        self.follows.pass_time(max(0.0, due - self.current_time()))
        while self._waking and self._waking[0][0] <= self.current_time():
            trio.lowlevel.reschedule(heappop(self._waking)[2])

    async def sleep_until(self, due: float) -> None:
        """Do as `trio.sleep_until` does, at a third of its cost: streams wait for every delta."""
        waking = due, next(self._numbers), trio.lowlevel.current_task()
        heappush(self._waking, waking)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waking.remove(waking)
            self._waking.sort()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def ending(self, async_fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Make the main function of a run one that ends where everything waits for ever."""

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
    """Make of `wait_all_tasks_blocked` one that the clock knows of."""

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

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - trio's name
        self._clock.polled = False


def _nurseries() -> list[trio.Nursery]:
    """Those of the root task: for what wakes trio, for what else is trio's own, for the rest."""
    root: Any = trio.lowlevel.current_root_task()
    return list(root.child_nurseries)


def _tasks(nurseries: Iterable[trio.Nursery]) -> Iterator[trio.lowlevel.Task]:
    for nursery in nurseries:
        for task in nursery.child_tasks:
            yield task
            yield from _tasks(task.child_nurseries)


def _waited_for() -> Iterator[int]:
    """The descriptors that tasks wait for, but for the one that wakes trio."""
    for task in _tasks(_nurseries()[1:]):
        for frame, _ in task.iter_await_frames():
            if frame.f_code.co_name in _WAITERS:
                file: Any = frame.f_locals.get("fd", frame.f_locals.get("sock"))  # on Windows
                yield file if isinstance(file, int) else file.fileno()
                break


def _sockets() -> Iterator[int]:
    """The descriptors of all of trio's sockets: who is at the other end may not wait now."""
    for each in gc.get_objects():
        if issubclass(type(each), trio.socket.SocketType):
            yield each.fileno()


def _where(task: trio.lowlevel.Task) -> tuple[str, str]:
    return task.name, place(frame for frame, _ in task.iter_await_frames())
