"""How often a callback is called: the interval that code keeps to, and what it sends."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.making import Callback
from pytest_streamperf.onboarding.source import Member, Source, assigned, called, last_name, own

_CLOCKS = {"monotonic", "time", "perf_counter"}
_TIMERS = {"call_later", "sleep"}
_THREADS = {"Timer", "Thread"}
_LOOPS = {"call_later", "create_task", "get_running_loop", "get_event_loop", "ensure_future"}
_SINK_NAMES = {
    "show",
    "send",
    "callback",
    "on_update",
    "sink",
    "emit",
    "notify",
    "render",
    "update",
}
_SINK_NAMES |= {"flush", "publish", "on_text", "on_change", "write", "listener", "handler"}
_LONGEST = 60.0


class Throttle(NamedTuple):
    """What a throttle keeps to: seconds, by a timer or not, and what an update carries.

    `value` is what the update holds of a `call`; `batches` says that each holds only what came
    since the one before it.
    """

    callback: Callback
    every: float | None
    timed: bool
    value: str
    batches: bool
    doubts: Sequence[str]


def throttle(
    source: Source, members: Sequence[Member], callbacks: Sequence[Callback], init: Member | None
) -> Throttle | None:
    """Find the throttle in these functions; None where no time is asked for near a callback.

    `init` is where what is kept begins: what is set anywhere else begins again.
    """
    if not callbacks:
        return None
    sink = max(callbacks, key=lambda each: each.parameter in _SINK_NAMES)
    nodes = [node for member in members for node in own(member.node)]
    timers = [node for node in nodes if isinstance(node, ast.Call) if _is_timer(source, node)]
    waits = [node for node in nodes if isinstance(node, ast.Compare) and _reads_clock(node, nodes)]
    if not timers and not waits:
        return None
    settings = dict(_settings(source, members, nodes))
    asked = [*(timer.args[0] for timer in timers if timer.args), *_terms(waits, nodes)]
    found = {value for each in asked for value in _numbers(each, settings)}
    intervals = sorted(each for each in found if 0 < each <= _LONGEST)
    doubts = []
    if len(intervals) != 1:
        said = f"it may be any of {intervals}" if intervals else "no number was found"
        doubts.append(f"how often it may update is for you to say in every=: {said}")
    if any(last_name(timer.func) in _THREADS for timer in timers):
        doubts.append("a timer in a thread of its own does not know virtual time")
    carried = _carried(sink, members, nodes, init)
    return Throttle(
        callback=sink,
        every=intervals[0] if len(intervals) == 1 else None,
        timed=bool(timers),
        value=carried.value,
        batches=carried.batches,
        doubts=[*doubts, *carried.doubts],
    )


def needs_loop(members: Sequence[Member]) -> bool:
    """Whether it takes a running event loop to call these."""
    return any(
        isinstance(node, ast.Call) and last_name(node.func) in _LOOPS
        for member in members
        for node in own(member.node)
    )


# -- when


def _is_timer(source: Source, call: ast.Call) -> bool:
    name = last_name(call.func)
    return name in _TIMERS or (name in _THREADS and "threading" in source.dotted(call.func))


def _clock_in(node: ast.AST) -> bool:
    return any(
        isinstance(each, ast.Call) and not each.args and last_name(each.func) in _CLOCKS
        for each in ast.walk(node)
    )


def _reads_clock(compare: ast.Compare, nodes: Sequence[ast.AST]) -> bool:
    """Whether it compares what a clock says, or what was made of that."""
    return _clock_in(compare) or any(_clock_in(each) for each in _made_of(compare, nodes))


def _made_of(node: ast.AST, nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    for target, value in assigned(nodes):
        if isinstance(target, ast.Name) and target.id in names:
            yield value


def _terms(compares: Sequence[ast.Compare], nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    for each in compares:
        yield each.left
        yield from each.comparators
        yield from _made_of(each, nodes)


def _settings(
    source: Source, members: Sequence[Member], nodes: Sequence[ast.AST]
) -> Iterator[tuple[str, ast.expr]]:
    """Names that stand for one value: of the module, of defaults, of instances."""
    for target, value in assigned(source.tree.body):
        yield ast.unparse(target), value
    owners = {id(each): each for member in members if (each := member.owner)}
    for target, value in assigned(each for owner in owners.values() for each in owner.body):
        yield f"self.{ast.unparse(target)}", value
    for member in members:
        for parameter in member.parameters:
            if parameter.default is not None:
                yield parameter.name, parameter.default
    for target, value in assigned(nodes):
        if isinstance(target, ast.Attribute) and isinstance(value, ast.Name | ast.Constant):
            yield ast.unparse(target), value


def _numbers(node: ast.expr, settings: Mapping[str, ast.expr]) -> Iterator[float]:
    """Numbers that an expression comes to; none where it multiplies or divides."""
    left, seen = [node], set()
    while left:
        each = left.pop()
        if isinstance(each, ast.BinOp) and not isinstance(each.op, ast.Add | ast.Sub):
            return
        if isinstance(each, ast.Constant) and isinstance(each.value, int | float):
            if not isinstance(each.value, bool):
                yield float(each.value)
        elif isinstance(each, ast.Name | ast.Attribute):
            name = ast.unparse(each)
            if name in settings and name not in seen:
                seen.add(name)
                left.append(settings[name])
        elif isinstance(each, ast.BinOp):
            left += [each.left, each.right]
        elif isinstance(each, ast.Call) and last_name(each.func) in {"max", "min"}:
            left += each.args


# -- what


class _Carried(NamedTuple):
    value: str = "call.args[0]"
    batches: bool = False
    doubts: Sequence[str] = ()


def _carried(
    sink: Callback, members: Sequence[Member], nodes: Sequence[ast.AST], init: Member | None
) -> _Carried:
    unknown = f"value= is what an update carries, all the text so far: say what {sink.place} gets"
    found = {_sent(call, members, nodes, init) for call in sink.calls}
    if len(found) == 1:
        (carried,) = found
        if carried is not None:
            return carried
    return _Carried(doubts=(unknown,))


def _sent(
    call: ast.Call, members: Sequence[Member], nodes: Sequence[ast.AST], init: Member | None
) -> _Carried | None:
    """Which argument of a call is text that was added up, and whether it begins anew each time."""
    named = {f"kwargs[{each.arg!r}]".replace("'", '"'): each.value for each in call.keywords}
    given = {**{f"args[{number}]": each for number, each in enumerate(call.args)}, **named}
    for where, node in given.items():
        place = _joined(node, members, nodes)
        if place:
            batches = _begins_again(place, members, init)
            return None if batches and where != "args[0]" else _Carried(f"call.{where}", batches)
    return None


def _joined(node: ast.expr, members: Sequence[Member], nodes: Sequence[ast.AST]) -> str:
    """Where the text of an expression was added up; empty if it is something else."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=""), attr="join"), args=[parts]):
            place = ast.unparse(parts)
            return place if _added_to(place, nodes, ast.Call) else ""
        case ast.Call(func=ast.Attribute(attr="getvalue", value=target)):
            return ast.unparse(target)
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name), args=[]) | (
            ast.Attribute(value=ast.Name(id="self"), attr=name)
        ):
            for member in members:
                if member.node.name == name and isinstance(member.node.body[-1], ast.Return):
                    value = member.node.body[-1].value
                    return _joined(value, [], nodes) if value is not None else ""
        case ast.Name(id=name):
            made = [*_made_of(node, nodes)]
            if len(made) == 1 and not isinstance(made[0], ast.Constant):
                return _joined(made[0], members, [*nodes])
    place = ast.unparse(called(node))
    return place if _added_to(place, nodes, ast.AugAssign) else ""


