"""How smoothly: gaps, stalls and their lines, collections, memory, shares of CPU time."""

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

ME = sys.modules[__name__]


def run_asyncio(main):
    """On a real loop."""
    return asyncio.run(main())


def run_virtual(main):
    """On a virtual one."""
    with VirtualClock():
        return asyncio.run(main())


LOOPS = pytest.mark.parametrize("run", [run_asyncio, run_virtual, lambda main: trio.run(main)])  # noqa: PLW0108


async def rest():
    """Let the loop go round, on whichever."""
    if "trio" in sys.modules and trio.lowlevel.in_trio_run():
        await trio.sleep(0.01)
    else:
        await asyncio.sleep(0.01)


# -- stalls


def block():
    """Hold the loop for 60 ms of CPU time."""
    end = clock.thread_cpu() + 0.06
    while clock.thread_cpu() < end:
        pass


def test_the_line_of_a_stall_is_that_of_most_looks(monkeypatch):
    """Not that of the last, which may come when it is over; of as many the first."""
    now = [0.0]
    monkeypatch.setattr(clock, "wall", lambda: now[0])
    frame = sys._getframe()
    lines = {"held": Line("a.py:1 in held", "x"), "over": Line("a.py:2 in over", "y")}
    for looks in (["held", "over"], ["over", "held", "held"], ["held", "held", "over"]):
        meter = stalls.StallMeter()
        meter.began()
        for name in looks:
            now[0] += 0.03
            monkeypatch.setattr(stalls, "line_of", lambda _, name=name: lines[name])
            meter.look(frame)
        meter.ended()
        meter.close()
        assert [each.where for each in meter.stalls] == ["a.py:1 in held"]


@LOOPS
def test_a_stall_is_caught_and_its_line_named(run):
    """Whoever holds the loop is told by file, line and function."""

    async def main():
        with StallWatch() as watch:
            await rest()
            block()
            await rest()
        return watch

    watch = run(main)
    with pytest.raises(ResponsivenessExceeded, match="the event loop stood still for") as caught:
        watch.assert_smooth(max_stall=0.04)
    stall = caught.value.verdict.stalls[0]
    assert stall.seconds > 0.05
    assert stall.where.startswith("test_stall_watch.py:")
    assert stall.where.endswith("in block")
    assert "where  test_stall_watch.py:" in str(caught.value)
    assert "asyncio.to_thread" in str(caught.value)


def test_a_sleep_on_the_loop_is_caught():
    """`time.sleep` is a stall, in real time."""

    async def main():
        with StallWatch() as watch:
            await asyncio.sleep(0.01)
            time.sleep(0.06)  # noqa: ASYNC251 - that is the fault
            await asyncio.sleep(0.01)
        return watch

    result = asyncio.run(main()).result()
    assert result.stalls[0].seconds > 0.05
    assert result.stalls[0].source.startswith("time.sleep(0.06)")


@LOOPS
def test_a_healthy_loop_has_no_stalls(run):
    """Waiting is not stalling."""

    async def main():
        with StallWatch() as watch:
            for _ in range(20):
                await rest()
        return watch

    assert run(main).assert_smooth(max_stall=0.05).verdict == "within"


@LOOPS
def test_watches_within_and_beside_each_other(run):
    """Each sees the stalls of its own time, and no other."""

    async def main():
        with StallWatch() as outer:
            with StallWatch():
                await rest()
            other = StallWatch().__enter__()
            for _ in range(6):
                await rest()
                burn(0.02)
        await rest()
        block()
        other.__exit__()
        return [each.result().stalls for each in (outer, other)]

    outer, other = run(main)
    assert outer[0].seconds < 0.1
    assert other[0].where.endswith("in block")


class Scripted:
    """Clocks that say what they are told."""

    def __init__(self, monkeypatch, waited=0.0):
        self.now, self.cpu, self.queued = 100.0, 1.0, waited
        monkeypatch.setattr(clock, "wall", lambda: self.now)
        monkeypatch.setattr(clock, "thread_cpu", lambda: self.cpu)
        queue = SimpleNamespace(waited=lambda: self.queued, close=lambda: None)
        monkeypatch.setattr(clock, "RunQueue", lambda: queue)

    def stalls(self, *, wall, cpu=0.0, waited=0.0, allowed=0.0):
        """What a meter makes of one callback."""
        meter = StallMeter()
        meter.began()
        self.now += wall
        self.cpu += cpu
        if self.queued is not None:
            self.queued += waited
        meter.ended(allowed)
        return meter.stalls


