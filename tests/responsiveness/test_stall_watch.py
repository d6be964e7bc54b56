"""`StallWatch`: message gaps, event-loop stalls, GC pauses, peak memory and CPU shares.

A watch measures the code in its `with` block. `result` returns the measurements, `assert_smooth`
checks them against limits. A stall or a pause is sure if the run-queue delay is known, or if the
thread was on the CPU; otherwise it can only make a check inconclusive.
"""

import asyncio
import functools
import gc
import inspect
import json
import mmap
import sys
import threading
import time
import tracemalloc
from types import SimpleNamespace

import pytest
import trio

from pytest_streamperf import (
    NothingMeasured,
    ResponsivenessExceeded,
    ResponsivenessInconclusive,
    StallWatch,
    TokenStream,
    VirtualClock,
    measure_growth,
)
from pytest_streamperf._runtime import clock, functions
from pytest_streamperf._runtime.context import Line
from pytest_streamperf.responsiveness import Collections, Pause, message, stalls
from pytest_streamperf.responsiveness.stalls import Stall, StallMeter

# This module, which tests register as "responsiveness_test" to name its functions in `cpu_share`.
THIS_MODULE = sys.modules[__name__]


def run_asyncio(main):
    """Run a test's main coroutine on a real asyncio loop."""
    return asyncio.run(main())


def run_virtual(main):
    """Run a test's main coroutine on the virtual loop of a `VirtualClock`."""
    with VirtualClock():
        return asyncio.run(main())


# Runs a test on an asyncio loop, on a virtual loop, and on trio.
LOOPS = pytest.mark.parametrize("run", [run_asyncio, run_virtual, lambda main: trio.run(main)])  # noqa: PLW0108


async def let_loop_run():
    """Let the event loop, of trio or of asyncio, run other work for 10 ms."""
    if "trio" in sys.modules and trio.lowlevel.in_trio_run():
        await trio.sleep(0.01)
    else:
        await asyncio.sleep(0.01)


# -- stalls


def block_loop():
    """Keep the event loop busy for 60 ms of CPU time."""
    end = clock.thread_cpu() + 0.06
    while clock.thread_cpu() < end:
        pass


def test_the_line_of_a_stall_is_that_of_most_looks(monkeypatch):
    """A stall names the line that most samples hit, and the first of two lines with as many.

    The last sample may come after the stall.
    """
    now = [0.0]
    monkeypatch.setattr(clock, "wall", lambda: now[0])
    frame = sys._getframe()
    lines = {"held": Line("a.py:1 in held", "x"), "over": Line("a.py:2 in over", "y")}
    for samples in (["held", "over"], ["over", "held", "held"], ["held", "held", "over"]):
        meter = stalls.StallMeter()
        meter.began()
        for name in samples:
            now[0] += 0.03
            monkeypatch.setattr(stalls, "line_of", lambda _, name=name: lines[name])
            meter.look(frame)
        meter.ended()
        meter.close()
        assert [stall.where for stall in meter.stalls] == ["a.py:1 in held"]


@LOOPS
def test_a_stall_is_caught_and_its_line_named(run):
    """A stall above the limit fails the check; the message names its file, line and function."""

    async def main():
        with StallWatch() as watch:
            await let_loop_run()
            block_loop()
            await let_loop_run()
        return watch

    watch = run(main)
    with pytest.raises(ResponsivenessExceeded, match="the event loop stood still for") as caught:
        watch.assert_smooth(max_stall=0.04)
    stall = caught.value.verdict.stalls[0]
    assert stall.seconds > 0.05
    assert stall.where.startswith("test_stall_watch.py:")
    assert stall.where.endswith("in block_loop")
    assert "where  test_stall_watch.py:" in str(caught.value)
    assert "asyncio.to_thread" in str(caught.value)


def test_a_sleep_on_the_loop_is_caught():
    """A `time.sleep` on the event loop is a stall in real time."""

    async def main():
        with StallWatch() as watch:
            await asyncio.sleep(0.01)
            time.sleep(0.06)  # noqa: ASYNC251 - the fault under test
            await asyncio.sleep(0.01)
        return watch

    result = asyncio.run(main()).result()
    assert result.stalls[0].seconds > 0.05
    assert result.stalls[0].source.startswith("time.sleep(0.06)")


