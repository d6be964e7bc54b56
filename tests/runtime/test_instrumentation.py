"""The one owner of tracemalloc, the collector and the profiling hooks leaves them as they were."""

import contextlib
import gc
import json
import math
import sys
import threading
import tracemalloc
import warnings
import weakref

import pytest

from pytest_streamperf import StreamperfWarning
from pytest_streamperf._runtime import instrumentation
from pytest_streamperf._runtime.instrumentation import (
    CallCounter,
    CalleeTracer,
    LineTracer,
    allocations,
    allocations_traced,
    allocations_untraced,
    arenas_held,
    calls_traced,
    collector_off,
    peak,
    restart_peak,
    threads_in_turns,
)


@pytest.fixture(autouse=True)
def _as_it_was():
    """Let no test change what the others find."""
    hooks = gc.isenabled(), sys.gettrace(), sys.getprofile(), tracemalloc.is_tracing()
    yield
    assert hooks == (gc.isenabled(), sys.gettrace(), sys.getprofile(), tracemalloc.is_tracing())


def called():
    """Be called."""


# -- the garbage collector


def test_collector_is_off_inside():
    """The collector does not run while the context is open."""
    with collector_off():
        assert not gc.isenabled()


def test_threads_take_turns_inside():
    """Threads change over all the time while the context is open, and as before after it."""
    before = sys.getswitchinterval()
    with contextlib.suppress(LookupError), threads_in_turns():
        assert sys.getswitchinterval() < before
        raise LookupError
    assert sys.getswitchinterval() == before


@pytest.fixture
def collector(request):
    """Have the collector on or off before the test."""
    (gc.enable if request.param else gc.disable)()
    yield request.param
    gc.enable()


@pytest.mark.parametrize("collector", [True, False], indirect=True, ids=["on", "off"])
def test_collector_is_as_it_was(collector):
    """A collector that was on is on again, one that was off stays off."""
    with collector_off():
        pass
    assert gc.isenabled() is collector


@pytest.mark.parametrize("collector", [True, False], indirect=True, ids=["on", "off"])
def test_collector_is_as_it_was_after_an_error(collector):
    """So it is when the code under test raises."""
    with pytest.raises(ZeroDivisionError), collector_off():
        raise ZeroDivisionError
    assert gc.isenabled() is collector


@pytest.mark.parametrize("collector", [True, False], indirect=True, ids=["on", "off"])
@pytest.mark.parametrize("meddle", [gc.enable, gc.disable])
def test_collector_is_as_it_was_whatever_happens(collector, meddle):
    """So it is when the code under test turns the collector on or off itself."""
    with collector_off():
        meddle()
    assert gc.isenabled() is collector


def test_what_was_there_is_frozen():
    """The collector goes over what is new, and over all there is again afterwards."""
    old = [[]]
    with collector_off():
        new = [[]]
        seen = gc.get_objects()
        assert any(each is new for each in seen)
        assert not any(each is old for each in seen)
    assert any(each is old for each in gc.get_objects())


def test_what_somebody_froze_stays_frozen():
    """As an application may have done before it was put to the test."""
    many = [[] for _ in range(2_000)]
    gc.freeze()
    try:
        with collector_off():
            pass
        assert gc.get_freeze_count() > len(many)
    finally:
        gc.unfreeze()


# -- tracemalloc


def test_allocations_are_traced_inside():
    """The context turns tracemalloc on, and off again at its end."""
    with allocations():
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()


def test_one_frame_is_traced():
    """No more is asked of tracemalloc than is needed."""
    with allocations():
        assert tracemalloc.get_traceback_limit() == 1


def test_tracing_ends_after_an_error():
    """It is turned off again when the code under test raises, too."""
    with pytest.raises(ZeroDivisionError), allocations():
        raise ZeroDivisionError
    assert not tracemalloc.is_tracing()