def test_what_a_thread_waits_for_a_core_is_no_stall(monkeypatch):
    """On a busy machine a healthy callback takes three times as long."""
    scripted = Scripted(monkeypatch)
    assert scripted.stalls(wall=0.06, waited=0.055) == []
    (stall,) = scripted.stalls(wall=0.06, waited=0.01)
    assert stall.seconds == pytest.approx(0.05)
    assert stall.sure


def test_a_heartbeats_interval_is_no_stall(monkeypatch):
    """The loop was asked to wait for so long."""
    scripted = Scripted(monkeypatch)
    assert scripted.stalls(wall=0.012, allowed=0.005) == []


@pytest.mark.parametrize(("cpu", "sure"), [(0.01, False), (0.05, True)])
def test_where_the_run_queue_is_not_known(cpu, sure, monkeypatch):
    """Time on the CPU decides: under half of it, nothing is proven."""
    (stall,) = Scripted(monkeypatch, waited=None).stalls(wall=0.06, cpu=cpu)
    assert stall.sure is sure
    verdict, *_ = message.verdict_on_responsiveness(
        found(stalls=[stall]), message.Limits(stall=0.05)
    )
    assert verdict == ("exceeded" if sure else "inconclusive")


def found(*, stalls=(), pauses=(), gap=None):
    """What a watch may have seen."""
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
    """Before what is longer and is not, and before another kind that is not."""
    pauses = [Pause(0.9, 2, sure=False), Pause(0.3, 2, sure=True), Pause(0.1, 2, sure=True)]
    verdict, headline, _ = message.verdict_on_responsiveness(
        found(pauses=pauses), message.Limits(pause=0.2)
    )
    assert (verdict, headline) == (
        "exceeded",
        "the garbage collector paused for 300 ms, limit 200 ms",
    )
    seen = found(stalls=[Stall(0.9, "", "", sure=False)], pauses=pauses)
    verdict, headline, _ = message.verdict_on_responsiveness(
        seen, message.Limits(stall=0.2, pause=0.2)
    )
    assert (verdict, headline[:21]) == ("exceeded", "the garbage collector")
    verdict, headline, _ = message.verdict_on_responsiveness(
        seen, message.Limits(stall=0.2, pause=0.4)
    )
    assert (verdict, headline[:14]) == ("inconclusive", "the event loop")


@pytest.mark.parametrize(("waited", "sure"), [(0.05, True), (None, False)])
def test_what_a_collection_waits_for_a_core_is_no_pause(waited, sure, monkeypatch):
    """A collection on a busy machine takes as long as others let it."""
    scripted = Scripted(monkeypatch, waited)
    with StallWatch() as watch:
        (collected,) = gc.callbacks[-1:]
        collected("start", {"generation": 2})
        scripted.now += 0.06
        if waited:
            scripted.queued += waited
        collected("stop", {"generation": 2})
    pause = watch.result().pauses[0]
    assert pause.seconds == pytest.approx(0.01 if waited else 0.06)
    assert pause.sure is sure


def test_a_collection_in_another_thread_is_not_sure(monkeypatch):
    """What that thread waits for is not known here."""
    scripted = Scripted(monkeypatch)

    def elsewhere(collected):
        collected("start", {"generation": 0})
        scripted.now += 0.06
        collected("stop", {"generation": 0})

    with StallWatch() as watch:
        thread = threading.Thread(target=elsewhere, args=gc.callbacks[-1:])
        thread.start()
        thread.join()
    assert watch.result().pauses[0][:3] == (pytest.approx(0.06), 0, False)