@LOOPS
def test_a_healthy_loop_has_no_stalls(run):
    """An event loop that only waits has no stall."""

    async def main():
        with StallWatch() as watch:
            for _ in range(20):
                await let_loop_run()
        return watch

    assert run(main).assert_smooth(max_stall=0.05).verdict == "within"


@LOOPS
def test_watches_within_and_beside_each_other(run):
    """Nested and overlapping watches record the stalls of their own time only."""

    async def main():
        with StallWatch() as outer:
            with StallWatch():
                await let_loop_run()
            other = StallWatch().__enter__()
            for _ in range(6):
                await let_loop_run()
                burn(0.02)
        await let_loop_run()
        block_loop()
        other.__exit__()
        return [watch.result().stalls for watch in (outer, other)]

    outer, other = run(main)
    assert outer[0].seconds < 0.1
    assert other[0].where.endswith("in block_loop")


class ScriptedClocks:
    """Clocks that the test sets: wall time, CPU time and run-queue delay, in seconds.

    A `waited` of None makes the run-queue delay unknown.
    """

    def __init__(self, monkeypatch, waited=0.0):
        self.now, self.cpu, self.queued = 100.0, 1.0, waited
        monkeypatch.setattr(clock, "wall", lambda: self.now)
        monkeypatch.setattr(clock, "thread_cpu", lambda: self.cpu)
        queue = SimpleNamespace(waited=lambda: self.queued, close=lambda: None)
        monkeypatch.setattr(clock, "RunQueue", lambda: queue)

    def stalls_of_callback(self, *, wall, cpu=0.0, waited=0.0, allowed=0.0):
        """Return the stalls that a meter records for one callback that takes these seconds."""
        meter = StallMeter()
        meter.began()
        self.now += wall
        self.cpu += cpu
        if self.queued is not None:
            self.queued += waited
        meter.ended(allowed)
        return meter.stalls


def test_what_a_thread_waits_for_a_core_is_no_stall(monkeypatch):
    """The run-queue delay, in which the thread had no core, is subtracted from a stall."""
    clocks = ScriptedClocks(monkeypatch)
    assert clocks.stalls_of_callback(wall=0.06, waited=0.055) == []
    (stall,) = clocks.stalls_of_callback(wall=0.06, waited=0.01)
    assert stall.seconds == pytest.approx(0.05)
    assert stall.sure


def test_a_heartbeats_interval_is_no_stall(monkeypatch):
    """The heartbeat's interval, in which the loop waits on purpose, is subtracted from a stall."""
    clocks = ScriptedClocks(monkeypatch)
    assert clocks.stalls_of_callback(wall=0.012, allowed=0.005) == []


@pytest.mark.parametrize(("cpu", "sure"), [(0.01, False), (0.05, True)])
def test_where_the_run_queue_is_not_known(cpu, sure, monkeypatch):
    """Without a run-queue delay, a stall is sure only if the thread had the CPU for half of it."""
    (stall,) = ScriptedClocks(monkeypatch, waited=None).stalls_of_callback(wall=0.06, cpu=cpu)
    assert stall.sure is sure
    verdict, *_ = message.verdict_on_responsiveness(
        measurements(stalls=[stall]), message.Limits(stall=0.05)
    )
    assert verdict == ("exceeded" if sure else "inconclusive")


def measurements(*, stalls=(), pauses=(), gap=None):
    """Return the measurements of a watch with these stalls, pauses and longest gap."""
    return {
        "messages": 0,
        "first": None,
        "longest_gap": gap,
        "stalls": stalls,
        "pauses": pauses,
        "collections": {2: Collections(len(pauses), 1.3, 0.9)},
        "peak_memory": None,
        "cpu_shares": {},
    }


def test_what_is_sure_decides():
    """A sure excess decides the verdict, even if a longer one or another kind's is not sure."""
    pauses = [Pause(0.9, 2, sure=False), Pause(0.3, 2, sure=True), Pause(0.1, 2, sure=True)]
    verdict, headline, _ = message.verdict_on_responsiveness(
        measurements(pauses=pauses), message.Limits(pause=0.2)
    )
    assert (verdict, headline) == (
        "exceeded",
        "the garbage collector paused for 300 ms, limit 200 ms",
    )
    measured = measurements(stalls=[Stall(0.9, "", "", sure=False)], pauses=pauses)
    verdict, headline, _ = message.verdict_on_responsiveness(
        measured, message.Limits(stall=0.2, pause=0.2)
    )
    assert (verdict, headline[:21]) == ("exceeded", "the garbage collector")
    verdict, headline, _ = message.verdict_on_responsiveness(
        measured, message.Limits(stall=0.2, pause=0.4)
    )
    assert (verdict, headline[:14]) == ("inconclusive", "the event loop")


