"""A `MeteredStream` records what a consumer spends on the deltas of each of its 64 blocks.

The stream hands deltas out and reads a meter at the next pull. `finish` ends a run, and `run`
returns its record, a `Run`, or None. Costs of set-up, of other tasks and of the stream itself
are not charged. Most tests use a clock that they advance themselves, so their costs are exact;
the last ones use the real meters of allocated bytes and of calls.
"""

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
from pytest_streamperf.growth.metered_stream import BLOCKS, MeteredStream, Run, _shortened_run
from tests.spent_clock import Clock

pytestmark = pytest.mark.alone


class FakeMeter:
    """A meter that reads the seconds which a test spent on its own clock."""

    def __init__(self, clock, *, reads_each_delta) -> None:
        self.clock, self.reads_each_delta = clock, reads_each_delta
        self.opened = self.times_opened = 0

    def open(self):
        """Count from now on, and count how often the meter was opened."""
        self.opened = self.clock.now
        self.times_opened += 1

    def read(self):
        """Return the seconds that were spent since `open`."""
        return self.clock.now - self.opened

    def close(self):
        """Do nothing, because this meter holds no resource."""


def never_stop():
    """Return False, so that a stream is not cut."""
    return False


async def feed_async(stream, feed):
    """Call `feed` with each delta of an async stream."""
    async for delta in stream:
        feed(delta)


def feed_sync(stream, feed):
    """Call `feed` with each delta of a sync stream."""
    for delta in stream:
        feed(delta)


class ConsumerKind:
    """Kind of a consumer and its meter: sync by block, sync by delta, asyncio, or trio."""

    def __init__(self, name, consume, *, reads_each_delta=False) -> None:
        self.name, self.consume, self.reads_each_delta = name, consume, reads_each_delta

    def stream(self, deltas, clock, stop=never_stop):
        """Make a stream for this kind, metered by the seconds that `clock` advances."""
        return MeteredStream(deltas, FakeMeter(clock, reads_each_delta=self.reads_each_delta), stop)


CONSUMER_KINDS = [
    ConsumerKind("by block", feed_sync),
    ConsumerKind("by delta", feed_sync, reads_each_delta=True),
    ConsumerKind("asyncio", lambda stream, feed: asyncio.run(feed_async(stream, feed))),
    ConsumerKind("trio", lambda stream, feed: trio.run(feed_async, stream, feed)),
]
EVERY_KIND = pytest.mark.parametrize("kind", CONSUMER_KINDS, ids=lambda kind: kind.name)
SYNC_KINDS = pytest.mark.parametrize("kind", CONSUMER_KINDS[:2], ids=lambda kind: kind.name)
ASYNC_KINDS = pytest.mark.parametrize("kind", CONSUMER_KINDS[2:], ids=lambda kind: kind.name)
# The costs of deltas are whole seconds, because floats add those up exactly.
COSTS = st.lists(st.integers(0, 1_000), min_size=BLOCKS, max_size=300)


def record_of(stream):
    """Finish a stream, as its consumer returns, and return the record of the run."""
    stream.finish()
    return stream.run()


