"""Tests for what consumes a stream: its work is linear, it calls back now and then, and lets go."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.making import Callback, ignores
from pytest_streamperf.onboarding.proposal import Candidate, test_of, within
from pytest_streamperf.onboarding.source import Member, Source, assigned, calls, last_name, own

_CLOCKS = {"monotonic", "time", "perf_counter"}
_TIMERS = {"call_later", "sleep"}
_LONGEST = 60.0


class Consumer(NamedTuple):
    """Code that takes a stream, and the lines of a test that have it take `stream`.

    `lines` is told what to give for some parameters; `members` is where a throttle may be. It is
    `fed` one by one, or goes through the stream itself; `direct` is what takes it alone.
    """

    name: str
    line: int
    score: int
    why: str
    uses: str
    lines: Callable[[Mapping[str, str]], Sequence[str]]
    is_async: bool
    callbacks: Sequence[Callback]
    members: Sequence[Member]
    fed: bool
    ends: bool
    doubts: Sequence[str]
    direct: str = ""


class _Throttle(NamedTuple):
    """What a throttle keeps to: an interval in seconds, zero if not known, by a timer or not.

    `batches` says that each update holds only what came since the one before it.
    """

    callback: Callback
    every: float
    timed: bool
    batches: bool
    doubts: Sequence[str]


def tests_of(source: Source, consumer: Consumer) -> Iterator[Candidate]:
    """Hold a consumer's work to be linear, and the throttle that it has to what that promises."""
    kept = _throttle(source, consumer.members, consumer.callbacks)
    name = consumer.uses if consumer.fed else consumer.name
    if kept is None or not kept.batches:  # those are emptied by time, which does not pass there
        head = f"{'async ' * consumer.is_async}def consume(stream):"
        head += "  # called many times: it builds its state inside"
        body = [*within(head, consumer.lines({})), "", "assert_linear(consume)"]
        if consumer.direct and not consumer.doubts:
            body = [f"assert_linear({consumer.direct})"]
        yield Candidate(
            check="growth",
            name=consumer.name,
            line=consumer.line,
            score=consumer.score,
            why=consumer.why,
            test=test_of(name, "is_linear", ["assert_linear"], body, doubts=consumer.doubts),
            doubts=consumer.doubts,
            uses=consumer.uses,
            budgets={"growth": '"25%"', "up_to": "20_000"},
        )
    if kept is not None:
        yield _throttled(consumer, kept, name)


def _throttled(consumer: Consumer, kept: _Throttle, name: str) -> Candidate:
    awaited, every = kept.callback.awaited, kept.every or 0.1
    if kept.batches:
        per_second = int(1 / every) + 1  # both ends of a second are in it
        counter, budgets = "flush_counter", {"flushes_per_second": f'"{per_second}/s"'}
        made = "flushes = flush_counter(of=stream)"
        sink = f"flushes.call({ignores(kept.callback)})"
        check = f"flushes.assert_coalesced(per_second={per_second})"
    else:
        counter, budgets = "update_counter", {"updates_every": f'"{every * 1000:g}ms"'}
        made = "show = update_counter(of=stream, value=lambda call: call.args[0])"
        sink = "show.aio" if awaited else "show"
        trailing = "" if kept.timed else f', trailing="{"end" if consumer.ends else "next"}"'
        check = f"show.assert_throttled(every={every:g}{trailing})"
    lines = [
        each.removeprefix("return ") for each in consumer.lines({kept.callback.parameter: sink})
    ]
    ended = consumer.fed and consumer.ends and kept.timed and not kept.batches
    body = [
        f"stream = token_stream(tokens=3_000, every={min(0.02, every / 5):g})",
        made,
        *lines,
        *["show.end()"] * ended,
    ]
    on_loop = consumer.is_async or awaited
    if on_loop:
        waits = ["await asyncio.sleep(1)  # would anything still come?"] * consumer.fed
        body = [*within("async def main():", [*body, *waits, check]), "", "asyncio.run(main())"]
    else:
        body.append(check)
    doubts = [*consumer.doubts, *kept.doubts]
    fixtures = ["virtual_clock", "token_stream", counter]
    return Candidate(
        check="cadence",
        name=consumer.name,
        line=consumer.line,
        score=consumer.score + 1,
        why=f"calls {kept.callback.parameter} now and then",
        test=test_of(name, "is_throttled", fixtures, body, doubts=doubts),
        doubts=doubts,
        uses=consumer.uses,
        imports=["import asyncio"] * on_loop,
        budgets=budgets,
    )


def smooth_test(consumer: Consumer) -> Candidate:
    """Have an async generator run beside a watch."""
    doubts = [*consumer.doubts]
    if any(_waits_elsewhere(each) for each in own(consumer.members[0].node)):
        doubts.append("it may wait for what is elsewhere, or never end: put something in its place")
    watched = within("with stall_watch() as watch:", consumer.lines({}))
    main = ["stream = token_stream(tokens=500)", *watched, "return watch"]
    checked = "asyncio.run(main()).assert_smooth(max_stall=0.05)"
    body = [*within("async def main():", main), "", checked]
    fixtures = ["stall_watch", "token_stream"]
    return Candidate(
        check="pulse",
        name=consumer.name,
        line=consumer.line,
        score=consumer.score,
        why="an async generator: what blocks in it holds up all else on its event loop",
        test=test_of(consumer.name, "leaves_the_loop_free", fixtures, body, doubts=doubts),
        doubts=doubts,
        uses=consumer.uses,
        imports=["import asyncio"],
        budgets={"max_stall": '"50ms"'},
    )


