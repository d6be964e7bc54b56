"""How an object is made, and how it is brought to its end, from what its class says."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.proposal import IGNORES, IGNORES_ASYNC
from pytest_streamperf.onboarding.source import (
    Member,
    Parameter,
    Source,
    assigned,
    calls,
    last_name,
    own,
)

_PLAIN = {"object", "ABC", "Generic", "BaseModel", "NamedTuple"}
_MAKES_FIELDS = {"dataclass", "define", "frozen", "BaseModel", "NamedTuple"}
_ENDS = ("end", "finish", "finalize", "done", "complete", "close", "flush")
_RESULTS = ("text", "result", "value", "getvalue", "content", "message", "output", "build")


class Callback(NamedTuple):
    """A parameter that is called: by what name the code calls it, and if it awaits it."""

    parameter: str
    place: str
    calls: Sequence[ast.Call]
    awaited: bool


class Making(NamedTuple):
    """What a class takes when an instance is made, which of it is called, and what is not sure."""

    takes: Sequence[Parameter]
    callbacks: Sequence[Callback]
    doubts: Sequence[str]

    def arguments(self, given: Mapping[str, str]) -> str:
        """Arguments for what it takes: those given, callbacks that ignore all, and dots."""
        needed = {each.name for each in self.takes if each.default is None}
        ignored = {each.parameter: ignores(each) for each in self.callbacks}
        values = {name: value for name, value in ignored.items() if name in needed} | {**given}
        return called_with([each for each in self.takes if each.name in {*needed, *given}], values)


class Ending(NamedTuple):
    """Lines at the end, and what returns what came of it; whether they await."""

    calls: Sequence[str]
    result: Sequence[str]
    awaits: bool


def ignores(callback: Callback) -> str:
    """What to give for a callback that nobody looks at."""
    return IGNORES_ASYNC if callback.awaited else IGNORES


def called_with(takes: Sequence[Parameter], values: Mapping[str, str]) -> str:
    """Arguments for these parameters, and dots for those that nothing is known of.

    >>> called_with([Parameter("stream", "", None), Parameter("n", "", None, True)], {"n": "1"})
    '..., n=1'
    """
    values = {each.name: values.get(each.name, "...") for each in takes}
    return ", ".join(
        f"{each.name}={values[each.name]}" if each.by_name else values[each.name] for each in takes
    )


def callback(parameter: str, place: str, nodes: Sequence[ast.AST]) -> Callback | None:
    """What is called at a place, if nothing is made of what it returns."""
    made = [each for each in calls(nodes) if ast.unparse(each.func) == place]
    alone = {id(each.value) for each in nodes if isinstance(each, ast.Expr)}
    awaits = [each for each in nodes if isinstance(each, ast.Await)]
    awaited = {id(each.value) for each in awaits if id(each) in alone}
    if not made or any(id(each) not in alone | awaited for each in made):
        return None
    return Callback(parameter, place, made, any(id(each) in awaited for each in made))


def making(source: Source, owner: ast.ClassDef) -> Making:
    r"""Tell how an instance is made.

    >>> from pytest_streamperf.onboarding.source import read
    >>> source = read("a.py", b"class Reply:\n    def __init__(self, model): pass")
    >>> making(source, source.classes["Reply"]).doubts
    ['model has no default: put it in for ...']
    """
    methods, line = source.methods(owner), source.line_of(owner)
    init, doubts = methods.get("__init__"), []
    if init is not None:
        takes = init.parameters
        kept = assigned(own(init.node))
        stored = {ast.unparse(value): ast.unparse(target) for target, value in kept}
    else:
        takes = [field for each in reversed(line) if _has_fields(each) for field in _fields(each)]
        stored = {each.name: f"self.{each.name}" for each in takes}
        bases = {last_name(base) for each in line for base in each.bases}
        elsewhere = sorted(bases - _PLAIN - {*source.classes})
        doubts = [f"what {each} takes is not in this file" for each in elsewhere]
    if any(each.keywords for each in line):
        doubts.append(f"what the metaclass of {owner.name} makes of it cannot be told")
    nodes = [each for method in methods.values() for each in own(method.node)]
    found = (callback(each.name, stored.get(each.name, ""), nodes) for each in takes)
    callbacks = [each for each in found if each is not None]
    known = {each.parameter for each in callbacks}
    needed = [each.name for each in takes if each.default is None and each.name not in known]
    doubts += [f"{each} has no default: put it in for ..." for each in needed]
    return Making(takes, callbacks, doubts)


def ending(source: Source, owner: ast.ClassDef) -> Ending:
    """Tell how an object is brought to its end."""
    methods = source.methods(owner)
    ends = next((each for name in _ENDS if (each := methods.get(name)) and _bare(each)), None)
    result = next((each for name in _RESULTS if (each := methods.get(name)) and _shows(each)), None)
    shown = f"{_call(result)}".removesuffix("()" * bool(result.decorators)) if result else ""
    return Ending(
        calls=[_call(ends)] if ends else [],
        result=[f"return {shown}"] if shown else [],
        awaits=any(each.is_async for each in (ends, result) if each),
    )


def _call(method: Member) -> str:
    return f"{'await ' * method.is_async}subject.{method.node.name}()"


def _bare(method: Member) -> bool:
    return not method.decorators and not method.required


def _shows(method: Member) -> bool:
    return not method.required and method.decorators <= {"property", "cached_property"}


def _has_fields(owner: ast.ClassDef) -> bool:
    return bool({*map(last_name, (*owner.decorator_list, *owner.bases))} & _MAKES_FIELDS)


def _fields(owner: ast.ClassDef) -> Iterator[Parameter]:
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = node.value
            if default and last_name(default) == "field" and "default" not in ast.unparse(default):
                default = None
            yield Parameter(node.target.id, ast.unparse(node.annotation), default, by_name=True)
