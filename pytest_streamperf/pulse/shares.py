"""Shares of CPU time: what is spent in functions that are named, by whatever name they are called.

A Python function is timed by its code, which is one wherever it was imported to. What has none, a C
function or a class, is timed by its name, where that is looked up when it is called.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any

from pytest_streamperf import clock

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
        self._spent: dict[str, float] = {}
        self._all = 0.0

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def taken(self) -> Mapping[str, float]:
        """The shares, 0 to 1, of those functions of which anything ran."""
        return {name: cpu / self._all if self._all else 0.0 for name, cpu in self._spent.items()}

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Time calls for as long as it is open."""
        with ExitStack() as stack:
            for name, (holder, attribute) in self._named.items():
                stack.enter_context(self._timed(name, holder, attribute))
            began = clock.thread_cpu()
            try:
                yield
            finally:
                self._all = clock.thread_cpu() - began

    @contextmanager
    def _timed(self, name: str, holder: Any, attribute: str) -> Iterator[None]:
        function = _with_code(getattr(holder, attribute))
        if function is None:
            own, timed = vars(holder)[attribute], self._timer(name, getattr(holder, attribute))
            setattr(
                holder, attribute, staticmethod(timed) if isinstance(own, staticmethod) else timed
            )
            try:
                yield
            finally:
                setattr(holder, attribute, own)
            return
        code = function.__code__
        twin = FunctionType(
            code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
        )
        twin.__kwdefaults__ = function.__kwdefaults__
        alone = not hasattr(function, "__wrapped__")
        if alone:  # for whoever asks for its signature
            function.__wrapped__ = twin  # type: ignore[attr-defined] # as functools does
        function.__code__ = _calling(self._timer(name, twin), code)
        try:
            yield
        finally:
            function.__code__ = code
            if alone:
                del function.__wrapped__  # type: ignore[attr-defined]

    def _timer(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        inside = False

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if inside:  # a call within a call is in the share of the outer one
                return function(*args, **kwargs)
            inside, started = True, clock.thread_cpu()
            try:
                return function(*args, **kwargs)
            finally:
                inside = False
                self._spent[name] = self._spent.get(name, 0.0) + clock.thread_cpu() - started

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
    except (ImportError, AttributeError, ValueError) as error:
        msg = f'cpu_of takes "module:function" or "module:Class.method", not {name!r}: {error}'
        raise ValueError(msg) from None
    if not colon or not callable(function) or attribute not in vars(holder):
        msg = f"cpu_of takes functions by where they are defined, and {name!r} names none"
        raise ValueError(msg)
    if any(each(function) for each in _ELSEWHERE):
        msg = f"cpu_of takes functions that do their work when called, and {name!r} does it later"
        raise ValueError(msg)
    return holder, attribute