@pytest.fixture
def traced_before(monkeypatch):
    """Have tracemalloc on before the test, with a frame limit of its own; that has been said."""
    monkeypatch.setattr(instrumentation, "_warned", True)
    tracemalloc.start(7)
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced_before")
def test_tracing_that_was_on_stays_on():
    """Somebody else's tracemalloc is left running, with its frame limit."""
    with allocations():
        pass
    assert (allocations_traced(), tracemalloc.get_traceback_limit()) == (True, 7)


@pytest.mark.usefixtures("traced_before")
def test_traces_that_were_taken_are_kept():
    """What somebody else traced so far is not lost."""
    kept = bytearray(1_000_000)
    with allocations():
        pass
    assert tracemalloc.get_traced_memory()[0] >= len(kept)
    assert tracemalloc.get_object_traceback(kept) is not None


def test_our_own_tracing_rests_for_what_is_timed():
    """It goes on afterwards, and whoever reads a peak has lost nothing."""
    with allocations(), peak() as reader:
        kept = bytearray(2_000_000)
        bytearray(1_000_000)
        with allocations_untraced():
            assert not tracemalloc.is_tracing()
            bytearray(9_000_000)
        assert 3_000_000 <= reader.above < 3_100_000
        bytearray(1_500_000)
        assert 3_500_000 <= reader.above < 3_600_000
    assert len(kept) == 2_000_000


def test_who_ends_while_tracing_rests_leaves_it_off():
    """A watch in another task: it has what it saw so far."""
    outer = contextlib.ExitStack()
    outer.enter_context(allocations())
    reader = outer.enter_context(peak())
    bytearray(3_000_000)
    with allocations_untraced():
        assert 3_000_000 <= reader.above < 3_100_000
        outer.close()
    assert not tracemalloc.is_tracing()


def test_what_begins_while_tracing_rests_is_traced():
    """And leaves the tracing to those who were there before."""
    with allocations(), peak() as outer:
        kept = bytearray(2_000_000)
        with allocations_untraced(), allocations(), peak() as inner:
            bytearray(1_000_000)
        assert 1_000_000 <= inner.above < 1_100_000
        assert 3_000_000 <= outer.above < 3_100_000
        assert (tracemalloc.is_tracing(), allocations_traced()) == (True, False)
    assert len(kept) == 2_000_000


def test_the_last_one_who_traces_turns_it_off():
    """Also where the first one goes first."""
    first = contextlib.ExitStack()
    first.enter_context(allocations())
    with allocations(), peak() as reader:
        first.close()
        bytearray(1_000_000)
        assert 990_000 <= reader.above < 1_100_000
    assert not tracemalloc.is_tracing()


@pytest.mark.usefixtures("traced_before")
def test_tracing_of_somebody_else_never_rests():
    """Its traces would be lost."""
    assert allocations_traced()
    with allocations_untraced():
        assert tracemalloc.is_tracing()


@pytest.mark.usefixtures("traced_before")
def test_a_lost_peak_is_told_once(monkeypatch):
    """That somebody else's peak is reset is said the first time, and not again."""
    monkeypatch.setattr(instrumentation, "_warned", False)
    with pytest.warns(StreamperfWarning, match="every check resets its peak"), allocations():
        pass
    with allocations():
        pass


