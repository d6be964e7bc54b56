"""Tests for what consumes a stream: its work is linear, and it calls back now and then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pytest_streamperf.onboarding.candidate import (
    Candidate,
    called_as,
    made_for,
    spoken,
    test_line,
    variable,
)
from pytest_streamperf.onboarding.consumers import Consumer, Feeder
from pytest_streamperf.onboarding.deltas import Delta
from pytest_streamperf.onboarding.making import (
    IGNORES,
    IGNORES_ASYNC,
    Ending,
    Making,
    ending,
    making,
)
from pytest_streamperf.onboarding.source import Source
from pytest_streamperf.onboarding.templates import Call, todo
from pytest_streamperf.onboarding.throttles import Throttle, needs_loop, throttle


def of_feeder(source: Source, feeder: Feeder) -> Iterator[Candidate]:
    """Have a class take delta after delta."""
    owner, member = feeder.owner, feeder.member
    made, over = making(source, owner), ending(source, owner)
    methods = source.methods(owner)
    members = [*methods.values()]
    kept = throttle(source, members, made.callbacks, methods.get("__init__"))
    on_loop = member.is_async or over.awaits or needs_loop(members)
    name = f"{owner.name}.{member.node.name}"
    subject = variable(owner.name)
    fed = member.node.name
    doubts = [*member.doubts, *made.doubts, *feeder.doubts]
    if feeder.others:
        names = " and ".join(each.name for each in feeder.others)
        doubts.append(f"{fed} takes {names} besides: say what, for ..., and which deltas have them")
    takes = Making(
        [each for each in member.parameters if each.required or each == feeder.takes], (), ()
    )
    feed = Call(
        "await " if member.is_async else "",
        subject if fed == "__call__" else f"{subject}.{fed}",
        takes.arguments({feeder.takes.name: "delta"}),
    )
    growth = [*doubts, *made.unknown(), *filter(None, [feeder.delta.doubt])]
    if kept is None or not kept.batches:  # those are emptied by time, which does not pass there
        yield Candidate(
            kind="fed async" if on_loop else "fed",
            name=name,
            line=member.node.lineno,
            score=feeder.score,
            why=f"adds what {fed}({feeder.takes.name}) takes to what it has",
            fills={
                "test_is_linear": [test_line(owner.name, "is_linear", ["assert_linear"])],
                "todo": todo(growth),
                "make": [Call(f"{subject} = ", spoken(owner.name), made.arguments({}))],
                "feed": [feed],
                "finish": _finish(over, subject, result=True),
                "check": [_linear("consume", feeder.delta)],
            },
            budget={},
            doubts=growth,
        )
    if kept is None:
        return
    sink = kept.callback.parameter
    rest = made.unknown([sink])
    show = _show(kept)
    cadence = [*doubts, *rest, *kept.doubts, *filter(None, [feeder.delta.doubt])]
    end = _finish(over._replace(result=""), subject, result=False)
    end = [*end, "show.end()"] if end and kept.timed and not kept.batches else end
    yield Candidate(
        kind=_kind("throttled", kept, on_loop=on_loop or kept.callback.awaited),
        name=name,
        line=member.node.lineno,
        score=feeder.score + 5,
        why=f"calls {sink} now and then, of what {fed}({feeder.takes.name}) takes",
        fills={
            "test_is_throttled": [_throttled_test(owner.name, kept)],
            "todo": todo(cadence),
            "show": show.made,
            "make": [Call(f"{subject} = ", spoken(owner.name), made.arguments({sink: show.sink}))],
            "feed": [feed],
            "finish": end,
            "check": _throttled(kept, "end" if over.calls else "next"),
            "pace": _pace(kept),
        },
        budget=_promise(kept),
        doubts=cadence,
    )


def of_consumer(source: Source, consumer: Consumer) -> Iterator[Candidate]:
    """Have a function go through a stream."""
    member = consumer.member
    made = made_for(source, member)
    callbacks = {each.parameter: each for each in consumer.callbacks}
    known = {*callbacks, consumer.stream.name}
    missing = [
        f"{each.name} has no default: put it in for ..."
        for each in consumer.others
        if each.name not in known
    ]
    doubts = [*member.doubts, *made.doubts, *made.unknown(), *missing, *consumer.doubts]
    growth = [*doubts, *filter(None, [consumer.delta.doubt])]
    before, function = called_as(member, made)
    direct = not (before or growth or consumer.others) and consumer.stream == member.parameters[0]
    direct = direct and not consumer.stream.by_name
    takes = Making(member.parameters, consumer.callbacks, ())
    given = takes.arguments({consumer.stream.name: "stream"})
    yield Candidate(
        kind="direct" if direct else "called",
        name=member.name,
        line=member.node.lineno,
        score=consumer.score,
        why=f"goes through {consumer.stream.name}, {consumer.variable} by {consumer.variable}",
        fills={
            "test_is_linear": [test_line(member.name, "is_linear", ["assert_linear"])],
            "todo": todo(growth),
            "prepare": before,
            "call": [Call("return ", function, given)],
            "check": [_linear(function if direct else "consume", consumer.delta)],
        },
        budget={},
        doubts=growth,
    )
    kept = throttle(source, [member], consumer.callbacks, None)
    if kept is not None and not member.yields:
        yield _relayed(consumer, made, kept, [*doubts, *filter(None, [consumer.delta.doubt])])


def _relayed(consumer: Consumer, made: Making, kept: Throttle, doubts: Sequence[str]) -> Candidate:
    member, sink = consumer.member, kept.callback.parameter
    before, function = called_as(member, made)
    show, cadence = _show(kept), [*doubts, *kept.doubts]
    takes = Making(member.parameters, consumer.callbacks, ())
    given = takes.arguments({consumer.stream.name: "stream", sink: show.sink})
    return Candidate(
        kind=_kind("relayed", kept, on_loop=member.is_async),
        name=member.name,
        line=member.node.lineno,
        score=consumer.score + 5,
        why=f"calls {sink} now and then, of what comes from {consumer.stream.name}",
        fills={
            "test_is_throttled": [_throttled_test(member.name, kept)],
            "todo": todo(cadence),
            "show": show.made,
            "call": [*before, Call("await " if member.is_async else "", function, given)],
            "check": _throttled(kept, "end"),
            "pace": _pace(kept),
        },
        budget=_promise(kept),
        doubts=cadence,
    )


def _finish(over: Ending, subject: str, *, result: bool) -> Sequence[str]:
    lines = [each.format(subject) for each in over.calls]
    if result and over.result:
        shown = over.result.format(subject)
        lines.append(f"return {shown}")
    return lines


def _linear(subject: str, delta: Delta) -> Call:
    made_by = [f"delta={delta.made_by}"] if delta.made_by else []
    return Call("", "assert_linear", [subject, *made_by])


# -- how often


class _Shown(NamedTuple):
    made: Sequence[str | Call]
    sink: str


def _show(kept: Throttle) -> _Shown:
    """What counts updates, and what is given to the code as its callback."""
    awaited = kept.callback.awaited
    if kept.batches:
        ignores = IGNORES_ASYNC if awaited else IGNORES
        return _Shown(["flushes = flush_counter(of=stream)"], f"flushes.call({ignores})")
    value = f"value=lambda call: {kept.value}"
    counter = Call("show = ", "update_counter", ["of=stream", value])
    return _Shown([counter], "show.aio" if awaited else "show")


def _throttled(kept: Throttle, trailing: str) -> Sequence[Call]:
    if kept.batches:
        return [Call("", "flushes.assert_coalesced", [f"per_second={_per_second(kept)}"])]
    by = "" if kept.timed else f'trailing="{trailing}"'
    every = f"every={kept.every:g}" if kept.every else "every=..."
    return [Call("", "show.assert_throttled", [every, *filter(None, [by])])]


def _promise(kept: Throttle) -> Mapping[str, str]:
    every = kept.every or 0.1
    shown = f"{every * 1000:g}ms" if every < 1 else f"{every:g}s"
    return {"spoken": shown, "per_second": str(_per_second(kept))}


def _per_second(kept: Throttle) -> int:
    """In any second, both of its ends included."""
    return max(1, int(1 / (kept.every or 0.1)) + 1)


def _pace(kept: Throttle) -> str:
    return f"{min(0.02, (kept.every or 0.1) / 5):g}"


def _kind(name: str, kept: Throttle, *, on_loop: bool) -> str:
    return f"{name}{' async' if on_loop else ''}{', in batches' if kept.batches else ''}"


def _throttled_test(name: str, kept: Throttle) -> Call:
    counter = "flush_counter" if kept.batches else "update_counter"
    return test_line(name, "is_throttled", ["virtual_clock", "token_stream", counter])
