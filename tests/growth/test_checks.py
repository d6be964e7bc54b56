"""The verdict as people get it: right on code whose growth is known, and never green by luck."""

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

COUNTS = ("allocated_bytes", "calls")


def linear(stream):
    return "".join(list(stream))


@pytest.mark.parametrize("name", LINEAR)
def test_linear_code_is_within(name):
    """What CPython does in linear time passes, with time enough; the least is in benchmarks/."""
    consume, terms = LINEAR[name]
    growth = measure_growth(consume, **{"seconds": 6.0, **terms})
    assert growth.verdict == "within", growth.message
    assert growth.metric is None
    assert growth.superlinear_share <= growth.superlinear_interval[1]


@pytest.mark.parametrize("name", SUPERLINEAR)
def test_superlinear_code_is_exceeded(name):
    """What goes over earlier deltas again fails, and this file's line is blamed for it."""
    consume, terms = SUPERLINEAR[name]
    growth = measure_growth(consume, **terms)
    assert growth.verdict == "exceeded", growth.message
    assert growth.superlinear_share > 0.25
    assert growth.blame[0].file.endswith("accumulators.py")


@pytest.mark.parametrize("name", [*LINEAR, *SUPERLINEAR])
def test_the_message_fits_a_screen(name):
    """A message is at most 13 lines of ASCII, of 72 columns; its headline may have 76."""
    consume, terms = {**LINEAR, **SUPERLINEAR}[name]
    message = measure_growth(consume, up_to=1_000, seconds=0.5, **terms).message
    lines = f"GrowthExceeded: {message}".splitlines()
    assert len(lines) <= 13
    headline, *others = lines
    assert len(headline) <= 76, headline
    assert max(map(len, others), default=0) <= 72, max(others, key=len)
    assert message.isascii()


def test_counts_are_the_same_every_time():
    """Two measurements by counts alone say the same; other threads may allocate a little."""
    first, second = (measure_growth(attribute, metrics=COUNTS) for _ in range(2))
    assert first.message == second.message
    share = pytest.approx(second.superlinear_share, rel=1e-4)
    assert first.superlinear_share == share


# -- the shapes of a consumer


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


SHAPES = {
    "within": (linear, async_linear, generator_linear, async_generator_linear),
    "exceeded": (attribute, async_quadratic, generator_quadratic, async_generator_quadratic),
}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    ("expected", "consume"), [(verdict, shape) for verdict in SHAPES for shape in SHAPES[verdict]]
)
def test_every_shape_of_consumer(backend, expected, consume):
    """Functions and generators, sync and async, on a loop of their own."""
    assert measure_growth(consume, up_to=4_000, backend=backend).verdict == expected


@pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])
@pytest.mark.parametrize("expected", SHAPES)
def test_the_async_form_awaits_in_the_current_task(run, expected):
    """All shapes again, on a loop that is running already, in the task that asks."""
    here = threading.get_ident()

    async def check(consume, wrapped):
        growth = await measure_growth_async(wrapped, up_to=4_000)
        assert growth.verdict == expected, (consume, growth.message)

    for consume in SHAPES[expected]:

        def wrapped(stream, consume=consume):
            assert threading.get_ident() == here
            return consume(stream)

        run(check, consume, wrapped) if run is trio.run else run(check(consume, wrapped))


def test_what_lives_on_the_running_loop_can_be_used():
    """A consumer that waits for another task of the test's loop gets its answer."""

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
        growth = await measure_growth_async(consume, up_to=1_000, metrics=COUNTS)
        server.cancel()
        return growth.verdict

    assert asyncio.run(main()) == "within"


def test_the_sync_form_inside_a_loop_names_the_other():
    """An async consumer cannot be run to its end there: a TypeError says what can be done."""

    async def main():
        with pytest.raises(TypeError, match=r"await assert_linear\.aio"):
            assert_linear(async_linear)

    asyncio.run(main())


def test_a_sync_consumer_may_be_checked_inside_a_loop():
    """It needs no loop, so it may be run where there is one."""

    async def main():
        return assert_linear(linear, up_to=1_000, metrics=COUNTS).verdict

    assert asyncio.run(main()) == "within"


def test_a_consumer_in_another_thread():
    """The stream may be pulled by a thread that the consumer starts: its work is seen."""

    def consume(stream):
        thread = threading.Thread(target=attribute, args=(stream,))
        thread.start()
        thread.join()

    growth = measure_growth(consume, up_to=5_000)
    assert growth.verdict == "exceeded"
    assert growth.blame[0].function == "Reply.feed"


