"""The growth check as users call it: its verdicts, the consumers that it takes, its errors.

Tests call `measure_growth` or `assert_linear` with a consumer, which is a function that takes a
stream. The growth of its work is known, so each test knows the right verdict: within, exceeded or
inconclusive. A check that could not measure enough is never within.
"""

import asyncio
import gc
import itertools
import signal
import threading
import time
import tracemalloc
import types
from collections import deque
from contextlib import contextmanager
from itertools import islice

import pytest
import trio

from pytest_streamperf import (
    GrowthExceeded,
    GrowthInconclusive,
    NothingMeasured,
    StreamperfWarning,
    TokenStream,
    assert_linear,
    measure_growth,
    measure_growth_async,
)
from pytest_streamperf._results.reporter import reporting_to
from pytest_streamperf._runtime import clock, instrumentation
from pytest_streamperf.growth import consumers
from pytest_streamperf.growth.runner import Runner, Stopped
from pytest_streamperf.growth.thresholds import Thresholds
from tests.data.accumulators import LINEAR, SUPERLINEAR, Reply, attribute
from tests.recording_reporter import RecordingReporter

pytestmark = pytest.mark.alone

# Counted metrics give the same verdict in every run, which time does not.
COUNTED_METRICS = ("allocated_bytes", "calls")


def linear(stream):
    return "".join(list(stream))


@pytest.mark.parametrize("name", LINEAR)
def test_linear_code_is_within(name):
    """Linear consumers of accumulators.py are within the limit, given 6 s of CPU time.

    The least CPU time that is enough is measured in benchmarks/.
    """
    consume, arguments = LINEAR[name]
    growth = measure_growth(consume, **{"seconds": 6.0, **arguments})
    assert growth.verdict == "within", growth.message
    assert growth.metric is None
    assert growth.superlinear_share <= growth.superlinear_interval[1]


@pytest.mark.parametrize("name", SUPERLINEAR)
def test_superlinear_code_is_exceeded(name):
    """Superlinear consumers of accumulators.py fail, and a line of that file is blamed."""
    consume, arguments = SUPERLINEAR[name]
    growth = measure_growth(consume, **arguments)
    assert growth.verdict == "exceeded", growth.message
    assert growth.superlinear_share > 0.25
    assert growth.blame[0].file.endswith("accumulators.py")


@pytest.mark.parametrize("name", [*LINEAR, *SUPERLINEAR])
def test_the_message_fits_a_screen(name):
    """A message has at most 13 ASCII lines of 72 columns; its first line may have 76 columns."""
    consume, arguments = {**LINEAR, **SUPERLINEAR}[name]
    message = measure_growth(consume, up_to=1_000, seconds=0.5, **arguments).message
    lines = f"GrowthExceeded: {message}".splitlines()
    assert len(lines) <= 13
    first_line, *other_lines = lines
    assert len(first_line) <= 76, first_line
    assert max(map(len, other_lines), default=0) <= 72, max(other_lines, key=len)
    assert message.isascii()


def test_counts_are_the_same_every_time():
    """Two checks of one consumer by counted metrics give the same message and the same share.

    The shares may differ by 0.01%, as other threads may allocate a little.
    """
    first, second = (measure_growth(attribute, metrics=COUNTED_METRICS) for _ in range(2))
    assert first.message == second.message
    share = pytest.approx(second.superlinear_share, rel=1e-4)
    assert first.superlinear_share == share


# -- kinds of consumers: functions and generators, sync and async


async def async_linear(stream):
    parts = []
    async for delta in stream:
        parts.append(delta)
    return "".join(parts)


async def async_quadratic(stream):
    reply = Reply()
    async for delta in stream:
        reply.feed(delta)


def generator_linear(stream):
    for delta in stream:
        yield delta.upper()


def generator_quadratic(stream):
    reply = Reply()
    for delta in stream:
        reply.feed(delta)
        yield delta


async def async_generator_linear(stream):
    async for delta in stream:
        yield delta.upper()


async def async_generator_quadratic(stream):
    reply = Reply()
    async for delta in stream:
        reply.feed(delta)
        yield delta


