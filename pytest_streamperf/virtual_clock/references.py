"""Who holds a reference to a function: modules, where it can be replaced, and everybody else."""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

from pytest_streamperf._runtime.context import is_installed

# These keep real time: they measure, or wait for what is real.
_LEFT_ALONE = {
    *("pytest", "_pytest", "pluggy", "pytest_streamperf", "hypothesis", "xdist", "execnet"),
    *("pytest_timeout", "coverage", "threading", "queue", "concurrent", "subprocess"),
    *("multiprocessing", "selectors"),
}


class Replaced:
    """Puts other objects in the place of some, in every module that has a name for them."""

    def __init__(self) -> None:
        self._before: list[tuple[ModuleType, str, object]] = []

    def put_in(self, others: Mapping[Any, Any]) -> None:
        """Replace each key by its value, wherever a module has a name for it."""
        by_id = {id(real): other for real, other in others.items()}
        without = _without.setdefault(frozenset(by_id), set())
        for name in sys.modules.keys() - without:
            module = sys.modules.get(name)
            if not isinstance(module, ModuleType) or name.partition(".")[0] in _LEFT_ALONE:
                continue
            held = [
                (name, value) for name, value in list(vars(module).items()) if id(value) in by_id
            ]
            for attribute, value in held:
                self._before.append((module, attribute, value))
                with suppress(AttributeError, TypeError):  # a module that may not be changed
                    setattr(module, attribute, by_id[id(value)])
            file = vars(module).get("__file__")
            if not held and isinstance(file, str) and is_installed(file):
                without.add(name)

    def take_out(self) -> None:
        """Put all of it back."""
        while self._before:
            module, attribute, value = self._before[-1]
            with suppress(AttributeError, TypeError):
                setattr(module, attribute, value)
            self._before.pop()


# By the objects that are looked for: installed modules without a name for any of them, not to be
# looked at again. An agent's SDKs have thousands, and each test in virtual time would do that.
_without: dict[frozenset[int], set[str]] = {}


def held_elsewhere(objects: Sequence[Callable[..., Any]]) -> list[str]:
    """Who has a reference other than by a module's name: "agent.Throttle.__init__(clock=)".

    Default arguments, class attributes, closures and attributes of instances.
    """
    by_id = {id(each): each for each in objects}
    found: set[str] = set()
    for holder in gc.get_objects():
        # Objects may do anything when they are looked at, and raise anything.
        with suppress(Exception):
            found.update(_in(holder, by_id))
    return sorted(found)


def _in(holder: Any, by_id: Mapping[int, Any]) -> Iterator[str]:
    kind = type(holder)  # as `isinstance` would ask proxies
    if kind is FunctionType:
        return _in_function(holder, by_id)
    if issubclass(kind, type):
        return _in_attributes(holder, _name(holder), by_id)
    if kind is ModuleType:  # one that has given a name to it since
        return _in_module(holder, by_id)
    if kind not in {dict, list, tuple}:
        return _in_attributes(holder, f"a {_name(kind)}", by_id)
    return iter(())


def _in_function(function: FunctionType, by_id: Mapping[int, Any]) -> Iterator[str]:
    if not _is_reached(function.__module__):
        return
    defaults = function.__defaults__ or ()
    code = function.__code__
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    for name, value in (
        *zip(names, defaults, strict=True),
        *(function.__kwdefaults__ or {}).items(),
    ):
        if id(value) in by_id:
            yield f"{_name(function)}({name}=)"
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # it is empty as yet
            continue
        if id(value) in by_id:
            yield f"{name!r} in {_name(function)}"


def _in_module(module: ModuleType, by_id: Mapping[int, Any]) -> Iterator[str]:
    if _is_reached(module.__name__) and sys.modules.get(module.__name__) is module:
        for attribute, value in list(vars(module).items()):
            if id(value) in by_id:
                yield f"{module.__name__}.{attribute}"


def _in_attributes(holder: Any, name: str, by_id: Mapping[int, Any]) -> Iterator[str]:
    kind = holder if issubclass(type(holder), type) else type(holder)
    if not _is_reached(kind.__module__):
        return
    try:
        attributes = dict(vars(holder))
    except (TypeError, ReferenceError):  # it has slots, or nothing
        attributes = {}
    for attribute, value in attributes.items():
        inner = value.__func__ if isinstance(value, staticmethod) else value
        if id(inner) in by_id:
            yield f"{name}.{attribute}"


def _is_reached(module: object) -> bool:
    """Whether a module is one whose clocks are virtual."""
    top = module.partition(".")[0] if isinstance(module, str) else ""
    return top not in {*_LEFT_ALONE, *sys.stdlib_module_names, "trio"}


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
