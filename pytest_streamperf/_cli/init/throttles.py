"""Find the throttle in the code of a consumer: the callback, its interval and its content.

The functions of a consumer and their callbacks go in; a `FoundThrottle` comes out. A throttle is
code that compares the time or starts a timer, and calls a callback.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.construction import Callback
from pytest_streamperf._cli.init.source import (
    Member,
    assignments_in,
    call_nodes,
    last_name,
    own_nodes,
)

_CLOCKS = {"monotonic", "time", "perf_counter"}
_TIMERS = {"call_later", "sleep"}
# Not measured: no reason is on record. A longer value is no update interval.
_MAX_INTERVAL_SECONDS = 60.0

# The values that a name may have: all assigned expressions, or the default of a parameter.
_Bindings = Mapping[str, Sequence[ast.expr]]


class FoundThrottle(NamedTuple):
    """A throttle that the code contains.

    `every` is its interval in seconds, and zero where that is unknown. `timed` says that a timer
    ends the interval. `batches` says that an update carries only the deltas since the last update.
    """

    callback: Callback
    every: float
    timed: bool
    batches: bool
    doubts: Sequence[str]


def throttle(
    tree: ast.Module, members: Sequence[Member], callbacks: Sequence[Callback]
) -> FoundThrottle | None:
    """Return the throttle in these functions, or None if they use neither a clock nor a timer."""
    if not callbacks:
        return None
    nodes = [node for member in members for node in own_nodes(member.node)]
    bindings = _bindings_of(tree, members)
    timer_calls = (call for call in call_nodes(nodes) if last_name(call.func) in _TIMERS)
    timers = [call.args[:1] for call in timer_calls if call.args]
    compared = [[node.left, *node.comparators] for node in nodes if isinstance(node, ast.Compare)]
    waits = [sides for sides in compared if any(map(_reads_clock, _terms(sides, bindings)))]
    if not timers and not waits:
        return None
    terms = [term for group in (*timers, *waits) for term in _terms(group, bindings)]
    values = {term.value for term in terms if isinstance(term, ast.Constant)}
    numbers = [value for value in values if isinstance(value, int | float)]
    intervals = [number for number in numbers if 0 < number <= _MAX_INTERVAL_SECONDS]
    certain = len(intervals) == 1 and not any(isinstance(term, ast.BinOp) for term in terms)
    code = "\n".join(ast.unparse(member.node) for member in members)
    sink, doubts = callbacks[0], []
    sent = {_text_of(call.args[0], bindings, code) if call.args else "" for call in sink.calls}
    place = sent.pop() if len(sent) == 1 else ""
    if not certain:
        doubts.append("the update interval is unknown: set every=, in seconds")
    if not place or len(callbacks) > 1:
        doubts.append(
            f"the content of an update is unknown: pass value= for the calls of {sink.place}"
        )
    batches = bool(place) and _is_reset(place, members)
    return FoundThrottle(sink, intervals[0] if certain else 0, bool(timers), batches, doubts)


def _bindings_of(tree: ast.Module, members: Sequence[Member]) -> _Bindings:
    """Return the values that names may have in the module, the class and these functions."""
    bindings = defaultdict[str, list[ast.expr]](list)
    owner = members[0].owner
    for target, value in assignments_in(own_nodes(owner) if owner else []):
        bindings[f"self.{ast.unparse(target)}"].append(value)
    for target, value in assignments_in(own_nodes(tree, *(member.node for member in members))):
        bindings[ast.unparse(target)].append(value)
    for member in members:
        for parameter in member.parameters:
            bindings[parameter.name] += [parameter.default] if parameter.default else []
        match member.node.body:
            case [*_, ast.Return(value=ast.expr() as value)]:
                bindings[f"self.{member.node.name}()"].append(value)
    return bindings


def _terms(expressions: Iterable[ast.expr], bindings: _Bindings) -> Iterator[ast.expr]:
    """Yield the terms of sums and differences in the expressions; names give their values."""
    pending, visited = [*expressions], set()
    while pending:
        match pending.pop():
            case ast.BinOp(op=ast.Add() | ast.Sub()) as both:
                pending += [both.left, both.right]
            case ast.NamedExpr(value=value):
                pending.append(value)
            case ast.Name() | ast.Attribute() as reference:
                name = ast.unparse(reference)
                if name not in visited:
                    visited.add(name)
                    pending += bindings.get(name, [])
            case term:
                yield term


def _reads_clock(term: ast.expr) -> bool:
    return any(last_name(c.func) in _CLOCKS and not c.args for c in call_nodes(ast.walk(term)))


def _text_of(sent: ast.expr, bindings: _Bindings, code: str) -> str:
    """Return the name of the accumulator that an update sends, or "" if there is none.

    For "".join(parts) it is `parts`.
    """
    name, visited = ast.unparse(sent), set()
    while name not in visited:
        visited.add(name)
        joined = re.fullmatch(r"''\.join\(([\w.]+)\)", name)
        if joined:
            return joined[1] if f"{joined[1]}.append(" in code else ""
        values = {*map(ast.unparse, bindings.get(name, []))}
        if re.search(rf"(?<![\w.]){re.escape(name)} \+= ", code):
            return name if "''" in values else ""
        name = values.pop() if len(values) == 1 else name
    return ""


def _is_reset(place: str, members: Sequence[Member]) -> bool:
    """Return whether the code empties the accumulator `place`, as a batching throttle does."""
    is_attribute = place.startswith("self.")
    nodes = [node for m in members if m.node.name != "__init__" for node in own_nodes(m.node)]
    assignments = sum(ast.unparse(target) == place for target, _ in assignments_in(nodes))
    resets = {f"{place}.clear()", f"{place}.truncate(0)", f"del {place}[:]"}
    statements = (ast.unparse(n) for n in nodes if isinstance(n, ast.Expr | ast.Delete))
    return assignments > (not is_attribute) or not resets.isdisjoint(statements)
