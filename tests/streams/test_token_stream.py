"""What is sent: streams of deltas, turns, and their pace."""

import asyncio
import doctest
import gc
import json
import math
import time
import tracemalloc
from functools import partial

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
    object_arguments,
    string_arguments,
)
from pytest_streamperf._runtime import context, instrumentation
from pytest_streamperf.streams import pacing, token_stream

LENGTHS = st.integers(0, 300)
SEEDS = st.integers(0, 2**32)
SHAPES = pytest.mark.parametrize(
    ("shape", "delta"), [("string", string_arguments), ("objects", object_arguments)]
)
ONE_SCRIPT = TokenStream(map(str, range(100_000)))
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def run(backend, function, *args):
    """Run an async function to its end."""
    return asyncio.run(function(*args)) if backend == "asyncio" else trio.run(function, *args)


async def collect(stream):
    """Take all of a stream."""
    return [delta async for delta in stream]


class RecordingListener:
    """A listener of a stream that records its deltas and its end."""

    def __init__(self) -> None:
        self.deltas = []
        self.over = False

    def arrived(self, delta):
        """Record a delta."""
        self.deltas.append(delta)

    def ended(self):
        """Record the end."""
        self.over = True


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


@given(st.integers(0, 9_999), st.integers(0, 20))
def test_deltas_can_be_asked_for_by_index(start, length):
    """One of them, or a slice; they are the same as in order."""
    whole = TokenStream(10_000)
    assert whole.deltas[start : start + length] == list(whole)[start : start + length]
    assert whole.deltas[start] == list(whole)[start]


def test_generated_deltas_are_equal_as_lists_are():
    """Whatever sequence they are held against."""
    deltas = TokenStream(5_000).deltas
    assert deltas == TokenStream(5_000).deltas == list(deltas)
    assert deltas[::-1] == list(deltas)[::-1]
    assert deltas != TokenStream(4_999).deltas
    assert deltas != 7


def test_a_delta_that_runs_out():
    """An iterator is no callable from index to delta, and is not taken for one that ends."""
    source = iter("ab")
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(TokenStream(3, delta=lambda _: next(source)))


@pytest.mark.parametrize(
    "make",
    [
        TokenStream,
        partial(TokenStream, delta="n{}".format),
        TokenStream.tool_call,
        lambda _: ONE_SCRIPT,
    ],
    ids=["drawn", "made", "called", "scripted"],
)
def test_what_is_handed_out_is_not_held(make):
    """A generated stream needs the same memory however long it is; a script is held once."""
    with instrumentation.allocations():
        before = tracemalloc.get_traced_memory()[0]
        stream = make(100_000)
        for _ in zip(stream, stream, strict=True):
            pass
        peak = tracemalloc.get_traced_memory()[1] - before
    assert peak < 200_000  # a block of them each; references to all would be 800,000


def test_a_pace_is_not_held():
    """It is looked through once, to see that it is long enough."""
    with instrumentation.allocations():
        before = tracemalloc.get_traced_memory()[0]
        TokenStream(50_000, every=pacing.Jittered(0.02))
        assert tracemalloc.get_traced_memory()[1] - before < 50_000


@BACKENDS
def test_what_is_awaited_is_not_held(backend):
    """Nor where it is awaited."""

    async def peak_of(tokens):
        with instrumentation.allocations():
            before = tracemalloc.get_traced_memory()[0]
            async for _ in TokenStream(tokens):
                pass
            return tracemalloc.get_traced_memory()[1] - before

    assert run(backend, peak_of, 20_000) < 80_000


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
        (
            {"every": -0.1},
            ValueError,
            "every must be a time, 0 or more and finite, as .*, not -0.1",
        ),
        (
            {"every": math.nan},
            ValueError,
            "every must be a time, 0 or more and finite, as .*, not nan",
        ),
        (
            {"every": math.inf},
            ValueError,
            "every must be a time, 0 or more and finite, as .*, not inf",
        ),
        (
            {"every": "1"},
            ValueError,
            "every must be a time, as .*, or an iterable that can be read again, not '1'",
        ),
        (
            {"every": True},
            TypeError,
            "every must be a time, as .*, or an iterable that can be read again, not True",
        ),
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
        return context.running_loop()

    assert run(backend, main) == backend


def test_no_running_loop():
    """Outside any loop there is none, also when both libraries are loaded."""
    assert context.running_loop() is None


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


GAPS = [0.5, 0.0, 2.0, 0.25]


