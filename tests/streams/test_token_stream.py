"""Tests of `TokenStream`: its deltas, its pace, its async form and its faults.

Most tests of a pace replace the clock by `FakeTime`. Async tests run under asyncio and under trio.
"""

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

# Lengths of a stream, in deltas.
LENGTHS = st.integers(0, 300)
SEEDS = st.integers(0, 2**32)
# The shapes of tool arguments, and the function that makes the deltas of each shape.
SHAPES = pytest.mark.parametrize(
    ("shape", "delta"), [("string", string_arguments), ("objects", object_arguments)]
)
# A stream of given deltas; it exists before the memory test, which measures its reading only.
GIVEN_STREAM = TokenStream(map(str, range(100_000)))
BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


def run(backend, function, *args):
    """Run an async function to its end, under asyncio or trio."""
    return asyncio.run(function(*args)) if backend == "asyncio" else trio.run(function, *args)


async def collect(stream):
    """Return all deltas of an async stream."""
    return [delta async for delta in stream]


class RecordingListener:
    """A listener of a stream that records the deltas, and whether the stream has ended."""

    def __init__(self) -> None:
        self.deltas = []
        self.has_ended = False

    def arrived(self, delta):
        """Record a delta that the stream hands out."""
        self.deltas.append(delta)

    def ended(self):
        """Record that the stream has no more deltas."""
        self.has_ended = True