@pytest.mark.parametrize(("waited", "sure"), [(0.05, True), (None, False)])
def test_what_a_collection_waits_for_a_core_is_no_pause(waited, sure, monkeypatch):
    """The run-queue delay is subtracted from a pause; an unknown delay makes the pause unsure."""
    clocks = ScriptedClocks(monkeypatch, waited)
    with StallWatch() as watch:
        (collected,) = gc.callbacks[-1:]
        collected("start", {"generation": 2})
        clocks.now += 0.06
        if waited:
            clocks.queued += waited
        collected("stop", {"generation": 2})
    pause = watch.result().pauses[0]
    assert pause.seconds == pytest.approx(0.01 if waited else 0.06)
    assert pause.sure is sure


def test_a_collection_in_another_thread_is_not_sure(monkeypatch):
    """A pause in another thread is not sure, as that thread's run-queue delay is unknown."""
    clocks = ScriptedClocks(monkeypatch)

    def collect_in_thread(collected):
        collected("start", {"generation": 0})
        clocks.now += 0.06
        collected("stop", {"generation": 0})

    with StallWatch() as watch:
        thread = threading.Thread(target=collect_in_thread, args=gc.callbacks[-1:])
        thread.start()
        thread.join()
    assert watch.result().pauses[0][:3] == (pytest.approx(0.06), 0, False)


@pytest.mark.parametrize(
    ("measured", "limits", "expected"),
    [
        ({}, {}, "no pause"),
        ({}, {"pause": 1.0}, "no pause"),
        ({"stalls": []}, {}, "no stall"),
        ({"stalls": []}, {"pause": 1.0}, "no stall, no pause"),
        ({"peak_memory": 3_000_000}, {}, "3.0 MB at the peak"),
        ({"cpu_shares": {"json:loads": 0.5}}, {}, "json:loads 50% of CPU"),
        ({"longest_gap": 0.1}, {"gap": 1.0}, "longest gap 100 ms"),
    ],
)
def test_what_is_within_says_what_was_measured(measured, limits, expected):
    """The headline of a check that is within lists its measurements, but no value of None."""
    verdict, headline, _ = message.verdict_on_responsiveness(
        measurements() | {"stalls": None} | measured, message.Limits(**limits)
    )
    assert (verdict, headline) == ("within", expected)


def test_unsure_is_inconclusive():
    """A stall that is not sure makes the check inconclusive, and the message gives the reason."""

    async def main():
        with StallWatch() as watch:
            await asyncio.sleep(0)
        return watch

    watch = asyncio.run(main())
    watch._stalls.stalls.append(Stall(0.06, "", "", sure=False))
    with pytest.raises(ResponsivenessInconclusive, match=r"stood still for 60\.0 ms") as caught:
        watch.assert_smooth(max_stall=0.05)
    assert "not spent on the CPU" in str(caught.value)


def test_no_loop_is_nothing_measured():
    """A limit on stalls raises `NothingMeasured` if no event loop ran."""
    with StallWatch() as watch:
        pass
    with pytest.raises(NothingMeasured, match="no event loop was running"):
        watch.assert_smooth(max_stall=0.05)


# -- messages


def test_gaps_go_by_virtual_time():
    """The gaps between messages are measured in virtual time where a `VirtualClock` is active."""
    stream = TokenStream(tokens=100, every=0.1)
    with VirtualClock(), StallWatch(of=stream) as watch:
        time.sleep(0.5)
        for number, _ in enumerate(stream):
            if number == 50:
                time.sleep(1)
    result = watch.result()
    assert result.messages == 100
    assert result.first == pytest.approx(0.5)
    assert result.longest_gap == pytest.approx(1.0)
    with pytest.raises(
        ResponsivenessExceeded, match=r"1.0 s passed between two messages, limit 200 ms"
    ):
        watch.assert_smooth(max_gap=0.2)
    with pytest.raises(
        ResponsivenessExceeded, match=r"the first message took 500 ms, limit 100 ms"
    ):
        watch.assert_smooth(max_first=0.1)
    assert watch.assert_smooth(max_gap=1.1, max_first=0.6).verdict == "within"