def test_delta_makes_events():
    """Consumers of something else than text are given it."""

    def consume(stream):
        return [event["text"] for event in stream]

    growth = measure_growth(consume, delta=lambda index: {"text": str(index)}, metrics=COUNTS)
    assert growth.verdict == "within"


def test_sizes_call_code_that_takes_its_input_at_once():
    """`consume(n)` is called, and what it takes compared from size to size."""

    def quadratic_in(count):
        return sum(len(range(other)) for one in range(count) for other in (one,) * count)

    seen = []

    def linear_in(count):
        seen.append(count)
        return sum(range(count * 20))

    assert measure_growth(linear_in, sizes=(2_000, 4_000, 8_000)).verdict == "within"
    assert set(seen) == {2_000, 4_000, 8_000}
    growth = measure_growth(quadratic_in, sizes=(50, 100, 200))
    assert growth.verdict == "exceeded", growth.message


def test_what_it_costs_to_set_up_hides_no_growth():
    """With `sizes=` nothing passes on a bound: in short inputs growth would not show."""

    def sets_up(count):
        end = clock.cpu() + 0.02
        while clock.cpu() < end:
            pass
        return [each for each in range(count) for _ in range(count // 100)]

    sizes = [100 * 2**octave for octave in range(9)]
    assert measure_growth(sets_up, sizes=sizes, seconds=0.1).verdict == "inconclusive"


def test_a_finish_is_not_leapt_at():
    """A short run that seems dear, as what is set up is, says nothing of how long a finish takes.

    A stream can be cut where the budget ends; a finish that takes all of it shows nothing.
    """

    def consume(stream):
        text, found = "", sum(range(400_000))
        for delta in list(stream):
            text += delta * 10
            found += text.count("zz")
        return found

    assert measure_growth(consume).verdict == "exceeded"


def test_reading_all_first_and_working_at_the_end_is_seen():
    """Work after the last delta is compared from length to length."""

    def consume(stream):
        reply = Reply()
        for delta in list(stream):
            reply.feed(delta)

    assert measure_growth(consume).verdict == "exceeded"


def test_code_that_a_library_calls_back():
    """What feeds the stream to a callback is a consumer like another."""

    def consume(stream):
        reply = Reply()
        deque(map(reply.feed, stream), maxlen=0)

    assert measure_growth(consume).verdict == "exceeded"


@pytest.mark.parametrize("size", [7, 100])
def test_reading_ahead(size):
    """Deltas taken in batches, whatever their size, cost what they cost together."""

    def batches(stream, add):
        deltas = iter(stream)
        while batch := list(islice(deltas, size)):
            add(batch)

    def consume(stream):
        kept = []
        batches(stream, lambda batch: kept.append("".join(batch)))

    def consume_again(stream):
        reply = Reply()
        batches(stream, lambda batch: [reply.feed(delta) for delta in batch])

    assert measure_growth(consume).verdict == "within"
    assert measure_growth(consume_again).verdict == "exceeded"


@pytest.mark.parametrize("every", [16, 100])
def test_a_cost_that_comes_now_and_then(every):
    """It is judged by its mean."""

    def consume(stream):
        text, found = "", 0
        for index, delta in enumerate(stream):
            text += delta
            if index % every == 0:
                found += sum(text.count(word) for word in ("x", "y", "z", "q"))
        return found

    assert measure_growth(consume).verdict == "exceeded"


class Window:
    """Keeps the end of the text."""

    def __init__(self, size):
        self.text, self.size = "", size

    def feed(self, delta):
        self.text = (self.text + delta)[-self.size :]


@pytest.mark.parametrize("size", [250, 2_000, 5_000])
def test_a_window_that_fills_is_linear(size):
    """A window that is full before the maximum length does not fail the check."""

    def consume(stream):
        window = Window(size)
        for delta in stream:
            window.feed(delta)

    assert measure_growth(consume, up_to=5_000, metrics=COUNTS).verdict != "exceeded"
    assert measure_growth(consume, up_to=5_000).verdict != "exceeded"


async def _to_a_queue(stream, reply):
    queue = asyncio.Queue()

    async def work():
        while (delta := await queue.get()) is not None:
            reply.feed(delta)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        async for delta in stream:
            queue.put_nowait(delta)
        queue.put_nowait(None)


async def _to_callbacks(stream, reply):
    async for delta in stream:
        asyncio.get_running_loop().call_soon(reply.feed, delta)


@pytest.mark.parametrize("hand_over", [_to_a_queue, _to_callbacks])
def test_tasks_on_a_loop_of_its_own_are_the_consumers(hand_over):
    """What another task or a callback does with the deltas is seen where nobody else has one."""
    assert measure_growth(lambda stream: hand_over(stream, Reply())).verdict == "exceeded"


def test_a_result_says_all_it_knows():
    """The length at which half of the work is superlinear, costs on the way, and the noise."""
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


# -- what cannot be proven


def test_a_consumer_that_raises():
    """What it raised comes through, with a note of how far it had come."""

    def consume(stream):
        for index, _ in enumerate(stream):
            if index == 7:
                message = "out of order"
                raise LookupError(message)

    with pytest.raises(LookupError, match="out of order") as caught:
        measure_growth(consume)
    assert "8 of the" in caught.value.__notes__[0]


def test_a_consumer_that_takes_nothing():
    """A check that measured nothing is an error, in both forms."""
    for check in (measure_growth, assert_linear):
        with pytest.raises(NothingMeasured, match="took no delta"):
            check(lambda _stream: "done")


def test_a_consumer_that_stops_early():
    """It is told how far it came; that is not green."""

    def consume(stream):
        for index, _ in enumerate(stream):
            if index == 9:
                break

    with pytest.raises(GrowthInconclusive, match="took 10 of"):
        assert_linear(consume)


@pytest.mark.parametrize("kind", ["text", "list", "joined"])
def test_a_consumer_that_keeps_state_between_runs(kind):
    """State that survives is detected and explained."""
    kept_text, kept_list = [""], []

    def consume(stream):
        for delta in stream:
            if kind == "text":
                kept_text[0] += delta * 4  # a few bytes of the shortest stream may be anybody's
            else:
                kept_list.append(delta)
        return "".join(kept_list) if kind == "joined" else None

    with pytest.raises(GrowthInconclusive, match="built inside consume"):
        assert_linear(consume)


def test_what_a_run_holds_that_was_cut_is_not_state():
    """It lives in the frames of the error that the cut led to, and in no consumer."""
    cache = []

    def consume(stream):
        held = []
        for index, delta in enumerate(stream):
            held.append(delta * 20)
            if tracemalloc.is_tracing() and len(cache) < 78 + 312:  # as the first two runs are long
                cache.append(delta * 20)
            if tracemalloc.is_tracing() and index > 312:
                sum(range(50_000))  # too slow for the third
        if len(held) not in {78, 312, 1_250, 5_000, 20_000}:
            raise EOFError

    assert "built inside" not in measure_growth(consume, seconds=0.5).message


def test_what_is_kept_once_is_not_state():
    """A cache that fills up is no state: it does not grow from run to run."""
    cache = {}

    def consume(stream):
        return "".join([cache.setdefault(delta, delta * 20) for delta in stream])

    assert measure_growth(consume).verdict == "within"


def test_what_is_kept_for_a_while_is_not_state():
    """A server that is starved of a core lets go of a turn late: one run without is enough."""
    runs, kept = itertools.count(), []

    def consume(stream):
        deltas = [delta * 20 for delta in stream]
        if next(runs) < 5:
            kept.append(deltas)

    assert measure_growth(consume).verdict == "within"
    assert len(kept) == 5


def test_a_consumer_that_waits_for_ever():
    """`timeout` ends it, and the message says where it was."""

    def consume(stream):
        for _ in stream:
            threading.Event().wait()

    growth = measure_growth(consume, timeout=0.1)
    assert growth.verdict == "inconclusive"
    assert "still waited" in growth.message
    assert "with 1 of" in growth.message


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_consumer_that_waits_for_ever(backend):
    """Its task is cancelled after `timeout`."""
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
    """A TimeoutError that the consumer raises comes through."""

    async def consume(stream):
        async for _ in stream:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        measure_growth(consume)


@contextmanager
def _spun(seconds):
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def test_a_consumer_that_spins():
    """It is stopped a tenth past `seconds`, in the main thread."""

    def consume(stream):
        for _ in stream:
            while True:
                time.process_time()

    with _spun(seconds=0.3 * 1.1 + 0.1):  # and what a tick and the set-up take
        growth = measure_growth(consume, seconds=0.3)
    assert growth.verdict == "inconclusive"
    assert "did not ask for more" in growth.message


def test_a_consumer_that_spins_and_swallows():
    """Catching everything does not keep it alive."""

    def consume(stream):
        for _ in stream:
            while True:
                try:
                    while True:
                        time.process_time()
                except BaseException:
                    if time.process_time() > end:
                        raise

    end = time.process_time() + 0.5
    assert measure_growth(consume, seconds=0.3).verdict == "inconclusive"


def _stopped_late(stuck, feed):
    def consume(stream):
        for index, delta in enumerate(stream):
            if index == 999 and len(stream) > 1_250:
                raise clock.Overrun("cpu", stuck)
            feed(delta)

    return measure_growth(consume, metrics=COUNTS)


def test_a_consumer_that_is_only_slow_is_no_spinner():
    """Stopped between two edges while it was pulling, it is a shorter run, and no more."""
    growth = _stopped_late(0.0, lambda _: None)
    assert (growth.verdict, growth.measured_to) == ("within", 1_250)


def test_a_consumer_that_went_astray_is_told_so():
    """Stopped when it had not pulled for long, it may never end."""
    growth = _stopped_late(0.6, lambda _: None)
    assert growth.verdict == "inconclusive"
    assert "did not ask for more than 1,000" in growth.message


def test_what_was_seen_before_a_consumer_went_astray_counts():
    """Growth in shorter streams is growth."""
    assert measure_growth(_astray_and_quadratic, metrics=COUNTS).verdict == "exceeded"


def _astray_and_quadratic(stream):
    reply = Reply()
    for index, delta in enumerate(stream):
        if index == 4_500:
            raise clock.Overrun("cpu", 9.9)
        reply.feed(delta)


def test_a_spinning_consumer_in_another_thread_is_stopped_when_it_pulls():
    """There, the stream ends for it; that is documented."""

    def consume(stream):
        for _ in stream:
            sum(range(2_000))

    found = []
    thread = threading.Thread(
        target=lambda: found.append(measure_growth(consume, seconds=0.2, up_to=1_000_000))
    )
    thread.start()
    thread.join(30)
    assert found[0].verdict in ("within", "inconclusive")
    assert found[0].measured_to < 1_000_000


def test_a_consumer_that_spins_at_the_end():
    """Linear as it is, one that is not known to end does not pass."""

    def consume(stream):
        if sum(1 for _ in stream) > 1_000:
            while True:
                time.process_time()

    growth = measure_growth(consume, seconds=0.3)
    assert growth.verdict == "inconclusive"
    assert "took all of" in growth.message


def test_an_overrun_in_a_group_is_an_overrun():
    """A task group of the consumer's own may stand between it and us."""

    def consume(stream):
        for _ in stream:
            raise BaseExceptionGroup("tasks", [BaseExceptionGroup("", [clock.Overrun("wall")])])

    assert measure_growth(consume).verdict == "inconclusive"


def test_another_group_of_errors_comes_through():
    """It is the consumer's."""

    def consume(stream):
        for _ in stream:
            raise BaseExceptionGroup("tasks", [KeyboardInterrupt()])

    with pytest.raises(BaseExceptionGroup, match="tasks"):
        measure_growth(consume)


def test_a_thread_that_does_not_end_is_left_behind(monkeypatch):
    """The loop is given a little time to end what is on it, and no more."""
    monkeypatch.setattr(consumers, "THRESHOLDS", Thresholds(loop_closing_seconds=0.1))
    released = threading.Event()

    async def consume(stream):
        async for _ in stream:
            await asyncio.to_thread(released.wait)

    assert measure_growth(consume, timeout=0.1).verdict == "inconclusive"
    released.set()


def test_one_check_at_a_time():
    """Two at once would measure each other: the second is refused, and nothing is left changed."""
    before = gc.isenabled(), signal.getsignal(signal.SIGALRM)

    async def main():
        checks = [measure_growth_async(async_linear, up_to=640) for _ in range(2)]
        return await asyncio.gather(*checks, return_exceptions=True)

    first, second = asyncio.run(main())
    assert first.verdict == "within"
    assert "another growth check is running" in str(second)
    assert before == (gc.isenabled(), signal.getsignal(signal.SIGALRM))


def test_a_check_within_a_check():
    """In the same thread one waits for the other, and both are made."""
    inner = []

    def consume(stream):
        if not inner:
            inner.append(measure_growth(linear, up_to=640, metrics=COUNTS).verdict)
        return linear(stream)

    assert measure_growth(consume).verdict == "within"
    assert inner == ["within"]


def test_time_is_inconclusive_while_somebody_traces_allocations(monkeypatch):
    """Counts still decide what they can: linear counts alone are no proof of linear time."""
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


# -- the limits


def test_copies_smaller_than_what_a_delta_allocates_anyway_are_found():
    """Counts go on until a copy of all text would be the largest thing allocated."""

    def consume(stream):
        text = types.SimpleNamespace(so_far="")
        for delta in stream:
            bytes(8_000)
            text.so_far += delta

    growth = measure_growth(consume)
    assert (growth.verdict, growth.metric) == ("exceeded", "allocated_bytes")


def test_copies_can_be_accepted():
    """`copies="warn"` turns that failure, and that only, into a warning."""
    with pytest.warns(StreamperfWarning, match="allocated"):
        growth = assert_linear(attribute, copies="warn")
    assert growth.verdict == "within"
    consume, terms = SUPERLINEAR["rescanned"]
    with pytest.raises(GrowthExceeded):
        assert_linear(consume, copies="warn", **terms)


@pytest.mark.parametrize("name", ["attribute", "kept_snapshot", "rescanned"])
def test_what_the_message_allows_is_really_accepted(name):
    """The setting of the last line makes the same check pass."""
    consume, terms = SUPERLINEAR[name]
    terms = {"up_to": 4_000, **terms}
    allow = measure_growth(consume, **terms).message.splitlines()[-1]
    setting = allow.removeprefix("  allow  ").split(",")[0]
    key, value = setting.split("=")
    accepted = value.strip('"') if key == "copies" else float(value)
    growth = measure_growth(consume, **terms, **{key: accepted})
    assert growth.verdict == "within"


def test_a_bound_is_enough_to_pass():
    """Where the maximum length is out of reach, a bound on the share there is enough to pass."""

    def consume(stream):
        return "".join([delta for delta in stream if sum(range(1_000))])

    growth = measure_growth(consume, up_to=1_000_000, seconds=1.0, metrics=COUNTS)
    assert growth.verdict == "within", growth.message
    assert growth.measured_to < 1_000_000
    assert f"({growth.measured_to:,} run)" in growth.headline


@pytest.mark.parametrize(
    ("terms", "error", "says"),
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
def test_bad_arguments_are_named(terms, error, says):
    """The argument, what was wrong, what is allowed."""
    with pytest.raises(error, match=says):
        measure_growth(linear, **terms)


def test_a_consumer_must_be_callable():
    """A stream in its place is told so."""
    with pytest.raises(TypeError, match="consume must be a callable"):
        measure_growth(TokenStream())


def test_a_run_that_only_shows_may_be_stopped(monkeypatch):
    """Where counts decided, a timed run that had no time left takes nothing back."""
    make = Runner.run

    def run(self, metric, length, cpu_seconds=None):
        if metric == "cpu_time" and length > 1_000:
            raise Stopped("it had no time left", length)
        return (yield from make(self, metric, length, cpu_seconds))

    monkeypatch.setattr(Runner, "run", run)
    growth = measure_growth(attribute, up_to=4_000)
    assert (growth.verdict, growth.metric) == ("exceeded", "allocated_bytes")


def test_a_check_that_takes_long_says_where_it_is(monkeypatch):
    """A check that takes long reports its progress and its end; a short one reports neither."""
    reporter = RecordingReporter()
    with reporting_to(reporter):
        measure_growth(attribute, up_to=640)
    assert reporter.progress_lines == []
    talkative = Thresholds(quiet_seconds=0.0, progress_interval_seconds=0.0)
    monkeypatch.setattr(consumers, "THRESHOLDS", talkative)
    with reporting_to(reporter):
        measure_growth(attribute, up_to=640)
    *steps, last = reporter.progress_lines
    assert len(steps) > 2
    assert all(step.startswith("growth: ") and step.endswith(" deltas") for step in steps)
    assert last == ""


def test_a_check_that_is_ended_by_an_error_is_done(monkeypatch):
    """An error that ends a check clears its progress line."""

    def fails(stream):
        raise ZeroDivisionError(next(iter(stream)))

    talkative = Thresholds(quiet_seconds=0.0, progress_interval_seconds=0.0)
    monkeypatch.setattr(consumers, "THRESHOLDS", talkative)
    reporter = RecordingReporter()
    with reporting_to(reporter), pytest.raises(ZeroDivisionError):
        measure_growth(fails)
    assert reporter.progress_lines[-1] == ""