class FakeTime:
    """A clock that moves only while code sleeps or an event loop waits."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept = []

    def monotonic(self):
        """Return the time of this clock, in seconds."""
        return self.now

    def sleep(self, seconds):
        """Move the clock forward, and record the seconds that the code slept."""
        self.slept.append(seconds)
        self.now += seconds

    def run(self, function, *args):
        """Run an async function in an asyncio loop whose waits move this clock and take no time."""
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
    """Replace `time.monotonic` and `time.sleep` by those of a `FakeTime`, and return it."""
    fake = FakeTime()
    monkeypatch.setattr(time, "monotonic", fake.monotonic)
    monkeypatch.setattr(time, "sleep", fake.sleep)
    return fake


# -- deltas


@given(LENGTHS, SEEDS)
def test_equal_arguments_give_equal_deltas(tokens, seed):
    """Two streams with the same length and seed have equal deltas."""
    assert list(TokenStream(tokens, seed=seed)) == list(TokenStream(tokens, seed=seed))


@given(LENGTHS, LENGTHS, SEEDS)
def test_shorter_stream_is_a_prefix(length, other_length, seed):
    """A shorter stream is a prefix of a longer stream with the same seed."""
    short, long = sorted((length, other_length))
    assert list(TokenStream(long, seed=seed))[:short] == list(TokenStream(short, seed=seed))


def test_seeds_give_different_deltas():
    """Streams with different seeds have different texts."""
    assert TokenStream(50, seed=1).text != TokenStream(50, seed=2).text


def test_deltas_are_about_four_characters():
    """A delta has about four characters on average, like a token of English text."""
    assert 3.5 < len(TokenStream(2_000).text) / 2_000 < 4.5


@given(LENGTHS)
def test_stream_is_sized(tokens):
    """The length of a stream is the number of deltas that the stream hands out."""
    stream = TokenStream(tokens)
    assert len(stream) == tokens == len(list(stream))


@given(LENGTHS)
def test_text_is_all_that_is_handed_out(tokens):
    """The `text` of a stream is all of its deltas, joined."""
    stream = TokenStream(tokens)
    assert "".join(stream) == stream.text


def test_text_leaves_other_deltas_out():
    """The `text` of a stream leaves out deltas that are not `str`."""
    stream = TokenStream(["a", 1, ToolCallDelta(0, "call_0", "search", "{}"), "b"])
    assert stream.text == "ab"


def test_each_iteration_gets_everything():
    """Two loops that read one stream at the same time both receive every delta."""
    stream = TokenStream(list("abc"))
    assert list(zip(stream, stream, strict=True)) == [("a", "a"), ("b", "b"), ("c", "c")]


@given(st.integers(0, 9_999), st.integers(0, 20))
def test_deltas_can_be_asked_for_by_index(start, length):
    """`deltas` returns the same delta or slice by index as a reading of the whole stream."""
    whole = TokenStream(10_000)
    assert whole.deltas[start : start + length] == list(whole)[start : start + length]
    assert whole.deltas[start] == list(whole)[start]


def test_generated_deltas_are_equal_as_lists_are():
    """Generated deltas equal a list of the same deltas, and do not equal fewer deltas."""
    deltas = TokenStream(5_000).deltas
    assert deltas == TokenStream(5_000).deltas == list(deltas)
    assert deltas[::-1] == list(deltas)[::-1]
    assert deltas != TokenStream(4_999).deltas
    assert deltas != 7


def test_a_delta_that_runs_out():
    """A `StopIteration` from the callable `delta` raises a `RuntimeError`, and ends no stream."""
    source = iter("ab")
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(TokenStream(3, delta=lambda _: next(source)))


@pytest.mark.parametrize(
    "make",
    [
        TokenStream,
        partial(TokenStream, delta="n{}".format),
        TokenStream.tool_call,
        lambda _: GIVEN_STREAM,
    ],
    ids=["drawn", "made", "called", "scripted"],
)
def test_what_is_handed_out_is_not_held(make):
    """Two readings of 100,000 deltas at once need less than 200 kB of memory."""
    with instrumentation.allocations():
        before = tracemalloc.get_traced_memory()[0]
        stream = make(100_000)
        for _ in zip(stream, stream, strict=True):
            pass
        peak = tracemalloc.get_traced_memory()[1] - before
    assert peak < 200_000  # two blocks of words; references to all deltas take 800,000 bytes


def test_a_pace_is_not_held():
    """A stream checks that its pace is long enough without keeping the gaps in memory."""
    with instrumentation.allocations():
        before = tracemalloc.get_traced_memory()[0]
        TokenStream(50_000, every=pacing.Jittered(0.02))
        assert tracemalloc.get_traced_memory()[1] - before < 50_000


@BACKENDS
def test_what_is_awaited_is_not_held(backend):
    """An async reading of 20,000 deltas needs less than 80 kB of memory."""

    async def peak_of(tokens):
        with instrumentation.allocations():
            before = tracemalloc.get_traced_memory()[0]
            async for _ in TokenStream(tokens):
                pass
            return tracemalloc.get_traced_memory()[1] - before

    assert run(backend, peak_of, 20_000) < 80_000


def test_delta_makes_the_deltas():
    """A stream calls `delta` with each index, in order, to make its deltas."""
    assert list(TokenStream(3, delta="n{}".format)) == ["n0", "n1", "n2"]


def test_given_deltas_are_handed_out():
    """A stream of given deltas can be read many times, also if they come from a generator."""
    stream = TokenStream(letter for letter in "abc")
    assert [list(stream), list(stream)] == [["a", "b", "c"]] * 2


@pytest.mark.parametrize("make", [TokenStream, TokenStream.tool_call])
def test_default_is_five_thousand_deltas_without_a_pace(make, fake_time):
    """A stream without arguments has 5,000 deltas and no pace."""
    assert len(list(make())) == 5_000
    assert fake_time.slept == []


def test_default_seed_is_zero():
    """A stream without a seed has the deltas of seed 0."""
    assert TokenStream(50).text == TokenStream(50, seed=0).text


def test_repr_is_short():
    """The repr of a long stream shows its length and pace instead of its deltas."""
    assert repr(TokenStream(5_000, every=0.5)) == "<TokenStream of 5,000 deltas, every=0.5>"


@pytest.mark.parametrize(
    ("arguments", "error", "pattern"),
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
def test_bad_argument_is_named(arguments, error, pattern):
    """A bad argument of a stream raises an error that names it and the allowed values."""
    with pytest.raises(error, match=f"^{pattern}"):
        TokenStream(**arguments)


# -- the async form


@BACKENDS
def test_async_form_hands_out_the_same(backend):
    """Every async reading of a stream gives the same deltas as a sync reading."""
    stream = TokenStream(20)
    assert run(backend, collect, stream) == run(backend, collect, stream) == list(stream)


@BACKENDS
def test_loop_runs_at_each_delta(backend):
    """The event loop runs another task once for each delta of an async reading."""
    turns = 0
    pause = trio.lowlevel.checkpoint if backend == "trio" else partial(asyncio.sleep, 0)

    async def count_turns():
        nonlocal turns
        while True:
            await pause()
            turns += 1

    async def in_asyncio():
        task = asyncio.create_task(count_turns())
        await collect(TokenStream(20))
        task.cancel()

    async def in_trio():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            await collect(TokenStream(20))
            nursery.cancel_scope.cancel()

    run(backend, in_asyncio if backend == "asyncio" else in_trio)
    assert 19 <= turns <= 23


@BACKENDS
def test_async_iterator_may_be_made_beforehand(backend):
    """An async iterator that is made before the event loop starts works in that loop."""
    stream = TokenStream(20)
    assert run(backend, collect, aiter(stream)) == list(stream)


@BACKENDS
def test_async_form_stays_at_its_end(backend):
    """An async iterator at its end raises `StopAsyncIteration` at each further request."""

    async def main():
        deltas = aiter(TokenStream(2))
        return [await anext(deltas, "end") for _ in range(4)]

    assert run(backend, main)[2:] == ["end", "end"]


@BACKENDS
def test_stopping_early_leaves_nothing_to_close(backend, recwarn):
    """A consumer that stops an async reading early causes no warning about an open iterator."""

    async def main():
        async for _ in TokenStream(20):
            break

    run(backend, main)
    gc.collect()
    assert not recwarn.list


@BACKENDS
def test_running_loop_is_told_apart(backend):
    """`running_loop` returns the name of the library whose event loop runs in this thread."""

    async def main():
        return context.running_loop()

    assert run(backend, main) == backend


def test_no_running_loop():
    """`running_loop` returns None outside an event loop, also with asyncio and trio imported."""
    assert context.running_loop() is None


# -- pace


def test_paced_deltas_come_on_time(fake_time):
    """A stream with the pace `every` hands out delta `i` at `i * every` after the first."""
    times = [fake_time.now for _ in TokenStream(5, every=0.25)]
    assert times == [1_000.0, 1_000.25, 1_000.5, 1_000.75, 1_001.0]


def test_paced_stream_starts_when_first_asked(fake_time):
    """The pace starts at the first request for a delta, not when the iterator is made."""
    deltas = iter(TokenStream(3, every=0.25))
    fake_time.now = 2_000.0
    assert [fake_time.now for _ in deltas] == [2_000.0, 2_000.25, 2_000.5]


def test_slow_consumer_is_not_slowed_further(fake_time):
    """A stream sleeps only for the part of a gap that the consumer has not used already."""
    for _ in TokenStream(4, every=1.0):
        fake_time.now += 0.75
    assert fake_time.slept == [0.0, 0.25, 0.25, 0.25]


def test_late_consumer_catches_up(fake_time):
    """Overdue deltas come at once, and the deltas after them come at their original times."""
    times = []
    for index, _ in enumerate(TokenStream(6, every=1.0)):
        times.append(fake_time.now - 1_000.0)
        fake_time.now += 3.5 if index == 0 else 0.0
    assert times == [0.0, 3.5, 3.5, 3.5, 4.0, 5.0]


def test_no_pace_no_sleep(fake_time):
    """A stream without `every` never sleeps."""
    assert len(list(TokenStream(5))) == 5
    assert fake_time.slept == []


# The seconds before each of four deltas.
GAPS = [0.5, 0.0, 2.0, 0.25]


def test_a_pace_may_be_the_seconds_before_each_delta(fake_time):
    """A pace may list the gap before each delta, and each reading starts the list anew."""
    stream = TokenStream(4, every=GAPS)
    for start in (1_000.0, 1_002.75):
        assert [fake_time.now - start for _ in stream] == [0.5, 0.5, 2.5, 2.75]


def test_async_pace_may_be_the_seconds_before_each_delta(fake_time):
    """An async reading keeps a pace that lists the gap before each delta."""
    times = fake_time.run(arrival_times, TokenStream(4, every=GAPS), fake_time.monotonic)
    assert times == pytest.approx([0.0, 0.0, 2.0, 2.25])


async def arrival_times(stream, now):
    """Return when each delta of an async stream arrives, in seconds after the first delta."""
    times = [now() async for _ in stream]
    return [time - times[0] for time in times]


def test_async_pace_under_asyncio(fake_time):
    """An async reading under asyncio keeps the same pace as a sync reading."""
    times = fake_time.run(arrival_times, TokenStream(5, every=0.25), fake_time.monotonic)
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_async_pace_under_trio():
    """An async reading under trio keeps the pace by trio's clock, also if it is a virtual one."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    stream = TokenStream(5, every=0.25)
    times = trio.run(arrival_times, stream, clock.current_time, clock=clock)
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_async_pace_starts_when_first_asked(fake_time):
    """The pace of an async reading starts at the first request, not when the iterator is made."""

    async def main():
        deltas = aiter(TokenStream(3, every=0.25))
        fake_time.now = 2_000.0
        return [fake_time.now async for _ in deltas]

    assert fake_time.run(main) == pytest.approx([2_000.0, 2_000.25, 2_000.5])


