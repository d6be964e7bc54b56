"""What is sent: streams of deltas, turns, and their pace."""

import asyncio
import doctest
import gc
import json
import math
import time
from dataclasses import fields
from functools import partial
from types import MappingProxyType

import partial_json_parser
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    Text,
    TokenStream,
    ToolCall,
    ToolCallDelta,
    Turn,
    here,
    object_arguments,
    streams,
    string_arguments,
)

LENGTHS = st.integers(0, 300)
SEEDS = st.integers(0, 2**32)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(st.text(max_size=8), JSON, max_size=4)
PARTS = st.lists(
    st.builds(Text, st.text()) | st.builds(ToolCall, st.text(max_size=8), ARGUMENTS), max_size=4
)
SHAPES = pytest.mark.parametrize(
    ("shape", "delta"), [("string", string_arguments), ("objects", object_arguments)]
)
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def run(backend, function, *args):
    """Run an async function to its end."""
    return asyncio.run(function(*args)) if backend == "asyncio" else trio.run(function, *args)


async def collect(stream):
    """Take all of a stream."""
    return [delta async for delta in stream]


class FakeTime:
    """Time that passes only where something sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept = []

    def monotonic(self):
        """Tell the time."""
        return self.now

    def sleep(self, seconds):
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds

    def run(self, function, *args):
        """Run an async function in an asyncio loop whose waits take this time and no other."""
        loop = asyncio.SelectorEventLoop()
        select = loop._selector.select

        def wait(timeout):
            self.now += timeout or 0.0
            return select(0)

        loop._selector.select = wait
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(function(*args))


@pytest.fixture
def fake_time(monkeypatch):
    """Put fake time in place of the real one."""
    fake = FakeTime()
    monkeypatch.setattr(time, "monotonic", fake.monotonic)
    monkeypatch.setattr(time, "sleep", fake.sleep)
    return fake


# -- streams of tokens


@given(LENGTHS, SEEDS)
def test_equal_arguments_give_equal_deltas(tokens, seed):
    """A stream can be made again."""
    assert list(TokenStream(tokens, seed=seed)) == list(TokenStream(tokens, seed=seed))


@given(LENGTHS, LENGTHS, SEEDS)
def test_shorter_stream_is_a_prefix(one, other, seed):
    """A shorter stream is the start of a longer one of the same seed."""
    short, long = sorted((one, other))
    assert list(TokenStream(long, seed=seed))[:short] == list(TokenStream(short, seed=seed))


def test_seeds_give_different_deltas():
    """Another seed is another text."""
    assert TokenStream(50, seed=1).text != TokenStream(50, seed=2).text


def test_deltas_are_about_four_characters():
    """Per delta there is as much text as a model's tokens have."""
    assert 3.5 < len(TokenStream(2_000).text) / 2_000 < 4.5


@given(LENGTHS)
def test_stream_is_sized(tokens):
    """Its length is the number of deltas that it hands out."""
    stream = TokenStream(tokens)
    assert len(stream) == tokens == len(list(stream))


@given(LENGTHS)
def test_text_is_all_that_is_handed_out(tokens):
    """`text` is the deltas put together."""
    stream = TokenStream(tokens)
    assert "".join(stream) == stream.text


def test_text_leaves_other_deltas_out():
    """Deltas that are not `str` have no text."""
    stream = TokenStream(["a", 1, ToolCallDelta(0, "call_0", "search", "{}"), "b"])
    assert stream.text == "ab"


def test_each_iteration_gets_everything():
    """Two loops over one stream do not share its deltas, not even at the same time."""
    stream = TokenStream(list("abc"))
    assert list(zip(stream, stream, strict=True)) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_delta_makes_the_deltas():
    """`delta` is called with each index, in order."""
    assert list(TokenStream(3, delta="n{}".format)) == ["n0", "n1", "n2"]


def test_given_deltas_are_handed_out():
    """Any iterable can be streamed, and again if it could be read only once."""
    stream = TokenStream(letter for letter in "abc")
    assert [list(stream), list(stream)] == [["a", "b", "c"]] * 2


@pytest.mark.parametrize("make", [TokenStream, TokenStream.tool_call])
def test_default_is_five_thousand_deltas_without_a_pace(make, fake_time):
    """A stream of which nothing else is said is long enough to tell something, and quick."""
    assert len(list(make())) == 5_000
    assert fake_time.slept == []


def test_default_seed_is_zero():
    """A stream of which no seed is said is the same every time."""
    assert TokenStream(50).text == TokenStream(50, seed=0).text


