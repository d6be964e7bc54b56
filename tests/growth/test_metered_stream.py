"""What was spent: each delta's cost is charged where it belongs, and nothing else is."""

import asyncio
import itertools
import queue
import sys
import threading
import time

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf._runtime.instrumentation import allocations
from pytest_streamperf._runtime.meters import AllocationMeter, CallMeter
from pytest_streamperf.growth.metered_stream import BLOCKS, MeteredStream, Run, _shortened
from tests.spent_clock import Clock

pytestmark = pytest.mark.alone


class FakeMeter:
    """A meter that reads exactly what was spent."""

    def __init__(self, clock, *, each) -> None:
        self.clock, self.reads_each_delta = clock, each
        self.opened = self.times_opened = 0

    def open(self):
        """Start from here."""
        self.opened = self.clock.now
        self.times_opened += 1

    def read(self):
        """Tell what was spent since."""
        return self.clock.now - self.opened

    def close(self):
        """Hold nothing."""


def never():
    """Do not stop a stream."""
    return False


async def feed_async(stream, feed):
    """Hand each delta of an async stream to `feed`."""
    async for delta in stream:
        feed(delta)


def feed_sync(stream, feed):
    """Hand each delta of a stream to `feed`."""
    for delta in stream:
        feed(delta)


class Way:
    """A way to consume a metered stream."""

    def __init__(self, name, consume, *, each=False) -> None:
        self.name, self.consume, self.each = name, consume, each

    def stream(self, deltas, clock, stop=never):
        """Make a stream that is metered by `clock`."""
        return MeteredStream(deltas, FakeMeter(clock, each=self.each), stop)


WAYS = [
    Way("by block", feed_sync),
    Way("by delta", feed_sync, each=True),
    Way("asyncio", lambda stream, feed: asyncio.run(feed_async(stream, feed))),
    Way("trio", lambda stream, feed: trio.run(feed_async, stream, feed)),
]
EVERY_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
SYNC_WAYS = pytest.mark.parametrize("way", WAYS[:2], ids=lambda way: way.name)
ASYNC_WAYS = pytest.mark.parametrize("way", WAYS[2:], ids=lambda way: way.name)
# Whole seconds add up exactly.
COSTS = st.lists(st.integers(0, 1_000), min_size=BLOCKS, max_size=300)


def record_of(stream):
    """End a run, as the consumer returns, and give its record."""
    stream.finish()
    return stream.run()