async def read_after_cancelled_wait(give_up):
    """Return two deltas of a consumer whose first wait for the second delta is cancelled."""
    deltas = aiter(TokenStream(list("abc"), every=1.0))
    received = [await anext(deltas)]
    await give_up(deltas)
    return [*received, await anext(deltas)]


def test_wait_given_up_under_asyncio(fake_time):
    """A wait for a delta that is cancelled under asyncio does not lose the delta."""

    async def give_up(deltas):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(deltas), 0.5)

    assert fake_time.run(read_after_cancelled_wait, give_up) == ["a", "b"]


def test_wait_given_up_under_trio():
    """A wait for a delta that is cancelled under trio does not lose the delta."""

    async def give_up(deltas):
        with trio.move_on_after(0.5):
            await anext(deltas)

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert trio.run(read_after_cancelled_wait, give_up, clock=clock) == ["a", "b"]


def test_turns_are_cut_by_seed_zero(fake_time):
    """A turn without a seed is cut by seed 0, and its stream has no pace."""
    part = Text("Let me look. " * 9)
    assert list(Turn(part)) == list(TokenStream.turn(part)) == list(Turn(part, seed=0))
    assert fake_time.slept == []


def test_stream_of_a_turn(fake_time):
    """`TokenStream.turn` makes a stream of a turn's deltas, with the given seed and pace."""
    parts = Text("Let me look."), ToolCall("search", {"query": "streams"})
    stream = TokenStream.turn(*parts, seed=5, every=0.5)
    assert list(stream) == list(Turn(*parts, seed=5))
    assert sum(fake_time.slept) == 0.5 * (len(stream) - 1)


