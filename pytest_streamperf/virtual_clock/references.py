"""Find and replace references to functions, such as the clocks of the `time` module.

`Replaced` swaps objects wherever a module has a name for them, and puts the originals back.
`held_elsewhere` lists references that cannot be swapped: default arguments, closures, attributes.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import FunctionType, ModuleType
from typing import Any

from pytest_streamperf._runtime.context import is_installed

# Packages that keep real time, because they measure, or wait for real threads and processes.
_LEFT_ALONE = {
    *("pytest", "_pytest", "pluggy", "pytest_streamperf", "hypothesis", "xdist", "execnet"),
    *("pytest_timeout", "coverage", "threading", "queue", "concurrent", "subprocess"),
    *("multiprocessing", "selectors"),
}


class Replaced:
    """Replaces objects in every module that has a name for them, and restores them."""

    def __init__(self) -> None:
        self._before: list[tuple[ModuleType, str, object]] = []

    def put_in(self, replacements: Mapping[Any, Any]) -> None:
        """Replace each key by its value in every module that has a name for the key."""
        by_id = {id(real): replacement for real, replacement in replacements.items()}
        without = _modules_without.setdefault(frozenset(by_id), set())
        for name in sys.modules.keys() - without:
            module = sys.modules.get(name)
            if not isinstance(module, ModuleType) or name.partition(".")[0] in _LEFT_ALONE:
                continue
            held = [
                (name, value) for name, value in list(vars(module).items()) if id(value) in by_id
            ]
            for attribute, value in held:
                self._before.append((module, attribute, value))
                with suppress(AttributeError, TypeError):  # a read-only module
                    setattr(module, attribute, by_id[id(value)])
            file = vars(module).get("__file__")
            if not held and isinstance(file, str) and is_installed(file):
                without.add(name)

    def take_out(self) -> None:
        """Restore every replaced name."""
        while self._before:
            module, attribute, value = self._before[-1]
            with suppress(AttributeError, TypeError):
                setattr(module, attribute, value)
            self._before.pop()


# Installed modules that have no name for the objects, by the ids of the objects. `put_in` skips
# them, because an agent's SDKs have thousands of modules, and each test in virtual time scans them.
_modules_without: dict[frozenset[int], set[str]] = {}


def held_elsewhere(objects: Sequence[Callable[..., Any]]) -> list[str]:
    """Return the places outside module names that refer to the objects, sorted.

    These are default arguments, class attributes, closures and attributes of instances. One reads,
    for example, "agent.Throttle.__init__(clock=)".
    """
    by_id = {id(target): target for target in objects}
    places: set[str] = set()
    for holder in gc.get_objects():
        # Reading an attribute may run code of the object, which may raise anything.
        with suppress(Exception):
            places.update(_places_in(holder, by_id))
    return sorted(places)


def _places_in(holder: Any, by_id: Mapping[int, Any]) -> Iterator[str]:
    kind = type(holder)  # `isinstance` would run code of proxies
    if kind is FunctionType:
        return _in_function(holder, by_id)
    if issubclass(kind, type):
        return _in_attributes(holder, _name(holder), by_id)
    if kind is ModuleType:  # it may have bound a name since `put_in`
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
        except ValueError:  # the cell is still empty
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
    except (TypeError, ReferenceError):  # it has slots, or no attributes
        attributes = {}
    for attribute, value in attributes.items():
        inner = value.__func__ if isinstance(value, staticmethod) else value
        if id(inner) in by_id:
            yield f"{name}.{attribute}"


def _is_reached(module: object) -> bool:
    """Return whether a module's clocks are virtual."""
    top = module.partition(".")[0] if isinstance(module, str) else ""
    return top not in {*_LEFT_ALONE, *sys.stdlib_module_names, "trio"}


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
