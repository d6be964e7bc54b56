"""Whether what is sent one by one is text, told by what is done with it."""

import ast
from collections.abc import Iterator, Sequence

from pytest_streamperf.onboarding.source import assigned, calls, last_name, own

# What says that a protocol is read: words of a stream of text are none of it.
_PARSES = {"loads", "raw_decode", "model_validate_json", "fromstring", "literal_eval"}
_FORMATS = ("data:", "event:", "[DONE]", "\n\n", "\r\n", "</", "```", '{"')


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
    elif annotation != "str" and not (annotation in {"", "Any"} and _is_text(name, nodes)):
        yield f"whether {name} is text cannot be told: if it is not, make it {how}"


def _reads_format(nodes: Sequence[ast.AST]) -> bool:
    said = {id(each.value) for each in nodes if isinstance(each, ast.Expr)}  # docstrings
    said |= {id(each.func.value) for each in calls(nodes) if isinstance(each.func, ast.Attribute)}
    texts = [each for each in nodes if isinstance(each, ast.Constant) and id(each) not in said]
    return any(last_name(each.func) in _PARSES for each in calls(nodes)) or any(
        mark in str(each.value) for each in texts for mark in _FORMATS
    )


def _is_text(name: str, nodes: Sequence[ast.AST]) -> bool:
    """Whether something is done with it that is only done with text, and nothing else."""
    used = {id(each.func) for each in calls(nodes)}
    kept, proven = set(), False
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=each), attr=attribute) if each == name:
                if id(node) not in used or attribute not in dir(str):
                    return False
                proven = True
            case (
                ast.Subscript(value=ast.Name(id=each), slice=ast.Constant(value=str()))
                | ast.Await(value=ast.Name(id=each))
                | ast.Match(subject=ast.Name(id=each))
                | ast.Call(func=ast.Name(id="isinstance"), args=[ast.Name(id=each), _])
            ) if each == name:
                return False
            case ast.Compare(left=ast.Name(id=each), comparators=[ast.Constant(value=str())]):
                proven |= each == name
            case (
                ast.AugAssign(op=ast.Add(), target=place, value=ast.Name(id=each))
                | ast.BinOp(op=ast.Add(), left=place, right=ast.Name(id=each))
                | ast.Call(func=ast.Attribute(value=place), args=[ast.Name(id=each)])
                | ast.Call(
                    func=ast.Attribute(value=place), args=[ast.List(elts=[ast.Name(id=each)])]
                )
            ) if each == name:
                kept.add(ast.unparse(place))
            case ast.BinOp(op=ast.Add(), left=place, right=ast.List(elts=[ast.Name(id=each)])):
                kept |= {ast.unparse(place)} if each == name else set()
    return proven or any(_holds_text(place, name, nodes) for place in {*kept, ""})


def _holds_text(place: str, name: str, nodes: Sequence[ast.AST]) -> bool:
    """Whether what is kept at a place begins as text, or is joined as text is."""
    for node in calls(nodes):
        match node:
            case ast.Call(func=ast.Attribute(ast.Constant(str()), "join"), args=[joined]):
                elements = getattr(joined, "elt", None)
                if ast.unparse(elements or joined) == (name if elements else place):
                    return True
    return any(
        ast.unparse(target) in {place, place.removeprefix("self.")}
        and (last_name(value) == "StringIO" or isinstance(getattr(value, "value", None), str))
        for target, value in assigned(nodes)
    )