def test_a_peak_within_another_leaves_that_to_it():
    """The outer reader keeps the greatest, whoever restarts it meanwhile; nobody is warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with allocations(), peak() as outer:
            bytearray(3_000_000)
            with allocations(), peak() as inner:
                bytearray(1_000_000)
                restart_peak()
                assert 1_000_000 <= inner.above < 1_100_000
            assert 3_000_000 <= outer.above < 3_100_000


def test_a_later_peak_counts_for_the_outer_one():
    """Whichever is greater: that before, within, or after."""
    with allocations(), peak() as outer:
        with peak():
            bytearray(2_000_000)
        bytearray(3_000_000)
        assert 3_000_000 <= outer.above < 3_100_000


def test_a_peak_that_is_no_longer_traced():
    """Is not known."""
    with allocations(), peak() as stopped:
        tracemalloc.stop()
        assert stopped.above is None


def test_arenas_are_held_by_little():
    """Holding memory takes a small part of it: a block in each quarter of an arena."""
    size = 16 * 2**20
    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        with arenas_held(size):
            held = tracemalloc.get_traced_memory()[0] - before
        after = tracemalloc.get_traced_memory()[0] - before
    assert size // 2**18 * 400 <= held < size / 100
    assert after < held / 4


def test_no_arenas_to_hold():
    """There may be nothing to hold."""
    with arenas_held(0):
        pass


def test_arenas_are_let_go_after_an_error():
    """What was held is free again when the code under test raises."""
    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(ZeroDivisionError), arenas_held(16 * 2**20):
            raise ZeroDivisionError
        assert tracemalloc.get_traced_memory()[0] - before < 10_000


# -- counting calls


def counted(function):
    """Count the calls that `function` makes, its own among them."""
    counter = CallCounter()
    counter.start()
    try:
        function()
    finally:
        counter.stop()
    return counter.count - 1  # `stop` is the last call that is seen


def test_count_starts_at_nothing():
    """Before it is started a counter has counted nothing."""
    assert CallCounter().count == 0


def test_python_calls_are_counted():
    """Each call of a Python function counts."""

    def ten_calls():
        for _ in range(9):
            called()

    assert counted(ten_calls) - counted(called) == 9


def test_c_calls_are_counted():
    """Each call of a C function counts."""

    def nine_calls():
        text = ""
        for _ in range(9):
            len(text)

    assert counted(nine_calls) - counted(called) == 9


def test_calls_are_the_same_every_time():
    """A count is exact."""
    assert len({counted(lambda: sorted(range(50), key=abs)) for _ in range(5)}) == 1


def test_calls_after_the_end_are_not_counted():
    """After `stop` the count stands still."""
    counter = CallCounter()
    counter.start()
    counter.stop()
    before = counter.count
    called()
    assert counter.count == before


def test_calls_in_other_threads_are_not_counted():
    """What another thread calls meanwhile does not show."""
    go, done = threading.Event(), threading.Event()

    def other():
        go.wait()
        for _ in range(1_000):
            called()
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    counter = CallCounter()
    counter.start()
    go.set()
    done.wait()
    counter.stop()
    thread.join()
    assert counter.count < 500


def test_starting_twice_counts_once():
    """A counter that was started goes on."""
    counter = CallCounter()
    counter.start()
    called()
    counter.start()
    before = counter.count
    called()
    counter.stop()
    assert before >= 2
    assert counter.count - before == 2


def test_stopping_what_never_started():
    """A counter that was never started has nothing to put back."""
    CallCounter().stop()


@pytest.fixture
def profile_before():
    """Have a profile function before the test."""

    def profile(_frame, _event, _arg):
        pass

    sys.setprofile(profile)
    yield profile
    sys.setprofile(None)


def test_profiler_is_noticed(profile_before):
    """Whether somebody profiles is known."""
    noticed = calls_traced()
    sys.setprofile(None)
    assert noticed
    assert not calls_traced()
    assert profile_before


def test_profile_function_in_c_comes_back(monkeypatch):
    """Memray's, which `sys` does not tell of, by what puts it into the threads that start."""

    def hook(_frame, _event, _arg):
        sys.setprofile(None)  # as in C: nothing shows
        came.append("back")

    came, hook.__module__ = [], "memray._memray"
    monkeypatch.setattr(threading, "_profile_hook", hook)
    counter = CallCounter()
    with counter.in_new_threads():
        counter.start()
        counter.stop()
    assert came
    assert counter.count


