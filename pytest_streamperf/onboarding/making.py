"""How an object is made, and how it is brought to its end, from what its class says."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.source import Member, Parameter, Source, assigned, last_name, own

IGNORES, IGNORES_ASYNC = "lambda *_: None", "ignore_it"
"""What to give where a callback is taken: the second is defined beside the tests."""

_PLAIN = {"object", "ABC", "Generic", "Protocol", ""}
_BY_FIELDS = {"BaseModel", "NamedTuple"}
_MAKES_FIELDS = {"dataclass", "define", "frozen", "mutable"}
_ENDS = ("end", "finish", "finalize", "done", "complete", "close", "flush")
_RESULTS = ("text", "result", "value", "getvalue", "content", "message", "output", "build")


class Making(NamedTuple):
    """What a class is called with: its required parameters, and what cannot be told of them."""

    takes: Sequence[Parameter]
    callbacks: Sequence["Callback"]
    doubts: Sequence[str]

    def arguments(self, given: dict[str, str]) -> list[str]:
        """Arguments for what it takes: those given, callbacks that ignore all, and dots."""
        ignored = {
            each.parameter: IGNORES_ASYNC if each.awaited else IGNORES for each in self.callbacks
        }
        return [
            f"{each.name}={value}" if each.by_name else value
            for each in self.takes
            if each.required or each.name in given
            for value in [given.get(each.name) or ignored.get(each.name, "...")]
        ]

    def unknown(self, given: Sequence[str] = ()) -> list[str]:
        """What has to be filled in."""
        known = {*given, *(each.parameter for each in self.callbacks)}
        return [
            f"{each.name} has no default: put it in for ..."
            for each in self.takes
            if each.required and each.name not in known
        ]


class Callback(NamedTuple):
    """A parameter that is called: by what name the code calls it, where, and if it awaits it."""

    parameter: str
    place: str
    calls: Sequence[ast.Call]
    awaited: bool


def making(source: Source, owner: ast.ClassDef) -> Making:
    r"""Tell how an instance is made.

    >>> from pytest_streamperf.onboarding.source import read
    >>> source = read("a.py", b"class Reply:\\n    def __init__(self, show): self.show = show")
    >>> making(source, source.classes["Reply"]).unknown()
    ['show has no default: put it in for ...']
    """
    methods, line = source.methods(owner), source.line_of(owner)
    doubts = [
        f"{owner.name} is a {base}, and what that takes is not in this file"
        for each in line
        for base in map(last_name, each.bases)
        if base not in source.classes and base not in _PLAIN | _BY_FIELDS
    ]
    init = methods.get("__init__")
    if init is not None:
        # What its own constructor takes is all it takes.
        takes, stored = init.parameters, dict(_stored(init))
        doubts = []
    else:
        takes = [field for each in reversed(line) if _has_fields(each) for field in _fields(each)]
        stored = {each.name: f"self.{each.name}" for each in takes}
    if any(keyword.arg == "metaclass" for each in line for keyword in each.keywords):
        doubts = [f"what the metaclass of {owner.name} makes of it cannot be told"]
    nodes = [each for method in methods.values() for each in own(method.node)]
    callbacks = [
        found for each in takes if (found := callback(each, stored.get(each.name, ""), nodes))
    ]
    return Making(takes, callbacks, doubts)


def callback(parameter: Parameter, place: str, nodes: Sequence[ast.AST]) -> Callback | None:
    """What is called at a place, if nothing is made of what it returns."""
    calls = [
        node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == place
    ]
    awaited = {id(node.value) for node in nodes if isinstance(node, ast.Await)}
    alone = {
        id(value.value if isinstance(value, ast.Await) else value)
        for node in nodes
        if isinstance(node, ast.Expr)
        for value in [node.value]
    }
    if not place or not calls or any(id(each) not in alone for each in calls):
        return None
    return Callback(parameter.name, place, calls, any(id(each) in awaited for each in calls))


class Ending(NamedTuple):
    """What is called at the end, and what is returned then: code, `{}` standing for the object."""

    calls: Sequence[str]
    result: str
    awaits: bool
    names: Sequence[str]


def ending(source: Source, owner: ast.ClassDef) -> Ending:
    """Tell how an object is brought to its end."""
    methods = source.methods(owner)
    ends = next((methods[name] for name in _ENDS if _plain(methods.get(name))), None)
    result = next((methods[name] for name in _RESULTS if _shows(methods.get(name))), None)
    kept = next((name for name in _RESULTS if _kept(methods, name)), "")
    calls, shown = [], f"{{}}.{kept}" if kept else ""
    if ends is not None:
        calls = [f"{'await ' if ends.is_async else ''}{{}}.{ends.node.name}()"]
    if result is not None:
        by_name = bool(result.decorators)
        shown = f"{{}}.{result.node.name}{'' if by_name else '()'}"
        shown = f"await {shown}" if result.is_async else shown
    used = [each for each in (ends, result) if each is not None]
    awaits = any(each.is_async for each in used)
    return Ending(calls, shown, awaits, [each.node.name for each in used])


def _plain(method: Member | None) -> bool:
    return method is not None and not method.decorators and not _required(method)


def _shows(method: Member | None) -> bool:
    if method is None or _required(method):
        return False
    return not method.decorators or method.decorators <= {"property", "cached_property"}


def _required(method: Member) -> bool:
    return any(each.required for each in method.parameters)


def _kept(methods: Mapping[str, Member], name: str) -> bool:
    """Whether the constructor puts something at this name."""
    init = methods.get("__init__")
    return init is not None and any(
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node) == f"self.{name}"
        for node in own(init.node)
    )


def _stored(init: Member) -> Iterator[tuple[str, str]]:
    """Parameters of a constructor, and where it keeps them."""
    for target, value in assigned(own(init.node)):
        if isinstance(value, ast.Name) and isinstance(target, ast.Attribute):
            yield value.id, ast.unparse(target)


def _has_fields(owner: ast.ClassDef) -> bool:
    made = {*map(last_name, owner.decorator_list)} & _MAKES_FIELDS
    return bool(made or {*map(last_name, owner.bases)} & _BY_FIELDS)


def _fields(owner: ast.ClassDef) -> Iterator[Parameter]:
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            annotation = ast.unparse(node.annotation)
            if "ClassVar" in annotation or annotation == "KW_ONLY":
                continue
            set_here = isinstance(node.value, ast.Call) and last_name(node.value) == "field"
            options = {
                keyword.arg: ast.unparse(keyword.value)
                for keyword in (node.value.keywords if isinstance(node.value, ast.Call) else ())
                if set_here
            }
            if options.get("init") == "False":
                continue
            required = not (options.keys() & {"default", "default_factory", "factory"})
            required = node.value is None if not set_here else required
            yield Parameter(node.target.id, annotation, node.value, required, by_name=True)