@pytest.mark.parametrize("how", [{"of": True}, {}])
def test_no_gap_is_between_two_readings(how):
    """The time between two readings of a stream is no gap, even if the first was left early."""
    stream = TokenStream(tokens=3)

    async def read():
        async for _ in stream:
            pass

    with VirtualClock(), StallWatch(**(how and {"of": stream})) as watch:
        watch.follow(stream)
        next(iter(stream))
        time.sleep(0.5)
        list(stream)
        time.sleep(0.5)
        asyncio.run(read())
    assert (watch.result().messages, watch.result().longest_gap) == (7, 0.0)


def test_what_was_read_before_is_none_of_it():
    """Deltas that a fixture read before the watch began do not count as messages."""
    stream, watch = TokenStream(tokens=3), StallWatch()
    with VirtualClock():
        watch.follow(stream)
        list(stream)
        time.sleep(1)
        with watch:
            time.sleep(0.5)
            list(stream)
    assert (watch.result().messages, watch.result().first) == (3, 0.5)


def test_messages_of_ones_own():
    """A call of `StallWatch.message` records a message that no stream hands out."""
    with VirtualClock(), StallWatch() as watch:
        watch.message()
        time.sleep(3)
        watch.message()
    assert watch.result().longest_gap == 3


@pytest.mark.parametrize(
    ("limit", "message_part"), [("max_gap", "no two messages"), ("max_first", "no message")]
)
def test_no_messages_are_nothing_measured(limit, message_part):
    """A limit on gaps or on the first message raises `NothingMeasured` if there are no messages."""
    with StallWatch(of=TokenStream(3)) as watch:
        pass
    with pytest.raises(NothingMeasured, match=message_part):
        watch.assert_smooth(**{limit: 0.1})


# -- collections, memory, shares


def test_collections_are_timed():
    """The watch times every garbage collection by generation, and then restores `gc.callbacks`."""
    before = list(gc.callbacks)
    with StallWatch() as watch:
        gc.collect(1)
        gc.collect()
    assert gc.callbacks == before
    result = watch.result()
    assert {pause.generation for pause in result.pauses} >= {1, 2}
    for generation, (runs, total, longest) in result.collections.items():
        seconds = [pause.seconds for pause in result.pauses if pause.generation == generation]
        assert (runs, longest) == (len(seconds), max(seconds))
        assert total == pytest.approx(sum(seconds))
    with pytest.raises(ResponsivenessExceeded, match="the garbage collector paused for"):
        watch.assert_smooth(max_gc_pause=0.0)


def test_the_longest_are_kept(monkeypatch):
    """A watch counts all of 1,200 pauses, and keeps the thousand longest."""
    clocks = ScriptedClocks(monkeypatch)
    with StallWatch() as watch:
        (collected,) = gc.callbacks[-1:]
        for milliseconds in range(1, 1_201):
            collected("start", {"generation": 0})
            clocks.now += milliseconds / 1000
            collected("stop", {"generation": 0})
    result = watch.result()
    assert result.collections[0].runs == 1_200
    assert [result.pauses[0].seconds, result.pauses[-1].seconds] == pytest.approx([1.2, 0.201])
    assert len(result.pauses) == 1_000


def test_the_longest_stalls_are_kept(monkeypatch):
    """A meter keeps the thousand longest of 1,200 stalls, even if the longest come first."""
    clocks = ScriptedClocks(monkeypatch)
    meter = StallMeter()
    for milliseconds in range(1_200, 0, -1):
        meter.began()
        clocks.now += (milliseconds + 20) / 1000
        meter.ended()
    seconds = sorted(stall.seconds for stall in meter.stalls)
    assert [seconds[0], seconds[-1]] == pytest.approx([0.221, 1.22])
    assert len(seconds) == 1_000


def test_memory_at_the_peak():
    """Memory that was freed before the end of the watch counts for its peak."""
    with StallWatch(peak_memory=True) as watch:
        held = bytearray(3_000_000)
        del held
    assert 3_000_000 <= watch.result().peak_memory < 3_100_000
    with pytest.raises(ResponsivenessExceeded, match=r"3.0 MB of memory at the peak, limit 1.0 MB"):
        watch.assert_smooth(peak_memory="1MiB")
    assert watch.assert_smooth(peak_memory="4MB").verdict == "within"