def test_what_threads_are_started_with_stays_there(monkeypatch):
    """It is nothing that was in this thread."""
    monkeypatch.setattr(threading, "_profile_hook", lambda *_: None)
    counter = CallCounter()
    counter.start()
    counter.stop()
    assert sys.getprofile() is None


def test_profile_function_comes_back(profile_before):
    """A profiler that was on is on again."""
    counter = CallCounter()
    counter.start()
    inside = sys.getprofile()
    counter.stop()
    assert inside != profile_before
    assert sys.getprofile() is profile_before


def test_later_profile_function_is_left():
    """A profiler that the code under test turned on is not turned off."""

    def later(_frame, _event, _arg):
        pass

    counter = CallCounter()
    counter.start()
    sys.setprofile(later)
    counter.stop()
    left = sys.getprofile()
    sys.setprofile(None)
    assert left is later


def test_counter_stopped_elsewhere_takes_itself_out():
    """Stopped from another thread, a counter leaves its own at the next call there."""
    before = sys.getprofile()
    counter = CallCounter()
    counter.start()
    thread = threading.Thread(target=counter.stop)
    thread.start()
    thread.join()
    called()
    assert sys.getprofile() is before


def test_stopping_elsewhere_leaves_that_thread_alone():
    """A profiler of the thread that stops a counter is not the counter's to change."""
    counter = CallCounter()
    thread = threading.Thread(target=counter.start)
    thread.start()
    thread.join()

    def mine(_frame, _event, _arg):
        pass

    sys.setprofile(mine)
    counter.stop()
    left = sys.getprofile()
    sys.setprofile(None)
    assert left is mine


# -- naming callees


def callees(function):
    """Name what a function of this file calls that is not of this file, with "" for each return."""
    names = []
    tracer = CalleeTracer(names.append, is_from_here)
    tracer.start()
    try:
        function()
    finally:
        tracer.stop()
    assert (names[0], names[-1]) == ("", "pytest_streamperf._Profiler.stop")
    return names[1:-1]


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: "text".find("x"), "str.find"),
        (lambda: len("text"), "len"),
        (lambda: json.loads("1"), "json.loads"),
        (lambda: math.sqrt(4.0), "math.sqrt"),
    ],
    ids=["method in C", "builtin", "library", "module in C"],
)
def test_callees_are_named(call, name):
    """A callee is said with its package; its end is told."""
    assert callees(call)[:2] == [name, ""]


def test_what_a_callee_calls_is_its_own_affair():
    """Only the first step out of the user's own code is told."""
    assert {"json.loads", ""} == set(callees(lambda: json.loads("[1, 2]"))[:2])


def test_own_functions_are_no_callees():
    """A call within the user's own code says nothing."""
    assert "two_lines" not in " ".join(callees(two_lines))


def test_callee_that_raises_has_ended():
    """An error ends a callee, too."""

    def caught():
        with contextlib.suppress(ValueError):
            json.loads("?")

    names = callees(caught)
    assert names[names.index("json.loads") + 1] == ""


def test_callees_can_be_named_again():
    """A tracer can be started again after it was stopped."""
    names = []
    tracer = CalleeTracer(names.append, is_from_here)
    for _ in range(2):
        tracer.start()
        len("text")
        tracer.stop()
    assert names.count("len") == 2
    assert sys.getprofile() is None


# -- tracing lines


class Visits(list):
    """What a tracer saw: pairs of function and event."""

    def __call__(self, frame, event):
        """See it."""
        self.append((frame.f_code.co_name, event))


def two_lines():
    """Have two lines."""
    one = 1
    return one + 1


def not_wanted():
    """Be left out, and call something that is not."""
    two_lines()


def is_from_here(frame):
    """Pick the functions of this file, but for one."""
    return frame.f_code.co_filename == __file__ and frame.f_code is not not_wanted.__code__


def traced(function, wanted=is_from_here, start=None):
    """Trace a call of `function`, from the frame `start` on."""
    visits = Visits()
    tracer = LineTracer(visits, wanted)
    tracer.start(start)
    function()
    tracer.stop()
    return visits


