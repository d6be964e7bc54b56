"""Write calls of the code under test: arguments, construction, and doubts about deltas.

Parsed functions and classes go in; source text of arguments and a list of doubts come out. A
required argument without a known value becomes `...`, with a doubt that names it.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.proposal import IGNORES, IGNORES_ASYNC
from pytest_streamperf._cli.init.source import (
    Member,
    Parameter,
    Source,
    assignments_in,
    call_nodes,
    last_name,
    own_nodes,
)

# These bases need no arguments, or take the annotated fields of the class.
_KNOWN_BASES = {"object", "ABC", "Generic", "BaseModel", "NamedTuple"}
_FIELD_MAKERS = {"dataclass", "define", "frozen", "BaseModel", "NamedTuple"}
_LOOP_CALLS = {"call_later", "create_task", "get_running_loop", "get_event_loop", "ensure_future"}
_END_METHODS = ("end", "finish", "finalize", "done", "complete", "close", "flush")
_RESULT_MEMBERS = ("text", "result", "value", "getvalue", "content", "message", "output", "build")
# Signs that the code parses a protocol, for which a stream of plain words is not valid input.
_PARSERS = {"loads", "raw_decode", "model_validate_json", "fromstring", "literal_eval"}
_FORMAT_MARKS = ("data:", "event:", "[DONE]", "\n\n", "\r\n", "</", "```", '{"')
# Patterns of code: {0} is not text; {0} is text; {0} is added to the accumulator {1}.
_NOT_TEXT_USE = r"{0}\[['\"]|\bawait {0}\b|\bmatch {0}:|\bisinstance\({0},"
_TEXT_USE = r"{0} [!=]= ['\"]|'\.join\([\[(]?{0} (?:async )?for "
_ADDED_TO = r"{1}(?: \+=? \[?|\.append\(|\.write\(){0}\b"


# -- arguments


class Callback(NamedTuple):
    """A parameter that the code calls; `place` is the called expression, such as self.show."""

    parameter: str
    place: str
    calls: Sequence[ast.Call]
    awaited: bool

    @property
    def ignored(self) -> str:
        """The stub to pass where a test does not look at the calls."""
        return IGNORES_ASYNC if self.awaited else IGNORES


def callbacks(places: Mapping[str, str], nodes: Sequence[ast.AST]) -> Iterator[Callback]:
    """Yield the parameters that the code calls without a use of the result.

    `places` maps each parameter to the expression that holds it.
    """
    statements = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    awaits = [node for node in nodes if isinstance(node, ast.Await)]
    awaited = {id(node.value) for node in awaits if id(node) in statements}
    for name, place in places.items():
        matches = [call for call in call_nodes(nodes) if ast.unparse(call.func) == place]
        if matches and {id(call) for call in matches} <= statements | awaited:
            yield Callback(name, place, matches, any(id(call) in awaited for call in matches))


def arguments(takes: Iterable[Parameter], values: Mapping[str, str]) -> str:
    """Return the arguments of a call, with `...` for a required parameter without a value.

    Optional parameters without a value are left out.

    >>> stream, n = Parameter("stream", "", None), Parameter("n", "", None, by_name=True)
    >>> arguments([stream, n], {"n": "1"})
    '..., n=1'
    """
    shown, by_name = [], False
    for parameter in takes:
        value = values.get(parameter.name, "..." if parameter.default is None else "")
        by_name |= parameter.by_name or not value
        shown += [f"{parameter.name}={value}" if by_name else value] * bool(value)
    return ", ".join(shown)


def missing_arguments(takes: Iterable[Parameter], given: Iterable[str]) -> list[str]:
    """Return one doubt for each required parameter that is not among the given names."""
    names = [parameter.name for parameter in takes if parameter.default is None]
    missing = [name for name in names if name not in {*given}]
    return [f"{name} has no default: replace ... with a value" for name in missing]


# -- objects


class Construction(NamedTuple):
    """A constructor: its parameters, the callbacks among them, and the doubts about a call."""

    takes: Sequence[Parameter]
    callbacks: Sequence[Callback]
    doubts: Sequence[str]

    def arguments(self, given: Mapping[str, str]) -> str:
        """Return the arguments of the constructor, with stubs for callbacks that are not given."""
        return arguments(
            self.takes, {call.parameter: call.ignored for call in self.callbacks} | {**given}
        )


def construction_of(source: Source, owner: ast.ClassDef) -> Construction:
    r"""Return how to construct an instance of a class.

    >>> from pytest_streamperf._cli.init.source import read
    >>> source = read("a.py", b"class Reply:\n    def __init__(self, model): pass")
    >>> construction_of(source, source.classes["Reply"]).doubts
    ['model has no default: replace ... with a value']
    """
    methods, classes = source.methods(owner), source.with_bases(owner)
    init, doubts = methods.get("__init__"), []
    if init is not None:
        takes = init.parameters
        pairs = assignments_in(own_nodes(init.node))
        places = {ast.unparse(value): ast.unparse(target) for target, value in pairs}
    else:
        takes = [field for cls in reversed(classes) if _has_fields(cls) for field in _fields(cls)]
        places = {field.name: f"self.{field.name}" for field in takes}
        bases = {last_name(base) for cls in classes for base in cls.bases}
        elsewhere = sorted(bases - _KNOWN_BASES - {*source.classes})
        doubts = [
            f"the arguments of {base} are unknown: it is not in this file" for base in elsewhere
        ]
    nodes = [node for method in methods.values() for node in own_nodes(method.node)]
    called = [*callbacks({field.name: places.get(field.name, "") for field in takes}, nodes)]
    return Construction(
        takes,
        called,
        doubts + missing_arguments(takes, [callback.parameter for callback in called]),
    )


def needs_loop(*scope: ast.AST) -> bool:
    """Return whether the code needs a running event loop."""
    return any(last_name(call.func) in _LOOP_CALLS for call in call_nodes(own_nodes(*scope)))


def ending(methods: Mapping[str, Member]) -> tuple[Member | None, Member | None]:
    """Return the method that ends a stream and the member that holds the result, or None."""
    bare = {name: method for name, method in methods.items() if not method.required}
    ends = [bare[name] for name in _END_METHODS if name in bare and not bare[name].decorators]
    shows = [bare[name] for name in _RESULT_MEMBERS if name in bare]
    shows = [member for member in shows if member.decorators <= {"property", "cached_property"}]
    return next(iter(ends), None), next(iter(shows), None)


def _has_fields(owner: ast.ClassDef) -> bool:
    return bool({*map(last_name, (*owner.decorator_list, *owner.bases))} & _FIELD_MAKERS)


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
    """Yield the doubts about the type of a delta, from its annotation and its uses in `scope`.

    >>> scope = [ast.parse("for event in stream: print(event.type)")]
    >>> [doubt.partition(":")[0] for doubt in delta_doubts("event", "", scope, "show")]
    ['event may not be text']
    """
    nodes = [*own_nodes(*scope)]
    how = "with delta=, a callable from index to delta"
    if any(word in function.lower() for word in ("decode", "parse", "sse")) or _reads_format(nodes):
        yield f"the code parses a format: make deltas in that format {how}"
    elif annotation != "str" and not (annotation in {"", "Any"} and _is_text(name, scope, nodes)):
        yield f"{name} may not be text: if so, make deltas {how}"


def _reads_format(nodes: Sequence[ast.AST]) -> bool:
    # Docstrings, and constants with a method call such as "\n\n".join, are no sign of a format.
    ignored = {id(n.value) for n in nodes if isinstance(n, ast.Expr)}
    ignored |= {id(c.func.value) for c in call_nodes(nodes) if isinstance(c.func, ast.Attribute)}
    texts = [n for n in nodes if isinstance(n, ast.Constant) and id(n) not in ignored]
    return any(last_name(call.func) in _PARSERS for call in call_nodes(nodes)) or any(
        mark in str(text.value) for text in texts for mark in _FORMAT_MARKS
    )


def _is_text(name: str, scope: Sequence[ast.AST], nodes: Sequence[ast.AST]) -> bool:
    """Return whether the code uses `name` as text, and never as anything else."""
    code = "\n".join(map(ast.unparse, scope))
    pattern = rf"(?<![\w.]){re.escape(name)}"
    used = re.findall(rf"{pattern}\.(\w+)(\(?)", code)
    if re.search(_NOT_TEXT_USE.format(pattern), code) or not {*used} <= {
        (method, "(") for method in dir(str)
    }:
        return False
    adds = (
        _ADDED_TO.format(pattern, rf"(?<![\w.]){re.escape(text)}") for text in _text_places(nodes)
    )
    return bool(used) or any(re.search(use, code) for use in (_TEXT_USE.format(pattern), *adds))


def _text_places(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names of accumulators that start as text or are joined into text."""
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(ast.Constant(str()), "join"), args=[joined]):
                yield ast.unparse(joined)
    for target, value in assignments_in(nodes):
        if last_name(value) == "StringIO" or isinstance(getattr(value, "value", None), str):
            yield from {(place := ast.unparse(target)), f"self.{place}"}
