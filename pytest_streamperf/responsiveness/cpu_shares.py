"""Shares of CPU time that are spent in named functions, by whatever name they are called."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.functions import named_function, observed

__tracebackhide__ = True  # pytest shows the user's own frames


class Shares:
    """The part of this thread's CPU time that is spent in functions, by `"module:function"`.

    Raises `ValueError` for a name of none.

    >>> shares = Shares(["json:loads"])
    >>> with shares.timing():
    ...     loads("[]")
    >>> shares.taken().keys()
    dict_keys(['json:loads'])
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._named = {name: named_function("cpu_share", name) for name in names}
        self._timers: dict[str, _Timer] = {}
        self._all = 0.0

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def taken(self) -> Mapping[str, float]:
        """The shares, 0 to 1, of those functions of which anything ran in this thread."""
        return {
            name: timer.spent / self._all if self._all else 0.0
            for name, timer in self._timers.items()
            if timer.spent is not None
        }

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Time calls for as long as it is open, those in this thread."""
        self._timers = {name: _Timer() for name in self._named}
        with ExitStack() as stack:
            for name, timer in self._timers.items():
                stack.enter_context(observed(*self._named[name], timer))
            began = clock.thread_cpu()
            try:
                yield
            finally:
                for timer in self._timers.values():  # it may end within such a call
                    timer.end()
                self._all = clock.thread_cpu() - began


class _Timer:
    """Sums up what one thread spends in one function; a call within a call is in the outer one."""

    def __init__(self) -> None:
        self.spent: float | None = None
        self._thread = threading.get_ident()
        self._began: float | None = None

    def begin(self) -> bool:
        """Whether it is the call to `end`."""
        if self._began is not None or threading.get_ident() != self._thread:
            return False
        self._began = clock.thread_cpu()
        return True

    def end(self) -> None:
        if self._began is not None:
            self.spent = (self.spent or 0.0) + clock.thread_cpu() - self._began
            self._began = None
