"""How often something is loaded, and by whom, where that can be handed to the server."""

import sys
import threading
from collections.abc import Callable
from typing import Generic, ParamSpec, TypeVar

from pytest_streamperf._runtime.context import Line, line_of, stack

_P = ParamSpec("_P")
_T = TypeVar("_T")


class LoadCounter(Generic[_P, _T]):
    """Wraps what loads a model, and counts: called as that is, it returns what that does.

    `line` is whose call was the last of many.

    >>> load = LoadCounter(dict)
    >>> load(name="curves"), load.count
    ({'name': 'curves'}, 1)
    """

    def __init__(self, load: Callable[_P, _T]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self.count = 0
        self.line: Line | None = None

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Load it."""
        with self._lock:
            self.count += 1
            self.line = line_of(stack(sys._getframe(1)))  # noqa: SLF001 - there is no other way
        return self._load(*args, **kwargs)
