"""Who takes a stream: functions with a loop over it, and classes that take delta after delta."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.deltas import delta_doubts
from pytest_streamperf.onboarding.making import callback, called_with, ending, ignores, making
from pytest_streamperf.onboarding.proposal import Candidate, spoken, within
from pytest_streamperf.onboarding.source import Member, Parameter, Source, calls, last_name, own
from pytest_streamperf.onboarding.streamed import Consumer, smooth_test, tests_of

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
_LOOPS = {"call_later", "create_task", "get_running_loop", "get_event_loop", "ensure_future"}


def streamed(source: Source) -> Iterator[Candidate]:
    """Find what consumes a stream: its work is linear, and it calls back now and then.

    >>> from pytest_streamperf.onboarding.source import read
    >>> source = read("a.py", b"def collect(stream): return ''.join(d for d in stream)")
    >>> [(each.check, each.name, each.doubts) for each in streamed(source)]
    [('growth', 'collect', [])]
    """
    made = [each for each in source.classes.values() if _is_made(source, each)]
    for owner in made:
        yield from _of_class(source, owner)
    for member in source.members:
        private = member.node.name.startswith("__") and member.node.name != "__call__"
        looped = None if private else _loop(source, member)
        if looped is not None and (member.owner is None or member.owner in made):
            yield from tests_of(source, looped)
            if member.is_async and member.yields:
                yield smooth_test(looped)


def _is_made(source: Source, owner: ast.ClassDef) -> bool:
    """Whether there are instances of a class: not of what only says what others look like."""
    bases = {last_name(base) for each in source.line_of(owner) for base in each.bases}
    methods = source.methods(owner).values()
    return not bases & _NOT_MADE and not any("abstractmethod" in m.decorators for m in methods)


# -- what takes delta after delta


class _Feed(NamedTuple):
    """A method that takes one delta, and adds it to what its object has."""

    member: Member
    takes: Parameter
    others: Sequence[Parameter]

    @property
    def score(self) -> int:
        """How many signs there are of it."""
        named = 3 * (self.member.node.name in _FEEDS) + 2 * (self.takes.name in _DELTA_NAMES)
        return named + (self.takes.annotation == "str")


def _of_class(source: Source, owner: ast.ClassDef) -> Iterator[Candidate]:
    """The likeliest method of a class."""
    methods = source.methods(owner)
    adds = any(each in _FEEDS for each in methods) and any(
        _adds_up(each.node, "") for each in methods.values()
    )
    feeds = [each for each in (_feed(m, adds=adds) for m in methods.values()) if each]
    if feeds:
        best = max(feeds, key=lambda each: each.score)
        yield from tests_of(source, _fed(source, owner, best))


def _feed(member: Member, *, adds: bool) -> _Feed | None:
    """What a method takes one by one, if it does; `adds` says that something in its class adds."""
    name, placed = member.node.name, [each for each in member.parameters if not each.by_name]
    if not placed or (name.startswith("_") and name != "__call__"):
        return None
    takes = next((each for each in placed if each.name in _DELTA_NAMES), placed[0])
    others = [each for each in member.required if each != takes]
    if name in _FEEDS and adds:
        return _Feed(member, takes, others)
    return (
        None
        if others or not _adds_up(member.node, takes.name, "self.")
        else _Feed(member, takes, [])
    )


def _fed(source: Source, owner: ast.ClassDef, feed_by: _Feed) -> Consumer:
    member, takes, others = feed_by
    name, methods = member.node.name, source.methods(owner)
    scope = [owner, *(each.node for each in methods.values())]
    made, over = making(source, owner), ending(source, owner)
    fed = "subject" if name == "__call__" else f"subject.{name}"
    given = [each for each in member.parameters if each in others or each == takes]
    feed = f"{'await ' * member.is_async}{fed}({called_with(given, {takes.name: 'delta'})})"
    on_loop = member.is_async or over.awaits or any(map(_needs_loop, scope))
    loop = "async for" if on_loop else "for"

    def lines(given: Mapping[str, str]) -> list[str]:
        make = f"subject = {spoken(owner.name)}({made.arguments(given)})"
        result = [] if given else over.result
        return [make, *within(f"{loop} delta in stream:", [feed]), *over.calls, *result]

    return Consumer(
        name=f"{owner.name}.{name}",
        line=member.node.lineno,
        score=feed_by.score,
        why=f"adds what {name}({takes.name}) takes to what it has",
        uses=owner.name,
        lines=lines,
        is_async=on_loop,
        callbacks=made.callbacks,
        members=[*methods.values()],
        fed=True,
        ends=bool(over.calls),
        doubts=[
            *member.doubts,
            *made.doubts,
            *(f"{name} takes {each.name} besides: say what, for ..." for each in others),
            *delta_doubts(takes.name, takes.annotation, scope, member.name),
        ],
    )


# -- what goes through a stream


def _loop(source: Source, member: Member) -> Consumer | None:
    nodes = [*own(member.node)]
    by_name = {each.name: each for each in member.parameters}
    for node in nodes:
        match node:
            case ast.For(iter=ast.Name(id=name)) | ast.AsyncFor(iter=ast.Name(id=name)):
                pass
            case ast.comprehension(iter=ast.Name(id=name)):
                pass
            case _:
                continue
        if name in by_name and by_name[name].annotation.partition("[")[0] not in _WHOLE:
            return _through(source, member, node, by_name[name])
    return None


def _through(
    source: Source,
    member: Member,
    loop: ast.For | ast.AsyncFor | ast.comprehension,
    stream: Parameter,
) -> Consumer:
    variable = ast.unparse(loop.target)
    outside, _, inside = stream.annotation.partition("[")
    is_async = isinstance(loop, ast.AsyncFor) or bool(getattr(loop, "is_async", False))
    signs = 2 * is_async + 2 * (stream.name in _STREAM_NAMES or stream.name.endswith("_stream"))
    signs += (outside in _STREAM_TYPES) + (variable in _DELTA_NAMES)
    signs += _adds_up(member.node, variable)
    nodes = [*own(member.node)]
    found = (callback(each.name, each.name, nodes) for each in member.parameters)
    callbacks = [each for each in found if each is not None]
    ignored = {each.parameter: ignores(each) for each in callbacks}
    required = [each for each in member.required if each.name not in {stream.name, *ignored}]
    made = making(source, member.owner) if member.owner else None
    doubts = [*member.doubts, *(made.doubts if made else [])]
    doubts += [f"{each.name} has no default: put it in for ..." for each in required]
    uses = [each for each in ast.walk(member.node) if isinstance(each, ast.Name)]
    if sum(each.id == stream.name for each in uses) > 1 or outside in {"list", "tuple", "Sequence"}:
        doubts.append(f"{stream.name} may be more than a stream: give what stands for it")
    takes_it = member.parameters[0] == stream and not stream.by_name
    plain = takes_it and not callbacks and not required
    element = inside.removesuffix("]").split(",")[0]

    def lines(given: Mapping[str, str]) -> list[str]:
        values = {stream.name: "stream", **ignored, **given}
        takes = [each for each in member.parameters if each.default is None or each.name in values]
        arguments = called_with(takes, values)
        if made is None or member.owner is None:
            return _called(member, f"{spoken(member.name)}({arguments})")
        make = f"subject = {spoken(member.owner.name)}({made.arguments({})})"
        return [make, *_called(member, f"subject.{member.node.name}({arguments})")]

    return Consumer(
        name=member.name,
        line=member.node.lineno,
        score=signs,
        why=f"goes through {stream.name}, {variable} by {variable}",
        uses=member.name.split(".")[0],
        lines=lines,
        is_async=member.is_async,
        callbacks=callbacks,
        members=[member],
        fed=False,
        ends=True,
        direct=spoken(member.name) if made is None and plain else "",
        doubts=[*doubts, *delta_doubts(variable, element, [member.node], member.name)],
    )


def _called(member: Member, call: str) -> list[str]:
    """Lines that call a function, and go through what it gives."""
    if member.yields:
        return within(f"{'async ' * member.is_async}for _ in {call}:", ["pass"])
    return [f"return {'await ' * member.is_async}{call}"]


def _needs_loop(scope: ast.AST) -> bool:
    return any(last_name(each.func) in _LOOPS for each in calls(own(scope)))


def _adds_up(scope: ast.AST, variable: str, place: str = "") -> bool:
    """Whether a variable, or any, is added to what is kept at a place that begins so."""
    for node in own(scope):
        match node:
            case ast.AugAssign(target=target, value=value):
                added = [value]
            case ast.Assign(targets=[target], value=ast.BinOp() | ast.JoinedStr() as value) if (
                ast.unparse(target) in ast.unparse(value)
            ):
                added = [value]
            case ast.Call(func=ast.Attribute(value=target, attr="append" | "write"), args=added):
                pass
            case _:
                continue
        names = {each.id for part in added for each in ast.walk(part) if isinstance(each, ast.Name)}
        if (not variable or variable in names) and ast.unparse(target).startswith(place):
            return True
    return False