def expected_spent(costs):
    """Work out what was spent up to each edge between blocks."""
    edges = [len(costs) * block // BLOCKS for block in range(BLOCKS + 1)]
    return tuple(sum(costs[:edge]) for edge in edges)


# -- what is charged


@EVERY_WAY
@given(costs=COSTS)
def test_each_delta_is_charged_to_its_block(way, costs):
    """What the consumer spends on a delta is on record between the edges around it."""
    clock = Clock()
    stream = way.stream(costs, clock)
    way.consume(stream, clock.spend)
    run = record_of(stream)
    assert (run.length, run.spent, run.finish) == (len(costs), expected_spent(costs), 0.0)


@EVERY_WAY
def test_edges_divide_the_stream_evenly(way):
    """There are 64 blocks, as equal in length as they can be."""
    stream = way.stream(range(1_000), Clock())
    way.consume(stream, lambda _delta: None)
    edges = record_of(stream).edges
    lengths = {end - start for start, end in itertools.pairwise(edges)}
    assert (edges[0], edges[-1], len(edges)) == (0, 1_000, BLOCKS + 1)
    assert lengths == {15, 16}


@EVERY_WAY
def test_deltas_are_handed_out_in_order(way):
    """The consumer gets every delta, unchanged."""
    got = []
    way.consume(way.stream([f"d{index}" for index in range(100)], Clock()), got.append)
    assert got == [f"d{index}" for index in range(100)]


@EVERY_WAY
def test_set_up_is_not_counted(way):
    """What is spent before the first pull is on no record."""
    clock = Clock()
    stream = way.stream([1] * 64, clock)
    clock.spend(500)
    way.consume(stream, clock.spend)
    assert record_of(stream).total == 64


@EVERY_WAY
def test_set_up_after_making_the_iterator_is_not_counted(way):
    """What is spent before the first pull is on no record, also if the iterator was made before."""
    clock = Clock()
    stream = way.stream([1] * 64, clock)
    deltas = iter(stream) if way in WAYS[:2] else aiter(stream)
    clock.spend(500)
    way.consume(deltas, clock.spend)
    assert record_of(stream).total == 64


@EVERY_WAY
def test_finish_is_kept_apart(way):
    """What is spent after the last delta is on record as the finish, and in the total."""
    clock = Clock()
    stream = way.stream([1] * 64, clock)
    way.consume(stream, clock.spend)
    clock.spend(500)
    run = record_of(stream)
    assert (run.spent[-1], run.finish, run.total) == (64, 500, 564)


@EVERY_WAY
def test_finish_ends_when_the_consumer_returns(way):
    """What is spent between `finish` and `run` is on no record."""
    clock = Clock()
    stream = way.stream([1] * 64, clock)
    way.consume(stream, clock.spend)
    stream.finish()
    clock.spend(500)
    assert stream.run().total == 64


@EVERY_WAY
def test_record_can_be_asked_for_again(way):
    """The record of a run stays as it is."""
    clock = Clock()
    stream = way.stream([1] * 64, clock)
    way.consume(stream, clock.spend)
    run = record_of(stream)
    assert stream.run() == run


@EVERY_WAY
def test_stream_shorter_than_the_blocks(way):
    """With fewer deltas than blocks some blocks are empty, and nothing is lost."""
    clock = Clock()
    stream = way.stream([1, 2, 4], clock)
    way.consume(stream, clock.spend)
    run = record_of(stream)
    assert (run.length, run.total, len(run.spent)) == (3, 7, BLOCKS + 1)


@pytest.mark.parametrize(("each", "times"), [(False, BLOCKS), (True, 640)])
def test_meter_is_read_as_often_as_it_asks_for(each, times):
    """A meter that can do with less is opened once for each block, and once for the finish."""
    meter = FakeMeter(Clock(), each=each)
    feed_sync(MeteredStream(range(640), meter, never), lambda _delta: None)
    assert meter.times_opened == times + 1


def test_other_meters_know_nothing_of_memory():
    """Unless it was copies that were measured, nothing is said of what was held or kept."""
    run = Run(64, (0,), (0.0,), 0.0)
    assert (run.held, run.kept) == (0, 0)


# -- what other tasks do


def test_other_asyncio_tasks_are_not_charged():
    """What other tasks spend while the stream yields to the loop is not the consumer's."""
    clock = Clock()
    stream = MeteredStream([1] * 64, FakeMeter(clock, each=False), never)
    turns = 0

    async def other():
        nonlocal turns
        while True:
            clock.spend(1_000)
            turns += 1
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other())
        await feed_async(stream, clock.spend)
        stream.finish()
        task.cancel()

    asyncio.run(main())
    assert turns >= 64
    assert stream.run().total == 64


def test_other_trio_tasks_are_not_charged():
    """What other tasks spend while the stream yields to the loop is not the consumer's."""
    clock = Clock()
    stream = MeteredStream([1] * 64, FakeMeter(clock, each=False), never)
    turns = 0

    async def other():
        nonlocal turns
        while True:
            clock.spend(1_000)
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await feed_async(stream, clock.spend)
            stream.finish()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert turns >= 64
    assert stream.run().total == 64


def test_what_the_consumer_awaits_is_charged():
    """What is spent while the consumer itself waits, between two pulls, is."""
    clock = Clock()
    stream = MeteredStream([1] * 64, FakeMeter(clock, each=False), never)

    async def work(delta):
        await asyncio.sleep(0)
        clock.spend(delta)

    async def main():
        async for delta in stream:
            await asyncio.create_task(work(delta))
        stream.finish()

    asyncio.run(main())
    assert stream.run().total == 64


def test_loop_runs_before_each_asyncio_delta():
    """The stream lets the loop run once for each delta and once for its end."""
    steps = 0
    pull = feed_async(
        MeteredStream(range(64), FakeMeter(Clock(), each=False), never), lambda _delta: None
    )

    async def main():
        nonlocal steps
        awaited = pull.__await__()
        for _ in awaited:
            steps += 1
            await asyncio.sleep(0)

    asyncio.run(main())
    assert steps == 65


def test_wait_given_up_loses_no_delta():
    """A pull that is cancelled while the loop runs can be made again, and is charged once."""
    clock = Clock()
    stream = MeteredStream(range(64), FakeMeter(clock, each=False), never)

    async def main():
        deltas, got = aiter(stream), []
        for _ in range(64):
            pull = asyncio.ensure_future(anext(deltas))
            await asyncio.sleep(0)
            pull.cancel()
            await asyncio.wait([pull])
            got.append(await anext(deltas))
            clock.spend(1)
        return got

    assert asyncio.run(main()) == list(range(64))
    assert record_of(stream).total == 64


