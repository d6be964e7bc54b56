"""Run code in virtual time, which passes while the code waits and stops while the code works.

`VirtualClock` replaces the clocks and sleeps of one thread. Event loops that run under it jump to
the next timer instead of waiting. Code that waits for ever, or for a real connection, raises
`VirtualTimeError`. Other threads keep real time.

>>> import time
>>> from pytest_streamperf import VirtualClock
>>> with VirtualClock() as clock:
...     time.sleep(600)
>>> clock.now
600.0
"""

import asyncio
import datetime as dt
import functools
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Self

from pytest_streamperf._results.units import Seconds, argument, seconds_of
from pytest_streamperf._runtime import clock as real
from pytest_streamperf.exceptions import VirtualTimeError
from pytest_streamperf.virtual_clock import references
from pytest_streamperf.virtual_clock.loops import ClockThreads, VirtualLoop

__all__ = ["VirtualClock", "VirtualLoop", "VirtualTimeError", "new_event_loop"]

__tracebackhide__ = True  # pytest shows the user's own frames

# Seconds at which virtual `time.monotonic` starts, in every run, so that sums round the same way.
# The value is above the uptime of most machines, so real times recorded earlier lie in the past.
# asyncio looks 1 ns ahead, which floats from 2**23 on cannot resolve. Floats at 2**22 are 2**-30
# apart.
_START_SECONDS = 2.0**22

_REAL_TIME, _REAL_DATETIME = time.time, dt.datetime

# The entered clock by thread id. Only one clock may be entered in the whole process.
_entered: "dict[int, VirtualClock]" = {}


class VirtualClock:
    """Virtual clock for sync, asyncio and trio code in the thread that enters it.

    In that thread, `time.time`, `time.monotonic`, `time.perf_counter`, their `_ns` forms,
    `datetime.now` and `time.sleep` follow the clock, also after `from time import monotonic`. Event
    loops and their timers follow it too. Create event loops after entering the clock, or by
    `new_event_loop`. Other threads see real time.

    Raises `RuntimeError` if a clock is entered already. Raises `VirtualTimeError` if the running
    event loop cannot follow it, or if all tasks wait for ever or for a real connection.

    >>> with VirtualClock() as clock:
    ...     asyncio.run(asyncio.sleep(60))
    >>> clock.now
    60.0
    """

    def __init__(self) -> None:
        self.monotonic = _START_SECONDS
        self.began = 0
        self.left: float | None = None
        self.threads = ClockThreads()
        self._references = references.Replaced()

    @property
    def now(self) -> float:
        """Seconds of virtual time since the clock was entered."""
        return self.monotonic - _START_SECONDS

    def advance(self, seconds: Seconds) -> None:
        """Move the clock forward, as `time.sleep` does; timers that become due run afterwards.

        `seconds` is a number, or a text such as "50ms".
        """
        if isinstance(seconds, int | float) and seconds < 0:
            msg = f"time cannot go back: advance takes 0 seconds or more, not {seconds!r}"
            raise ValueError(msg)
        self.pass_time(argument("seconds", seconds_of, seconds))

    def pass_time(self, seconds: float) -> None:
        """Move the clock forward by `seconds`, 0 or more, for `time.sleep` and event loops."""
        self.monotonic += real.to_the_next_step(seconds)

    def since_left(self) -> float:
        """Return the time for loops that outlive the clock: real time goes on from where it was."""
        return self.monotonic + (0.0 if self.left is None else real.wall() - self.left)

    @property
    def unreached(self) -> list[str]:
        """Names of the places that keep a real clock, such as default arguments.

        The clock replaces names in modules only, so code that uses these places sees real time.
        """
        return references.held_elsewhere([*_VIRTUAL, _REAL_DATETIME])

    def __enter__(self) -> Self:
        if _entered:
            where = "here" if threading.get_ident() in _entered else "in another thread"
            msg = f"a VirtualClock is entered {where} already: there can be one at a time"
            raise RuntimeError(msg)
        self.check_loop()
        self.monotonic, self.began, self.left = _START_SECONDS, int(_REAL_TIME()), None
        seams = {function: _seam(function, virtual) for function, virtual in _VIRTUAL.items()}
        seams |= self._library_seams()
        _entered[threading.get_ident()] = self
        try:
            self._references.put_in({**seams, _REAL_DATETIME: _Datetime})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._references.take_out()
        finally:
            _entered.clear()
            self.left = real.wall()

    def check_loop(self) -> None:
        """Raise `VirtualTimeError` if the event loop of this thread follows another clock."""
        loop = asyncio._get_running_loop()  # noqa: SLF001 - in asyncio's `__all__`
        if loop is not None and not isinstance(loop, VirtualLoop):
            kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
            msg = (
                f"virtual time cannot move a {kind} that is running already, or that a loop "
                "factory made: enter the VirtualClock first, or have the loop made by "
                "pytest_streamperf.virtual_clock.new_event_loop"
            )
            raise VirtualTimeError(msg)
        trio = getattr(sys.modules.get("trio"), "lowlevel", None)  # trio may be half imported
        if trio is not None and getattr(trio, "in_trio_run", bool)():
            clock = trio.current_clock()
            if getattr(clock, "follows", None) is not self:
                msg = (
                    f"this trio run goes by {clock!r}, not by the VirtualClock: import trio, then "
                    "enter that, and pass no clock= to trio.run"
                )
                raise VirtualTimeError(msg)

    def _library_seams(self) -> dict[Any, Any]:
        """Return the replacement of each trio and anyio function, if the library is imported."""
        seams: dict[Any, Any] = {}
        if "anyio" in sys.modules:  # anyio imports trio on first use
            with suppress(ImportError):
                import_module("trio.testing")
            run_sync = import_module("anyio.to_thread").run_sync
            seams[run_sync] = self.threads.counted(run_sync)
        if "trio" in sys.modules:
            from pytest_streamperf.virtual_clock import trio_clock  # noqa: PLC0415 - imports trio

            trio = sys.modules["trio"]
            for start in trio_clock.STARTERS:
                seams[start] = trio_clock.starter(start, entered_here)
            seams[trio.to_thread.run_sync] = self.threads.counted(trio.to_thread.run_sync)
            wait = import_module("trio.testing").wait_all_tasks_blocked
            seams[wait] = trio_clock.idle_waiter(wait)
        return seams