@pytest.mark.parametrize(
    ("seen", "limits", "says"),
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
def test_what_is_within_says_what_was_measured(seen, limits, says):
    """Nothing of stalls where no event loop was seen."""
    verdict, headline, _ = message.verdict_on_responsiveness(
        found() | {"stalls": None} | seen, message.Limits(**limits)
    )
    assert (verdict, headline) == ("within", says)


def test_unsure_is_inconclusive():
    """The check says so, and why."""

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
    """A sync test has no event loop to stall."""
    with StallWatch() as watch:
        pass
    with pytest.raises(NothingMeasured, match="no event loop was running"):
        watch.assert_smooth(max_stall=0.05)


# -- messages


def test_gaps_go_by_virtual_time():
    """Ten minutes with one gap of a second in them."""
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
    """What a test does between two is its own affair, also where the first was left early."""
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
    """A fixture's reading, before the test began."""
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
    """`message` notes what no stream knows of."""
    with VirtualClock(), StallWatch() as watch:
        watch.message()
        time.sleep(3)
        watch.message()
    assert watch.result().longest_gap == 3


@pytest.mark.parametrize(
    ("limit", "says"), [("max_gap", "no two messages"), ("max_first", "no message")]
)
def test_no_messages_are_nothing_measured(limit, says):
    """A gap has two ends."""
    with StallWatch(of=TokenStream(3)) as watch:
        pass
    with pytest.raises(NothingMeasured, match=says):
        watch.assert_smooth(**{limit: 0.1})


# -- collections, memory, shares


def test_collections_are_timed():
    """Each by its generation; callbacks are as they were afterwards."""
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
    """Of a million small ones all are counted, and a thousand kept."""
    scripted = Scripted(monkeypatch)
    with StallWatch() as watch:
        (collected,) = gc.callbacks[-1:]
        for milliseconds in range(1, 1_201):
            collected("start", {"generation": 0})
            scripted.now += milliseconds / 1000
            collected("stop", {"generation": 0})
    result = watch.result()
    assert result.collections[0].runs == 1_200
    assert [result.pauses[0].seconds, result.pauses[-1].seconds] == pytest.approx([1.2, 0.201])
    assert len(result.pauses) == 1_000


def test_the_longest_stalls_are_kept(monkeypatch):
    """Whenever they come."""
    scripted = Scripted(monkeypatch)
    meter = StallMeter()
    for milliseconds in range(1_200, 0, -1):
        meter.began()
        scripted.now += (milliseconds + 20) / 1000
        meter.ended()
    seconds = sorted(stall.seconds for stall in meter.stalls)
    assert [seconds[0], seconds[-1]] == pytest.approx([0.221, 1.22])
    assert len(seconds) == 1_000


def test_memory_at_the_peak():
    """What was held and let go again counts."""
    with StallWatch(peak_memory=True) as watch:
        held = bytearray(3_000_000)
        del held
    assert 3_000_000 <= watch.result().peak_memory < 3_100_000
    with pytest.raises(ResponsivenessExceeded, match=r"3.0 MB of memory at the peak, limit 1.0 MB"):
        watch.assert_smooth(peak_memory="1MiB")
    assert watch.assert_smooth(peak_memory="4MB").verdict == "within"


def test_memory_within_a_watch_of_memory():
    """A check inside, whichever it is, takes nothing from the watch around it."""
    with StallWatch(peak_memory=True) as watch:
        bytearray(3_000_000)
        with StallWatch(peak_memory=True) as inner:
            bytearray(1_000_000)
        measure_growth(lambda stream: "".join(list(stream)), up_to=64, metrics=("allocated_bytes",))
    assert 1_000_000 <= inner.result().peak_memory < 1_100_000
    assert 3_000_000 <= watch.result().peak_memory < 3_100_000


def test_growth_is_timed_within_a_watch_of_memory():
    """Whose tracing rests meanwhile."""
    with StallWatch(peak_memory=True) as watch:
        growth = measure_growth("".join, up_to=640)
        bytearray(3_000_000)
    assert (growth.verdict, "cpu_time" in growth.curves) == ("within", True)
    assert 3_000_000 <= watch.result().peak_memory < 3_200_000


def test_memory_and_stalls_disturb_each_other():
    """So that they are not measured at once."""

    async def main():
        with StallWatch(peak_memory=True) as watch:
            await asyncio.sleep(0)
        return watch

    with pytest.raises(NothingMeasured, match="one by one"):
        asyncio.run(main()).assert_smooth(max_stall=0.05)


def test_growth_of_the_process():
    """What it has grown by is told, where psutil is."""
    with StallWatch() as watch:
        held = mmap.mmap(-1, 100_000_000)  # not what an allocator may have at hand
        held.write(b"x" * len(held))
    assert watch.result().grown > 80_000_000
    held.close()


def parse(text):
    """Be costly."""
    return [json.loads(text) for _ in range(2_000)]


class Parser:
    """Holds functions of each kind."""

    def method(self, text):
        """Be costly."""
        return parse(text)

    @staticmethod
    def static(text):
        """Be costly."""
        return parse(text)

    @classmethod
    def of_class(cls, text):
        """Be costly."""
        return parse(text)


@functools.lru_cache
def cached(text):
    """Be costly once."""
    return parse(text)


@functools.singledispatch
def dispatched(text):
    """Be costly, in a function that has free variables."""
    return parse(text)


BY_NAME = {"parse": parse, "cached": cached, "dispatched": dispatched, "static": Parser.static}
NAMES = {
    "cached": lambda: BY_NAME["cached"]("[1]"),
    "dispatched": lambda: BY_NAME["dispatched"]("[1]"),
    "Parser.of_class": lambda: Parser().of_class("[1]"),
    "parse": lambda: BY_NAME["parse"]("[1]"),
    "Parser.method": lambda: Parser().method("[1]"),
    "Parser.static": lambda: BY_NAME["static"]("[1]"),
    "sorted_in_c": lambda: ME.sorted_in_c(range(1_000_000)),
}
sorted_in_c = sorted


@pytest.mark.parametrize(("name", "call"), NAMES.items(), ids=NAMES)
def test_shares_of_cpu_time(name, call, monkeypatch):
    """A function's share of the thread's CPU time, however it is called; it is as it was then."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", ME)
    full, before = (
        f"responsiveness_test:{name}",
        (dict(vars(Parser)), ME.sorted_in_c, vars(parse).copy()),
    )
    code = parse.__code__
    with StallWatch(cpu_share=[full]) as watch:
        call()
    assert before == (dict(vars(Parser)), ME.sorted_in_c, vars(parse))
    assert parse.__code__ is code
    assert 0.5 < watch.result().cpu_shares[full] <= 1
    with pytest.raises(ResponsivenessExceeded, match=r"took \d+% of the CPU time, limit 1%"):
        watch.assert_smooth(cpu_share={full: 0.01})


def test_a_timed_function_looks_the_same(monkeypatch):
    """Whoever asks for its signature, as frameworks do, gets that; its defaults hold."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", ME)
    before = inspect.signature(json.loads)
    with StallWatch(cpu_share=["json:loads", "responsiveness_test:found"]) as watch:
        assert inspect.signature(json.loads) == before
        assert found()["stalls"] == ()
        assert found(gap=1.0)["longest_gap"] == 1.0
        with pytest.raises(TypeError, match="unexpected keyword argument 'no'"):
            found(no=1)
    assert watch.result().cpu_shares.keys() == {"responsiveness_test:found"}