# -- consumers that do not take it all


@EVERY_WAY
def test_untouched_stream_has_no_record(way):
    """A consumer that takes nothing did no complete run."""
    stream = way.stream(range(64), Clock())
    assert record_of(stream) is None
    assert stream.pulled == 0


class Enough(Exception):  # noqa: N818 - no error
    """Ends a consumer."""


@EVERY_WAY
@pytest.mark.parametrize("taken", [1, 2, 99])
def test_early_stop_has_no_record(way, taken):
    """A consumer that leaves before the end did no complete run."""
    stream = way.stream(range(1, 101), Clock())

    def feed(delta):
        if delta == taken:
            raise Enough

    with pytest.raises(Enough):
        way.consume(stream, feed)
    assert record_of(stream) is None
    assert not stream.cut


@EVERY_WAY
def test_pulled_tells_how_far_it_got(way):
    """At any time, within a block too, the stream knows how many deltas were taken."""
    stream = way.stream(range(1, 201), Clock())
    pulled = []
    way.consume(stream, lambda _delta: pulled.append(stream.pulled))
    assert pulled == list(range(1, 201))


# -- streams that are cut


def cut_after(way, blocks, costs):
    """Consume a stream that is stopped after some blocks; give it and the clock."""
    clock, asked = Clock(), 0

    def stop():
        nonlocal asked
        asked += 1
        return asked >= blocks

    stream = way.stream(costs, clock, stop)
    way.consume(stream, clock.spend)
    return stream, clock


@EVERY_WAY
@pytest.mark.parametrize("blocks", [1, 2, 30, 63])
def test_cut_stream_ends_at_an_edge(way, blocks):
    """A stream that is stopped ends for the consumer at the end of that block."""
    stream, _ = cut_after(way, blocks, [1] * 640)
    assert (stream.cut, stream.pulled) == (True, 10 * blocks)


@EVERY_WAY
@pytest.mark.parametrize("blocks", [1, 2, 30, 63])
def test_cut_stream_has_the_record_of_a_shorter_run(way, blocks):
    """Its record is that of a run of the length that it had, complete and in 64 blocks."""
    stream, clock = cut_after(way, blocks, [1] * 640)
    clock.spend(500)
    run = record_of(stream)
    assert run.length == 10 * blocks
    assert run.spent == pytest.approx(expected_spent([1] * 10 * blocks))
    assert (len(run.spent), run.edges[-1]) == (BLOCKS + 1, run.length)


@EVERY_WAY
@pytest.mark.parametrize("after", [1, 37, 40, 639, 640])
def test_watched_stream_ends_at_the_next_pull(way, after):
    """A stream that is looked at when its time is up ends between two edges, too."""
    clock, late = Clock(), []
    stream = way.stream([1] * 640, clock, lambda: bool(late))
    taken = []

    def feed(delta):
        clock.spend(delta)
        taken.append(delta)
        if len(taken) == after:
            assert stream.watch() == after
            late.append(True)
            assert stream.watch() == after

    way.consume(stream, feed)
    clock.spend(500)
    assert (len(taken), stream.pulled, stream.cut) == (after, after, True)
    run = record_of(stream)
    reached = (after - 1) // 10 * 10  # the last delta taken may not have come to its end
    assert run is None if not reached else (run.length, run.spent[-1]) == (reached, reached)


@EVERY_WAY
def test_watched_stream_goes_on_in_time(way):
    """To look at it changes nothing, nor does a look when it is at its end."""
    clock, taken, late = Clock(), [], []
    stream = way.stream([1] * 640, clock, lambda: bool(late))
    way.consume(stream, lambda delta: taken.append(stream.watch()) or clock.spend(delta))
    late.append(True)
    assert (stream.watch(), stream.cut) == (640, False)
    assert taken == list(range(1, 641))
    assert record_of(stream).spent == expected_spent([1] * 640)


@EVERY_WAY
def test_stop_is_asked_at_the_end_of_each_block(way):
    """A stream may be stopped between two blocks: not before the first, nor after the last."""
    asked = []

    def stop():
        asked.append(stream.pulled)
        return False

    stream = way.stream(range(640), Clock(), stop)
    way.consume(stream, lambda _delta: None)
    assert asked == list(range(10, 640, 10))
    assert not stream.cut