def test_repr_is_short():
    """A stream in a failure report is not a list of its deltas."""
    assert repr(TokenStream(5_000, every=0.5)) == "<TokenStream of 5,000 deltas, every=0.5>"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"tokens": -1}, ValueError, "tokens must be at least 0, not -1"),
        ({"tokens": 2.0}, TypeError, "tokens must be a whole number of deltas, not 2.0"),
        ({"tokens": True}, TypeError, "tokens must be a whole number of deltas, not True"),
        ({"tokens": None}, TypeError, "tokens must be a whole number of deltas, not None"),
        ({"tokens": "text"}, TypeError, "tokens must be a number or the deltas; for text"),
        ({"tokens": b"text"}, TypeError, "tokens must be a number or the deltas; for text"),
        ({"tokens": ["a"], "delta": str}, TypeError, "delta= makes deltas for a number of tokens"),
        ({"delta": "a"}, TypeError, "delta must be a callable from index to delta, not 'a'"),
        ({"every": -0.1}, ValueError, "every must be 0 seconds or more, and finite, not -0.1"),
        ({"every": math.nan}, ValueError, "every must be 0 seconds or more, and finite, not nan"),
        ({"every": math.inf}, ValueError, "every must be 0 seconds or more, and finite, not inf"),
        ({"every": "1"}, TypeError, "every must be a number of seconds, not '1'"),
        ({"every": True}, TypeError, "every must be a number of seconds, not True"),
    ],
    ids=repr,
)
def test_bad_argument_is_named(arguments, error, says):
    """An argument out of range is named, with what is allowed."""
    with pytest.raises(error, match=f"^{says}"):
        TokenStream(**arguments)


# -- the async form


@BACKENDS
def test_async_form_hands_out_the_same(backend):
    """`async for` gets what `for` gets, every time."""
    stream = TokenStream(20)
    assert run(backend, collect, stream) == run(backend, collect, stream) == list(stream)


@BACKENDS
def test_loop_runs_at_each_delta(backend):
    """Another task gets a turn for every delta, as it would over a network."""
    turns = 0
    pause = trio.lowlevel.checkpoint if backend == "trio" else partial(asyncio.sleep, 0)

    async def other():
        nonlocal turns
        while True:
            await pause()
            turns += 1

    async def in_asyncio():
        task = asyncio.create_task(other())
        await collect(TokenStream(20))
        task.cancel()

    async def in_trio():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await collect(TokenStream(20))
            nursery.cancel_scope.cancel()

    run(backend, in_asyncio if backend == "asyncio" else in_trio)
    assert 19 <= turns <= 23


@BACKENDS
def test_async_iterator_may_be_made_beforehand(backend):
    """An iterator that was made outside the loop works in it."""
    stream = TokenStream(20)
    assert run(backend, collect, aiter(stream)) == list(stream)


@BACKENDS
def test_async_form_stays_at_its_end(backend):
    """Asked for more after the end, it ends again."""

    async def main():
        deltas = aiter(TokenStream(2))
        return [await anext(deltas, "end") for _ in range(4)]

    assert run(backend, main)[2:] == ["end", "end"]


@BACKENDS
def test_stopping_early_leaves_nothing_to_close(backend, recwarn):
    """A consumer may leave an async stream where it likes, without closing it."""

    async def main():
        async for _ in TokenStream(20):
            break

    run(backend, main)
    gc.collect()
    assert not recwarn.list


@BACKENDS
def test_running_loop_is_told_apart(backend):
    """The library whose loop runs in this thread is known by name."""

    async def main():
        return here.running_loop()

    assert run(backend, main) == backend


def test_no_running_loop():
    """Outside any loop there is none, also when both libraries are loaded."""
    assert here.running_loop() is None


# -- pace


def test_paced_deltas_come_on_time(fake_time):
    """Delta `i` is handed out `i * every` after the first."""
    times = [fake_time.now for _ in TokenStream(5, every=0.25)]
    assert times == [1_000.0, 1_000.25, 1_000.5, 1_000.75, 1_001.0]


def test_paced_stream_starts_when_first_asked(fake_time):
    """Time between making the iterator and the first pull is not part of the pace."""
    deltas = iter(TokenStream(3, every=0.25))
    fake_time.now = 2_000.0
    assert [fake_time.now for _ in deltas] == [2_000.0, 2_000.25, 2_000.5]


def test_slow_consumer_is_not_slowed_further(fake_time):
    """What the consumer takes is part of the pace, not on top of it."""
    for _ in TokenStream(4, every=1.0):
        fake_time.now += 0.75
    assert fake_time.slept == [0.0, 0.25, 0.25, 0.25]


def test_late_consumer_catches_up(fake_time):
    """Deltas that are overdue come at once, and then the pace is the old one."""
    times = []
    for index, _ in enumerate(TokenStream(6, every=1.0)):
        times.append(fake_time.now - 1_000.0)
        fake_time.now += 3.5 if index == 0 else 0.0
    assert times == [0.0, 3.5, 3.5, 3.5, 4.0, 5.0]


