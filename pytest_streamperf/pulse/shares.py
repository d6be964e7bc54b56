"""Shares of CPU time: what is spent in functions that are named, by whatever name they are called.

A Python function is timed by its code, which is one wherever it was imported to. What has none, a C
function, is timed by its name, where that is looked up when it is called.
"""

import inspect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from pytest_streamperf._runtime import clock

__tracebackhide__ = True  # pytest shows the user's own frames

_ELSEWHERE = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)
# What takes the place of a function's code: it has to have as many free variables.
_CALLING = """
def of({free}):
    def timed(*args, **kwargs):
        __tracebackhide__ = True
        if False: [{free}]
        called = "called"
        return called(*args, **kwargs)
"""


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
        self._named = {name: _named(name) for name in names}
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
                stack.enter_context(_telling(*self._named[name], timer))
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


# By what was replaced: who is told of its calls, and how to put it back.
_told: dict[tuple[int, str], tuple[list[_Timer], ExitStack]] = {}


@contextmanager
def _telling(holder: Any, attribute: str, timer: _Timer) -> Iterator[None]:
    """Tell a timer of a function's calls; the last one out, whichever, puts the function back."""
    key = id(holder), attribute
    if key not in _told:
        function = _with_code(getattr(holder, attribute))
        if function is not None:
            key = id(function), ""
        if key not in _told:
            timers, back = list[_Timer](), ExitStack()
            back.enter_context(
                _code_replaced(function, timers)
                if function
                else _name_replaced(holder, attribute, timers)
            )
            _told[key] = timers, back
    timers, back = _told[key]
    timers.append(timer)
    try:
        yield
    finally:
        timers.remove(timer)
        if not timers:
            del _told[key]
            back.close()


@contextmanager
def _name_replaced(holder: Any, attribute: str, timers: Iterable[_Timer]) -> Iterator[None]:
    own, timed = vars(holder)[attribute], _timed(getattr(holder, attribute), timers)
    setattr(holder, attribute, staticmethod(timed) if isinstance(own, staticmethod) else timed)
    try:
        yield
    finally:
        setattr(holder, attribute, own)


@contextmanager
def _code_replaced(function: FunctionType, timers: Iterable[_Timer]) -> Iterator[None]:
    code = function.__code__
    twin = FunctionType(
        code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    alone = not hasattr(function, "__wrapped__")
    if alone:  # for whoever asks for its signature
        function.__wrapped__ = twin  # type: ignore[attr-defined] # as functools does
    function.__code__ = _calling(_timed(twin, timers), code)
    try:
        yield
    finally:
        function.__code__ = code
        if alone:
            del function.__wrapped__  # type: ignore[attr-defined]


def _timed(function: Callable[..., Any], timers: Iterable[_Timer]) -> Callable[..., Any]:
    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = [each for each in timers if each.begin()]
        try:
            return function(*args, **kwargs)
        finally:
            for each in begun:
                each.end()

    return timed


def _with_code(function: Any) -> FunctionType | None:
    """The Python function in it: a method's, or what a cache is around; None where is none."""
    for each in (function, *(getattr(function, of, None) for of in ("__func__", "__wrapped__"))):
        if isinstance(each, FunctionType):
            return each
    return None


def _calling(function: Callable[..., Any], like: CodeType) -> CodeType:
    """Code that calls a function, and fits where `like` does."""
    free = ", ".join(f"free{number}" for number in range(len(like.co_freevars)))
    code = compile(_CALLING.format(free=free), __file__, "exec")
    for _ in range(2):
        (code,) = (each for each in code.co_consts if isinstance(each, CodeType))
    consts = tuple(function if each == "called" else each for each in code.co_consts)
    return code.replace(co_consts=consts, co_name=like.co_name)


def _named(name: str) -> tuple[Any, str]:
    """Find a function by its name: what holds it, and as what."""
    module_name, colon, path = name.partition(":")
    *holders, attribute = path.split(".")
    try:
        holder: Any = import_module(module_name)
        for each in holders:
            holder = getattr(holder, each)
        function = getattr(holder, attribute)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it is imported, and may raise whatever
        says = f"{type(error).__name__}: {error}"
        msg = f'cpu_of takes "module:function" or "module:Class.method", not {name!r}: {says}'
        raise ValueError(msg) from None
    if not colon or not callable(function) or attribute not in vars(holder):
        msg = f"cpu_of takes functions by where they are defined, and {name!r} names none"
        raise ValueError(msg)
    if isinstance(function, type):
        msg = f"cpu_of takes functions, and {name!r} is a class: name a method, __init__ for one"
        raise ValueError(msg)  # noqa: TRY004 - as for all names of none
    own = inspect.unwrap(function)  # a decorator may look as if it did the work
    if any(each(own) for each in _ELSEWHERE):
        msg = f"cpu_of takes functions that do their work when called, and {name!r} does it later"
        raise ValueError(msg)
    return holder, attribute