def _waits_elsewhere(node: ast.AST) -> bool:
    waits = isinstance(node, ast.Await) and not ast.unparse(node.value).startswith("asyncio.")
    return waits or isinstance(node, ast.While | ast.AsyncWith)


# -- throttles


def _throttle(
    source: Source, members: Sequence[Member], callbacks: Sequence[Callback]
) -> _Throttle | None:
    """Find the throttle in these functions; None where no time is asked for near a callback."""
    if not callbacks:
        return None
    nodes = [node for member in members for node in own(member.node)]
    timers = [each for each in calls(nodes) if last_name(each.func) in _TIMERS and each.args]
    waits = [each for each in nodes if isinstance(each, ast.Compare) and _timed(each, nodes)]
    if not timers and not waits:
        return None
    settings = dict(_settings(source, members, nodes))
    asked = [*(each.args[0] for each in timers), *(each.left for each in waits)]
    asked += [term for each in waits for term in each.comparators]
    found = {number for each in asked for number in _numbers(each, settings)}
    intervals = [each for each in found if 0 < each <= _LONGEST]
    sink = callbacks[0]
    place = _sent(sink, members, nodes)
    doubts = []
    if len(intervals) != 1:
        doubts.append("how often it may update cannot be told: say so in every=, in seconds")
    if not place or len(callbacks) > 1:
        doubts.append(f"value= is what an update carries: say what {sink.place} gets")
    return _Throttle(
        callback=sink,
        every=intervals[0] if len(intervals) == 1 else 0.0,
        timed=bool(timers),
        batches=bool(place) and _begins_again(place, members),
        doubts=doubts,
    )


# -- when


def _timed(compare: ast.Compare, nodes: Sequence[ast.AST]) -> bool:
    """Whether it compares what a clock says, or what was made of that."""
    names = {each.id for each in ast.walk(compare) if isinstance(each, ast.Name)}
    made = [value for target, value in assigned(nodes) if ast.unparse(target) in names]
    return any(
        last_name(each.func) in _CLOCKS and not each.args
        for node in [compare, *made]
        for each in calls(ast.walk(node))
    )


def _settings(
    source: Source, members: Sequence[Member], nodes: Sequence[ast.AST]
) -> Iterator[tuple[str, ast.expr]]:
    """Names that stand for one value: of the module, of defaults, of instances."""
    for target, value in assigned(source.tree.body):
        yield ast.unparse(target), value
    for owner in {id(each.owner): each.owner for each in members if each.owner}.values():
        for target, value in assigned(owner.body):
            yield f"self.{ast.unparse(target)}", value
    for each in (each for member in members for each in member.parameters):
        if each.default is not None:
            yield each.name, each.default
    for target, value in assigned(nodes):
        if isinstance(target, ast.Attribute) and isinstance(value, ast.Name | ast.Constant):
            yield ast.unparse(target), value


def _numbers(node: ast.expr, settings: Mapping[str, ast.expr]) -> Iterator[float]:
    """Numbers that are added or taken away in an expression; names are looked up."""
    left, seen = [node], set()
    while left:
        match left.pop():
            case ast.Constant(value=int() | float() as value):
                yield float(value)
            case ast.BinOp(op=ast.Add() | ast.Sub()) as both:
                left += [both.left, both.right]
            case ast.Name() | ast.Attribute() as each:
                name = ast.unparse(each)
                if name in settings and name not in seen:
                    seen.add(name)
                    left.append(settings[name])


# -- what


def _sent(sink: Callback, members: Sequence[Member], nodes: Sequence[ast.AST]) -> str:
    """Where the text that is sent was added up; empty if it is not that, or not always."""
    sent = {_grown(each.args[0], members, nodes) if each.args else "" for each in sink.calls}
    return sent.pop() if len(sent) == 1 else ""


def _grown(node: ast.expr, members: Sequence[Member], nodes: Sequence[ast.AST]) -> str:
    """Where the text of an expression is added up: at `parts` for "".join(parts)."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=""), attr="join"), args=[parts]):
            place = ast.unparse(parts)
            added = (each for each in calls(nodes) if ast.unparse(each.func) == f"{place}.append")
            return place if any(added) else ""
        case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name), args=[]):
            for member in members:
                match member.node:
                    case ast.FunctionDef(name=str() as own_name, body=[ast.Return(value=value)]):
                        if own_name == name and value is not None:
                            return _grown(value, [], nodes)
    place = ast.unparse(node)
    made = [value for target, value in assigned(nodes) if ast.unparse(target) == place]
    if any(isinstance(each, ast.AugAssign) and ast.unparse(each.target) == place for each in nodes):
        is_text = any(isinstance(each, ast.Constant) and each.value == "" for each in made)
        return place if is_text else ""
    is_joined = len(made) == 1 and last_name(made[0]) == "join"
    return _grown(made[0], [], nodes) if is_joined else ""


def _begins_again(place: str, members: Sequence[Member]) -> bool:
    """Whether what is added up is taken away once it was sent."""
    for member in members:
        nodes = [*own(member.node)]
        begun = sum(ast.unparse(target) == place for target, _ in assigned(nodes))
        taken = {f"{place}.clear()", f"{place}.truncate(0)", f"del {place}[:]"}
        begins = not place.startswith("self.") or member.node.name == "__init__"
        if begun > begins or any(
            isinstance(each, ast.Expr | ast.Delete) and ast.unparse(each) in taken for each in nodes
        ):
            return True
    return False
