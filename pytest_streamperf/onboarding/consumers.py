"""Who consumes a stream: functions with a loop over it, and classes that take delta after delta."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.deltas import DELTA_NAMES, Delta, delta_of, element_of
from pytest_streamperf.onboarding.making import Callback, callback
from pytest_streamperf.onboarding.source import Member, Parameter, Source, last_name, own

_STREAM_NAMES = {"stream", "deltas", "tokens", "chunks", "events", "response", "completion"}
_STREAM_NAMES |= {"pieces", "fragments", "words", "upstream", "source"}
_STREAM_TYPES = {"AsyncIterator", "AsyncIterable", "AsyncGenerator", "Stream", "AsyncStream"}
# What a method that takes one delta is called: that alone, or beside what its parameter is called.
_FEEDS = {"feed", "push", "on_delta", "on_token", "on_chunk", "on_event", "feed_data", "add_delta"}
_FEEDS |= {"add_token", "add_chunk", "on_text", "on_llm_new_token", "handle_delta", "process_delta"}
_MAY_FEED = {"append", "add", "handle", "write", "process", "accept", "update", "consume", "send"}
_MAY_FEED |= {"__call__", "receive", "handle_chunk", "process_chunk", "handle_event", "emit", "put"}
# What is gone through as it is, and what is there as a whole.
_WHOLE = {"str", "bytes", "bytearray", "dict", "Mapping", "set", "int"}
_HELD = {"list", "List", "tuple", "Tuple", "Sequence", "Collection", "frozenset"}
_NOT_MADE = {"Protocol", "TypedDict", "Enum", "StrEnum", "IntEnum", "Exception", "TestCase"}

# From so much evidence on, somebody who did not ask for it by name is told.
ENOUGH = 40


class Consumer(NamedTuple):
    """A function with a loop over one of its parameters."""

    member: Member
    stream: Parameter
    delta: Delta
    variable: str
    loop: ast.AST
    callbacks: Sequence[Callback]
    doubts: Sequence[str]
    score: int

    @property
    def others(self) -> Sequence[Parameter]:
        """What it takes beside the stream, and has to be given."""
        return [each for each in self.member.parameters if each.required and each != self.stream]


class Feeder(NamedTuple):
    """A class with a method that takes one delta, and adds it to what it has."""

    owner: ast.ClassDef
    member: Member
    delta: Delta
    takes: Parameter
    others: Sequence[Parameter]
    doubts: Sequence[str]
    score: int


def consumers(source: Source) -> Iterator[Consumer]:
    """Find functions with a loop over a parameter: one of each."""
    for member in source.members:
        special = member.node.name.startswith("__") and member.node.name != "__call__"
        if member.called and not special and (not member.owner or _made(source, member.owner)):
            found = [*_loops(member)]
            if found:
                yield max(found, key=lambda each: each.score)


def feeders(source: Source) -> Iterator[Feeder]:
    """Find classes with a method that takes one delta: the likeliest method of each."""
    for owner in source.classes.values():
        if _made(source, owner):
            methods = source.methods(owner)
            taken = (_takes_one(owner, each, [*methods.values()]) for each in methods.values())
            found = [each for each in taken if each is not None]
            if found:
                yield max(found, key=lambda each: each.score)


def _made(source: Source, owner: ast.ClassDef) -> bool:
    """Whether there are instances of a class: not of what only says what others look like."""
    bases = {last_name(base) for each in source.line_of(owner) for base in each.bases}
    methods = source.methods(owner).values()
    abstract = any("abstractmethod" in each.decorators for each in methods)
    return not abstract and not bases & _NOT_MADE


def _loops(member: Member) -> Iterator[Consumer]:
    nodes = [*own(member.node)]
    parameters = {each.name: each for each in member.parameters}
    for node in nodes:
        match node:
            case ast.For() | ast.AsyncFor() | ast.comprehension():
                looped, target = node.iter, node.target
            case _:
                continue
        if isinstance(looped, ast.Call) and last_name(looped) == "enumerate" and looped.args:
            looped = looped.args[0]
            target = target.elts[-1] if isinstance(target, ast.Tuple) else target
        if not isinstance(looped, ast.Name) or looped.id not in parameters:
            continue
        stream, variable = parameters[looped.id], ast.unparse(target)
        if _WHOLE & {*re.findall(r"\w+", _outermost(stream.annotation))}:
            continue
        delta = delta_of(variable, element_of(stream.annotation), [member.node])
        if not isinstance(target, ast.Name):
            delta = Delta(doubt="it takes deltas apart: make them with delta=")
        doubts = [*_more_than_a_stream(stream, nodes), *_reads_a_format(member)]
        calls = [callback(each, each.name, nodes) for each in parameters.values()]
        yield Consumer(
            member=member,
            stream=stream,
            delta=delta,
            variable=variable,
            loop=node,
            callbacks=[each for each in calls if each is not None],
            doubts=doubts,
            score=_looks_streamed(member, stream, variable, node),
        )


def _more_than_a_stream(stream: Parameter, nodes: Sequence[ast.AST]) -> Iterator[str]:
    """What is done with a parameter that cannot be done with a stream."""
    kind = _outermost(stream.annotation)
    if {*re.findall(r"\w+", kind)} & _HELD:
        yield f"{stream.name} is a {kind}, which is there as a whole: give what stands for it"
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attribute) if name == stream.name:
                yield f"a stream here has no .{attribute}, as {name} has: give what stands for it"
            case ast.Subscript(value=ast.Name(id=name)) if name == stream.name:
                yield f"{name} is more than a stream, it has parts: give what stands for it"
            case ast.Call(func=ast.Name(id="len" | "isinstance" as what), args=[first, *_]):
                if ast.unparse(first) == stream.name:
                    yield f"{what}({stream.name}) asks for more than a stream: say what it gets"


def _outermost(annotation: str) -> str:
    """What a type is, without what is in it: "list" of "Optional[list[str]]"."""
    return re.sub(r"\b(Union|Optional)\[", "", annotation).partition("[")[0]


def _reads_a_format(member: Member) -> Iterator[str]:
    name = member.name.lower()
    if any(each in name for each in ("decode", "parse", "sse")):
        yield f"by its name {member.name} reads a format: make deltas in it with delta="


def _looks_streamed(member: Member, stream: Parameter, variable: str, loop: ast.AST) -> int:
    asynchronous = isinstance(loop, ast.AsyncFor) or getattr(loop, "is_async", False)
    named = stream.name in _STREAM_NAMES or stream.name.endswith("_stream")
    typed = any(each in stream.annotation for each in _STREAM_TYPES)
    return (
        30 * bool(asynchronous)
        + 30 * named
        + 20 * typed
        + 20 * (variable in DELTA_NAMES)
        + 10 * _adds_up(loop, variable)
        - 10 * member.node.name.startswith("_")
    )


def _takes_one(owner: ast.ClassDef, member: Member, methods: Sequence[Member]) -> Feeder | None:
    name, placed = member.node.name, [each for each in member.parameters if not each.by_name]
    private = name.startswith("_") and name != "__call__"
    if not placed or private or not member.on_self or not member.called:
        return None
    first = next((each for each in placed if each.name in DELTA_NAMES), placed[0])
    others = [each for each in member.parameters if each.required and each != first]
    adds_up = _adds_up(member.node, first.name, "self.")
    if not adds_up and (name not in _FEEDS or not any(_adds(each.node) for each in methods)):
        return None
    if others and name not in _FEEDS:
        return None
    delta = delta_of(first.name, first.annotation, [each.node for each in methods])
    score = (
        40 * (name in _FEEDS)
        + 20 * (name in _MAY_FEED)
        + 25 * (first.name in DELTA_NAMES)
        + 10 * (first.annotation in {"str", "bytes"})
        + 10 * any(each in owner.name for each in ("Stream", "Delta", "Chunk", "Reply", "Accum"))
    )
    return Feeder(owner, member, delta, first, others, [*_reads_a_format(member)], score)


def _adds(scope: ast.AST) -> bool:
    """Whether anything is added to what is kept."""
    return any(
        isinstance(node, ast.AugAssign)
        or (isinstance(node, ast.Call) and last_name(node.func) in {"append", "extend"})
        for node in own(scope)
    )


def _adds_up(scope: ast.AST, variable: str, place: str = "") -> bool:
    """Whether a variable is added to what is kept, at a place that begins so."""
    for node in own(scope):
        match node:
            case ast.AugAssign(target=target, value=value):
                added = [value]
            case ast.Assign(targets=[target], value=ast.BinOp(left=left, right=right)) if (
                ast.unparse(target) in {ast.unparse(left), ast.unparse(right)}
            ):
                added = [left, right]
            case ast.Assign(targets=[target], value=ast.JoinedStr() as value) if ast.unparse(
                target
            ) in ast.unparse(value):
                added = [value]
            case ast.Call(func=ast.Attribute(value=target, attr=attribute), args=added) if (
                attribute in {"append", "extend", "write", "appendleft", "insert"}
            ):
                pass
            case _:
                continue
        names = {each.id for part in added for each in ast.walk(part) if isinstance(each, ast.Name)}
        if variable in names and ast.unparse(target).startswith(place):
            return True
    return False