def test_no_pace_no_sleep(fake_time):
    """Without `every` a stream never sleeps."""
    assert len(list(TokenStream(5))) == 5
    assert fake_time.slept == []


async def arrivals(stream, now):
    """Tell when each delta came, counted from the first."""
    times = [now() async for _ in stream]
    return [time - times[0] for time in times]


def test_async_pace_under_asyncio(fake_time):
    """The async form keeps the pace of the sync one."""
    times = fake_time.run(arrivals, TokenStream(5, every=0.25), fake_time.monotonic)
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_async_pace_under_trio():
    """The pace is that of trio's clock, a virtual one too."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    stream = TokenStream(5, every=0.25)
    times = trio.run(arrivals, stream, clock.current_time, clock=clock)
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_async_pace_starts_when_first_asked(fake_time):
    """Time between making the async iterator and the first pull is not part of the pace."""

    async def main():
        deltas = aiter(TokenStream(3, every=0.25))
        fake_time.now = 2_000.0
        return [fake_time.now async for _ in deltas]

    assert fake_time.run(main) == pytest.approx([2_000.0, 2_000.25, 2_000.5])


async def impatient(give_up):
    """Give up waiting for the second delta, then ask again."""
    deltas = aiter(TokenStream(list("abc"), every=1.0))
    got = [await anext(deltas)]
    await give_up(deltas)
    return [*got, await anext(deltas)]


def test_wait_given_up_under_asyncio(fake_time):
    """A wait for the next delta that is cancelled does not take that delta away."""

    async def give_up(deltas):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(deltas), 0.5)

    assert fake_time.run(impatient, give_up) == ["a", "b"]


def test_wait_given_up_under_trio():
    """A wait for the next delta that is cancelled does not take that delta away."""

    async def give_up(deltas):
        with trio.move_on_after(0.5):
            await anext(deltas)

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(impatient, give_up, clock=clock) == ["a", "b"]


# -- turns


def put_together(deltas):
    """Put deltas back together: text, and one entry per tool call."""
    parts = []
    for delta in deltas:
        kind = "text" if isinstance(delta, str) else (delta.index, delta.id, delta.name)
        piece = delta if isinstance(delta, str) else delta.arguments
        if parts and parts[-1][0] == kind:
            parts[-1][1] += piece
        else:
            parts.append([kind, piece])
    return parts


@given(PARTS, SEEDS)
def test_turn_is_cut_losslessly(parts, seed):
    """The deltas put together are the parts of the turn, in order."""
    expected, calls = [], 0
    for part in parts:
        if isinstance(part, ToolCall):
            expected.append([(calls, f"call_{calls}", part.name), part.json])
            calls += 1
        elif expected and expected[-1][0] == "text":
            expected[-1][1] += part.text
        elif part.text:
            expected.append(["text", part.text])
    assert put_together(Turn(*parts, seed=seed)) == expected


@given(PARTS, SEEDS)
def test_turn_has_no_empty_or_long_deltas(parts, seed):
    """Each delta is one to seven characters."""
    pieces = (d if isinstance(d, str) else d.arguments for d in Turn(*parts, seed=seed))
    assert all(1 <= len(piece) <= 7 for piece in pieces)


def test_equal_turns_are_cut_alike():
    """A turn can be made again."""
    parts = Text("Let me look. " * 9), ToolCall("search", {"query": "streams"})
    assert list(Turn(*parts, seed=3)) == list(Turn(*parts, seed=3))


def test_turns_are_cut_by_seed_zero(fake_time):
    """A turn of which no seed or pace is said is the same every time, and quick."""
    part = Text("Let me look. " * 9)
    assert list(Turn(part)) == list(TokenStream.turn(part)) == list(Turn(part, seed=0))
    assert fake_time.slept == []


@pytest.mark.parametrize(
    "part", [Text("Hi"), ToolCall("search", {}), ToolCallDelta(0, "call_0", "search", "{}")]
)
def test_parts_cannot_be_changed(part):
    """What was scripted, or handed out, stays so."""
    with pytest.raises(AttributeError):
        setattr(part, fields(part)[0].name, "changed")


def test_seeds_cut_turns_differently():
    """Another seed cuts elsewhere."""
    part = Text("Let me look. " * 9)
    assert list(Turn(part, seed=1)) != list(Turn(part, seed=2))


def test_turn_is_a_sequence():
    """A turn has a length, an index and slices."""
    turn = Turn(Text("Let me look."))
    assert "".join(turn[:-1]) + turn[-1] == "Let me look."
    assert len(turn) == len(list(turn))


def test_turn_repr_shows_its_parts():
    """A turn in a failure report is what it was made from."""
    assert repr(Turn(Text("Hi"))) == "Turn(Text(text='Hi'))"


@pytest.mark.parametrize("part", ["text", None, {"name": "search"}])
def test_turn_refuses_other_parts(part):
    """What is neither text nor a tool call is refused by name."""
    with pytest.raises(TypeError, match=r"^Turn takes Text\(...\) and ToolCall\(...\), not "):
        Turn(Text("Hi"), part)


def test_stream_of_a_turn(fake_time):
    """A stream can be made of a turn, with its pace and seed."""
    parts = Text("Let me look."), ToolCall("search", {"query": "streams"})
    stream = TokenStream.turn(*parts, seed=5, every=0.5)
    assert list(stream) == list(Turn(*parts, seed=5))
    assert sum(fake_time.slept) == 0.5 * (len(stream) - 1)


@given(ARGUMENTS)
def test_arguments_are_json(arguments):
    """A tool call's arguments, put together, are the JSON document they were."""
    deltas = Turn(ToolCall("search", arguments))
    assert json.loads("".join(delta.arguments for delta in deltas)) == arguments