def burn(seconds=0.02):
    """Use so much CPU time in this thread."""
    end = clock.thread_cpu() + seconds
    while clock.thread_cpu() < end:
        pass


BURN = "responsiveness_test:burn"


@pytest.fixture
def _burn_as_it_was(monkeypatch):
    """Let the function be named, and see that it is as it was."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", ME)
    before = burn.__code__, vars(burn).copy(), ME.sorted_in_c
    yield
    assert before == (burn.__code__, vars(burn), ME.sorted_in_c)


@pytest.mark.usefixtures("_burn_as_it_was")
def test_what_another_thread_spends_is_not_this_ones():
    """What was handed to a thread, as advised, is none of the loop's: it never ran here."""

    async def main():
        with StallWatch(cpu_share=[BURN]) as watch:
            await asyncio.to_thread(burn)
        return watch

    watch = asyncio.run(main())
    assert watch.result().cpu_shares == {}
    with pytest.raises(NothingMeasured, match="burn never ran"):
        watch.assert_smooth(cpu_share={BURN: 0.2})


@pytest.mark.usefixtures("_burn_as_it_was")
def test_a_thread_in_a_function_does_not_hide_this_one():
    """Both are inside at once."""
    inside, over = threading.Event(), threading.Event()

    def wait():
        inside.set()
        over.wait()

    with StallWatch(cpu_share=["responsiveness_test:call"]) as watch:
        other = threading.Thread(target=call, args=[wait])
        other.start()
        inside.wait()
        call(burn)
        over.set()
        other.join()
    assert watch.result().cpu_shares["responsiveness_test:call"] > 0.5


def call(function):
    """Spend what another function does."""
    function()


@pytest.mark.usefixtures("_burn_as_it_was")
@pytest.mark.parametrize(
    ("name", "call"),
    [(BURN, lambda: burn(0.0)), ("responsiveness_test:sorted_in_c", lambda: ME.sorted_in_c([]))],
)
@pytest.mark.parametrize("first_out", [0, 1])
def test_two_watches_of_one_function(name, call, first_out):
    """They may overlap without nesting, as two tasks do; each has what ran while it was open."""
    watches = [StallWatch(cpu_share=[name]), StallWatch(cpu_share=[name])]
    for each in watches:
        each.__enter__()
    first, last = watches[first_out], watches[1 - first_out]
    first.__exit__()
    call()
    last.__exit__()
    assert (first.result().cpu_shares.keys(), last.result().cpu_shares.keys()) == (set(), {name})