@ASYNC_WAYS
def test_cut_async_stream_stays_at_its_end(way):
    """Asked for more, a stream that was stopped ends again."""
    ends = []

    async def main(stream):
        deltas = aiter(stream)
        while (delta := await anext(deltas, None)) is not None:
            assert delta
        ends.extend([await anext(deltas, "end"), stream.pulled])

    stream = way.stream([1] * 640, Clock(), lambda: True)
    asyncio.run(main(stream)) if way.name == "asyncio" else trio.run(main, stream)
    assert ends == ["end", 10]


@given(
    st.lists(st.integers(0, 1_000), min_size=2, max_size=BLOCKS + 1),
    st.integers(1, BLOCKS) | st.integers(BLOCKS, 5_000),
)
def test_shortened_record_is_a_record(parts, length):
    """Whatever is left of a record, it has every block, and what was spent only rises."""
    spent = [sum(parts[:block]) - parts[0] for block in range(1, len(parts) + 1)]
    edges = [length * block // BLOCKS for block in range(BLOCKS + 1)]
    run = _shortened(edges, spent)
    left = edges[len(spent) - 1]
    if not left:
        assert run is None
    else:
        assert (run.length, run.edges[0], run.edges[-1]) == (left, 0, left)
        assert len(run.edges) == len(run.spent) == BLOCKS + 1
        assert sorted(run.edges) == list(run.edges)
        assert sorted(run.spent) == list(run.spent)
        assert (run.spent[0], run.finish) == (0, 0)


@given(st.lists(st.integers(0, 1_000), min_size=2, max_size=BLOCKS), st.integers(1, 80))
def test_shortened_record_keeps_what_was_spent(parts, width):
    """All that was spent is in it, and at an edge that both records have, as much as before."""
    spent = [sum(parts[:block]) for block in range(len(parts) + 1)]
    edges = [width * block for block in range(BLOCKS + 1)]
    run = _shortened(edges, spent)
    before = dict(zip(edges, spent, strict=False))
    after = dict(zip(run.edges, run.spent, strict=True))
    assert run.spent[-1] == pytest.approx(spent[-1])
    for edge in before.keys() & after.keys():
        assert after[edge] == pytest.approx(before[edge])


@given(st.integers(64, 20_000), st.integers(1, 63), st.integers(0, 100), st.integers(0, 100))
def test_shortened_record_keeps_the_cost(length, blocks, cost, growth):
    """Where cost climbs evenly it does so in the shortened record, but for the edges' rounding."""
    edges = [length * block // BLOCKS for block in range(BLOCKS + 1)]
    spent = [cost * edge + growth * edge**2 for edge in edges[: blocks + 1]]
    run = _shortened(edges, spent)
    for edge, at in zip(run.edges, run.spent, strict=True):
        within_a_block = growth * (length / BLOCKS + 1) ** 2
        assert at == pytest.approx(cost * edge + growth * edge**2, rel=1e-9, abs=within_a_block)


# -- consumers that use `next`


@SYNC_WAYS
def test_consumer_that_counts(way):
    """Who takes each delta by `next` and never asks for the end did a complete run."""
    clock = Clock()
    stream = way.stream([1] * 100, clock)
    deltas = iter(stream)
    for _ in range(len(stream)):
        clock.spend(next(deltas))
    run = record_of(stream)
    assert (run.length, run.total, run.spent) == (100, 100, expected_spent([1] * 100))


@ASYNC_WAYS
def test_async_consumer_that_counts(way):
    """Who takes each delta by `anext` and never asks for the end did a complete run."""
    clock = Clock()
    stream = way.stream([1] * 100, clock)

    async def main():
        deltas = aiter(stream)
        for _ in range(len(stream)):
            clock.spend(await anext(deltas))

    asyncio.run(main()) if way.name == "asyncio" else trio.run(main)
    run = record_of(stream)
    assert (run.length, run.total, run.spent) == (100, 100, expected_spent([1] * 100))


@SYNC_WAYS
def test_consumer_that_looks_ahead(way):
    """Who asks for the end by `next` has a finish."""
    clock = Clock()
    stream = way.stream([1] * 100, clock)
    deltas = iter(stream)
    while (delta := next(deltas, None)) is not None:
        clock.spend(delta)
    clock.spend(500)
    run = record_of(stream)
    assert (run.spent[-1], run.finish) == (100, 500)


@SYNC_WAYS
def test_consumer_in_two_loops(way):
    """One iterator may be read in several places."""
    clock = Clock()
    stream = way.stream([1] * 100, clock)
    deltas = iter(stream)
    clock.spend(next(deltas))
    feed_sync(deltas, clock.spend)
    assert record_of(stream).spent == expected_spent([1] * 100)


async def _shared(stream, workers):
    taken = []
    deltas = aiter(stream)

    async def work():
        async for delta in deltas:
            taken.append(delta)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    return taken


@pytest.mark.parametrize(("each", "turns"), [(True, 64), (False, 0)])
def test_threads_of_the_consumers_get_a_turn(each, turns, monkeypatch):
    """Where each delta is read by itself, a thread that was handed one is waited for."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    stream = MeteredStream(range(64), FakeMeter(Clock(), each=each), never)
    deltas = queue.Queue()
    thread = threading.Thread(target=list, args=(iter(deltas.get, None),))
    thread.start()
    feed_sync(stream, deltas.put)
    deltas.put(None)
    thread.join()
    assert len(slept) == turns


def test_nobody_is_waited_for_where_there_are_no_new_threads(monkeypatch):
    """A thread that was there before, a test runner's, say, is not the consumer's."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    feed_sync(MeteredStream(range(64), FakeMeter(Clock(), each=True), never), lambda _delta: None)
    over.set()
    thread.join()
    assert slept == []


@pytest.mark.parametrize("charge_loop", [False, True])
def test_tasks_that_share_a_stream(charge_loop):
    """Each delta is taken once, whoever takes it."""
    stream = MeteredStream(range(200), FakeMeter(Clock(), each=True), never)
    stream.charge_loop = charge_loop
    assert asyncio.run(_shared(stream, workers=4)) == list(range(200))
    assert record_of(stream).length == 200


@pytest.mark.parametrize("charge_loop", [False, True])
def test_what_the_loop_does_is_charged_on_demand(charge_loop):
    """A callback runs between two deltas: it is the consumer's where the loop is its own."""
    clock = Clock()
    stream = MeteredStream(range(64), FakeMeter(clock, each=True), never)
    stream.charge_loop = charge_loop

    async def consume():
        async for _ in stream:
            asyncio.get_running_loop().call_soon(clock.spend, 1.0)

    asyncio.run(consume())
    assert record_of(stream).spent[-1] == (64.0 if charge_loop else 0.0)


@SYNC_WAYS
def test_consumer_written_in_c(way):
    """Who leaves the loop to a C function did a complete run."""
    stream = way.stream(["ab"] * 100, Clock())
    assert "".join(stream) == "ab" * 100
    assert record_of(stream).length == 100


@pytest.mark.parametrize("first", [iter, aiter])
@pytest.mark.parametrize("again", [iter, aiter])
def test_second_iteration_is_an_error(first, again):
    """Two loops over one metered stream could not be told apart."""
    stream = MeteredStream(range(64), FakeMeter(Clock(), each=False), never)

    async def main():
        first(stream)
        with pytest.raises(RuntimeError, match="consumed already"):
            again(stream)

    asyncio.run(main())


@SYNC_WAYS
def test_second_iteration_spoils_nothing(way):
    """The record of the first loop is right all the same."""
    clock = Clock()
    stream = way.stream([1] * 100, clock)
    feed_sync(stream, clock.spend)
    with pytest.raises(RuntimeError):
        iter(stream)
    assert record_of(stream).spent == expected_spent([1] * 100)


# -- allocated bytes


def copies_of(feed, deltas=("delta",) * 128):
    """Measure what a consumer allocates; give its record, and the meter."""
    meter = AllocationMeter()
    with allocations():
        stream = MeteredStream(deltas, meter, never)
        feed_sync(stream, feed)
        run = record_of(stream)
    return run, meter


def per_delta(run):
    """Give the mean cost of a delta, once it has settled."""
    return (run.spent[-1] - run.spent[32]) / (run.edges[-1] - run.edges[32])


def test_copies_are_charged_in_bytes():
    """What a delta allocates is charged, though it is free again when the next one is pulled."""
    run, _ = copies_of(lambda _delta: bytes(10_000))
    assert 10_000 <= per_delta(run) < 10_500


def test_highest_point_is_charged():
    """Of two allocations after each other the greater one counts."""

    def feed(_delta):
        bytes(10_000)
        bytes(4_000)

    run, _ = copies_of(feed)
    assert 10_000 <= per_delta(run) < 10_500


def test_highest_point_is_charged_once():
    """A delta that allocated much is not held against those that come after it."""
    sizes = iter([0] * 20 + [1_000_000] + [0] * 107)
    run, _ = copies_of(lambda _delta: bytes(next(sizes)))
    assert run.spent[32] >= 1_000_000
    assert per_delta(run) < 1_000


def test_what_was_there_is_not_charged():
    """Only what comes on top of what was live counts."""
    kept = []
    run, _ = copies_of(lambda _delta: kept.append(bytes(1_000)))
    assert 1_000 <= per_delta(run) < 1_500


def test_copies_are_the_same_every_time():
    """Counts are exact: a second run of the same code gives the same record."""

    def once():
        parts = []
        return copies_of(lambda delta: parts.append(delta * 100))[0]

    once()
    assert once().spent[1:] == once().spent[1:]


def test_copies_of_other_tasks_are_not_charged():
    """What other tasks allocate while the stream yields to the loop is not the consumer's."""
    stream = MeteredStream(range(128), AllocationMeter(), never)
    hoard = []

    async def other():
        while True:
            hoard.append(bytes(100_000))
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other())
        await feed_async(stream, lambda _delta: None)
        stream.finish()
        task.cancel()

    with allocations():
        asyncio.run(main())
    assert len(hoard) >= 128
    assert per_delta(stream.run()) < 1_000


def test_copies_at_the_end_are_the_finish():
    """What is allocated after the last delta is the finish."""
    with allocations():
        stream = MeteredStream(["delta"] * 2_000, AllocationMeter(), never)
        parts = []
        feed_sync(stream, parts.append)
        "".join(parts)
        run = record_of(stream)
    assert 9_500 <= run.finish < 10_500


def test_held_is_what_the_consumer_keeps():
    """What was live at the end and not at the start is held."""
    kept = []
    _, meter = copies_of(lambda _delta: kept.append(bytes(1_000)))
    assert 128_000 <= meter.held < 160_000


def test_nothing_is_held_by_who_keeps_nothing():
    """What is freed again is not held."""
    _, meter = copies_of(lambda _delta: bytes(10_000))
    assert meter.held < 1_000


# -- calls


def called():
    """Be called."""


def calls_of(feed, deltas=range(128)):
    """Measure what a consumer calls."""
    meter = CallMeter()
    stream = MeteredStream(deltas, meter, never)
    try:
        for delta in stream:
            feed(delta)
        return record_of(stream)
    finally:
        meter.close()


def call_often(index):
    """Make `index` calls."""
    for _ in range(index):
        called()


def test_calls_are_charged_exactly():
    """Each delta is charged the calls it caused, and a few of ours, always the same."""
    overhead = calls_of(lambda _delta: None).spent
    spent = calls_of(call_often).spent
    assert [more - less for more, less in zip(spent, overhead, strict=True)] == [
        1 + sum(range(edge)) - 1 for edge in range(0, 129, 2)
    ]


def test_our_own_calls_are_few():
    """What metering adds to a delta is little, and always the same."""
    run = calls_of(lambda _delta: None)
    parts = {late - early for early, late in itertools.pairwise(run.spent[1:])}
    assert len(parts) == 1
    assert 2 <= parts.pop() <= 2 + 4


def test_calls_of_other_tasks_are_not_charged():
    """What other tasks call while the stream yields to the loop is not the consumer's."""
    meter = CallMeter()
    stream = MeteredStream(range(128), meter, never)

    async def other():
        while True:
            call_often(100)
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other())
        await feed_async(stream, lambda _delta: None)
        stream.finish()
        task.cancel()

    try:
        asyncio.run(main())
    finally:
        meter.close()
    assert stream.run().total < 128 * 20


def test_calls_in_the_thread_that_pulls():
    """A consumer in a thread of its own is counted there."""
    runs = []
    thread = threading.Thread(target=lambda: runs.append(calls_of(call_often)))
    thread.start()
    thread.join()
    assert runs[0].total >= sum(range(128))


def test_counting_ends_with_the_run():
    """After a run the profile function is what it was."""
    before = sys.getprofile()
    calls_of(called_with)
    assert sys.getprofile() is before


def called_with(_delta):
    """Be called with a delta."""


def test_counting_ends_after_an_early_stop():
    """It is so when the consumer left early."""
    before = sys.getprofile()

    def feed(delta):
        if delta == 3:
            raise Enough

    with pytest.raises(Enough):
        calls_of(feed)
    assert sys.getprofile() is before