# -- tool arguments of any length


@SHAPES
@given(tokens=st.integers(2, 400))
def test_tool_call_is_a_whole_document(shape, delta, tokens):
    """The deltas of a tool call join to one JSON document, which the last delta closes."""
    stream = TokenStream.tool_call(tokens, shape=shape)
    assert isinstance(json.loads(stream.text), dict)
    assert list(stream)[:-1] == [delta(index) for index in range(tokens - 1)]


@SHAPES
@given(tokens=st.integers(2, 400))
def test_tool_call_has_as_many_deltas_as_asked(shape, delta, tokens):
    """A tool call has `tokens` deltas, and the delta that closes the document is one of them."""
    del delta
    assert len(TokenStream.tool_call(tokens, shape=shape)) == tokens


@SHAPES
@given(tokens=st.integers(1, 60))
def test_every_start_of_arguments_can_be_parsed(shape, delta, tokens):
    """A parser of partial JSON reads the first deltas of tool arguments, however many.

    Its result is the start of the whole value.
    """
    del shape
    parsed = partial_json_parser.loads("".join(map(delta, range(tokens))))
    if delta is string_arguments:
        whole = json.loads("".join(map(delta, range(tokens))) + '"}')
        assert parsed["content"] == whole["content"].rstrip(" ")  # the parser drops trailing spaces
    else:
        assert [row["id"] for row in parsed["rows"]] == list(range(tokens - 1))


def test_shapes_differ():
    """The shape `string` has one long string, and the shape `objects` has a list of objects."""
    string, objects = (
        json.loads(TokenStream.tool_call(9, shape=shape).text) for shape in ("string", "objects")
    )
    assert isinstance(string["content"], str)
    assert objects["rows"][0].keys() == {"id", "name"}