def expected_spent(costs):
    """Return the cost up to each of the 65 block edges, for deltas of these costs."""
    edges = [len(costs) * block // BLOCKS for block in range(BLOCKS + 1)]
    return tuple(sum(costs[:edge]) for edge in edges)


# -- costs that are charged to the consumer


@EVERY_KIND
@given(costs=COSTS)
def test_each_delta_is_charged_to_its_block(kind, costs):
    """The cost of a delta is recorded between the two block edges around that delta."""
    clock = Clock()
    stream = kind.stream(costs, clock)
    kind.consume(stream, clock.spend)
    run = record_of(stream)
    assert (run.length, run.spent, run.finish) == (len(costs), expected_spent(costs), 0.0)


@EVERY_KIND
def test_edges_divide_the_stream_evenly(kind):
    """The block edges divide 1,000 deltas into 64 blocks of 15 or 16 deltas."""
    stream = kind.stream(range(1_000), Clock())
    kind.consume(stream, lambda _delta: None)
    edges = record_of(stream).edges
    lengths = {end - start for start, end in itertools.pairwise(edges)}
    assert (edges[0], edges[-1], len(edges)) == (0, 1_000, BLOCKS + 1)
    assert lengths == {15, 16}


@EVERY_KIND
def test_deltas_are_handed_out_in_order(kind):
    """The consumer gets every delta, unchanged and in order."""
    received = []
    kind.consume(kind.stream([f"d{index}" for index in range(100)], Clock()), received.append)
    assert received == [f"d{index}" for index in range(100)]


@EVERY_KIND
def test_set_up_is_not_counted(kind):
    """Costs before the first pull are not recorded."""
    clock = Clock()
    stream = kind.stream([1] * 64, clock)
    clock.spend(500)
    kind.consume(stream, clock.spend)
    assert record_of(stream).total == 64


@EVERY_KIND
def test_set_up_after_making_the_iterator_is_not_counted(kind):
    """Costs between making the iterator and the first pull are not recorded."""
    clock = Clock()
    stream = kind.stream([1] * 64, clock)
    deltas = iter(stream) if kind in CONSUMER_KINDS[:2] else aiter(stream)
    clock.spend(500)
    kind.consume(deltas, clock.spend)
    assert record_of(stream).total == 64


@EVERY_KIND
def test_finish_is_kept_apart(kind):
    """The cost after the last delta is recorded as the finish, and is part of the total."""
    clock = Clock()
    stream = kind.stream([1] * 64, clock)
    kind.consume(stream, clock.spend)
    clock.spend(500)
    run = record_of(stream)
    assert (run.spent[-1], run.finish, run.total) == (64, 500, 564)


@EVERY_KIND
def test_finish_ends_when_the_consumer_returns(kind):
    """Costs after `stream.finish()` are not recorded."""
    clock = Clock()
    stream = kind.stream([1] * 64, clock)
    kind.consume(stream, clock.spend)
    stream.finish()
    clock.spend(500)
    assert stream.run().total == 64


@EVERY_KIND
def test_record_can_be_asked_for_again(kind):
    """A second call of `stream.run()` returns an equal record."""
    clock = Clock()
    stream = kind.stream([1] * 64, clock)
    kind.consume(stream, clock.spend)
    run = record_of(stream)
    assert stream.run() == run


@EVERY_KIND
def test_stream_shorter_than_the_blocks(kind):
    """A stream of 3 deltas leaves some of its 64 blocks empty, and all its costs are recorded."""
    clock = Clock()
    stream = kind.stream([1, 2, 4], clock)
    kind.consume(stream, clock.spend)
    run = record_of(stream)
    assert (run.length, run.total, len(run.spent)) == (3, 7, BLOCKS + 1)


@pytest.mark.parametrize(("reads_each_delta", "openings"), [(False, BLOCKS), (True, 640)])
def test_meter_is_read_as_often_as_it_asks_for(reads_each_delta, openings):
    """A meter is opened once for each delta or each block, as it asks, and for the finish."""
    meter = FakeMeter(Clock(), reads_each_delta=reads_each_delta)
    feed_sync(MeteredStream(range(640), meter, never_stop), lambda _delta: None)
    assert meter.times_opened == openings + 1


def test_other_meters_know_nothing_of_memory():
    """A `Run` that is made without memory figures has 0 bytes held and 0 bytes kept."""
    run = Run(64, (0,), (0.0,), 0.0)
    assert (run.held, run.kept) == (0, 0)


# -- other tasks on the event loop


def test_other_asyncio_tasks_are_not_charged():
    """Costs of asyncio tasks that run while the stream yields to the loop are not charged."""
    clock = Clock()
    stream = MeteredStream([1] * 64, FakeMeter(clock, reads_each_delta=False), never_stop)
    turns = 0

    async def other_task():
        nonlocal turns
        while True:
            clock.spend(1_000)
            turns += 1
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other_task())
        await feed_async(stream, clock.spend)
        stream.finish()
        task.cancel()

    asyncio.run(main())
    assert turns >= 64
    assert stream.run().total == 64


def test_other_trio_tasks_are_not_charged():
    """Costs of trio tasks that run while the stream yields to the loop are not charged."""
    clock = Clock()
    stream = MeteredStream([1] * 64, FakeMeter(clock, reads_each_delta=False), never_stop)
    turns = 0

    async def other_task():
        nonlocal turns
        while True:
            clock.spend(1_000)
            turns += 1
            await trio.lowlevel.checkpoint()

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other_task)
            await feed_async(stream, clock.spend)
            stream.finish()
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert turns >= 64
    assert stream.run().total == 64