def test_memory_within_a_watch_of_memory():
    """A watch or a growth check inside a watch of memory does not change the outer peak."""
    with StallWatch(peak_memory=True) as watch:
        bytearray(3_000_000)
        with StallWatch(peak_memory=True) as inner:
            bytearray(1_000_000)
        measure_growth(lambda stream: "".join(list(stream)), up_to=64, metrics=("allocated_bytes",))
    assert 1_000_000 <= inner.result().peak_memory < 1_100_000
    assert 3_000_000 <= watch.result().peak_memory < 3_100_000


def test_growth_is_timed_within_a_watch_of_memory():
    """A growth check inside a watch of memory measures CPU time, as tracing pauses meanwhile."""
    with StallWatch(peak_memory=True) as watch:
        growth = measure_growth("".join, up_to=640)
        bytearray(3_000_000)
    assert (growth.verdict, "cpu_time" in growth.curves) == ("within", True)
    assert 3_000_000 <= watch.result().peak_memory < 3_200_000


def test_memory_and_stalls_disturb_each_other():
    """A limit on stalls raises `NothingMeasured` in a watch of memory, as tracing disturbs them."""

    async def main():
        with StallWatch(peak_memory=True) as watch:
            await asyncio.sleep(0)
        return watch

    with pytest.raises(NothingMeasured, match="one by one"):
        asyncio.run(main()).assert_smooth(max_stall=0.05)


def test_growth_of_the_process():
    """`grown` is the growth of the process's resident memory in bytes, by psutil."""
    with StallWatch() as watch:
        held = mmap.mmap(-1, 100_000_000)  # new memory, which no allocator had before
        held.write(b"x" * len(held))
    assert watch.result().grown > 80_000_000
    held.close()


def parse(text):
    """Spend CPU time on parsing JSON."""
    return [json.loads(text) for _ in range(2_000)]


class Parser:
    """Class with a method, a static method and a class method, which all spend CPU time."""

    def method(self, text):
        """Spend CPU time in a method."""
        return parse(text)

    @staticmethod
    def static(text):
        """Spend CPU time in a static method."""
        return parse(text)

    @classmethod
    def of_class(cls, text):
        """Spend CPU time in a class method."""
        return parse(text)


@functools.lru_cache
def cached(text):
    """Spend CPU time in a cached function."""
    return parse(text)


@functools.singledispatch
def dispatched(text):
    """Spend CPU time in a single-dispatch function, whose wrapper has free variables."""
    return parse(text)


# References from before the watch: a call through one of them is timed too.
EARLIER_REFERENCES = {
    "parse": parse,
    "cached": cached,
    "dispatched": dispatched,
    "static": Parser.static,
}
# For each function to time, its name in this module and a call of it.
CALLS = {
    "cached": lambda: EARLIER_REFERENCES["cached"]("[1]"),
    "dispatched": lambda: EARLIER_REFERENCES["dispatched"]("[1]"),
    "Parser.of_class": lambda: Parser().of_class("[1]"),
    "parse": lambda: EARLIER_REFERENCES["parse"]("[1]"),
    "Parser.method": lambda: Parser().method("[1]"),
    "Parser.static": lambda: EARLIER_REFERENCES["static"]("[1]"),
    "sorted_in_c": lambda: THIS_MODULE.sorted_in_c(range(1_000_000)),
}
# A C function, which is timed by replacing this name, not its code.
sorted_in_c = sorted


@pytest.mark.parametrize(("name", "call"), CALLS.items(), ids=CALLS)
def test_shares_of_cpu_time(name, call, monkeypatch):
    """A watch measures the CPU share of functions of each kind, and restores them afterwards."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", THIS_MODULE)
    full_name, before = (
        f"responsiveness_test:{name}",
        (dict(vars(Parser)), THIS_MODULE.sorted_in_c, vars(parse).copy()),
    )
    code = parse.__code__
    with StallWatch(cpu_share=[full_name]) as watch:
        call()
    assert before == (dict(vars(Parser)), THIS_MODULE.sorted_in_c, vars(parse))
    assert parse.__code__ is code
    assert 0.5 < watch.result().cpu_shares[full_name] <= 1
    with pytest.raises(ResponsivenessExceeded, match=r"took \d+% of the CPU time, limit 1%"):
        watch.assert_smooth(cpu_share={full_name: 0.01})


def test_a_timed_function_looks_the_same(monkeypatch):
    """A function whose CPU time is measured keeps its signature and its defaults."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", THIS_MODULE)
    before = inspect.signature(json.loads)
    with StallWatch(cpu_share=["json:loads", "responsiveness_test:measurements"]) as watch:
        assert inspect.signature(json.loads) == before
        assert measurements()["stalls"] == ()
        assert measurements(gap=1.0)["longest_gap"] == 1.0
        with pytest.raises(TypeError, match="unexpected keyword argument 'no'"):
            measurements(no=1)
    assert watch.result().cpu_shares.keys() == {"responsiveness_test:measurements"}