def test_a_pace_may_be_the_seconds_before_each_delta(fake_time):
    """As they were measured, the first included; each iteration starts anew."""
    stream = TokenStream(4, every=GAPS)
    for start in (1_000.0, 1_002.75):
        assert [fake_time.now - start for _ in stream] == [0.5, 0.5, 2.5, 2.75]


def test_async_pace_may_be_the_seconds_before_each_delta(fake_time):
    """The async form keeps it, too."""
    times = fake_time.run(arrivals, TokenStream(4, every=GAPS), fake_time.monotonic)
    assert times == pytest.approx([0.0, 0.0, 2.0, 2.25])


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


def test_turns_are_cut_by_seed_zero(fake_time):
    """A turn of which no seed or pace is said is the same every time, and quick."""
    part = Text("Let me look. " * 9)
    assert list(Turn(part)) == list(TokenStream.turn(part)) == list(Turn(part, seed=0))
    assert fake_time.slept == []


def test_stream_of_a_turn(fake_time):
    """A stream can be made of a turn, with its pace and seed."""
    parts = Text("Let me look."), ToolCall("search", {"query": "streams"})
    stream = TokenStream.turn(*parts, seed=5, every=0.5)
    assert list(stream) == list(Turn(*parts, seed=5))
    assert sum(fake_time.slept) == 0.5 * (len(stream) - 1)


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
        ({"every": -1}, ValueError, "every must be a time, 0 or more and finite, as .*, not -1"),
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
    assert doctest.testmod(token_stream).failed == 0


# -- faults


LONGER = TokenStream(list("abc"), every=[0.5, 0.0, 2.0]).with_fault(
    lambda items: iter([*items, *"de"])
)
AT = [0.5, 0.5, 2.5, 2.5, 2.5]


def test_what_comes_after_the_last_gap_comes_at_once(fake_time):
    """Gaps are for what arrives in order, and no delta is lost where there are more."""
    assert [(fake_time.now - 1_000.0, delta) for delta in LONGER] == list(
        zip(AT, "abcde", strict=True)
    )


def test_what_comes_after_the_last_gap_is_not_waited_for(fake_time):
    """Nor in the async form, which hands out as many."""
    times = fake_time.run(arrivals, LONGER, fake_time.monotonic)
    assert times == pytest.approx([at - AT[0] for at in AT])


@BACKENDS
def test_an_empty_stream_without_a_gap(backend):
    """It ends in both forms."""
    assert run(backend, collect, TokenStream([], every=[])) == list(TokenStream([], every=[])) == []


def broken(items):
    """Break off after three."""
    yield from items[:3]
    raise ConnectionAbortedError


def test_a_broken_stream_ends_with_its_error():
    """Every time, and after all that came before it; who listens is not told that it ended."""
    whole = TokenStream(5)
    stream = whole.with_fault(broken)
    listener = RecordingListener()
    stream.listeners.append(listener)
    for _ in range(2):
        arrived = []
        with pytest.raises(ConnectionAbortedError):
            arrived.extend(delta for delta in stream)
        assert listener.deltas == whole.deltas[:3]
        listener.deltas.clear()
    assert not listener.over
    assert not whole.listeners
    assert list(whole) == list(whole.deltas)


@BACKENDS
def test_a_broken_async_stream_ends_with_its_error(backend):
    """And stays at its end."""

    async def main():
        deltas = aiter(TokenStream(5).with_fault(broken))
        arrived = [await anext(deltas) for _ in range(3)]
        with pytest.raises(ConnectionAbortedError):
            await anext(deltas)
        return [*arrived, await anext(deltas, "end")]

    assert run(backend, main) == [*TokenStream(3), "end"]


def test_faults_come_one_after_the_other():
    """Each is given what arrives of the one before; what broke stays broken."""
    reverse = lambda items: iter(items[::-1])  # noqa: E731 - a fault is any function
    stream = TokenStream(list("abcde")).with_fault(broken, reverse)
    assert stream.deltas == ["c", "b", "a"]
    assert isinstance(stream.error, ConnectionAbortedError)
    assert isinstance(stream.with_fault(reverse).error, ConnectionAbortedError)
    assert TokenStream(3).with_fault().error is None


def test_an_error_of_the_faults_own_is_not_the_networks():
    """What is no `ConnectionError` is raised where the fault is added."""
    with pytest.raises(ZeroDivisionError):
        TokenStream(3).with_fault(lambda items: (1 // 0 for _ in items))