def test_arguments_may_be_any_mapping():
    """Arguments need not be a dict."""
    assert ToolCall("search", MappingProxyType({"query": "a"})).json == '{"query": "a"}'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_arguments_that_json_lacks(value):
    """What JSON has no word for is refused, not sent as something no parser has to accept."""
    with pytest.raises(ValueError, match="JSON"):
        Turn(ToolCall("search", {"limit": value}))


def test_text_must_be_text():
    """A part that is not text is refused when it is made."""
    with pytest.raises(TypeError, match=r"^Text takes a str, not b'abc'"):
        Text(b"abc")


# -- tool arguments of any length


@SHAPES
@given(tokens=st.integers(2, 400))
def test_tool_call_is_a_whole_document(shape, delta, tokens):
    """All the deltas of a tool call are one JSON document; the last one ends it."""
    stream = TokenStream.tool_call(tokens, shape=shape)
    assert isinstance(json.loads(stream.text), dict)
    assert list(stream)[:-1] == [delta(index) for index in range(tokens - 1)]


@SHAPES
@given(tokens=st.integers(2, 400))
def test_tool_call_has_as_many_deltas_as_asked(shape, delta, tokens):
    """The delta that ends the document is one of them."""
    del delta
    assert len(TokenStream.tool_call(tokens, shape=shape)) == tokens


@SHAPES
@given(tokens=st.integers(1, 60))
def test_every_start_of_arguments_can_be_parsed(shape, delta, tokens):
    """A parser of partial JSON makes the start of the value out of any number of deltas."""
    del shape
    parsed = partial_json_parser.loads("".join(map(delta, range(tokens))))
    if delta is string_arguments:
        whole = json.loads("".join(map(delta, range(tokens))) + '"}')
        assert parsed["content"] == whole["content"].rstrip(" ")  # as that parser has it
    else:
        assert [row["id"] for row in parsed["rows"]] == list(range(tokens - 1))


def test_shapes_differ():
    """The shapes are one long string and a list of objects."""
    string, objects = (
        json.loads(TokenStream.tool_call(9, shape=shape).text) for shape in ("string", "objects")
    )
    assert isinstance(string["content"], str)
    assert objects["rows"][0].keys() == {"id", "name"}


def test_tool_call_keeps_its_pace(fake_time):
    """A tool call can be paced."""
    times = [fake_time.now - 1_000.0 for _ in TokenStream.tool_call(3, every=0.5)]
    assert times == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"tokens": 1}, ValueError, "tokens must be at least 2, not 1"),
        ({"tokens": "9"}, TypeError, "tokens must be a whole number of deltas, not '9'"),
        ({"shape": "list"}, ValueError, "shape must be one of 'string', 'objects', not 'list'"),
        ({"every": -1}, ValueError, "every must be 0 seconds or more, and finite, not -1"),
    ],
    ids=repr,
)
def test_bad_tool_call_argument_is_named(arguments, error, says):
    """An argument out of range is named, with what is allowed."""
    with pytest.raises(error, match=f"^{says}"):
        TokenStream.tool_call(**arguments)


@pytest.mark.parametrize("every", [0.0, 0.001])
def test_tasks_that_share_a_stream(every):
    """Each delta is taken once, whoever takes it."""
    taken = []

    async def main():
        deltas = aiter(TokenStream(20, every=every))

        async def work():
            async for delta in deltas:
                taken.append(delta)

        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(work())

    asyncio.run(main())
    assert sorted(taken) == sorted(TokenStream(20))


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(streams).failed == 0