def _added_to(place: str, nodes: Sequence[ast.AST], how: type[ast.AST]) -> bool:
    for node in nodes:
        match node:
            case ast.AugAssign(target=target, op=ast.Add()) if isinstance(node, how):
                if ast.unparse(target) == place:
                    return True
            case ast.Call(func=ast.Attribute(value=target, attr="append")) if isinstance(node, how):
                if ast.unparse(target) == place:
                    return True
    return False


def _begins_again(place: str, members: Sequence[Member], init: Member | None) -> bool:
    """Whether what is added up is taken away once it was sent."""
    for member in members:
        if init is not None and member.node is init.node:
            continue
        body = member.node if init is not None else _after_first_loop(member)
        nodes = [*own(body)]
        for target, value in assigned(nodes):
            if ast.unparse(target) == place and place not in ast.unparse(value):
                return True
        for node in nodes:
            match node:
                case ast.Call(func=ast.Attribute(value=target, attr="clear" | "truncate")):
                    if ast.unparse(target) == place:
                        return True
                case ast.Delete(targets=[ast.Subscript(value=target)]):
                    if ast.unparse(target) == place:
                        return True
    return False


def _after_first_loop(member: Member) -> ast.AST:
    """The first loop of a function: what is set before it begins there."""
    loops = (each for each in own(member.node) if isinstance(each, ast.For | ast.AsyncFor))
    return min(loops, key=lambda each: each.lineno, default=member.node)