def burn(seconds=0.02):
    """Spend this many seconds of CPU time in this thread."""
    end = clock.thread_cpu() + seconds
    while clock.thread_cpu() < end:
        pass


BURN = "responsiveness_test:burn"


@pytest.fixture
def _burn_is_restored(monkeypatch):
    """Register this module by name, and assert afterwards that `burn` is restored."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", THIS_MODULE)
    before = burn.__code__, vars(burn).copy(), THIS_MODULE.sorted_in_c
    yield
    assert before == (burn.__code__, vars(burn), THIS_MODULE.sorted_in_c)


@pytest.mark.usefixtures("_burn_is_restored")
def test_what_another_thread_spends_is_not_this_ones():
    """A function that ran in another thread only has no CPU share: `NothingMeasured` says so."""

    async def main():
        with StallWatch(cpu_share=[BURN]) as watch:
            await asyncio.to_thread(burn)
        return watch

    watch = asyncio.run(main())
    assert watch.result().cpu_shares == {}
    with pytest.raises(NothingMeasured, match="burn never ran"):
        watch.assert_smooth(cpu_share={BURN: 0.2})


@pytest.mark.usefixtures("_burn_is_restored")
def test_a_thread_in_a_function_does_not_hide_this_one():
    """A call in the watch's thread is timed while another thread is inside the same function."""
    inside, over = threading.Event(), threading.Event()

    def wait():
        inside.set()
        over.wait()

    with StallWatch(cpu_share=["responsiveness_test:call_function"]) as watch:
        other = threading.Thread(target=call_function, args=[wait])
        other.start()
        inside.wait()
        call_function(burn)
        over.set()
        other.join()
    assert watch.result().cpu_shares["responsiveness_test:call_function"] > 0.5


def call_function(function):
    """Call another function, so that its CPU time counts for this one."""
    function()


@pytest.mark.usefixtures("_burn_is_restored")
@pytest.mark.parametrize(
    ("name", "call"),
    [
        (BURN, lambda: burn(0.0)),
        ("responsiveness_test:sorted_in_c", lambda: THIS_MODULE.sorted_in_c([])),
    ],
)
@pytest.mark.parametrize("first_to_exit", [0, 1])
def test_two_watches_of_one_function(name, call, first_to_exit):
    """Two watches of one function may overlap without nesting; a call counts for an open one."""
    watches = [StallWatch(cpu_share=[name]), StallWatch(cpu_share=[name])]
    for watch in watches:
        watch.__enter__()
    first, last = watches[first_to_exit], watches[1 - first_to_exit]
    first.__exit__()
    call()
    last.__exit__()
    assert (first.result().cpu_shares.keys(), last.result().cpu_shares.keys()) == (set(), {name})


@pytest.mark.usefixtures("_burn_is_restored")
def test_a_watch_that_ends_within_a_call_has_what_ran_so_far():
    """A watch that ends inside a call of a timed function counts CPU time up to its own end."""
    watch = StallWatch(cpu_share=["responsiveness_test:exit_watch"])
    watch.__enter__()
    exit_watch(watch)
    assert 0.5 < watch.result().cpu_shares["responsiveness_test:exit_watch"] <= 1


def exit_watch(watch):
    """Exit a watch between two equal periods of CPU time."""
    burn()
    watch.__exit__()
    burn()


def test_what_never_ran_has_no_share():
    """A limit on the share of a function that never ran raises `NothingMeasured`."""
    with StallWatch(cpu_share=["json:loads"]) as watch:
        pass
    with pytest.raises(NothingMeasured, match="json:loads never ran") as caught:
        watch.assert_smooth(cpu_share={"json:loads": 0.1})
    assert "name what is called here" in str(caught.value)