def entered_here() -> VirtualClock | None:
    """Return the clock that is entered in this thread; None if there is none."""
    return _entered.get(threading.get_ident())


def new_event_loop() -> VirtualLoop:
    """Return a new asyncio event loop that follows the `VirtualClock` entered in its thread.

    The loop runs in real time while no clock is entered.
    """
    return VirtualLoop(entered_here)


def _seam(function: Callable[..., Any], virtual: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def virtual_or_real(*args: Any) -> Any:
        clock = entered_here()
        return function(*args) if clock is None else virtual(clock, *args)

    return virtual_or_real


def _time(clock: VirtualClock) -> float:
    clock.check_loop()
    return clock.began + clock.now  # `began` is whole, so sums round the same way in every run


def _monotonic(clock: VirtualClock) -> float:
    clock.check_loop()
    return clock.monotonic


def _sleep(clock: VirtualClock, seconds: float) -> None:
    if seconds < 0:
        msg = "sleep length must be non-negative"
        raise ValueError(msg)
    clock.check_loop()
    clock.pass_time(seconds)


_VIRTUAL: dict[Callable[..., Any], Callable[..., Any]] = {
    time.time: _time,
    time.time_ns: lambda clock: round(_time(clock) * 1e9),
    time.monotonic: _monotonic,
    time.monotonic_ns: lambda clock: round(_monotonic(clock) * 1e9),
    time.perf_counter: _monotonic,
    time.perf_counter_ns: lambda clock: round(_monotonic(clock) * 1e9),
    time.sleep: _sleep,
    asyncio.new_event_loop: lambda _clock: new_event_loop(),
}


class _AsDatetime(type):
    """Metaclass that makes every real `datetime` an instance of the virtual one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _REAL_DATETIME)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _REAL_DATETIME)


class _Datetime(dt.datetime, metaclass=_AsDatetime):
    """Subclass of `datetime` that reads virtual time and creates real `datetime` instances."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        instance_type = _REAL_DATETIME if cls is _Datetime else cls
        return _REAL_DATETIME.__new__(instance_type, *args, **kwargs)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        clock = entered_here()
        return _REAL_DATETIME.now(tz) if clock is None else cls.fromtimestamp(_time(clock), tz)

    @classmethod
    def today(cls) -> Any:
        return cls.now()

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)
