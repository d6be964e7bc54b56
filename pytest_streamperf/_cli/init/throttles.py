"""What a throttle keeps to, from the code: how often it calls back, and with what."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.making import Callback
from pytest_streamperf._cli.init.source import Member, assigned, calls, last_name, own

_CLOCKS = {"monotonic", "time", "perf_counter"}
_TIMERS = {"call_later", "sleep"}
_LONGEST = 60.0

# What a name may stand for: all that is assigned to it, or its default.
_Bound = Mapping[str, Sequence[ast.expr]]


class Throttle(NamedTuple):
    """What a throttle keeps to: an interval in seconds, zero if not known, by a timer or not.

    `batches` says that each update holds only what came since the one before it.
    """

    callback: Callback
    every: float
    timed: bool
    batches: bool
    doubts: Sequence[str]


def throttle(
    tree: ast.Module, members: Sequence[Member], callbacks: Sequence[Callback]
) -> Throttle | None:
    """Find the throttle in these functions; None where no time is asked for near a callback."""
    if not callbacks:
        return None
    nodes = [node for member in members for node in own(member.node)]
    bound = _bound(tree, members)
    slept = (each for each in calls(nodes) if last_name(each.func) in _TIMERS)
    timers = [each.args[:1] for each in slept if each.args]
    compared = [[each.left, *each.comparators] for each in nodes if isinstance(each, ast.Compare)]
    waits = [each for each in compared if any(map(_asks_a_clock, _terms(each, bound)))]
    if not timers and not waits:
        return None
    terms = [term for each in (*timers, *waits) for term in _terms(each, bound)]
    found = {each.value for each in terms if isinstance(each, ast.Constant)}
    intervals = [each for each in found if isinstance(each, int | float) and 0 < each <= _LONGEST]
    sure = len(intervals) == 1 and not any(isinstance(each, ast.BinOp) for each in terms)
    code = "\n".join(ast.unparse(each.node) for each in members)
    sink, doubts = callbacks[0], []
    sent = {_text_of(each.args[0], bound, code) if each.args else "" for each in sink.calls}
    place = sent.pop() if len(sent) == 1 else ""
    if not sure:
        doubts.append("how often it may update cannot be told: say so in every=, in seconds")
    if not place or len(callbacks) > 1:
        doubts.append(f"value= is what an update carries: say what {sink.place} gets")
    batches = bool(place) and _begins_again(place, members)
    return Throttle(sink, intervals[0] if sure else 0, bool(timers), batches, doubts)


def _bound(tree: ast.Module, members: Sequence[Member]) -> _Bound:
    """What names stand for: those of the module, of the class, and of these functions."""
    bound = defaultdict[str, list[ast.expr]](list)
    owner = members[0].owner
    for target, value in assigned(own(owner) if owner else []):
        bound[f"self.{ast.unparse(target)}"].append(value)
    for target, value in assigned(own(tree, *(each.node for each in members))):
        bound[ast.unparse(target)].append(value)
    for member in members:
        for each in member.parameters:
            bound[each.name] += [each.default] if each.default else []
        match member.node.body:
            case [*_, ast.Return(value=ast.expr() as value)]:
                bound[f"self.{member.node.name}()"].append(value)
    return bound


def _terms(asked: Iterable[ast.expr], bound: _Bound) -> Iterator[ast.expr]:
    """What is added or taken away in expressions; names are looked up."""
    left, seen = [*asked], set()
    while left:
        match left.pop():
            case ast.BinOp(op=ast.Add() | ast.Sub()) as both:
                left += [both.left, both.right]
            case ast.NamedExpr(value=value):
                left.append(value)
            case ast.Name() | ast.Attribute() as each:
                name = ast.unparse(each)
                if name not in seen:
                    seen.add(name)
                    left += bound.get(name, [])
            case each:
                yield each


def _asks_a_clock(term: ast.expr) -> bool:
    return any(last_name(each.func) in _CLOCKS and not each.args for each in calls(ast.walk(term)))


def _text_of(sent: ast.expr, bound: _Bound, code: str) -> str:
    """Where the text that is sent is added up: at `parts` for "".join(parts); empty if nowhere."""
    said, seen = ast.unparse(sent), set()
    while said not in seen:
        seen.add(said)
        joined = re.fullmatch(r"''\.join\(([\w.]+)\)", said)
        if joined:
            return joined[1] if f"{joined[1]}.append(" in code else ""
        made = {*map(ast.unparse, bound.get(said, []))}
        if re.search(rf"(?<![\w.]){re.escape(said)} \+= ", code):
            return said if "''" in made else ""
        said = made.pop() if len(made) == 1 else said
    return ""


def _begins_again(place: str, members: Sequence[Member]) -> bool:
    """Whether what is added up is taken away once it was sent."""
    kept = place.startswith("self.")
    nodes = [each for m in members if m.node.name != "__init__" for each in own(m.node)]
    begun = sum(ast.unparse(target) == place for target, _ in assigned(nodes))
    taken = {f"{place}.clear()", f"{place}.truncate(0)", f"del {place}[:]"}
    said = (ast.unparse(each) for each in nodes if isinstance(each, ast.Expr | ast.Delete))
    return begun > (not kept) or not taken.isdisjoint(said)