def test_calls_lines_and_returns_are_visited():
    """A function is visited at its call, at each line and at its return, in order."""
    events = [event for name, event in traced(two_lines) if name == "two_lines"]
    assert events == ["call", "line", "line", "return"]


def test_unwanted_functions_are_not_visited():
    """What `wanted` does not pick is passed over, what it calls is not."""
    names = [name for name, _ in traced(not_wanted)]
    assert "not_wanted" not in names
    assert names.count("two_lines") == 4


def test_running_frames_are_traced():
    """Lines of the frame that was running already are visited too, and of its callers."""
    visits = Visits()
    tracer = LineTracer(visits, is_from_here)

    def inner():
        tracer.start(sys._getframe())
        two_lines()

    inner()
    two_lines()
    tracer.stop()
    names = [name for name, event in visits if event == "line"]
    assert "inner" in names
    assert "test_running_frames_are_traced" in names


def test_nothing_is_visited_after_the_end():
    """After `stop` nothing more is seen."""
    visits = traced(two_lines)
    before = len(visits)
    two_lines()
    assert len(visits) == before


def test_later_windows_can_be_traced():
    """A tracer can be started again."""
    visits = Visits()
    tracer = LineTracer(visits, is_from_here)
    for _ in range(2):
        tracer.start(None)
        two_lines()
        tracer.stop()
        two_lines()
    assert visits.count(("two_lines", "call")) == 2


@pytest.fixture
def trace_before():
    """Have a trace function before the test, as a debugger or a coverage tool sets one."""
    before = sys.gettrace()

    def trace(_frame, _event, _arg):
        return trace

    sys.settrace(trace)
    yield trace
    sys.settrace(before)


def test_trace_function_comes_back(trace_before):
    """A debugger that was on is on again, and does not see what happens meanwhile."""
    tracer = LineTracer(Visits(), is_from_here)
    tracer.start(None)
    inside = sys.gettrace()
    tracer.stop()
    after = sys.gettrace()
    assert inside != trace_before
    assert after is trace_before


def test_whoever_saw_a_call_sees_the_return():
    """A tool that keeps a stack of calls, as a coverage tool in Python does, keeps it in step."""
    before, calls, unknown = sys.gettrace(), [], []

    def stack(frame, event, _arg):
        if event == "call":
            calls.append(frame)
        elif event == "return":
            (calls if frame in calls else unknown).append(frame)
            calls[:] = [call for call in calls if call is not frame]
        return stack

    def stream():
        for _ in range(2):
            yield
            tracer.start(sys._getframe())
            yield
            yield two_lines()
            tracer.stop()
            yield

    def consume():
        deltas = stream()
        pull = (next(deltas, None) for _ in range(9))
        return list(pull)

    tracer = LineTracer(
        Visits(), lambda frame: is_from_here(frame) and frame.f_code is not stream.__code__
    )
    sys.settrace(stack)
    try:
        consume()
    finally:
        sys.settrace(before)
    assert (calls, unknown) == ([], [])


def test_trace_functions_of_frames_come_back():
    """Each frame that was running has the trace function that it had."""

    def local(_frame, _event, _arg):
        return local

    frame = sys._getframe()
    frame.f_trace = local
    tracer = LineTracer(Visits(), is_from_here)

    def inner():
        tracer.start(sys._getframe())
        traced_frames = [frame.f_trace is not local, sys._getframe().f_trace is not None]
        tracer.stop()
        return [*traced_frames, frame.f_trace is local, sys._getframe().f_trace is None]

    seen = inner()
    frame.f_trace = None
    assert seen == [True, True, True, True]


def test_frames_are_let_go():
    """A tracer that was stopped keeps no frame, and so none of its variables, alive."""
    tracer = LineTracer(Visits(), is_from_here)

    def inner():
        variable = Visits()
        tracer.start(sys._getframe())
        tracer.stop()
        return weakref.ref(variable)

    assert inner()() is None


