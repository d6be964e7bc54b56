"""Find consumers: functions that loop over a stream, and classes that take one delta at a time.

A parsed module goes in; candidates for growth, throttling and responsiveness checks come out. The
score of a candidate counts signs such as names and annotations. A user who names a function gets
its candidates whatever their score is.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.construction import (
    Callback,
    arguments,
    callbacks,
    construction_of,
    delta_doubts,
    ending,
    missing_arguments,
    needs_loop,
)
from pytest_streamperf._cli.init.proposal import Candidate, imported_name, indented_block
from pytest_streamperf._cli.init.source import Member, Parameter, Source, last_name, own_nodes
from pytest_streamperf._cli.init.throttles import FoundThrottle, throttle

MINIMUM_SCORE = 3
"""A candidate below this score is left out, unless the user names it. Not measured."""

_STREAM_NAMES = {"stream", "deltas", "tokens", "chunks", "events", "response", "completion"}
_STREAM_NAMES |= {"pieces", "fragments", "words", "upstream"}
_STREAM_TYPES = {"AsyncIterator", "AsyncIterable", "AsyncGenerator", "Stream", "AsyncStream"}
_DELTA_NAMES = {"delta", "token", "chunk", "piece", "text", "fragment", "word", "part", "event"}
_FEED_METHODS = {
    "feed",
    "push",
    "on_delta",
    "on_token",
    "on_chunk",
    "on_event",
    "feed_data",
    "add_delta",
}
_FEED_METHODS |= {
    "add_token",
    "add_chunk",
    "on_text",
    "on_llm_new_token",
    "handle_delta",
    "process_delta",
}
_WHOLE_TYPES = {"str", "bytes", "bytearray", "dict", "Mapping", "set", "int"}
_ABSTRACT_BASES = {"Protocol", "TypedDict", "Enum", "StrEnum", "IntEnum", "Exception", "TestCase"}

# Code that adds to an accumulator; the added expression follows the match.
_ACCUMULATES = r"(?<![\w.])({0}[\w.]*\w(?:\[.+?\])?)"
_ACCUMULATES += r"(?: (?:[-+*/|&]|//)= | = (?=.*\1)(?=.* \+ |f['\"])|\.(?:append|write)\()"


class _Consumer(NamedTuple):
    """Code that takes a stream, and the lines of a test that pass `stream` to it.

    `about` has the fields that all its tests share. `lines` maps arguments by name to the lines of
    the test. `members` are the functions that may contain a throttle. `fed` says that a loop of the
    test passes one delta at a time. `ends` says that the consumer notices the end of the stream.
    `direct` is the name of a function that `assert_linear` can call without a wrapper.
    """

    about: Candidate
    lines: Callable[[Mapping[str, str]], Sequence[str]]
    is_async: bool
    callbacks: Sequence[Callback]
    members: Sequence[Member]
    ends: bool
    fed: bool
    direct: str = ""


def find_consumers(source: Source) -> Iterator[Candidate]:
    """Yield the checks for each consumer in a module.

    >>> from pytest_streamperf._cli.init.source import read
    >>> source = read("a.py", b"def collect(stream): return ''.join(d for d in stream)")
    >>> [(check.check, check.name, check.doubts) for check in find_consumers(source)]
    [('growth', 'collect', [])]
    """
    owners = [cls for cls in source.classes.values() if _is_concrete(source, cls)]
    consumers = [_fed_consumer(source, owner) for owner in owners]
    consumers += [_loop_consumer(source, m) for m in source.members if m.owner in {None, *owners}]
    for consumer in consumers:
        if consumer is not None:
            limiter = throttle(source.tree, consumer.members, consumer.callbacks)
            # A batch empties as time passes, and a growth check runs faster than that.
            if limiter is None or not limiter.batches:
                yield _growth_check(consumer)
            if limiter is not None:
                yield _throttling_check(consumer, limiter)
            if not consumer.fed and consumer.is_async and consumer.members[0].yields:
                yield _responsiveness_check(consumer)


def _is_concrete(source: Source, owner: ast.ClassDef) -> bool:
    """Return whether a class can be instantiated: no protocol, enum or abstract class."""
    bases = {last_name(base) for cls in source.with_bases(owner) for base in cls.bases}
    methods = source.methods(owner).values()
    return not bases & _ABSTRACT_BASES and not any(
        "abstractmethod" in m.decorators for m in methods
    )


# -- classes that take one delta at a time


def _fed_consumer(source: Source, owner: ast.ClassDef) -> _Consumer | None:
    """Return the method of a class that most likely takes deltas, as a consumer."""
    methods = source.methods(owner)
    adds = any(_accumulates(method.node) for method in methods.values())
    feeds = [feed for feed in (_feed_score(m, adds=adds) for m in methods.values()) if feed]
    if not feeds:
        return None
    score, member, takes = max(feeds, key=lambda feed: feed[0])
    name, scope = member.node.name, [owner, *(method.node for method in methods.values())]
    construction, (end, result) = construction_of(source, owner), ending(methods)
    fed = f"subject{f'.{name}' * (name != '__call__')}"
    feed = f"{fed}({arguments(member.parameters, {takes.name: 'delta'})})"
    on_loop = needs_loop(*scope) or any(
        method.is_async for method in (member, end, result) if method
    )

    def called(method: Member, call: str) -> str:
        return f"{'await ' * method.is_async}{call}"

    def lines(given: Mapping[str, str]) -> list[str]:
        body = [f"subject = {imported_name(owner.name)}({construction.arguments(given)})"]
        body += indented_block(f"{'async ' * on_loop}for delta in stream:", [called(member, feed)])
        body += [called(end, f"subject.{end.node.name}()")] if end else []
        if result and not given:
            shown = f"subject.{result.node.name}{'()' * (not result.decorators)}"
            body += [f"return {called(result, shown)}"]
        return body

    doubts = [
        *member.doubts,
        *construction.doubts,
        *missing_arguments(member.parameters, [takes.name]),
    ]
    doubts += delta_doubts(takes.name, takes.annotation, scope, member.name)
    why = f"{name}({takes.name}) adds each delta to the state of the object"
    about = _candidate(f"{owner.name}.{name}", member, score, why, doubts)
    every = [*methods.values()]
    return _Consumer(
        about, lines, on_loop, construction.callbacks, every, ends=end is not None, fed=True
    )


def _feed_score(member: Member, *, adds: bool) -> tuple[int, Member, Parameter] | None:
    """Return the score of a method, the method and its parameter for the delta, or None.

    `adds` says that a method of its class adds to an accumulator.
    """
    name, positional = member.node.name, [p for p in member.parameters if not p.by_name]
    if not positional or (name.startswith("_") and name != "__call__"):
        return None
    takes = next((p for p in positional if p.name in _DELTA_NAMES), positional[0])
    named, alone = name in _FEED_METHODS, not missing_arguments(member.parameters, [takes.name])
    if (named and adds) or (alone and _accumulates(member.node, takes.name, "self.")):
        signs = 3 * named + 2 * (takes.name in _DELTA_NAMES) + (takes.annotation == "str")
        return signs, member, takes
    return None


# -- functions that loop over a stream


def _loop_consumer(source: Source, member: Member) -> _Consumer | None:
    """Return a function that loops over one of its parameters as a consumer, or None."""
    by_name = {parameter.name: parameter for parameter in member.parameters}
    if member.node.name.startswith("__") and member.node.name != "__call__":
        return None
    for node in own_nodes(member.node):
        match node:
            case ast.For(iter=ast.Name(id=name)) | ast.AsyncFor(iter=ast.Name(id=name)):
                is_async = isinstance(node, ast.AsyncFor)
            case ast.comprehension(iter=ast.Name(id=name)):
                is_async = bool(node.is_async)
            case _:
                continue
        if name in by_name and by_name[name].annotation.partition("[")[0] not in _WHOLE_TYPES:
            variable = ast.unparse(node.target)
            return _consumer_of(source, member, by_name[name], variable, 2 * is_async)
    return None


def _consumer_of(
    source: Source, member: Member, stream: Parameter, variable: str, signs: int
) -> _Consumer:
    outside, _, inside = stream.annotation.partition("[")
    signs += 2 * (stream.name in _STREAM_NAMES or stream.name.endswith("_stream"))
    signs += (outside in _STREAM_TYPES) + (variable in _DELTA_NAMES)
    signs += _accumulates(member.node, variable)
    takes = member.parameters
    called = [*callbacks({p.name: p.name for p in takes}, [*own_nodes(member.node)])]
    values = {callback.parameter: callback.ignored for callback in called} | {stream.name: "stream"}
    construction = construction_of(source, member.owner) if member.owner else None
    doubts = [
        *member.doubts,
        *(construction.doubts if construction else []),
        *missing_arguments(takes, values),
    ]
    uses = [node for node in ast.walk(member.node) if isinstance(node, ast.Name)]
    if sum(node.id == stream.name for node in uses) > 1 or outside in {"list", "tuple", "Sequence"}:
        doubts.append(f"{stream.name} may be more than a stream: pass a suitable object")
    element = inside.removesuffix("]").split(",")[0]

    def lines(given: Mapping[str, str]) -> list[str]:
        call, make = imported_name(member.name), []
        if construction and member.owner:
            make = [f"subject = {imported_name(member.owner.name)}({construction.arguments({})})"]
            call = f"subject.{member.node.name}"
        call = f"{call}({arguments(takes, values | {**given})})"
        if member.yields:
            return [
                *make,
                *indented_block(f"{'async ' * member.is_async}for _ in {call}:", ["pass"]),
            ]
        return [*make, f"return {'await ' * member.is_async}{call}"]

    doubts += delta_doubts(variable, element, [member.node], member.name)
    why = f"loops over {stream.name}, one {variable} at a time"
    return _Consumer(
        about=_candidate(member.name, member, signs, why, doubts),
        lines=lines,
        is_async=member.is_async,
        callbacks=called,
        members=[member],
        ends=True,
        fed=False,
        direct=imported_name(member.name)
        * (not construction and arguments(takes, values) == "stream"),
    )


def _candidate(name: str, member: Member, score: int, why: str, doubts: Sequence[str]) -> Candidate:
    uses = name.split(".", maxsplit=1)[0]
    return Candidate("growth", name, member.node.lineno, score, why, [], doubts, uses=uses)


def _accumulates(scope: ast.AST, variable: str = "", place: str = "") -> bool:
    """Return whether the code adds `variable` to an accumulator whose name starts with `place`.

    An empty variable or place matches any.
    """
    adds = re.compile(_ACCUMULATES.format(re.escape(place)))
    takes = re.compile(rf"(?<!\w){re.escape(variable)}(?!\w)" if variable else "")
    lines = ast.unparse(scope).splitlines()
    return any(takes.search(line, match.end()) for line in lines if (match := adds.search(line)))


# -- their tests


def _growth_check(consumer: _Consumer) -> Candidate:
    """Return a check that the work of the consumer grows linearly."""
    head = f"{'async ' * consumer.is_async}def consume(stream):"
    head += "  # called many times: it builds its state inside"
    body = [*indented_block(head, consumer.lines({})), "", "assert_linear(consume)"]
    if consumer.direct and not consumer.about.doubts:
        body = [f"assert_linear({consumer.direct})"]
    budgets = {"max_superlinear": '"25%"', "up_to": "20_000"}
    return consumer.about._replace(body=body, fixtures=["assert_linear"], budgets=budgets)


def _throttling_check(consumer: _Consumer, limiter: FoundThrottle) -> Candidate:
    """Return a check that the throttle of the consumer keeps its interval."""
    callback, about = limiter.callback, consumer.about
    # An unknown interval has a doubt, so 0.1 s is only a placeholder in the printed test.
    every = limiter.every or 0.1
    if limiter.batches:
        per_second = int(1 / every) + 1  # a second includes both of its ends
        counter, budgets = "flush_counter", {"flushes_per_second": f'"{per_second}/s"'}
        made = "flushes = flush_counter(of=stream)"
        sink = f"flushes.call({callback.ignored})"
        checks = [f"flushes.assert_coalesced(per_second={per_second})"]
    else:
        counter, budgets = "update_counter", {"updates_every": f'"{every * 1000:g}ms"'}
        made = "show = update_counter(of=stream, value=lambda call: call.args[0])"
        sink = "show.aio" if callback.awaited else "show"
        trailing = "" if limiter.timed else f', trailing="{"end" if consumer.ends else "next"}"'
        checks = ["show.end()"] * (consumer.fed and consumer.ends and limiter.timed)
        checks += [f"show.assert_throttled(every={every:g}{trailing})"]
    lines = [line.removeprefix("return ") for line in consumer.lines({callback.parameter: sink})]
    stream = f"stream = token_stream(tokens=3_000, every={min(0.02, every / 5):g})"
    body = [stream, made, *lines, *checks]
    if consumer.is_async or callback.awaited:
        waits = ["await asyncio.sleep(1)  # a late update would arrive now"] * consumer.fed
        main = indented_block("async def main():", [*body[:-1], *waits, body[-1]])
        body = [*main, "", "asyncio.run(main())"]
    return about._replace(
        check="throttling",
        score=about.score + 1,
        why=f"throttles the calls of {callback.parameter}",
        body=body,
        doubts=[*about.doubts, *limiter.doubts],
        fixtures=["virtual_clock", "token_stream", counter],
        budgets=budgets,
    )


def _responsiveness_check(consumer: _Consumer) -> Candidate:
    """Return a check that an async generator does not block its event loop."""
    doubts = [*consumer.about.doubts]
    if any(_waits_outside_test(node) for node in own_nodes(consumer.members[0].node)):
        doubts.append("it may wait for something outside the test, or never end: pass a stub")
    watched = indented_block("with stall_watch() as watch:", consumer.lines({}))
    main = ["stream = token_stream(tokens=500)", *watched, "return watch"]
    checked = "asyncio.run(main()).assert_smooth(max_stall=0.05)"
    return consumer.about._replace(
        check="responsiveness",
        why="an async generator: a blocking call in it stalls its event loop",
        body=[*indented_block("async def main():", main), "", checked],
        doubts=doubts,
        fixtures=["stall_watch", "token_stream"],
        budgets={"max_stall": '"50ms"'},
    )


def _waits_outside_test(node: ast.AST) -> bool:
    waits = isinstance(node, ast.Await) and not ast.unparse(node.value).startswith("asyncio.")
    return waits or isinstance(node, ast.While | ast.AsyncWith)