@pytest.mark.usefixtures("_burn_as_it_was")
def test_a_watch_that_ends_within_a_call_has_what_ran_so_far():
    """No more: its own time is over, too."""
    watch = StallWatch(cpu_share=["responsiveness_test:leave"])
    watch.__enter__()
    leave(watch)
    assert 0.5 < watch.result().cpu_shares["responsiveness_test:leave"] <= 1


def leave(watch):
    """End a watch within."""
    burn()
    watch.__exit__()
    burn()


def test_what_never_ran_has_no_share():
    """It is not green: perhaps it is not the one that is meant."""
    with StallWatch(cpu_share=["json:loads"]) as watch:
        pass
    with pytest.raises(NothingMeasured, match="json:loads never ran") as caught:
        watch.assert_smooth(cpu_share={"json:loads": 0.1})
    assert "name what is called here" in str(caught.value)


def test_a_share_that_was_not_taken():
    """Functions are named when the watch is made."""
    with StallWatch() as watch:
        pass
    with pytest.raises(NothingMeasured, match="json:loads was not taken") as caught:
        watch.assert_smooth(cpu_share={"json:loads": 0.1})
    assert "cpu_share=['json:loads']" in str(caught.value)


# -- misuse


def decorated(function):
    """Do nothing, but look like a function."""

    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)

    return wrapper


@decorated
async def later():
    """Do it when awaited."""


@decorated
def pieces():
    """Do it when asked for more."""
    yield


@pytest.mark.parametrize("raised", [RuntimeError("no database"), SystemExit(3)])
def test_a_module_that_cannot_be_imported(raised, monkeypatch):
    """Whatever it raises is told."""

    def importing(_name):
        raise raised

    monkeypatch.setattr(functions, "import_module", importing)
    says = rf"not 'app:run': {type(raised).__name__}: {raised}"
    with pytest.raises(ValueError, match=says):
        StallWatch(cpu_share=["app:run"])


def test_tracing_that_the_code_stopped():
    """It is not said of a watch that asked for memory that it did not."""
    with StallWatch(peak_memory=True) as watch:
        tracemalloc.stop()
    with pytest.raises(NothingMeasured, match="memory was no longer traced at the end") as caught:
        watch.assert_smooth(peak_memory="1MiB")
    assert "peak_memory=True" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"of": ["a"]}, TypeError, "of must be a TokenStream"),
        ({"cpu_share": ["json.loads"]}, ValueError, "takes"),
        ({"cpu_share": ["json:nothing"]}, ValueError, "has no attribute"),
        ({"cpu_share": ["nowhere:loads"]}, ValueError, "No module named"),
        ({"cpu_share": ["json:__name__"]}, ValueError, "names none"),
        ({"cpu_share": ["json:JSONDecoder"]}, ValueError, "is a class: name a method"),
        ({"cpu_share": ["responsiveness_test:later"]}, ValueError, "does it later"),
        ({"cpu_share": ["responsiveness_test:pieces"]}, ValueError, "does it later"),
    ],
)
def test_bad_watches(arguments, error, says, monkeypatch):
    """The text names what was wrong."""
    monkeypatch.setitem(sys.modules, "responsiveness_test", ME)
    with pytest.raises(error, match=says):
        StallWatch(**arguments)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_gap": -1}, "max_gap must be a time, 0 or more and finite"),
        ({"max_stall": float("nan")}, "max_stall must be a time, 0 or more and finite"),
        ({"peak_memory": "64 bottles"}, "as '64MiB' or '64MB'"),
        ({"cpu_share": {"json:loads": "1"}}, "cpu_share of json:loads must be a share, as '25%'"),
    ],
)
def test_bad_limits(limits, says):
    """So does it for limits."""
    with StallWatch() as watch:
        pass
    with pytest.raises(ValueError, match=says):
        watch.assert_smooth(**limits)


def test_a_watch_watches_once():
    """And is asked when it is over."""
    watch = StallWatch()
    with watch, pytest.raises(RuntimeError, match="call assert_smooth after the with block"):
        watch.assert_smooth(max_gap=1)
    with pytest.raises(RuntimeError, match="can be entered once"), watch:
        pass


def test_everything_is_put_back_after_an_error():
    """Callbacks, functions and listeners."""
    stream, callbacks, loads = TokenStream(3), list(gc.callbacks), json.loads
    with pytest.raises(ZeroDivisionError), StallWatch(of=stream, cpu_share=["json:loads"]):
        _ = 1 / 0
    assert (gc.callbacks, json.loads, stream.listeners) == (callbacks, loads, [])
