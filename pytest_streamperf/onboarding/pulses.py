"""Tests for async generators: the event loop stays free while they run."""

import ast
from collections.abc import Iterator

from pytest_streamperf.onboarding.candidate import (
    Candidate,
    called_as,
    made_for,
    test_line,
)
from pytest_streamperf.onboarding.consumers import ENOUGH, consumers
from pytest_streamperf.onboarding.making import Making
from pytest_streamperf.onboarding.source import Member, Source, own
from pytest_streamperf.onboarding.templates import Call, todo


def of_generator(source: Source, member: Member) -> Iterator[Candidate]:
    """Have an async generator run beside a watch, if that is what a member is."""
    if not (member.is_async and member.called and _yields_in_a_loop(member)):
        return
    over = next((each for each in consumers(source) if each.member == member), None)
    made = made_for(source, member)
    stream = over.stream.name if over else ""
    takes = Making(member.parameters, over.callbacks if over else (), ())
    given = {stream: "token_stream(tokens=500)"} if over else {}
    doubts = [*member.doubts, *made.doubts, *made.unknown(), *takes.unknown([*given])]
    doubts += over.doubts if over else []
    doubts += filter(None, [over.delta.doubt if over else ""])
    if _goes_on(member):
        doubts.append("it may never end: take as many as are enough, with break")
    if over is None and _asks_elsewhere(member):
        doubts.append("it awaits what may be elsewhere: put something in its place")
    fixtures = ["stall_watch", *(["token_stream"] if over else [])]
    before, function = called_as(member, made)
    yield Candidate(
        kind="smooth",
        name=member.name,
        line=member.node.lineno,
        score=(over.score if over else ENOUGH) - 5,
        why="an async generator: what blocks in it holds up everyone else on its event loop",
        fills={
            "test_is_smooth": [test_line(member.name, "leaves_the_loop_free", fixtures)],
            "todo": todo(doubts),
            "prepare": before,
            "call": [Call("async for _ in ", function, takes.arguments(given), ":")],
        },
        budget={},
        doubts=doubts,
    )


def _yields_in_a_loop(member: Member) -> bool:
    return any(
        isinstance(inner, ast.Yield)
        for each in own(member.node)
        if isinstance(each, ast.For | ast.AsyncFor | ast.While)
        for inner in own(each)
    )


def _goes_on(member: Member) -> bool:
    return any(
        isinstance(each, ast.While)
        and isinstance(each.test, ast.Constant)
        and not any(isinstance(inner, ast.Break | ast.Return) for inner in own(each))
        for each in own(member.node)
    )


def _asks_elsewhere(member: Member) -> bool:
    """Whether it awaits, or goes through, anything but asyncio's own."""
    for node in own(member.node):
        match node:
            case ast.Await(value=waited) | ast.AsyncFor(iter=waited):
                if not ast.unparse(waited).startswith(("asyncio.", "sleep(")):
                    return True
            case ast.AsyncWith():
                return True
    return False
