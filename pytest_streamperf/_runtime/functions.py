"""Find functions by name, and observe their calls.

A Python function is observed by replacing its code, so calls under every imported name count. A C
function has no such code. It is observed by replacing its name in its module or class, so only
calls that look this name up count.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, Protocol

__tracebackhide__ = True  # pytest shows the user's own frames

# Kinds of functions that do their work after the call has returned.
_DEFERRED_KINDS = (
    inspect.iscoroutinefunction,
    inspect.isgeneratorfunction,
    inspect.isasyncgenfunction,
)
# Template of the code that replaces a function's code. Python demands as many free variables.
_REPLACEMENT_SOURCE = """
def of({free}):
    def observing(*args, **kwargs):
        __tracebackhide__ = True
        if False: [{free}]
        called = "called"
        return called(*args, **kwargs)
"""


class Observer(Protocol):
    """Receiver of the begin and the end of each call of a function."""

    def begin(self) -> bool:
        """Handle the begin of a call; return whether `end` shall be called after it."""

    def end(self) -> None:
        """Handle the end of a call for which `begin` returned True."""


# Observers of each replaced function, and the stack that restores it.
_observed: dict[tuple[int, str], tuple[list[Observer], ExitStack]] = {}


@contextmanager
def observed(holder: Any, attribute: str, observer: Observer) -> Iterator[None]:
    """Call an observer at a function's calls; the last observer to leave restores the function."""
    key = id(holder), attribute
    if key not in _observed:
        function = _with_code(getattr(holder, attribute))
        if function is not None:
            key = id(function), ""
        if key not in _observed:
            observers, back = list[Observer](), ExitStack()
            back.enter_context(
                _code_replaced(function, observers)
                if function
                else _name_replaced(holder, attribute, observers)
            )
            _observed[key] = observers, back
    observers, back = _observed[key]
    observers.append(observer)
    try:
        yield
    finally:
        observers.remove(observer)
        if not observers:
            del _observed[key]
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
    if alone:  # so that `inspect.signature` shows the original signature
        function.__wrapped__ = twin  # type: ignore[attr-defined] # as functools does
    function.__code__ = _code_that_calls(_observing(twin, observers), code)
    try:
        yield
    finally:
        function.__code__ = code
        if alone:
            del function.__wrapped__  # type: ignore[attr-defined]


def _observing(function: Callable[..., Any], observers: Iterable[Observer]) -> Callable[..., Any]:
    @wraps(function)
    def observing(*args: Any, **kwargs: Any) -> Any:
        begun = [observer for observer in observers if observer.begin()]
        try:
            return function(*args, **kwargs)
        finally:
            for observer in begun:
                observer.end()

    return observing


def _with_code(function: Any) -> FunctionType | None:
    """Return the Python function of a function, method or cache; None if there is none."""
    inner = (getattr(function, name, None) for name in ("__func__", "__wrapped__"))
    for candidate in (function, *inner):
        if isinstance(candidate, FunctionType):
            return candidate
    return None


def _code_that_calls(function: Callable[..., Any], like: CodeType) -> CodeType:
    """Return code that calls a function and can replace the code `like`."""
    free = ", ".join(f"free{number}" for number in range(len(like.co_freevars)))
    code = compile(_REPLACEMENT_SOURCE.format(free=free), __file__, "exec")
    for _ in range(2):
        (code,) = (const for const in code.co_consts if isinstance(const, CodeType))
    consts = tuple(function if const == "called" else const for const in code.co_consts)
    return code.replace(co_consts=consts, co_name=like.co_name)


def named_function(argument: str, name: str) -> tuple[Any, str]:
    """Return the module or class that holds the named function, and its attribute name there."""
    module_name, colon, path = name.partition(":")
    *holders, attribute = path.split(".")
    try:
        holder: Any = import_module(module_name)
        for holder_name in holders:
            holder = getattr(holder, holder_name)
        function = getattr(holder, attribute)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - imports raise anything
        reason = f"{type(error).__name__}: {error}"
        msg = f'{argument} takes "module:function" or "module:Class.method", not {name!r}: {reason}'
        raise ValueError(msg) from None
    if not colon or not callable(function) or attribute not in vars(holder):
        msg = f"{argument} takes functions as 'module:name', and {name!r} names none"
        raise ValueError(msg)
    if isinstance(function, type):
        msg = (
            f"{argument} takes functions, and {name!r} is a class: name a method, __init__ for one"
        )
        raise ValueError(msg)  # noqa: TRY004 - as for all invalid names
    own = inspect.unwrap(function)  # a plain decorator hides a coroutine function
    if any(is_kind(own) for is_kind in _DEFERRED_KINDS):
        msg = (
            f"{argument} takes functions that do their work when called, and {name!r} does it later"
        )
        raise ValueError(msg)
    return holder, attribute