def test_stopping_what_never_traced(trace_before):
    """A tracer that was never started leaves a debugger alone."""
    LineTracer(Visits(), is_from_here).stop()
    assert sys.gettrace() is trace_before


def test_tracer_stopped_elsewhere_leaves_that_thread_alone(trace_before):
    """A debugger of the thread that stops a tracer is not the tracer's to change."""
    tracer = LineTracer(Visits(), is_from_here)
    thread = threading.Thread(target=tracer.start, args=(None,))
    thread.start()
    thread.join()
    tracer.stop()
    assert sys.gettrace() is trace_before


def test_tracer_stopped_elsewhere_takes_itself_out():
    """Stopped from another thread, a tracer leaves its own at the next call there."""
    visits = Visits()
    tracer = LineTracer(visits, is_from_here)
    started, stopped, left = threading.Event(), threading.Event(), []

    def other():
        before = sys.gettrace()
        tracer.start(None)
        started.set()
        stopped.wait()
        two_lines()
        left.append(sys.gettrace() is before)

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    tracer.stop()
    visits.clear()
    stopped.set()
    thread.join()
    assert (left, visits) == ([True], [])


# -- threads that the code under test starts


@pytest.fixture
def tracers():
    """Trace lines and callees of this file, and know what was seen."""
    visits, names = Visits(), []
    tracer = LineTracer(visits, is_from_here)
    callees = CalleeTracer(names.append, is_from_here)
    with tracer.in_new_threads(), callees.in_new_threads():
        yield tracer, callees, visits, names
    tracer.stop()
    callees.stop()


def in_a_thread(function):
    """Call `function` in a thread of its own."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def call_len():
    """Call something that is not of this file."""
    return len("text")


def test_a_new_thread_is_seen(tracers):
    """What a new thread does between `start` and `stop` is seen as if it were done here."""
    tracer, callees, visits, names = tracers
    tracer.start(None)
    callees.start()
    in_a_thread(call_len)
    callees.stop()
    tracer.stop()
    assert [event for name, event in visits if name == "call_len"] == ["call", "line", "return"]
    assert "len" in names


def test_a_thread_that_runs_already_is_seen(tracers):
    """Tracing may be started when a thread is in the middle of a function."""
    tracer, callees, visits, names = tracers
    running, started = threading.Event(), threading.Event()

    def work():
        running.set()
        started.wait()
        call_len()

    thread = threading.Thread(target=work)
    thread.start()
    running.wait()
    tracer.start(None)
    callees.start()
    started.set()
    thread.join()
    callees.stop()
    tracer.stop()
    assert ("work", "line") in visits
    assert "len" in names


def test_a_new_thread_is_seen_in_between_only(tracers):
    """Before `start` and after `stop` nothing is seen of threads either."""
    tracer, callees, visits, names = tracers
    in_a_thread(call_len)
    tracer.start(None)
    callees.start()
    callees.stop()
    tracer.stop()
    visits.clear()
    names.clear()
    in_a_thread(call_len)
    assert ([visit for visit in visits if visit[0] == "call_len"], names) == ([], [])


@pytest.mark.parametrize(("hook", "tracer"), [("trace", LineTracer), ("profile", CalleeTracer)])
def test_a_thread_that_goes_on_is_let_go(hook, tracer):
    """A thread that outlives the tracing has, at its next call, the function that others have."""
    before = getattr(threading, f"get{hook}")()
    running, over, left = threading.Event(), threading.Event(), []

    def work():
        running.set()
        over.wait()
        call_len()
        left.append(getattr(sys, f"get{hook}")())

    with tracer(Visits(), is_from_here).in_new_threads():
        thread = threading.Thread(target=work)
        thread.start()
        running.wait()
    over.set()
    thread.join()
    assert left == [before]
    assert getattr(threading, f"get{hook}")() is before
