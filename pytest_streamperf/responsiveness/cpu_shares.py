"""Measure the share of a thread's CPU time that named functions take.

`Shares` takes names such as `"json:loads"`. It times calls of these functions in the thread that
opened `timing()`, under whatever name the calling code imported them.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.functions import named_function, observed

__tracebackhide__ = True  # pytest shows the user's own frames


class Shares:
    """Timers for functions named `"module:function"`, and the CPU time of the whole thread.

    Raises `ValueError` for a name that no function has.

    >>> shares = Shares(["json:loads"])
    >>> with shares.timing():
    ...     loads("[]")
    >>> shares.taken().keys()
    dict_keys(['json:loads'])
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._named = {name: named_function("cpu_share", name) for name in names}
        self._timers: dict[str, _Timer] = {}
        self._thread_seconds = 0.0

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def taken(self) -> Mapping[str, float]:
        """Return the share, 0 to 1, of each named function that ran in this thread."""
        return {
            name: timer.spent / self._thread_seconds if self._thread_seconds else 0.0
            for name, timer in self._timers.items()
            if timer.spent is not None
        }

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Time the calls that this thread makes while the context is open."""
        self._timers = {name: _Timer() for name in self._named}
        with ExitStack() as stack:
            for name, timer in self._timers.items():
                stack.enter_context(observed(*self._named[name], timer))
            began = clock.thread_cpu()
            try:
                yield
            finally:
                for timer in self._timers.values():  # the context may close inside a timed call
                    timer.end()
                self._thread_seconds = clock.thread_cpu() - began


class _Timer:
    """Sums up the CPU seconds of one function in one thread; nested calls count once."""

    def __init__(self) -> None:
        self.spent: float | None = None
        self._thread = threading.get_ident()
        self._began: float | None = None

    def begin(self) -> bool:
        """Start timing a call; return whether the caller must call `end` after it."""
        if self._began is not None or threading.get_ident() != self._thread:
            return False
        self._began = clock.thread_cpu()
        return True

    def end(self) -> None:
        if self._began is not None:
            self.spent = (self.spent or 0.0) + clock.thread_cpu() - self._began
            self._began = None