CONSUMERS_BY_VERDICT = {
    "within": (linear, async_linear, generator_linear, async_generator_linear),
    "exceeded": (attribute, async_quadratic, generator_quadratic, async_generator_quadratic),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("expected", "consume"),
    [
        (verdict, consume)
        for verdict in CONSUMERS_BY_VERDICT
        for consume in CONSUMERS_BY_VERDICT[verdict]
    ],
)
def test_every_shape_of_consumer(backend, expected, consume):
    """Functions and generators, sync and async, get the right verdict on asyncio and trio."""
    assert measure_growth(consume, up_to=4_000, backend=backend).verdict == expected


@pytest.mark.parametrize("run_loop", [asyncio.run, trio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize("expected", CONSUMERS_BY_VERDICT)
def test_the_async_form_awaits_in_the_current_task(run_loop, expected):
    """`measure_growth_async` calls every kind of consumer in the thread of the running loop."""
    loop_thread = threading.get_ident()

    async def check(consume, wrapped):
        growth = await measure_growth_async(wrapped, up_to=4_000)
        assert growth.verdict == expected, (consume, growth.message)

    for consume in CONSUMERS_BY_VERDICT[expected]:

        def wrapped(stream, consume=consume):
            assert threading.get_ident() == loop_thread
            return consume(stream)

        run_loop(check, consume, wrapped) if run_loop is trio.run else run_loop(
            check(consume, wrapped)
        )


def test_what_lives_on_the_running_loop_can_be_used():
    """A consumer may wait for another task of the running loop, such as a server of the test."""

    async def main():
        questions, answers = asyncio.Queue(), asyncio.Queue()

        async def serve():
            while True:
                await answers.put((await questions.get()).upper())

        async def consume(stream):
            async for delta in stream:
                await questions.put(delta)
                await answers.get()

        server = asyncio.create_task(serve())
        growth = await measure_growth_async(consume, up_to=1_000, metrics=COUNTED_METRICS)
        server.cancel()
        return growth.verdict

    assert asyncio.run(main()) == "within"


def test_the_sync_form_inside_a_loop_names_the_other():
    """Inside a loop, `assert_linear` refuses an async consumer and names the async form."""

    async def main():
        with pytest.raises(TypeError, match=r"await assert_linear\.aio"):
            assert_linear(async_linear)

    asyncio.run(main())


def test_a_sync_consumer_may_be_checked_inside_a_loop():
    """`assert_linear` accepts a sync consumer where an event loop is running."""

    async def main():
        return assert_linear(linear, up_to=1_000, metrics=COUNTED_METRICS).verdict

    assert asyncio.run(main()) == "within"


def test_a_consumer_in_another_thread():
    """If a thread that the consumer starts pulls the stream, its growth is found and blamed."""

    def consume(stream):
        thread = threading.Thread(target=attribute, args=(stream,))
        thread.start()
        thread.join()

    growth = measure_growth(consume, up_to=5_000)
    assert growth.verdict == "exceeded"
    assert growth.blame[0].function == "Reply.feed"


def test_delta_makes_events():
    """The function `delta=` makes the deltas, so a consumer can get events instead of text."""

    def consume(stream):
        return [event["text"] for event in stream]

    growth = measure_growth(
        consume, delta=lambda index: {"text": str(index)}, metrics=COUNTED_METRICS
    )
    assert growth.verdict == "within"


def test_sizes_call_code_that_takes_its_input_at_once():
    """A check with `sizes=` calls `consume(n)` for each size n and compares the costs."""

    def quadratic_in(count):
        return sum(len(range(other)) for one in range(count) for other in (one,) * count)

    called_sizes = []

    def linear_in(count):
        called_sizes.append(count)
        return sum(range(count * 20))

    assert measure_growth(linear_in, sizes=(2_000, 4_000, 8_000)).verdict == "within"
    assert set(called_sizes) == {2_000, 4_000, 8_000}
    growth = measure_growth(quadratic_in, sizes=(50, 100, 200))
    assert growth.verdict == "exceeded", growth.message


def test_what_it_costs_to_set_up_hides_no_growth():
    """A check with `sizes=` is not within if its budget ends below the largest size.

    A set-up cost, 20 ms in this test, hides the growth in small inputs, so the check is
    inconclusive.
    """

    def set_up_and_grow(count):
        end_of_set_up = clock.cpu() + 0.02
        while clock.cpu() < end_of_set_up:
            pass
        return [index for index in range(count) for _ in range(count // 100)]

    sizes = [100 * 2**octave for octave in range(9)]
    assert measure_growth(set_up_and_grow, sizes=sizes, seconds=0.1).verdict == "inconclusive"


def test_a_finish_is_not_leapt_at():
    """Growth in the finish makes the check fail, although a fixed cost dominates short runs.

    The finish is the work after the last delta. A stream can be cut where the budget ends, but a
    run that is stopped in its finish shows nothing. So the check lengthens such streams step by
    step.
    """

    def consume(stream):
        text, matches = "", sum(range(400_000))
        for delta in list(stream):
            text += delta * 10
            matches += text.count("zz")
        return matches

    assert measure_growth(consume).verdict == "exceeded"


def test_reading_all_first_and_working_at_the_end_is_seen():
    """Growth of the work after the last delta makes the check fail."""

    def consume(stream):
        reply = Reply()
        for delta in list(stream):
            reply.feed(delta)

    assert measure_growth(consume).verdict == "exceeded"


def test_code_that_a_library_calls_back():
    """Quadratic work in a callback that a library feeds with the deltas makes the check fail."""

    def consume(stream):
        reply = Reply()
        deque(map(reply.feed, stream), maxlen=0)

    assert measure_growth(consume).verdict == "exceeded"


@pytest.mark.parametrize("size", [7, 100])
def test_reading_ahead(size):
    """A consumer that takes its deltas in batches, of 7 or of 100, gets the right verdict."""

    def batches(stream, add):
        deltas = iter(stream)
        while batch := list(islice(deltas, size)):
            add(batch)

    def join_batches(stream):
        texts = []
        batches(stream, lambda batch: texts.append("".join(batch)))

    def copy_all_text(stream):
        reply = Reply()
        batches(stream, lambda batch: [reply.feed(delta) for delta in batch])

    assert measure_growth(join_batches).verdict == "within"
    assert measure_growth(copy_all_text).verdict == "exceeded"


@pytest.mark.parametrize("interval", [16, 100])
def test_a_cost_that_comes_now_and_then(interval):
    """A quadratic cost that comes only once in 16 or 100 deltas makes the check fail."""

    def consume(stream):
        text, matches = "", 0
        for index, delta in enumerate(stream):
            text += delta
            if index % interval == 0:
                matches += sum(text.count(word) for word in ("x", "y", "z", "q"))
        return matches

    assert measure_growth(consume).verdict == "exceeded"


class Window:
    """The last `size` characters of the deltas that were fed to it."""

    def __init__(self, size):
        self.text, self.size = "", size

    def feed(self, delta):
        self.text = (self.text + delta)[-self.size :]


@pytest.mark.parametrize("size", [250, 2_000, 5_000])
def test_a_window_that_fills_is_linear(size):
    """A consumer that keeps only the last 250 to 5,000 characters of a reply does not fail."""

    def consume(stream):
        window = Window(size)
        for delta in stream:
            window.feed(delta)

    assert measure_growth(consume, up_to=5_000, metrics=COUNTED_METRICS).verdict != "exceeded"
    assert measure_growth(consume, up_to=5_000).verdict != "exceeded"


async def _feed_through_queue(stream, reply):
    queue = asyncio.Queue()

    async def work():
        while (delta := await queue.get()) is not None:
            reply.feed(delta)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        async for delta in stream:
            queue.put_nowait(delta)
        queue.put_nowait(None)


async def _feed_in_callbacks(stream, reply):
    async for delta in stream:
        asyncio.get_running_loop().call_soon(reply.feed, delta)


@pytest.mark.parametrize("feed_all", [_feed_through_queue, _feed_in_callbacks])
def test_tasks_on_a_loop_of_its_own_are_the_consumers(feed_all):
    """Work in other tasks and in callbacks is measured on an event loop of the check."""
    assert measure_growth(lambda stream: feed_all(stream, Reply())).verdict == "exceeded"


def test_a_result_says_all_it_knows():
    """A result holds `half_at`, the cost curves of bytes and of CPU time, and the noise."""
    growth = measure_growth(attribute)
    assert growth.half_at < 1_000
    assert [length for length, _ in growth.curves["allocated_bytes"].points][-2:] == [
        10_000,
        20_000,
    ]
    assert [length for length, _ in growth.curves["cpu_time"].points][-2:] == [10_000, 20_000]
    (_, before), (_, last) = growth.curves["allocated_bytes"].points[-2:]
    assert last > 1.9 * before
    assert growth.noise.page_faults is None or growth.noise.page_faults >= 0


# -- consumers that raise, stop early, keep state or do not end


def test_a_consumer_that_raises():
    """An error of the consumer comes through, with a note of how many deltas it had taken."""

    def consume(stream):
        for index, _ in enumerate(stream):
            if index == 7:
                message = "out of order"
                raise LookupError(message)

    with pytest.raises(LookupError, match="out of order") as caught:
        measure_growth(consume)
    assert "8 of the" in caught.value.__notes__[0]


def test_a_consumer_that_takes_nothing():
    """`measure_growth` and `assert_linear` raise `NothingMeasured` if no delta is taken."""
    for check in (measure_growth, assert_linear):
        with pytest.raises(NothingMeasured, match="took no delta"):
            check(lambda _stream: "done")


def test_a_consumer_that_stops_early():
    """A consumer that stops after 10 deltas makes the check inconclusive, with that number."""

    def consume(stream):
        for index, _ in enumerate(stream):
            if index == 9:
                break

    with pytest.raises(GrowthInconclusive, match="took 10 of"):
        assert_linear(consume)


@pytest.mark.parametrize("kind", ["text", "list", "joined"])
def test_a_consumer_that_keeps_state_between_runs(kind):
    """State that a consumer keeps from run to run makes the check inconclusive, with advice."""
    kept_text, kept_list = [""], []

    def consume(stream):
        for delta in stream:
            if kind == "text":
                # Four times, as the interpreter may keep as much as the shortest stream itself.
                kept_text[0] += delta * 4
            else:
                kept_list.append(delta)
        return "".join(kept_list) if kind == "joined" else None

    with pytest.raises(GrowthInconclusive, match="built inside consume"):
        assert_linear(consume)


def test_what_a_run_holds_that_was_cut_is_not_state():
    """Deltas that are held by an error from a cut stream do not count as the consumer's state.

    The check cuts the stream, so the consumer raises an error, whose frames hold the deltas.
    """
    cache = []

    def consume(stream):
        held_deltas = []
        for index, delta in enumerate(stream):
            held_deltas.append(delta * 20)
            # The first two runs, of 78 and 312 deltas, fill the cache, so a third run is made.
            if tracemalloc.is_tracing() and len(cache) < 78 + 312:
                cache.append(delta * 20)
            # The third run is so slow that its stream is cut.
            if tracemalloc.is_tracing() and index > 312:
                sum(range(50_000))
        if len(held_deltas) not in {78, 312, 1_250, 5_000, 20_000}:
            raise EOFError

    assert "built inside" not in measure_growth(consume, seconds=0.5).message


def test_what_is_kept_once_is_not_state():
    """A cache that fills up once does not count as state.

    It does not grow from run to run.
    """
    cache = {}

    def consume(stream):
        return "".join([cache.setdefault(delta, delta * 20) for delta in stream])

    assert measure_growth(consume).verdict == "within"


def test_what_is_kept_for_a_while_is_not_state():
    """Memory that only the first five runs leave behind does not count as state.

    A server that waits for a core releases the memory of a run late. One run that leaves nothing
    behind is enough.
    """
    run_numbers, kept_runs = itertools.count(), []

    def consume(stream):
        deltas = [delta * 20 for delta in stream]
        if next(run_numbers) < 5:
            kept_runs.append(deltas)

    assert measure_growth(consume).verdict == "within"
    assert len(kept_runs) == 5


def test_a_consumer_that_waits_for_ever():
    """`timeout=` ends a consumer that waits for ever; the message counts the deltas taken."""

    def consume(stream):
        for _ in stream:
            threading.Event().wait()

    growth = measure_growth(consume, timeout=0.1)
    assert growth.verdict == "inconclusive"
    assert "still waited" in growth.message
    assert "with 1 of" in growth.message


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_consumer_that_waits_for_ever(backend):
    """After `timeout`, a waiting async consumer is cancelled and the check is inconclusive."""
    cancelled = []

    async def consume(stream):
        async for _ in stream:
            try:
                await {"asyncio": asyncio, "trio": trio}[backend].Event().wait()
            finally:
                cancelled.append(True)

    growth = measure_growth(consume, timeout=0.1, backend=backend)
    assert growth.verdict == "inconclusive"
    assert cancelled == [True]


def test_a_timeout_of_the_consumers_own_is_not_ours():
    """A TimeoutError that an async consumer raises itself comes through to the test."""

    async def consume(stream):
        async for _ in stream:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        measure_growth(consume)


@contextmanager
def _cpu_time_below(seconds):
    """Assert that the block takes less than this many seconds of CPU time."""
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def test_a_consumer_that_spins():
    """A spinning consumer in the main thread is stopped soon after `seconds` of CPU time."""

    def consume(stream):
        for _ in stream:
            while True:
                time.process_time()

    # The 0.1 s are for one tick of the deadline and for the set-up.
    with _cpu_time_below(seconds=0.3 * 1.1 + 0.1):
        growth = measure_growth(consume, seconds=0.3)
    assert growth.verdict == "inconclusive"
    assert "did not ask for more" in growth.message


def test_a_consumer_that_spins_and_swallows():
    """A spinning consumer that swallows the error of the deadline gets it again, until it ends."""

    def consume(stream):
        for _ in stream:
            while True:
                try:
                    while True:
                        time.process_time()
                except BaseException:
                    if time.process_time() > swallows_until:
                        raise

    swallows_until = time.process_time() + 0.5
    assert measure_growth(consume, seconds=0.3).verdict == "inconclusive"


def _check_stopped_consumer(stuck_seconds, feed):
    """Check a consumer that raises the error of a passed deadline in runs of over 1,250 deltas.

    It takes 1,000 deltas of such a run; its last pull is `stuck_seconds` of CPU time ago.
    """

    def consume(stream):
        for index, delta in enumerate(stream):
            if index == 999 and len(stream) > 1_250:
                raise clock.Overrun("cpu", stuck_seconds)
            feed(delta)

    return measure_growth(consume, metrics=COUNTED_METRICS)


def test_a_consumer_that_is_only_slow_is_no_spinner():
    """A consumer that is stopped while it still pulls does not make the check inconclusive."""
    growth = _check_stopped_consumer(0.0, lambda _: None)
    assert (growth.verdict, growth.measured_to) == ("within", 1_250)


def test_a_consumer_that_went_astray_is_told_so():
    """A consumer that is stopped 0.6 s after its last pull makes the check inconclusive."""
    growth = _check_stopped_consumer(0.6, lambda _: None)
    assert growth.verdict == "inconclusive"
    assert "did not ask for more than 1,000" in growth.message


def test_what_was_seen_before_a_consumer_went_astray_counts():
    """Growth in short streams makes the check fail, even if a longer run has to be stopped."""
    assert measure_growth(_quadratic_until_stopped, metrics=COUNTED_METRICS).verdict == "exceeded"


def _quadratic_until_stopped(stream):
    """Copy all text at each delta, and raise the error of a passed deadline at delta 4,500."""
    reply = Reply()
    for index, delta in enumerate(stream):
        if index == 4_500:
            raise clock.Overrun("cpu", 9.9)
        reply.feed(delta)


def test_a_spinning_consumer_in_another_thread_is_stopped_when_it_pulls():
    """Outside the main thread, the stream ends at the first pull after `seconds` are spent."""

    def consume(stream):
        for _ in stream:
            sum(range(2_000))

    results = []
    thread = threading.Thread(
        target=lambda: results.append(measure_growth(consume, seconds=0.2, up_to=1_000_000))
    )
    thread.start()
    thread.join(30)
    assert results[0].verdict in ("within", "inconclusive")
    assert results[0].measured_to < 1_000_000


def test_a_consumer_that_spins_at_the_end():
    """A linear consumer that spins after its last delta makes the check inconclusive."""

    def consume(stream):
        if sum(1 for _ in stream) > 1_000:
            while True:
                time.process_time()

    growth = measure_growth(consume, seconds=0.3)
    assert growth.verdict == "inconclusive"
    assert "took all of" in growth.message


def test_an_overrun_in_a_group_is_an_overrun():
    """A passed deadline is recognised inside exception groups and makes the check inconclusive.

    A task group of the consumer may wrap the error that stops the consumer.
    """

    def consume(stream):
        for _ in stream:
            raise BaseExceptionGroup("tasks", [BaseExceptionGroup("", [clock.Overrun("wall")])])

    assert measure_growth(consume).verdict == "inconclusive"


def test_another_group_of_errors_comes_through():
    """An exception group without the error of a deadline comes through to the test."""

    def consume(stream):
        for _ in stream:
            raise BaseExceptionGroup("tasks", [KeyboardInterrupt()])

    with pytest.raises(BaseExceptionGroup, match="tasks"):
        measure_growth(consume)


def test_a_thread_that_does_not_end_is_left_behind(monkeypatch):
    """A check that times out leaves a thread of the consumer behind if it does not end soon."""
    monkeypatch.setattr(consumers, "THRESHOLDS", Thresholds(loop_closing_seconds=0.1))
    released = threading.Event()

    async def consume(stream):
        async for _ in stream:
            await asyncio.to_thread(released.wait)

    assert measure_growth(consume, timeout=0.1).verdict == "inconclusive"
    released.set()


def test_one_check_at_a_time():
    """A second check at the same time is refused, because two checks would measure each other.

    Afterwards the garbage collector and the signal handler are as they were.
    """
    before = gc.isenabled(), signal.getsignal(signal.SIGALRM)

    async def main():
        checks = [measure_growth_async(async_linear, up_to=640) for _ in range(2)]
        return await asyncio.gather(*checks, return_exceptions=True)

    first, second = asyncio.run(main())
    assert first.verdict == "within"
    assert "another growth check runs" in str(second)
    assert before == (gc.isenabled(), signal.getsignal(signal.SIGALRM))


def test_a_check_within_a_check():
    """A consumer may make another growth check in the same thread; both checks are within."""
    inner_verdicts = []

    def consume(stream):
        if not inner_verdicts:
            inner_verdicts.append(
                measure_growth(linear, up_to=640, metrics=COUNTED_METRICS).verdict
            )
        return linear(stream)

    assert measure_growth(consume).verdict == "within"
    assert inner_verdicts == ["within"]


def test_time_is_inconclusive_while_somebody_traces_allocations(monkeypatch):
    """While tracemalloc is on, a check can fail by counts, but linear counts are inconclusive.

    They are no proof of linear time. The check leaves tracemalloc on.
    """
    monkeypatch.setattr(instrumentation, "_warned", True)
    tracemalloc.start()
    try:
        growth = measure_growth(linear)
        assert measure_growth(attribute).verdict == "exceeded"
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    assert growth.verdict == "inconclusive"
    assert "tracemalloc is on" in growth.message


# -- limits, arguments and progress


def test_copies_smaller_than_what_a_delta_allocates_anyway_are_found():
    """Copies of the text are found although each delta allocates 8,000 bytes for another purpose.

    Counts go on until a copy of all text would be the largest allocation.
    """

    def consume(stream):
        text = types.SimpleNamespace(so_far="")
        for delta in stream:
            bytes(8_000)
            text.so_far += delta

    growth = measure_growth(consume)
    assert (growth.verdict, growth.metric) == ("exceeded", "allocated_bytes")


def test_copies_can_be_accepted():
    """The option `copies="warn"` turns a failure for copies, and no other, into a warning."""
    with pytest.warns(StreamperfWarning, match="allocated"):
        growth = assert_linear(attribute, copies="warn")
    assert growth.verdict == "within"
    consume, arguments = SUPERLINEAR["rescanned"]
    with pytest.raises(GrowthExceeded):
        assert_linear(consume, copies="warn", **arguments)


@pytest.mark.parametrize("name", ["attribute", "kept_snapshot", "rescanned"])
def test_what_the_message_allows_is_really_accepted(name):
    """The setting in the `allow` line of a failure message makes the same check pass."""
    consume, arguments = SUPERLINEAR[name]
    arguments = {"up_to": 4_000, **arguments}
    allow_line = measure_growth(consume, **arguments).message.splitlines()[-1]
    setting = allow_line.removeprefix("  allow  ").split(",")[0]
    key, value = setting.split("=")
    accepted = value.strip('"') if key == "copies" else float(value)
    growth = measure_growth(consume, **arguments, **{key: accepted})
    assert growth.verdict == "within"


def test_a_bound_is_enough_to_pass():
    """If the budget ends below the maximum length, a bound on the share there is enough to pass."""

    def consume(stream):
        return "".join([delta for delta in stream if sum(range(1_000))])

    growth = measure_growth(consume, up_to=1_000_000, seconds=1.0, metrics=COUNTED_METRICS)
    assert growth.verdict == "within", growth.message
    assert growth.measured_to < 1_000_000
    assert f"({growth.measured_to:,} run)" in growth.headline


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"up_to": 0}, ValueError, "up_to must be at least 64"),
        ({"up_to": 2.5}, TypeError, "up_to must be a whole number"),
        ({"up_to": True}, TypeError, "up_to must be a whole number"),
        ({"max_superlinear": 0}, ValueError, "superlinear must be greater than 0 and at most 1"),
        ({"max_superlinear": 1.5}, ValueError, "superlinear must be greater than 0 and at most 1"),
        ({"max_superlinear": "125%"}, ValueError, "max_superlinear must be a share, as '25%'"),
        ({"max_superlinear": None}, TypeError, "max_superlinear must be a share, as '25%'"),
        ({"copies": "ignore"}, ValueError, "copies must be 'fail' or 'warn'"),
        ({"delta": "text"}, TypeError, "delta must be a callable"),
        ({"sizes": (1, 2)}, ValueError, "sizes must be at least 3"),
        ({"sizes": (1, 2, "3")}, TypeError, "sizes must be"),
        ({"seconds": -1}, ValueError, "seconds must be greater than 0"),
        ({"seconds": "2 kg"}, ValueError, "seconds must be a time, as '200ms'"),
        ({"seconds": "0s"}, ValueError, "seconds must be greater than 0"),
        ({"timeout": 0}, ValueError, "timeout must be greater than 0"),
        ({"timeout": True}, TypeError, "timeout must be a time, as '200ms'"),
        ({"metrics": ()}, ValueError, "metrics must be one or more of"),
        ({"metrics": 5}, ValueError, "metrics must be one or more of"),
        ({"metrics": [["allocated_bytes"]]}, ValueError, "metrics must be one or more of"),
        ({"sizes": 5}, TypeError, "sizes must be a sequence of lengths"),
        ({"backend": []}, ValueError, "backend must be one of"),
        ({"metrics": "cpu_time"}, ValueError, "metrics must be one or more of"),
        ({"metrics": ("bytes",)}, ValueError, "metrics must be one or more of"),
        ({"backend": "curio"}, ValueError, "backend must be one of 'asyncio', 'trio'"),
        ({"upto": 1_000}, TypeError, "upto"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    """A bad argument raises an error that names the argument and the values it may have."""
    with pytest.raises(error, match=message):
        measure_growth(linear, **arguments)


def test_a_consumer_must_be_callable():
    """A stream in place of the consumer raises a TypeError that asks for a callable."""
    with pytest.raises(TypeError, match="consume must be a callable"):
        measure_growth(TokenStream())


def test_a_run_that_only_shows_may_be_stopped(monkeypatch):
    """If counts have decided, a timed run that is stopped does not change the verdict.

    Such a run only adds times to the message.
    """
    original_run = Runner.run

    def run(self, metric, length, cpu_seconds=None):
        if metric == "cpu_time" and length > 1_000:
            raise Stopped("it had no time left", length)
        return (yield from original_run(self, metric, length, cpu_seconds))

    monkeypatch.setattr(Runner, "run", run)
    growth = measure_growth(attribute, up_to=4_000)
    assert (growth.verdict, growth.metric) == ("exceeded", "allocated_bytes")


def test_a_check_that_takes_long_says_where_it_is(monkeypatch):
    """A check that takes long reports its progress and its end; a short one reports neither."""
    reporter = RecordingReporter()
    with reporting_to(reporter):
        measure_growth(attribute, up_to=640)
    assert reporter.progress_lines == []
    immediate_progress = Thresholds(quiet_seconds=0.0, progress_interval_seconds=0.0)
    monkeypatch.setattr(consumers, "THRESHOLDS", immediate_progress)
    with reporting_to(reporter):
        measure_growth(attribute, up_to=640)
    *steps, last = reporter.progress_lines
    assert len(steps) > 2
    assert all(step.startswith("growth: ") and step.endswith(" deltas") for step in steps)
    assert last == ""


def test_a_check_that_is_ended_by_an_error_is_done(monkeypatch):
    """An error that ends a check clears its progress line."""

    def failing_consumer(stream):
        raise ZeroDivisionError(next(iter(stream)))

    immediate_progress = Thresholds(quiet_seconds=0.0, progress_interval_seconds=0.0)
    monkeypatch.setattr(consumers, "THRESHOLDS", immediate_progress)
    reporter = RecordingReporter()
    with reporting_to(reporter), pytest.raises(ZeroDivisionError):
        measure_growth(failing_consumer)
    assert reporter.progress_lines[-1] == ""