def test_a_share_that_was_not_taken():
    """A limit on a function that the watch was not given raises `NothingMeasured`, with advice."""
    with StallWatch() as watch:
        pass
    with pytest.raises(NothingMeasured, match="json:loads was not taken") as caught:
        watch.assert_smooth(cpu_share={"json:loads": 0.1})
    assert "cpu_share=['json:loads']" in str(caught.value)


# -- misuse


def decorate(function):
    """Wrap a function in a plain function, which hides its kind."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@decorate
async def coroutine_function():
    """Return a coroutine: an async function behind a decorator, which `cpu_share` refuses."""


@decorate
def generator_function():
    """Return a generator: a function behind a decorator, which `cpu_share` refuses."""
    yield


@pytest.mark.parametrize("raised", [RuntimeError("no database"), SystemExit(3)])
def test_a_module_that_cannot_be_imported(raised, monkeypatch):
    """An exception while a function's module is imported becomes a `ValueError` that quotes it."""

    def fail_import(_name):
        raise raised

    monkeypatch.setattr(functions, "import_module", fail_import)
    message_part = rf"not 'app:run': {type(raised).__name__}: {raised}"
    with pytest.raises(ValueError, match=message_part):
        StallWatch(cpu_share=["app:run"])


def test_tracing_that_the_code_stopped():
    """If the code stops the tracing of memory, the error does not advise `peak_memory=True`."""
    with StallWatch(peak_memory=True) as watch:
        tracemalloc.stop()
    with pytest.raises(NothingMeasured, match="memory was no longer traced at the end") as caught:
        watch.assert_smooth(peak_memory="1MiB")
    assert "peak_memory=True" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message_part"),
    [
        ({"of": ["a"]}, TypeError, "of must be a TokenStream"),
        ({"cpu_share": ["json.loads"]}, ValueError, "takes"),
        ({"cpu_share": ["json:nothing"]}, ValueError, "has no attribute"),
        ({"cpu_share": ["nowhere:loads"]}, ValueError, "No module named"),
        ({"cpu_share": ["json:__name__"]}, ValueError, "names none"),
        ({"cpu_share": ["json:JSONDecoder"]}, ValueError, "is a class: name a method"),
        ({"cpu_share": ["responsiveness_test:coroutine_function"]}, ValueError, "does it later"),
        ({"cpu_share": ["responsiveness_test:generator_function"]}, ValueError, "does it later"),
    ],
)
def test_bad_watches(arguments, error, message_part, monkeypatch):
    """A wrong argument of `StallWatch` raises an error that names the problem."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", THIS_MODULE)
    with pytest.raises(error, match=message_part):
        StallWatch(**arguments)


@pytest.mark.parametrize(
    ("limits", "message_part"),
    [
        ({"max_gap": -1}, "max_gap must be a time, 0 or more and finite"),
        ({"max_stall": float("nan")}, "max_stall must be a time, 0 or more and finite"),
        ({"peak_memory": "64 bottles"}, "as '64MiB' or '64MB'"),
        ({"cpu_share": {"json:loads": "1"}}, "cpu_share of json:loads must be a share, as '25%'"),
    ],
)
def test_bad_limits(limits, message_part):
    """A wrong limit of `assert_smooth` raises a `ValueError` that names the argument."""
    with StallWatch() as watch:
        pass
    with pytest.raises(ValueError, match=message_part):
        watch.assert_smooth(**limits)


def test_a_watch_watches_once():
    """A watch cannot be entered twice, and its limits cannot be checked before it ends."""
    watch = StallWatch()
    with watch, pytest.raises(RuntimeError, match="call assert_smooth after the with block"):
        watch.assert_smooth(max_gap=1)
    with pytest.raises(RuntimeError, match="can be entered once"), watch:
        pass


def test_everything_is_put_back_after_an_error():
    """After an error inside a watch, callbacks, timed functions and listeners are restored."""
    stream, callbacks, loads = TokenStream(3), list(gc.callbacks), json.loads
    with pytest.raises(ZeroDivisionError), StallWatch(of=stream, cpu_share=["json:loads"]):
        _ = 1 / 0
    assert (gc.callbacks, json.loads, stream.listeners) == (callbacks, loads, [])
