"""How code is called: what it is given, how objects are made, and whether deltas are text."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.proposal import IGNORES, IGNORES_ASYNC
from pytest_streamperf._cli.init.source import (
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
_LOOPS = {"call_later", "create_task", "get_running_loop", "get_event_loop", "ensure_future"}
_ENDS = ("end", "finish", "finalize", "done", "complete", "close", "flush")
_RESULTS = ("text", "result", "value", "getvalue", "content", "message", "output", "build")
# What says that a protocol is read: words of a stream of text are none of it.
_PARSES = {"loads", "raw_decode", "model_validate_json", "fromstring", "literal_eval"}
_FORMATS = ("data:", "event:", "[DONE]", "\n\n", "\r\n", "</", "```", '{"')
# What is done with a delta that is no text, and with one that is; with one, and with text.
_NO_TEXT = r"{0}\[['\"]|\bawait {0}\b|\bmatch {0}:|\bisinstance\({0},"
_TEXT = r"{0} [!=]= ['\"]|'\.join\([\[(]?{0} (?:async )?for "
_ADDED = r"{1}(?: \+=? \[?|\.append\(|\.write\(){0}\b"


# -- what is given


class Callback(NamedTuple):
    """A parameter that is called: by what name the code calls it, and if it awaits it."""

    parameter: str
    place: str
    calls: Sequence[ast.Call]
    awaited: bool

    @property
    def ignored(self) -> str:
        """What to give for it where nobody looks."""
        return IGNORES_ASYNC if self.awaited else IGNORES


def callbacks(places: Mapping[str, str], nodes: Sequence[ast.AST]) -> Iterator[Callback]:
    """Find parameters, each kept at a place, that are called, and nothing made of the result."""
    alone = {id(each.value) for each in nodes if isinstance(each, ast.Expr)}
    awaits = [each for each in nodes if isinstance(each, ast.Await)]
    awaited = {id(each.value) for each in awaits if id(each) in alone}
    for name, place in places.items():
        made = [each for each in calls(nodes) if ast.unparse(each.func) == place]
        if made and {id(each) for each in made} <= alone | awaited:
            yield Callback(name, place, made, any(id(each) in awaited for each in made))


def arguments(takes: Iterable[Parameter], values: Mapping[str, str]) -> str:
    """Arguments for these parameters: dots for what is needed and not known, no other defaults.

    >>> stream, n = Parameter("stream", "", None), Parameter("n", "", None, by_name=True)
    >>> arguments([stream, n], {"n": "1"})
    '..., n=1'
    """
    shown, by_name = [], False
    for each in takes:
        value = values.get(each.name, "..." if each.default is None else "")
        by_name |= each.by_name or not value
        shown += [f"{each.name}={value}" if by_name else value] * bool(value)
    return ", ".join(shown)


def unknown(takes: Iterable[Parameter], known: Iterable[str]) -> list[str]:
    """What is not sure where these parameters are given what is known."""
    needed = [each.name for each in takes if each.default is None and each.name not in {*known}]
    return [f"{each} has no default: put it in for ..." for each in needed]


# -- objects


class Making(NamedTuple):
    """What a class takes when an instance is made, which of it is called, and what is not sure."""

    takes: Sequence[Parameter]
    callbacks: Sequence[Callback]
    doubts: Sequence[str]

    def arguments(self, given: Mapping[str, str]) -> str:
        """Arguments for what it takes; callbacks ignore all, but for those that are given."""
        return arguments(
            self.takes, {each.parameter: each.ignored for each in self.callbacks} | {**given}
        )


def making(source: Source, owner: ast.ClassDef) -> Making:
    r"""Tell how an instance is made.

    >>> from pytest_streamperf._cli.init.source import read
    >>> source = read("a.py", b"class Reply:\n    def __init__(self, model): pass")
    >>> making(source, source.classes["Reply"]).doubts
    ['model has no default: put it in for ...']
    """
    methods, line = source.methods(owner), source.with_bases(owner)
    init, doubts = methods.get("__init__"), []
    if init is not None:
        takes = init.parameters
        kept = assigned(own(init.node))
        places = {ast.unparse(value): ast.unparse(target) for target, value in kept}
    else:
        takes = [field for each in reversed(line) if _has_fields(each) for field in _fields(each)]
        places = {each.name: f"self.{each.name}" for each in takes}
        bases = {last_name(base) for each in line for base in each.bases}
        elsewhere = sorted(bases - _PLAIN - {*source.classes})
        doubts = [f"what {each} takes is not in this file" for each in elsewhere]
    nodes = [each for method in methods.values() for each in own(method.node)]
    called = [*callbacks({each.name: places.get(each.name, "") for each in takes}, nodes)]
    return Making(takes, called, doubts + unknown(takes, [each.parameter for each in called]))


def needs_loop(*scope: ast.AST) -> bool:
    """Whether something here asks for the event loop that runs."""
    return any(last_name(each.func) in _LOOPS for each in calls(own(*scope)))


def ending(methods: Mapping[str, Member]) -> tuple[Member | None, Member | None]:
    """What brings an object with these methods to its end, and what gives what came of it."""
    bare = {name: each for name, each in methods.items() if not each.required}
    ends = [bare[name] for name in _ENDS if name in bare and not bare[name].decorators]
    shows = [bare[name] for name in _RESULTS if name in bare]
    shows = [each for each in shows if each.decorators <= {"property", "cached_property"}]
    return next(iter(ends), None), next(iter(shows), None)


def _has_fields(owner: ast.ClassDef) -> bool:
    return bool({*map(last_name, (*owner.decorator_list, *owner.bases))} & _MAKES_FIELDS)


def _fields(owner: ast.ClassDef) -> Iterator[Parameter]:
    for node in owner.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = node.value
            if default and last_name(default) == "field" and "default" not in ast.unparse(default):
                default = None
            yield Parameter(node.target.id, ast.unparse(node.annotation), default, by_name=True)


# -- deltas


def delta_doubts(
    name: str, annotation: str, scope: Sequence[ast.AST], function: str
) -> Iterator[str]:
    """What is not sure of a delta, from its annotation and all that is done in `scope`.

    >>> scope = [ast.parse("for event in stream: print(event.type)")]
    >>> [each.partition(":")[0] for each in delta_doubts("event", "", scope, "show")]
    ['whether event is text cannot be told']
    """
    nodes = [*own(*scope)]
    how = "with delta=, a callable from index to delta"
    if any(each in function.lower() for each in ("decode", "parse", "sse")) or _reads_format(nodes):
        yield f"it reads a format: make deltas that are in it {how}"
    elif annotation != "str" and not (annotation in {"", "Any"} and _is_text(name, scope, nodes)):
        yield f"whether {name} is text cannot be told: if it is not, make it {how}"


def _reads_format(nodes: Sequence[ast.AST]) -> bool:
    said = {id(each.value) for each in nodes if isinstance(each, ast.Expr)}  # docstrings
    said |= {id(each.func.value) for each in calls(nodes) if isinstance(each.func, ast.Attribute)}
    texts = [each for each in nodes if isinstance(each, ast.Constant) and id(each) not in said]
    return any(last_name(each.func) in _PARSES for each in calls(nodes)) or any(
        mark in str(each.value) for each in texts for mark in _FORMATS
    )


def _is_text(name: str, scope: Sequence[ast.AST], nodes: Sequence[ast.AST]) -> bool:
    """Whether something is done with it that is only done with text, and nothing else."""
    code = "\n".join(map(ast.unparse, scope))
    it = rf"(?<![\w.]){re.escape(name)}"
    used = re.findall(rf"{it}\.(\w+)(\(?)", code)
    if re.search(_NO_TEXT.format(it), code) or not {*used} <= {(each, "(") for each in dir(str)}:
        return False
    adds = (_ADDED.format(it, rf"(?<![\w.]){re.escape(each)}") for each in _texts(nodes))
    return bool(used) or any(re.search(each, code) for each in (_TEXT.format(it), *adds))


def _texts(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """What begins as text, or is joined as text is."""
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(ast.Constant(str()), "join"), args=[joined]):
                yield ast.unparse(joined)
    for target, value in assigned(nodes):
        if last_name(value) == "StringIO" or isinstance(getattr(value, "value", None), str):
            yield from {(place := ast.unparse(target)), f"self.{place}"}
