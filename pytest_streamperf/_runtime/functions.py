"""Functions found by name, and observed: the calls of a function, by whatever name it is called.

A Python function is observed by its code, which is one wherever it was imported to. What has none,
a C function, is observed by its name, where that is looked up when it is called.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Protocol

__tracebackhide__ = True  # pytest shows the user's own frames

_ELSEWHERE = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)
# What takes the place of a function's code: it has to have as many free variables.
_CALLING = """
def of({free}):
    def observing(*args, **kwargs):
        __tracebackhide__ = True
        if False: [{free}]
        called = "called"
        return called(*args, **kwargs)
"""


class Observer(Protocol):
    """Is told when a call of a function begins and ends."""

    def begin(self) -> bool:
        """A call begins; returns whether its end is to be told, too."""

    def end(self) -> None:
        """A call ended of which `begin` returned True."""


# By what was replaced: who is told of its calls, and how to put it back.
_told: dict[tuple[int, str], tuple[list[Observer], ExitStack]] = {}


@contextmanager
def observed(holder: Any, attribute: str, observer: Observer) -> Iterator[None]:
    """Tell an observer of a function's calls; the last observer to go puts the function back."""
    key = id(holder), attribute
    if key not in _told:
        function = _with_code(getattr(holder, attribute))
        if function is not None:
            key = id(function), ""
        if key not in _told:
            observers, back = list[Observer](), ExitStack()
            back.enter_context(
                _code_replaced(function, observers)
                if function
                else _name_replaced(holder, attribute, observers)
            )
            _told[key] = observers, back
    observers, back = _told[key]
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)
        if not observers:
            del _told[key]
            back.close()


@contextmanager
def _name_replaced(holder: Any, attribute: str, observers: Iterable[Observer]) -> Iterator[None]:
    own, observing = vars(holder)[attribute], _observing(getattr(holder, attribute), observers)
    setattr(
        holder, attribute, staticmethod(observing) if isinstance(own, staticmethod) else observing
    )
    try:
        yield
    finally:
        setattr(holder, attribute, own)


@contextmanager
def _code_replaced(function: FunctionType, observers: Iterable[Observer]) -> Iterator[None]:
    code = function.__code__
    twin = FunctionType(
        code, function.__globals__, code.co_name, function.__defaults__, function.__closure__
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    alone = not hasattr(function, "__wrapped__")
    if alone:  # for whoever asks for its signature
        function.__wrapped__ = twin  # type: ignore[attr-defined] # as functools does
    function.__code__ = _calling(_observing(twin, observers), code)
    try:
        yield
    finally:
        function.__code__ = code
        if alone:
            del function.__wrapped__  # type: ignore[attr-defined]


def _observing(function: Callable[..., Any], observers: Iterable[Observer]) -> Callable[..., Any]:
    @wraps(function)
    def observing(*args: Any, **kwargs: Any) -> Any:
        begun = [each for each in observers if each.begin()]
        try:
            return function(*args, **kwargs)
        finally:
            for each in begun:
                each.end()

    return observing


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


def named_function(argument: str, name: str) -> tuple[Any, str]:
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
        msg = f'{argument} takes "module:function" or "module:Class.method", not {name!r}: {says}'
        raise ValueError(msg) from None
    if not colon or not callable(function) or attribute not in vars(holder):
        msg = f"{argument} takes functions by where they are defined, and {name!r} names none"
        raise ValueError(msg)
    if isinstance(function, type):
        msg = (
            f"{argument} takes functions, and {name!r} is a class: name a method, __init__ for one"
        )
        raise ValueError(msg)  # noqa: TRY004 - as for all names of none
    own = inspect.unwrap(function)  # a decorator may look as if it did the work
    if any(each(own) for each in _ELSEWHERE):
        msg = (
            f"{argument} takes functions that do their work when called, and {name!r} does it later"
        )
        raise ValueError(msg)
    return holder, attribute
