"""Who takes a stream: functions with a loop over it, and classes that take delta after delta."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf._cli.init.making import (
    Callback,
    arguments,
    callbacks,
    delta_doubts,
    ending,
    making,
    needs_loop,
    unknown,
)
from pytest_streamperf._cli.init.proposal import Candidate, spoken, within
from pytest_streamperf._cli.init.source import Member, Parameter, Source, last_name, own
from pytest_streamperf._cli.init.throttles import Throttle, throttle

ENOUGH = 3
"""From so many signs on, somebody who did not ask for it by name is told."""

_STREAM_NAMES = {"stream", "deltas", "tokens", "chunks", "events", "response", "completion"}
_STREAM_NAMES |= {"pieces", "fragments", "words", "upstream"}
_STREAM_TYPES = {"AsyncIterator", "AsyncIterable", "AsyncGenerator", "Stream", "AsyncStream"}
_DELTA_NAMES = {"delta", "token", "chunk", "piece", "text", "fragment", "word", "part", "event"}
_FEEDS = {"feed", "push", "on_delta", "on_token", "on_chunk", "on_event", "feed_data", "add_delta"}
_FEEDS |= {"add_token", "add_chunk", "on_text", "on_llm_new_token", "handle_delta", "process_delta"}
_WHOLE = {"str", "bytes", "bytearray", "dict", "Mapping", "set", "int"}
_NOT_MADE = {"Protocol", "TypedDict", "Enum", "StrEnum", "IntEnum", "Exception", "TestCase"}

# How something is added to what is kept at a place: what comes behind that is added.
_ADDS = r"(?<![\w.])({0}[\w.]*\w(?:\[.+?\])?)"
_ADDS += r"(?: (?:[-+*/|&]|//)= | = (?=.*\1)(?=.* \+ |f['\"])|\.(?:append|write)\()"


class _Consumer(NamedTuple):
    """Code that takes a stream, and the lines of a test that have it take `stream`.

    `about` is what all its tests have in common; `lines` is told what to give for some parameters;
    `members` is where a throttle may be. It is `fed` one by one, or goes through the stream itself.
    """

    about: Candidate
    lines: Callable[[Mapping[str, str]], Sequence[str]]
    is_async: bool
    callbacks: Sequence[Callback]
    members: Sequence[Member]
    ends: bool
    fed: bool
    direct: str = ""


def streamed(source: Source) -> Iterator[Candidate]:
    """Find what consumes a stream: its work is linear, and it calls back now and then.

    >>> from pytest_streamperf._cli.init.source import read
    >>> source = read("a.py", b"def collect(stream): return ''.join(d for d in stream)")
    >>> [(each.check, each.name, each.doubts) for each in streamed(source)]
    [('growth', 'collect', [])]
    """
    made = [each for each in source.classes.values() if _is_made(source, each)]
    consumers = [_fed(source, owner) for owner in made]
    consumers += [_loop(source, each) for each in source.members if each.owner in {None, *made}]
    for each in consumers:
        if each is not None:
            kept = throttle(source.tree, each.members, each.callbacks)
            if kept is None or not kept.batches:  # those are emptied by time: none passes there
                yield _growth(each)
            if kept is not None:
                yield _throttling(each, kept)
            if not each.fed and each.is_async and each.members[0].yields:
                yield _responsiveness(each)


def _is_made(source: Source, owner: ast.ClassDef) -> bool:
    """Whether there are instances of a class: not of what only says what others look like."""
    bases = {last_name(base) for each in source.line_of(owner) for base in each.bases}
    methods = source.methods(owner).values()
    return not bases & _NOT_MADE and not any("abstractmethod" in m.decorators for m in methods)


# -- what takes delta after delta


def _fed(source: Source, owner: ast.ClassDef) -> _Consumer | None:
    """The likeliest method of a class."""
    methods = source.methods(owner)
    adds = any(_adds_up(each.node) for each in methods.values())
    feeds = [each for each in (_feed(m, adds=adds) for m in methods.values()) if each]
    if not feeds:
        return None
    score, member, takes = max(feeds, key=lambda each: each[0])
    name, scope = member.node.name, [owner, *(each.node for each in methods.values())]
    made, (end, result) = making(source, owner), ending(methods)
    fed = f"subject{f'.{name}' * (name != '__call__')}"
    feed = f"{fed}({arguments(member.parameters, {takes.name: 'delta'})})"
    on_loop = needs_loop(*scope) or any(each.is_async for each in (member, end, result) if each)

    def called(method: Member, call: str) -> str:
        return f"{'await ' * method.is_async}{call}"

    def lines(given: Mapping[str, str]) -> list[str]:
        body = [f"subject = {spoken(owner.name)}({made.arguments(given)})"]
        body += within(f"{'async ' * on_loop}for delta in stream:", [called(member, feed)])
        body += [called(end, f"subject.{end.node.name}()")] if end else []
        if result and not given:
            shown = f"subject.{result.node.name}{'()' * (not result.decorators)}"
            body += [f"return {called(result, shown)}"]
        return body

    doubts = [*member.doubts, *made.doubts, *unknown(member.parameters, [takes.name])]
    doubts += delta_doubts(takes.name, takes.annotation, scope, member.name)
    why = f"adds what {name}({takes.name}) takes to what it has"
    about = _about(f"{owner.name}.{name}", member, score, why, doubts)
    every = [*methods.values()]
    return _Consumer(about, lines, on_loop, made.callbacks, every, ends=end is not None, fed=True)


def _feed(member: Member, *, adds: bool) -> tuple[int, Member, Parameter] | None:
    """What a method takes one by one, and how many signs of it there are.

    `adds` says that something in its class adds to what is kept.
    """
    name, placed = member.node.name, [each for each in member.parameters if not each.by_name]
    if not placed or (name.startswith("_") and name != "__call__"):
        return None
    takes = next((each for each in placed if each.name in _DELTA_NAMES), placed[0])
    named, alone = name in _FEEDS, not unknown(member.parameters, [takes.name])
    if (named and adds) or (alone and _adds_up(member.node, takes.name, "self.")):
        signs = 3 * named + 2 * (takes.name in _DELTA_NAMES) + (takes.annotation == "str")
        return signs, member, takes
    return None


# -- what goes through a stream


def _loop(source: Source, member: Member) -> _Consumer | None:
    """A function that goes through one of its parameters."""
    by_name = {each.name: each for each in member.parameters}
    if member.node.name.startswith("__") and member.node.name != "__call__":
        return None
    for node in own(member.node):
        match node:
            case ast.For(iter=ast.Name(id=name)) | ast.AsyncFor(iter=ast.Name(id=name)):
                is_async = isinstance(node, ast.AsyncFor)
            case ast.comprehension(iter=ast.Name(id=name)):
                is_async = bool(node.is_async)
            case _:
                continue
        if name in by_name and by_name[name].annotation.partition("[")[0] not in _WHOLE:
            variable = ast.unparse(node.target)
            return _through(source, member, by_name[name], variable, 2 * is_async)
    return None


def _through(
    source: Source, member: Member, stream: Parameter, variable: str, signs: int
) -> _Consumer:
    outside, _, inside = stream.annotation.partition("[")
    signs += 2 * (stream.name in _STREAM_NAMES or stream.name.endswith("_stream"))
    signs += (outside in _STREAM_TYPES) + (variable in _DELTA_NAMES)
    signs += _adds_up(member.node, variable)
    takes = member.parameters
    called = [*callbacks({each.name: each.name for each in takes}, [*own(member.node)])]
    values = {each.parameter: each.ignored for each in called} | {stream.name: "stream"}
    made = making(source, member.owner) if member.owner else None
    doubts = [*member.doubts, *(made.doubts if made else []), *unknown(takes, values)]
    uses = [each for each in ast.walk(member.node) if isinstance(each, ast.Name)]
    if sum(each.id == stream.name for each in uses) > 1 or outside in {"list", "tuple", "Sequence"}:
        doubts.append(f"{stream.name} may be more than a stream: give what stands for it")
    element = inside.removesuffix("]").split(",")[0]

    def lines(given: Mapping[str, str]) -> list[str]:
        call, make = spoken(member.name), []
        if made and member.owner:
            make = [f"subject = {spoken(member.owner.name)}({made.arguments({})})"]
            call = f"subject.{member.node.name}"
        call = f"{call}({arguments(takes, values | {**given})})"
        if member.yields:
            return [*make, *within(f"{'async ' * member.is_async}for _ in {call}:", ["pass"])]
        return [*make, f"return {'await ' * member.is_async}{call}"]

    doubts += delta_doubts(variable, element, [member.node], member.name)
    why = f"goes through {stream.name}, {variable} by {variable}"
    return _Consumer(
        about=_about(member.name, member, signs, why, doubts),
        lines=lines,
        is_async=member.is_async,
        callbacks=called,
        members=[member],
        ends=True,
        fed=False,
        direct=spoken(member.name) * (not made and arguments(takes, values) == "stream"),
    )


def _about(name: str, member: Member, score: int, why: str, doubts: Sequence[str]) -> Candidate:
    uses = name.split(".", maxsplit=1)[0]
    return Candidate("growth", name, member.node.lineno, score, why, [], doubts, uses=uses)


def _adds_up(scope: ast.AST, variable: str = "", place: str = "") -> bool:
    """Whether a variable, or any, is added to what is kept at a place that begins so."""
    adds = re.compile(_ADDS.format(re.escape(place)))
    takes = re.compile(rf"(?<!\w){re.escape(variable)}(?!\w)" if variable else "")
    lines = ast.unparse(scope).splitlines()
    return any(takes.search(line, made.end()) for line in lines if (made := adds.search(line)))


# -- their tests


def _growth(consumer: _Consumer) -> Candidate:
    """Hold its work to be linear."""
    head = f"{'async ' * consumer.is_async}def consume(stream):"
    head += "  # called many times: it builds its state inside"
    body = [*within(head, consumer.lines({})), "", "assert_linear(consume)"]
    if consumer.direct and not consumer.about.doubts:
        body = [f"assert_linear({consumer.direct})"]
    budgets = {"max_superlinear": '"25%"', "up_to": "20_000"}
    return consumer.about._replace(body=body, fixtures=["assert_linear"], budgets=budgets)


def _throttling(consumer: _Consumer, kept: Throttle) -> Candidate:
    """Hold the throttle that it has to what that promises."""
    callback, every, about = kept.callback, kept.every or 0.1, consumer.about
    if kept.batches:
        per_second = int(1 / every) + 1  # both ends of a second are in it
        counter, budgets = "flush_counter", {"flushes_per_second": f'"{per_second}/s"'}
        made = "flushes = flush_counter(of=stream)"
        sink = f"flushes.call({callback.ignored})"
        checks = [f"flushes.assert_coalesced(per_second={per_second})"]
    else:
        counter, budgets = "update_counter", {"updates_every": f'"{every * 1000:g}ms"'}
        made = "show = update_counter(of=stream, value=lambda call: call.args[0])"
        sink = "show.aio" if callback.awaited else "show"
        trailing = "" if kept.timed else f', trailing="{"end" if consumer.ends else "next"}"'
        checks = ["show.end()"] * (consumer.fed and consumer.ends and kept.timed)
        checks += [f"show.assert_throttled(every={every:g}{trailing})"]
    lines = [each.removeprefix("return ") for each in consumer.lines({callback.parameter: sink})]
    stream = f"stream = token_stream(tokens=3_000, every={min(0.02, every / 5):g})"
    body = [stream, made, *lines, *checks]
    if consumer.is_async or callback.awaited:
        waits = ["await asyncio.sleep(1)  # would anything still come?"] * consumer.fed
        main = within("async def main():", [*body[:-1], *waits, body[-1]])
        body = [*main, "", "asyncio.run(main())"]
    return about._replace(
        check="throttling",
        score=about.score + 1,
        why=f"calls {callback.parameter} now and then",
        body=body,
        doubts=[*about.doubts, *kept.doubts],
        fixtures=["virtual_clock", "token_stream", counter],
        budgets=budgets,
    )


def _responsiveness(consumer: _Consumer) -> Candidate:
    """Have an async generator run beside a watch."""
    doubts = [*consumer.about.doubts]
    if any(_waits_elsewhere(each) for each in own(consumer.members[0].node)):
        doubts.append("it may wait for what is elsewhere, or never end: put something in its place")
    watched = within("with stall_watch() as watch:", consumer.lines({}))
    main = ["stream = token_stream(tokens=500)", *watched, "return watch"]
    checked = "asyncio.run(main()).assert_smooth(max_stall=0.05)"
    return consumer.about._replace(
        check="responsiveness",
        why="an async generator: what blocks in it holds up all else on its event loop",
        body=[*within("async def main():", main), "", checked],
        doubts=doubts,
        fixtures=["stall_watch", "token_stream"],
        budgets={"max_stall": '"50ms"'},
    )


def _waits_elsewhere(node: ast.AST) -> bool:
    waits = isinstance(node, ast.Await) and not ast.unparse(node.value).startswith("asyncio.")
    return waits or isinstance(node, ast.While | ast.AsyncWith)