def test_tool_call_keeps_its_pace(fake_time):
    """A tool call with a pace hands out its deltas at the times of the pace."""
    times = [fake_time.now - 1_000.0 for _ in TokenStream.tool_call(3, every=0.5)]
    assert times == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "error", "pattern"),
    [
        ({"tokens": 1}, ValueError, "tokens must be at least 2, not 1"),
        ({"tokens": "9"}, TypeError, "tokens must be a whole number of deltas, not '9'"),
        ({"shape": "list"}, ValueError, "shape must be one of 'string', 'objects', not 'list'"),
        ({"every": -1}, ValueError, "every must be a time, 0 or more and finite, as .*, not -1"),
    ],
    ids=repr,
)
def test_bad_tool_call_argument_is_named(arguments, error, pattern):
    """A bad argument of `tool_call` raises an error that names it and the allowed values."""
    with pytest.raises(error, match=f"^{pattern}"):
        TokenStream.tool_call(**arguments)


@pytest.mark.parametrize("every", [0.0, 0.001])
def test_tasks_that_share_a_stream(every):
    """Tasks that share one async iterator take each delta exactly once."""
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
    """The doctests of `streams.token_stream` pass."""
    assert doctest.testmod(token_stream).failed == 0


# -- faults


# A fault adds two deltas to this stream, so that its pace has gaps for three of five deltas.
LONGER_THAN_PACE = TokenStream(list("abc"), every=[0.5, 0.0, 2.0]).with_fault(
    lambda items: iter([*items, *"de"])
)
# When the deltas of `LONGER_THAN_PACE` are due, in seconds.
DUE_SECONDS = [0.5, 0.5, 2.5, 2.5, 2.5]


def test_what_comes_after_the_last_gap_comes_at_once(fake_time):
    """Deltas after the last gap of a pace come at once, and no delta is lost."""
    assert [(fake_time.now - 1_000.0, delta) for delta in LONGER_THAN_PACE] == list(
        zip(DUE_SECONDS, "abcde", strict=True)
    )


def test_what_comes_after_the_last_gap_is_not_waited_for(fake_time):
    """An async reading hands out the deltas after the last gap of a pace at once."""
    times = fake_time.run(arrival_times, LONGER_THAN_PACE, fake_time.monotonic)
    assert times == pytest.approx([due - DUE_SECONDS[0] for due in DUE_SECONDS])


@BACKENDS
def test_an_empty_stream_without_a_gap(backend):
    """An empty stream with an empty pace ends, in a sync and in an async reading."""
    assert run(backend, collect, TokenStream([], every=[])) == list(TokenStream([], every=[])) == []


def break_after_three(items):
    """Yield the first three items, and then break the connection."""
    yield from items[:3]
    raise ConnectionAbortedError


def test_a_broken_stream_ends_with_its_error():
    """A broken stream raises its error after its last delta, in every reading.

    Its listeners receive the deltas, but no end.
    """
    whole = TokenStream(5)
    stream = whole.with_fault(break_after_three)
    listener = RecordingListener()
    stream.listeners.append(listener)
    for _ in range(2):
        arrived = []
        with pytest.raises(ConnectionAbortedError):
            arrived.extend(delta for delta in stream)
        assert listener.deltas == whole.deltas[:3]
        listener.deltas.clear()
    assert not listener.has_ended
    assert not whole.listeners
    assert list(whole) == list(whole.deltas)


@BACKENDS
def test_a_broken_async_stream_ends_with_its_error(backend):
    """A broken async stream raises its error once, and then stays at its end."""

    async def main():
        deltas = aiter(TokenStream(5).with_fault(break_after_three))
        arrived = [await anext(deltas) for _ in range(3)]
        with pytest.raises(ConnectionAbortedError):
            await anext(deltas)
        return [*arrived, await anext(deltas, "end")]

    assert run(backend, main) == [*TokenStream(3), "end"]


def test_faults_come_one_after_the_other():
    """`with_fault` applies its faults in order, and a broken stream keeps its error."""
    reverse = lambda items: iter(items[::-1])  # noqa: E731 - a fault may be any function
    stream = TokenStream(list("abcde")).with_fault(break_after_three, reverse)
    assert stream.deltas == ["c", "b", "a"]
    assert isinstance(stream.error, ConnectionAbortedError)
    assert isinstance(stream.with_fault(reverse).error, ConnectionAbortedError)
    assert TokenStream(3).with_fault().error is None


def test_an_error_of_the_faults_own_is_not_the_networks():
    """`with_fault` raises an error of the fault that is not a `ConnectionError`."""
    with pytest.raises(ZeroDivisionError):
        TokenStream(3).with_fault(lambda items: (1 // 0 for _ in items))