def test_what_the_consumer_awaits_is_charged():
    """Costs of a task that the consumer awaits between two pulls are charged."""
    clock = Clock()
    stream = MeteredStream([1] * 64, FakeMeter(clock, reads_each_delta=False), never_stop)

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
    """The stream lets the loop run once before each of 64 deltas, and once before its end."""
    steps = 0
    pull = feed_async(
        MeteredStream(range(64), FakeMeter(Clock(), reads_each_delta=False), never_stop),
        lambda _delta: None,
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
    """A pull that is cancelled while the loop runs loses no delta and charges no delta twice."""
    clock = Clock()
    stream = MeteredStream(range(64), FakeMeter(clock, reads_each_delta=False), never_stop)

    async def main():
        deltas, received = aiter(stream), []
        for _ in range(64):
            pull = asyncio.ensure_future(anext(deltas))
            await asyncio.sleep(0)
            pull.cancel()
            await asyncio.wait([pull])
            received.append(await anext(deltas))
            clock.spend(1)
        return received

    assert asyncio.run(main()) == list(range(64))
    assert record_of(stream).total == 64


# -- consumers that leave before the end


@EVERY_KIND
def test_untouched_stream_has_no_record(kind):
    """A stream from which the consumer takes no delta has no record."""
    stream = kind.stream(range(64), Clock())
    assert record_of(stream) is None
    assert stream.pulled == 0


class Enough(Exception):  # noqa: N818 - it ends a loop and is no error
    """Raised by the consumer of a test to leave its stream early."""


@EVERY_KIND
@pytest.mark.parametrize("taken", [1, 2, 99])
def test_early_stop_has_no_record(kind, taken):
    """A stream that the consumer leaves before its end has no record and is not cut."""
    stream = kind.stream(range(1, 101), Clock())

    def feed(delta):
        if delta == taken:
            raise Enough

    with pytest.raises(Enough):
        kind.consume(stream, feed)
    assert record_of(stream) is None
    assert not stream.cut


@EVERY_KIND
def test_pulled_tells_how_far_it_got(kind):
    """`pulled` is the number of deltas taken so far, within a block, too."""
    stream = kind.stream(range(1, 201), Clock())
    pulled = []
    kind.consume(stream, lambda _delta: pulled.append(stream.pulled))
    assert pulled == list(range(1, 201))


# -- streams that are cut, because `stop` returned True


def cut_after(kind, blocks, costs):
    """Consume a stream that is cut after this many blocks; return the stream and its clock."""
    clock, stop_calls = Clock(), 0

    def stop():
        nonlocal stop_calls
        stop_calls += 1
        return stop_calls >= blocks

    stream = kind.stream(costs, clock, stop)
    kind.consume(stream, clock.spend)
    return stream, clock


@EVERY_KIND
@pytest.mark.parametrize("blocks", [1, 2, 30, 63])
def test_cut_stream_ends_at_an_edge(kind, blocks):
    """A stream whose `stop` returns True at the end of a block ends there for the consumer."""
    stream, _ = cut_after(kind, blocks, [1] * 640)
    assert (stream.cut, stream.pulled) == (True, 10 * blocks)


@EVERY_KIND
@pytest.mark.parametrize("blocks", [1, 2, 30, 63])
def test_cut_stream_has_the_record_of_a_shorter_run(kind, blocks):
    """The record of a cut stream is that of a shorter, complete run, in 64 blocks again."""
    stream, clock = cut_after(kind, blocks, [1] * 640)
    clock.spend(500)
    run = record_of(stream)
    assert run.length == 10 * blocks
    assert run.spent == pytest.approx(expected_spent([1] * 10 * blocks))
    assert (len(run.spent), run.edges[-1]) == (BLOCKS + 1, run.length)


@EVERY_KIND
@pytest.mark.parametrize("taken_before_stop", [1, 37, 40, 639, 640])
def test_watched_stream_ends_at_the_next_pull(kind, taken_before_stop):
    """A call of `watch` in which `stop` returns True ends the stream at the next pull."""
    clock, stop_requests = Clock(), []
    stream = kind.stream([1] * 640, clock, lambda: bool(stop_requests))
    taken = []

    def feed(delta):
        clock.spend(delta)
        taken.append(delta)
        if len(taken) == taken_before_stop:
            assert stream.watch() == taken_before_stop
            stop_requests.append(True)
            assert stream.watch() == taken_before_stop

    kind.consume(stream, feed)
    clock.spend(500)
    assert (len(taken), stream.pulled, stream.cut) == (taken_before_stop, taken_before_stop, True)
    run = record_of(stream)
    # The block of the last delta is not recorded, because the work for it may not be done.
    recorded = (taken_before_stop - 1) // 10 * 10
    assert run is None if not recorded else (run.length, run.spent[-1]) == (recorded, recorded)


@EVERY_KIND
def test_watched_stream_goes_on_in_time(kind):
    """`watch` returns the number of deltas taken, and changes nothing while `stop` returns False.

    A stream that is at its end is not cut by `watch` any more.
    """
    clock, watched, stop_requests = Clock(), [], []
    stream = kind.stream([1] * 640, clock, lambda: bool(stop_requests))
    kind.consume(stream, lambda delta: watched.append(stream.watch()) or clock.spend(delta))
    stop_requests.append(True)
    assert (stream.watch(), stream.cut) == (640, False)
    assert watched == list(range(1, 641))
    assert record_of(stream).spent == expected_spent([1] * 640)


@EVERY_KIND
def test_stop_is_asked_at_the_end_of_each_block(kind):
    """`stop` is called between two blocks, but not before the first or after the last block."""
    pulled_at_stop = []

    def stop():
        pulled_at_stop.append(stream.pulled)
        return False

    stream = kind.stream(range(640), Clock(), stop)
    kind.consume(stream, lambda _delta: None)
    assert pulled_at_stop == list(range(10, 640, 10))
    assert not stream.cut


@ASYNC_KINDS
def test_cut_async_stream_stays_at_its_end(kind):
    """An async stream that was cut ends again when it is pulled again."""
    ends = []

    async def main(stream):
        deltas = aiter(stream)
        while (delta := await anext(deltas, None)) is not None:
            assert delta
        ends.extend([await anext(deltas, "end"), stream.pulled])

    stream = kind.stream([1] * 640, Clock(), lambda: True)
    asyncio.run(main(stream)) if kind.name == "asyncio" else trio.run(main, stream)
    assert ends == ["end", 10]


@given(
    st.lists(st.integers(0, 1_000), min_size=2, max_size=BLOCKS + 1),
    st.integers(1, BLOCKS) | st.integers(BLOCKS, 5_000),
)
def test_shortened_record_is_a_record(block_costs, length):
    """A shortened record has 64 blocks, and neither its edges nor its costs ever fall.

    There is no record if the first blocks hold no delta.
    """
    spent = [sum(block_costs[:block]) - block_costs[0] for block in range(1, len(block_costs) + 1)]
    edges = [length * block // BLOCKS for block in range(BLOCKS + 1)]
    run = _shortened_run(edges, spent)
    kept_length = edges[len(spent) - 1]
    if not kept_length:
        assert run is None
    else:
        assert (run.length, run.edges[0], run.edges[-1]) == (kept_length, 0, kept_length)
        assert len(run.edges) == len(run.spent) == BLOCKS + 1
        assert sorted(run.edges) == list(run.edges)
        assert sorted(run.spent) == list(run.spent)
        assert (run.spent[0], run.finish) == (0, 0)


@given(st.lists(st.integers(0, 1_000), min_size=2, max_size=BLOCKS), st.integers(1, 80))
def test_shortened_record_keeps_what_was_spent(block_costs, width):
    """A shortened record keeps all costs up to its end, and at each edge of the long record."""
    spent = [sum(block_costs[:block]) for block in range(len(block_costs) + 1)]
    edges = [width * block for block in range(BLOCKS + 1)]
    run = _shortened_run(edges, spent)
    long_record = dict(zip(edges, spent, strict=False))
    short_record = dict(zip(run.edges, run.spent, strict=True))
    assert run.spent[-1] == pytest.approx(spent[-1])
    for edge in long_record.keys() & short_record.keys():
        assert short_record[edge] == pytest.approx(long_record[edge])


@given(st.integers(64, 20_000), st.integers(1, 63), st.integers(0, 100), st.integers(0, 100))
def test_shortened_record_keeps_the_cost(length, blocks, cost, growth):
    """A shortened record keeps a linear or quadratic cost, give or take the growth in a block."""
    edges = [length * block // BLOCKS for block in range(BLOCKS + 1)]
    spent = [cost * edge + growth * edge**2 for edge in edges[: blocks + 1]]
    run = _shortened_run(edges, spent)
    for edge, spent_at_edge in zip(run.edges, run.spent, strict=True):
        growth_in_a_block = growth * (length / BLOCKS + 1) ** 2
        assert spent_at_edge == pytest.approx(
            cost * edge + growth * edge**2, rel=1e-9, abs=growth_in_a_block
        )


# -- consumers that pull by `next`, in threads, in several tasks, or in C


@SYNC_KINDS
def test_consumer_that_counts(kind):
    """A consumer that calls `next` once for each delta, and not for the end, has a record."""
    clock = Clock()
    stream = kind.stream([1] * 100, clock)
    deltas = iter(stream)
    for _ in range(len(stream)):
        clock.spend(next(deltas))
    run = record_of(stream)
    assert (run.length, run.total, run.spent) == (100, 100, expected_spent([1] * 100))


@ASYNC_KINDS
def test_async_consumer_that_counts(kind):
    """A consumer that calls `anext` once for each delta, and not for the end, has a record."""
    clock = Clock()
    stream = kind.stream([1] * 100, clock)

    async def main():
        deltas = aiter(stream)
        for _ in range(len(stream)):
            clock.spend(await anext(deltas))

    asyncio.run(main()) if kind.name == "asyncio" else trio.run(main)
    run = record_of(stream)
    assert (run.length, run.total, run.spent) == (100, 100, expected_spent([1] * 100))


@SYNC_KINDS
def test_consumer_that_looks_ahead(kind):
    """A consumer that calls `next` until the stream has ended has a finish."""
    clock = Clock()
    stream = kind.stream([1] * 100, clock)
    deltas = iter(stream)
    while (delta := next(deltas, None)) is not None:
        clock.spend(delta)
    clock.spend(500)
    run = record_of(stream)
    assert (run.spent[-1], run.finish) == (100, 500)


@SYNC_KINDS
def test_consumer_in_two_loops(kind):
    """A consumer may take the first delta by `next` and the rest in a loop."""
    clock = Clock()
    stream = kind.stream([1] * 100, clock)
    deltas = iter(stream)
    clock.spend(next(deltas))
    feed_sync(deltas, clock.spend)
    assert record_of(stream).spent == expected_spent([1] * 100)


async def _taken_by_tasks(stream, task_count):
    """Return the deltas that several tasks take from one iterator, in the order of taking."""
    taken = []
    deltas = aiter(stream)

    async def work():
        async for delta in deltas:
            taken.append(delta)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(task_count):
            group.create_task(work())
    return taken


@pytest.mark.parametrize(("reads_each_delta", "sleeps"), [(True, 64), (False, 0)])
def test_threads_of_the_consumers_get_a_turn(reads_each_delta, sleeps, monkeypatch):
    """A stream that is metered by delta sleeps after each delta if the consumer has a thread.

    The thread works on the delta during the sleep, before the meter is read. A stream that is
    metered by block does not sleep.
    """
    slept_seconds = []
    monkeypatch.setattr(time, "sleep", slept_seconds.append)
    stream = MeteredStream(
        range(64), FakeMeter(Clock(), reads_each_delta=reads_each_delta), never_stop
    )
    deltas = queue.Queue()
    thread = threading.Thread(target=list, args=(iter(deltas.get, None),))
    thread.start()
    feed_sync(stream, deltas.put)
    deltas.put(None)
    thread.join()
    assert len(slept_seconds) == sleeps


def test_nobody_is_waited_for_where_there_are_no_new_threads(monkeypatch):
    """A stream does not sleep for a thread that is older than itself, such as a test runner's."""
    slept_seconds = []
    monkeypatch.setattr(time, "sleep", slept_seconds.append)
    released = threading.Event()
    thread = threading.Thread(target=released.wait)
    thread.start()
    feed_sync(
        MeteredStream(range(64), FakeMeter(Clock(), reads_each_delta=True), never_stop),
        lambda _delta: None,
    )
    released.set()
    thread.join()
    assert slept_seconds == []


@pytest.mark.parametrize("charge_loop", [False, True])
def test_tasks_that_share_a_stream(charge_loop):
    """Four tasks that share a stream take each delta once, and the run is recorded."""
    stream = MeteredStream(range(200), FakeMeter(Clock(), reads_each_delta=True), never_stop)
    stream.charge_loop = charge_loop
    assert asyncio.run(_taken_by_tasks(stream, task_count=4)) == list(range(200))
    assert record_of(stream).length == 200


@pytest.mark.parametrize("charge_loop", [False, True])
def test_what_the_loop_does_is_charged_on_demand(charge_loop):
    """Costs of a callback that runs between two deltas are charged only with `charge_loop`.

    It is set where all tasks and callbacks on the loop belong to the consumer.
    """
    clock = Clock()
    stream = MeteredStream(range(64), FakeMeter(clock, reads_each_delta=True), never_stop)
    stream.charge_loop = charge_loop

    async def consume():
        async for _ in stream:
            asyncio.get_running_loop().call_soon(clock.spend, 1.0)

    asyncio.run(consume())
    assert record_of(stream).spent[-1] == (64.0 if charge_loop else 0.0)


@SYNC_KINDS
def test_consumer_written_in_c(kind):
    """A consumer whose loop over the deltas runs in C, such as `str.join`, has a record."""
    stream = kind.stream(["ab"] * 100, Clock())
    assert "".join(stream) == "ab" * 100
    assert record_of(stream).length == 100


@pytest.mark.parametrize("first_iter", [iter, aiter])
@pytest.mark.parametrize("second_iter", [iter, aiter])
def test_second_iteration_is_an_error(first_iter, second_iter):
    """A second `iter` or `aiter` of a metered stream raises a RuntimeError."""
    stream = MeteredStream(range(64), FakeMeter(Clock(), reads_each_delta=False), never_stop)

    async def main():
        first_iter(stream)
        with pytest.raises(RuntimeError, match="read already"):
            second_iter(stream)

    asyncio.run(main())


@SYNC_KINDS
def test_second_iteration_spoils_nothing(kind):
    """A second iteration, which is refused, does not change the record of the first."""
    clock = Clock()
    stream = kind.stream([1] * 100, clock)
    feed_sync(stream, clock.spend)
    with pytest.raises(RuntimeError):
        iter(stream)
    assert record_of(stream).spent == expected_spent([1] * 100)


# -- allocated bytes


def measure_allocations(feed, deltas=("delta",) * 128):
    """Return the record of the bytes allocated while `feed` gets each delta, and the meter."""
    meter = AllocationMeter()
    with allocations():
        stream = MeteredStream(deltas, meter, never_stop)
        feed_sync(stream, feed)
        run = record_of(stream)
    return run, meter


def late_cost_per_delta(run):
    """Return the mean cost per delta in the second half of a run, where it is steady."""
    return (run.spent[-1] - run.spent[32]) / (run.edges[-1] - run.edges[32])


def test_copies_are_charged_in_bytes():
    """Bytes that a delta allocates are charged, although they are free at the next pull."""
    run, _ = measure_allocations(lambda _delta: bytes(10_000))
    assert 10_000 <= late_cost_per_delta(run) < 10_500


def test_highest_point_is_charged():
    """Only the larger of two allocations, made one after the other, is charged.

    The meter reads the peak of live bytes.
    """

    def feed(_delta):
        bytes(10_000)
        bytes(4_000)

    run, _ = measure_allocations(feed)
    assert 10_000 <= late_cost_per_delta(run) < 10_500


def test_highest_point_is_charged_once():
    """A delta that allocates 1 MB does not raise the cost of the deltas after it."""
    sizes = iter([0] * 20 + [1_000_000] + [0] * 107)
    run, _ = measure_allocations(lambda _delta: bytes(next(sizes)))
    assert run.spent[32] >= 1_000_000
    assert late_cost_per_delta(run) < 1_000


def test_what_was_there_is_not_charged():
    """Bytes that the consumer keeps from earlier deltas are not charged again."""
    kept_bytes = []
    run, _ = measure_allocations(lambda _delta: kept_bytes.append(bytes(1_000)))
    assert 1_000 <= late_cost_per_delta(run) < 1_500


def test_copies_are_the_same_every_time():
    """Two runs of the same code have the same record of allocated bytes."""

    def measure():
        parts = []
        return measure_allocations(lambda delta: parts.append(delta * 100))[0]

    measure()
    assert measure().spent[1:] == measure().spent[1:]


def test_copies_of_other_tasks_are_not_charged():
    """Bytes that other tasks allocate while the stream yields to the loop are not charged."""
    stream = MeteredStream(range(128), AllocationMeter(), never_stop)
    hoard = []

    async def other_task():
        while True:
            hoard.append(bytes(100_000))
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other_task())
        await feed_async(stream, lambda _delta: None)
        stream.finish()
        task.cancel()

    with allocations():
        asyncio.run(main())
    assert len(hoard) >= 128
    assert late_cost_per_delta(stream.run()) < 1_000


def test_copies_at_the_end_are_the_finish():
    """Bytes that are allocated after the last delta are recorded as the finish."""
    with allocations():
        stream = MeteredStream(["delta"] * 2_000, AllocationMeter(), never_stop)
        parts = []
        feed_sync(stream, parts.append)
        "".join(parts)
        run = record_of(stream)
    assert 9_500 <= run.finish < 10_500


def test_held_is_what_the_consumer_keeps():
    """`AllocationMeter.held` counts the bytes that the consumer allocated and still keeps."""
    kept_bytes = []
    _, meter = measure_allocations(lambda _delta: kept_bytes.append(bytes(1_000)))
    assert 128_000 <= meter.held < 160_000


def test_nothing_is_held_by_who_keeps_nothing():
    """`AllocationMeter.held` does not count bytes that the consumer freed again."""
    _, meter = measure_allocations(lambda _delta: bytes(10_000))
    assert meter.held < 1_000


# -- calls


def do_nothing():
    """Do nothing: tests count how often this is called."""


def measure_calls(feed, deltas=range(128)):
    """Return the record of the calls made while `feed` gets each delta."""
    meter = CallMeter()
    stream = MeteredStream(deltas, meter, never_stop)
    try:
        for delta in stream:
            feed(delta)
        return record_of(stream)
    finally:
        meter.close()


def make_calls(count):
    """Make this many calls of `do_nothing`."""
    for _ in range(count):
        do_nothing()


def test_calls_are_charged_exactly():
    """A delta is charged exactly the calls that it causes, apart from the stream's own calls."""
    overhead = measure_calls(lambda _delta: None).spent
    spent = measure_calls(make_calls).spent
    assert [total - own for total, own in zip(spent, overhead, strict=True)] == [
        1 + sum(range(edge)) - 1 for edge in range(0, 129, 2)
    ]


def test_our_own_calls_are_few():
    """The stream adds at most 4 calls to a block of two deltas, the same in every block."""
    run = measure_calls(lambda _delta: None)
    calls_per_block = {late - early for early, late in itertools.pairwise(run.spent[1:])}
    assert len(calls_per_block) == 1
    assert 2 <= calls_per_block.pop() <= 2 + 4


def test_calls_of_other_tasks_are_not_charged():
    """Calls that other tasks make while the stream yields to the loop are not charged."""
    meter = CallMeter()
    stream = MeteredStream(range(128), meter, never_stop)

    async def other_task():
        while True:
            make_calls(100)
            await asyncio.sleep(0)

    async def main():
        task = asyncio.create_task(other_task())
        await feed_async(stream, lambda _delta: None)
        stream.finish()
        task.cancel()

    try:
        asyncio.run(main())
    finally:
        meter.close()
    assert stream.run().total < 128 * 20


def test_calls_in_the_thread_that_pulls():
    """Calls are counted in the thread that pulls the stream, which may be any thread."""
    runs = []
    thread = threading.Thread(target=lambda: runs.append(measure_calls(make_calls)))
    thread.start()
    thread.join()
    assert runs[0].total >= sum(range(128))


def test_counting_ends_with_the_run():
    """A run that counts calls leaves the profile function of the thread as it was."""
    before = sys.getprofile()
    measure_calls(ignore_delta)
    assert sys.getprofile() is before


def ignore_delta(_delta):
    """Take a delta and do nothing."""


def test_counting_ends_after_an_early_stop():
    """A run that counts calls restores the profile function if the consumer raises, too."""
    before = sys.getprofile()

    def feed(delta):
        if delta == 3:
            raise Enough

    with pytest.raises(Enough):
        measure_calls(feed)
    assert sys.getprofile() is before
