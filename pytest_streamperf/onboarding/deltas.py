"""What a delta is, told by what is done with it: text, bytes, or something that is not known."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.source import assigned, last_name, own

DELTA_NAMES = {"delta", "token", "chunk", "piece", "text", "fragment", "word", "part", "event"}
_TEXT_NAMES = {"delta", "token", "piece", "text", "fragment", "word"}
_METHODS = {**dict.fromkeys(dir(bytes), "bytes"), **dict.fromkeys(dir(str), "text")}
# What adds to something that is kept, and what only looks.
_TAKES = {"append", "extend", "write", "appendleft", "put_nowait", "put"}
_LOOKS = {"len", "print", "str", "repr", "isinstance", "bool", "id", "hash"}
_PARSES = {"loads", "load", "raw_decode", "from_json", "model_validate_json", "fromstring"}
_PARSES |= {"parse_json", "literal_eval", "validate_json", "int", "float"}
_HOLDS = {"StringIO": "text", "BytesIO": "bytes", "bytearray": "bytes"}
# What says that a protocol is read: words of a stream of text are none of it.
_FORMATS = ("data:", "event:", "[DONE]", "\n\n", "\r\n", "</", "```", '{"')
_SAYS_NOTHING = {"Any", "object", "None", "Union", "Optional", "bytearray", "memoryview"}
_CALLS_FOR = "make them with delta=, a callable from index to delta"


class Delta(NamedTuple):
    """What to send: the value of `delta=`, if it takes one, and what is not sure of it."""

    made_by: str = ""
    doubt: str = ""


_BYTES = Delta(made_by='lambda _: b"a line of text\\n"')


def delta_of(name: str, annotation: str, scope: Sequence[ast.AST]) -> Delta:
    """Tell what the variable `name` is, from its annotation and all that is done in `scope`.

    >>> tree = ast.parse("for delta in stream: text = delta.choices[0]")
    >>> delta_of("delta", "", [tree]).doubt.split(":")[0]
    'it reads .choices of a delta, which text has not'
    """
    nodes = [*own(*scope)]
    evidence = {*_evidence(name, nodes)}
    foreign = sorted(each for each in evidence if each not in {"text", "bytes", "handed on"})
    typed = {*re.findall(r"[\w.]+", annotation)} - _SAYS_NOTHING
    format_read = _format(nodes)
    by_name = name in _TEXT_NAMES and (name != "delta" or "handed on" not in evidence)
    doubt = ""
    if foreign:
        doubt = f"{foreign[0]}: {_CALLS_FOR}"
    elif typed and not typed & {"str", "bytes"}:
        doubt = f"a delta is of type {annotation}: {_CALLS_FOR}"
    elif format_read:
        doubt = f"{format_read}: {_CALLS_FOR}, whole or in pieces"
    elif "bytes" in evidence or typed == {"bytes"}:
        return _BYTES
    elif not ("text" in evidence or "str" in typed or by_name):
        doubt = f"whether {name} is text cannot be told: if it is not, {_CALLS_FOR}"
    return Delta(doubt=doubt)


def element_of(annotation: str) -> str:
    """What is in a stream, from its annotation: "str" of "AsyncIterator[str]"; else nothing."""
    _, bracket, inside = annotation.partition("[")
    return inside.removesuffix("]").split(",")[0].strip() if bracket else ""


def _evidence(name: str, nodes: Sequence[ast.AST]) -> Iterator[str]:  # noqa: C901 - a table
    methods = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=each), attr=attribute) if each == name:
                if id(node) in methods and attribute in _METHODS:
                    yield _METHODS[attribute]
                else:
                    yield f"it reads .{attribute} of a delta, which text has not"
            case ast.Subscript(value=ast.Name(id=each), slice=ast.Constant(value=str())) if (
                each == name
            ):
                yield "it takes parts of a delta by their names, as of a dict"
            case ast.Await(value=ast.Name(id=each)) if each == name:
                yield "it awaits a delta"
            case ast.Match(subject=ast.Name(id=each)) if each == name:
                yield "it tells kinds of deltas apart"
            case ast.AugAssign(op=ast.Add(), target=target, value=ast.Name(id=each)) if (
                each == name
            ):
                yield from _begun(ast.unparse(target), nodes)
            case ast.BinOp(op=ast.Add(), left=left, right=ast.Name(id=each)) if each == name:
                yield from _begun(ast.unparse(left), nodes)
            case ast.Compare(left=left, comparators=[right]):
                yield from _compared(name, left, right)
            case ast.Call():
                yield from _passed(name, node, nodes)


def _compared(name: str, left: ast.expr, right: ast.expr) -> Iterator[str]:
    sides = left, right
    if any(isinstance(each, ast.Name) and each.id == name for each in sides):
        values = [each.value for each in sides if isinstance(each, ast.Constant)]
        if values and not isinstance(values[0], str | bytes | None):
            yield "it compares a delta to what is not text"
        elif values and values[0] is not None:
            yield "text" if isinstance(values[0], str) else "bytes"


def _passed(name: str, call: ast.Call, nodes: Sequence[ast.AST]) -> Iterator[str]:
    """What a call that takes a delta says of it."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not any(isinstance(each, ast.Name) and each.id == name for each in given):
        return
    function = last_name(call.func)
    if function in _PARSES:
        yield f"it calls {function} with each delta"
    elif function == "isinstance" and len(call.args) > 1:
        kinds = ast.unparse(call.args[1])
        yield "text" if "str" in kinds else f"a delta may be {kinds}"
    elif function in _TAKES and isinstance(call.func, ast.Attribute):
        yield from _begun(ast.unparse(call.func.value), nodes)
    elif function not in _LOOKS:
        yield "handed on"


def _begun(place: str, nodes: Sequence[ast.AST]) -> Iterator[str]:
    """What is kept at a place, from how it begins, and from how it is joined."""
    for node in nodes:
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Constant(value=glue), attr="join"), args=[joined]
            ) if ast.unparse(joined) == place:
                yield "bytes" if isinstance(glue, bytes) else "text"
    for target, value in assigned(nodes):
        if ast.unparse(target) in {place, place.removeprefix("self.")}:
            match value:
                case ast.Constant(value=str()):
                    yield "text"
                case ast.Constant(value=bytes()):
                    yield "bytes"
                case ast.Constant(value=int() | float()):
                    yield "it adds up deltas, as numbers are"
                case ast.Call(func=func) if last_name(func) in _HOLDS:
                    yield _HOLDS[last_name(func)]


def _format(nodes: Sequence[ast.AST]) -> str:
    """The format that is read here, as a doubt; empty if it is none that can be told."""
    glue = {
        id(node.func.value)
        for node in nodes
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "join"
    }
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Call) and last_name(node.func) in _PARSES - {"int", "float"}:
            return f"it parses what comes, with {last_name(node.func)}"
        if isinstance(node, ast.Constant) and id(node) not in glue | docstrings:
            value = node.value.decode("latin-1") if isinstance(node.value, bytes) else node.value
            known = [each for each in _FORMATS if isinstance(value, str) and each in value]
            if known:
                return f"it looks for {known[0]!r} in what comes"
    return ""
