"""Tests of `instrumentation`: tracemalloc, the garbage collector and the profiling hooks.

The module's context managers and tracers are the only code of the project that changes them. The
tests check what each measures, and that it restores the state of other tools: debuggers, coverage
tools, profilers and memray.
"""

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
    """Fail a test that leaves the collector, a hook or tracemalloc in another state."""
    hooks = gc.isenabled(), sys.gettrace(), sys.getprofile(), tracemalloc.is_tracing()
    yield
    assert hooks == (gc.isenabled(), sys.gettrace(), sys.getprofile(), tracemalloc.is_tracing())


def do_nothing():
    """Do nothing: the tests count the call itself."""


# -- the garbage collector


def test_collector_is_off_inside():
    """The collector is off while `collector_off` is open."""
    with collector_off():
        assert not gc.isenabled()


def test_threads_take_turns_inside():
    """`threads_in_turns` shortens the switch interval, and restores it, also after an error."""
    before = sys.getswitchinterval()
    with contextlib.suppress(LookupError), threads_in_turns():
        assert sys.getswitchinterval() < before
        raise LookupError
    assert sys.getswitchinterval() == before


@pytest.fixture
def collector(request):
    """Turn the collector on or off before the test, as the parameter says; turn it on after it."""
    (gc.enable if request.param else gc.disable)()
    yield request.param
    gc.enable()


@pytest.mark.parametrize("collector", [True, False], indirect=True, ids=["on", "off"])
def test_collector_is_as_it_was(collector):
    """`collector_off` turns the collector on again only if it was on before."""
    with collector_off():
        pass
    assert gc.isenabled() is collector


@pytest.mark.parametrize("collector", [True, False], indirect=True, ids=["on", "off"])
def test_collector_is_as_it_was_after_an_error(collector):
    """`collector_off` restores the state of the collector when the code under test raises."""
    with pytest.raises(ZeroDivisionError), collector_off():
        raise ZeroDivisionError
    assert gc.isenabled() is collector


@pytest.mark.parametrize("collector", [True, False], indirect=True, ids=["on", "off"])
@pytest.mark.parametrize("meddle", [gc.enable, gc.disable])
def test_collector_is_as_it_was_whatever_happens(collector, meddle):
    """`collector_off` restores the state even if the code under test changes it itself."""
    with collector_off():
        meddle()
    assert gc.isenabled() is collector


def test_what_was_there_is_frozen():
    """While `collector_off` is open, the collector ignores objects that existed before."""
    old = [[]]
    with collector_off():
        new = [[]]
        objects = gc.get_objects()
        assert any(item is new for item in objects)
        assert not any(item is old for item in objects)
    assert any(item is old for item in gc.get_objects())


def test_what_somebody_froze_stays_frozen():
    """Objects that an application froze before stay frozen after `collector_off`."""
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
    """`allocations` turns tracemalloc on, and off again when it closes."""
    with allocations():
        assert tracemalloc.is_tracing()
    assert not tracemalloc.is_tracing()


def test_one_frame_is_traced():
    """`allocations` stores one frame per allocation, the least that tracemalloc allows."""
    with allocations():
        assert tracemalloc.get_traceback_limit() == 1


def test_tracing_ends_after_an_error():
    """`allocations` turns tracemalloc off when the code under test raises."""
    with pytest.raises(ZeroDivisionError), allocations():
        raise ZeroDivisionError
    assert not tracemalloc.is_tracing()


@pytest.fixture
def traced_before(monkeypatch):
    """Start tracemalloc with 7 frames before the test, and mark the warning about it as given."""
    monkeypatch.setattr(instrumentation, "_warned", True)
    tracemalloc.start(7)
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("traced_before")
def test_tracing_that_was_on_stays_on():
    """A tracemalloc that other code started keeps running, with its frame limit."""
    with allocations():
        pass
    assert (allocations_traced(), tracemalloc.get_traceback_limit()) == (True, 7)


@pytest.mark.usefixtures("traced_before")
def test_traces_that_were_taken_are_kept():
    """A tracemalloc that other code started keeps its traces."""
    kept = bytearray(1_000_000)
    with allocations():
        pass
    assert tracemalloc.get_traced_memory()[0] >= len(kept)
    assert tracemalloc.get_object_traceback(kept) is not None


def test_our_own_tracing_rests_for_what_is_timed():
    """`allocations_untraced` pauses tracing; an open `peak` reader keeps its value and goes on.

    The reader does not count allocations of the pause.
    """
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
    """If `allocations` closes during a pause of tracing, tracing stays off after the pause.

    An open `peak` reader returns its value during the pause.
    """
    outer = contextlib.ExitStack()
    outer.enter_context(allocations())
    reader = outer.enter_context(peak())
    bytearray(3_000_000)
    with allocations_untraced():
        assert 3_000_000 <= reader.above < 3_100_000
        outer.close()
    assert not tracemalloc.is_tracing()


def test_what_begins_while_tracing_rests_is_traced():
    """Code that opens `allocations` during a pause is traced; earlier tracing goes on after it."""
    with allocations(), peak() as outer:
        kept = bytearray(2_000_000)
        with allocations_untraced(), allocations(), peak() as inner:
            bytearray(1_000_000)
        assert 1_000_000 <= inner.above < 1_100_000
        assert 3_000_000 <= outer.above < 3_100_000
        assert (tracemalloc.is_tracing(), allocations_traced()) == (True, False)
    assert len(kept) == 2_000_000


def test_the_last_one_who_traces_turns_it_off():
    """If two `allocations` overlap, only the last to close turns tracemalloc off."""
    first = contextlib.ExitStack()
    first.enter_context(allocations())
    with allocations(), peak() as reader:
        first.close()
        bytearray(1_000_000)
        assert 990_000 <= reader.above < 1_100_000
    assert not tracemalloc.is_tracing()


@pytest.mark.usefixtures("traced_before")
def test_tracing_of_somebody_else_never_rests():
    """A tracemalloc that other code started is never paused, because that would lose its traces."""
    assert allocations_traced()
    with allocations_untraced():
        assert tracemalloc.is_tracing()


@pytest.mark.usefixtures("traced_before")
def test_a_lost_peak_is_told_once(monkeypatch):
    """`allocations` warns once per process that it resets the peak of other code's tracemalloc."""
    monkeypatch.setattr(instrumentation, "_warned", False)
    with pytest.warns(StreamperfWarning, match="every check resets its peak"), allocations():
        pass
    with allocations():
        pass


def test_a_peak_within_another_leaves_that_to_it():
    """An inner `peak` reader and `restart_peak` do not lower the peak of the outer reader.

    Nested readers cause no warning.
    """
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
    """A higher peak after an inner reader has closed counts for the outer reader."""
    with allocations(), peak() as outer:
        with peak():
            bytearray(2_000_000)
        bytearray(3_000_000)
        assert 3_000_000 <= outer.above < 3_100_000


def test_a_peak_that_is_no_longer_traced():
    """A `peak` reader returns None after other code has stopped tracemalloc."""
    with allocations(), peak() as stopped:
        tracemalloc.stop()
        assert stopped.above is None


def test_arenas_are_held_by_little():
    """`arenas_held` takes less than 1% of the memory that it keeps mapped.

    It holds one block of 400 bytes in each 256 KiB, a quarter of an arena.
    """
    size = 16 * 2**20
    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        with arenas_held(size):
            held = tracemalloc.get_traced_memory()[0] - before
        after = tracemalloc.get_traced_memory()[0] - before
    assert size // 2**18 * 400 <= held < size / 100
    assert after < held / 4


def test_no_arenas_to_hold():
    """`arenas_held` accepts a size of 0 bytes, and then holds no memory."""
    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        with arenas_held(0):
            assert tracemalloc.get_traced_memory()[0] - before < 10_000


def test_arenas_are_let_go_after_an_error():
    """`arenas_held` frees its blocks when the code under test raises."""
    with allocations():
        before = tracemalloc.get_traced_memory()[0]
        with pytest.raises(ZeroDivisionError), arenas_held(16 * 2**20):
            raise ZeroDivisionError
        assert tracemalloc.get_traced_memory()[0] - before < 10_000


# -- counting calls


def call_count(function):
    """Return how many calls `function` makes, the call of itself included."""
    counter = CallCounter()
    counter.start()
    try:
        function()
    finally:
        counter.stop()
    return counter.count - 1  # without the call of `stop` itself


def test_count_starts_at_nothing():
    """A `CallCounter` that was not started has counted 0 calls."""
    assert CallCounter().count == 0


def test_python_calls_are_counted():
    """A `CallCounter` counts every call of a Python function."""

    def ten_calls():
        for _ in range(9):
            do_nothing()

    assert call_count(ten_calls) - call_count(do_nothing) == 9


def test_c_calls_are_counted():
    """A `CallCounter` counts every call of a C function."""

    def nine_calls():
        text = ""
        for _ in range(9):
            len(text)

    assert call_count(nine_calls) - call_count(do_nothing) == 9


def test_calls_are_the_same_every_time():
    """A `CallCounter` counts the same number of calls in every run of the same code."""
    assert len({call_count(lambda: sorted(range(50), key=abs)) for _ in range(5)}) == 1


def test_calls_after_the_end_are_not_counted():
    """A `CallCounter` counts no calls after `stop`."""
    counter = CallCounter()
    counter.start()
    counter.stop()
    before = counter.count
    do_nothing()
    assert counter.count == before


def test_calls_in_other_threads_are_not_counted():
    """A `CallCounter` does not count calls of other threads."""
    go, done = threading.Event(), threading.Event()

    def other():
        go.wait()
        for _ in range(1_000):
            do_nothing()
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
    """A second `start` of a `CallCounter` does nothing, and every call still counts once."""
    counter = CallCounter()
    counter.start()
    do_nothing()
    counter.start()
    before = counter.count
    do_nothing()
    counter.stop()
    assert before >= 2
    assert counter.count - before == 2


def test_stopping_what_never_started():
    """`stop` of a `CallCounter` that was never started leaves the profile function alone."""
    before = sys.getprofile()
    CallCounter().stop()
    assert sys.getprofile() is before


@pytest.fixture
def profile_before():
    """Install a profile function before the test, and remove it after the test."""

    def profile(_frame, _event, _arg):
        pass

    sys.setprofile(profile)
    yield profile
    sys.setprofile(None)


def test_profiler_is_noticed(profile_before):
    """`calls_traced` returns whether this thread has a profile function."""
    noticed = calls_traced()
    sys.setprofile(None)
    assert noticed
    assert not calls_traced()
    assert profile_before


def test_profile_function_in_c_comes_back(monkeypatch):
    """A `CallCounter` restores memray's profile function by memray's hook for new threads.

    The function is in C, so `sys.getprofile` does not return it.
    """

    def hook(_frame, _event, _arg):
        sys.setprofile(None)  # `sys.getprofile` does not return a function in C either
        restored.append("back")

    restored, hook.__module__ = [], "memray._memray"
    monkeypatch.setattr(threading, "_profile_hook", hook)
    counter = CallCounter()
    with counter.in_new_threads():
        counter.start()
        counter.stop()
    assert restored
    assert counter.count


def test_what_threads_are_started_with_stays_there(monkeypatch):
    """A `CallCounter` does not install another tool's hook for new threads in this thread."""
    monkeypatch.setattr(threading, "_profile_hook", lambda *_: None)
    counter = CallCounter()
    counter.start()
    counter.stop()
    assert sys.getprofile() is None


def test_profile_function_comes_back(profile_before):
    """A `CallCounter` replaces an earlier profile function, and restores it at `stop`."""
    counter = CallCounter()
    counter.start()
    inside = sys.getprofile()
    counter.stop()
    assert inside != profile_before
    assert sys.getprofile() is profile_before


def test_later_profile_function_is_left():
    """`stop` does not remove a profile function that the code under test installed meanwhile."""

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
    """A counter that another thread stops removes itself at the next call in its own thread."""
    before = sys.getprofile()
    counter = CallCounter()
    counter.start()
    thread = threading.Thread(target=counter.stop)
    thread.start()
    thread.join()
    do_nothing()
    assert sys.getprofile() is before


def test_stopping_elsewhere_leaves_that_thread_alone():
    """`stop` does not change the profile function of a thread that the counter did not count."""
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


def callee_names(function):
    """Return the names that a `CalleeTracer` reports for a call of `function`.

    A name is that of a callee outside this file; "" stands for its return.
    """
    names = []
    tracer = CalleeTracer(names.append, is_wanted)
    tracer.start()
    try:
        function()
    finally:
        tracer.stop()
    assert (names[0], names[-1]) == ("", "pytest_streamperf._Profiler.stop")  # start, stop
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
    """A `CalleeTracer` reports a callee with its package, and its return as an empty name."""
    assert callee_names(call)[:2] == [name, ""]


def test_what_a_callee_calls_is_its_own_affair():
    """A `CalleeTracer` does not report what a callee outside the user's code calls itself."""
    assert {"json.loads", ""} == set(callee_names(lambda: json.loads("[1, 2]"))[:2])


def test_own_functions_are_no_callees():
    """A `CalleeTracer` does not report calls between functions of the user's code."""
    assert "two_lines" not in " ".join(callee_names(two_lines))


def test_callee_that_raises_has_ended():
    """A `CalleeTracer` reports the end of a callee that raises."""

    def caught():
        with contextlib.suppress(ValueError):
            json.loads("?")

    names = callee_names(caught)
    assert names[names.index("json.loads") + 1] == ""


def test_callees_can_be_named_again():
    """A `CalleeTracer` can be started again after `stop`, which removes its profile function."""
    names = []
    tracer = CalleeTracer(names.append, is_wanted)
    for _ in range(2):
        tracer.start()
        len("text")
        tracer.stop()
    assert names.count("len") == 2
    assert sys.getprofile() is None


# -- tracing lines


class Visits(list):
    """A visitor for `LineTracer` that records pairs of function name and event."""

    def __call__(self, frame, event):
        """Record the function name of the frame, and the event."""
        self.append((frame.f_code.co_name, event))


def two_lines():
    """Run two lines, which a tracer visits."""
    one = 1
    return one + 1


def not_wanted():
    """Call `two_lines` from a function that `is_wanted` rejects."""
    two_lines()


def is_wanted(frame):
    """Return whether the frame's function is of this file and not `not_wanted`."""
    return frame.f_code.co_filename == __file__ and frame.f_code is not not_wanted.__code__


def visits_of(function, wanted=is_wanted, start=None):
    """Trace a call of `function`, and the frame `start` with its callers; return the visits."""
    visits = Visits()
    tracer = LineTracer(visits, wanted)
    tracer.start(start)
    function()
    tracer.stop()
    return visits


def test_calls_lines_and_returns_are_visited():
    """A function is visited at its call, at each line and at its return, in this order."""
    events = [event for name, event in visits_of(two_lines) if name == "two_lines"]
    assert events == ["call", "line", "line", "return"]


def test_unwanted_functions_are_not_visited():
    """A function that `wanted` rejects is not visited, but a function that it calls is."""
    names = [name for name, _ in visits_of(not_wanted)]
    assert "not_wanted" not in names
    assert names.count("two_lines") == 4


def test_running_frames_are_traced():
    """A `LineTracer` visits the lines of the frame that started it, and of its callers."""
    visits = Visits()
    tracer = LineTracer(visits, is_wanted)

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
    """A `LineTracer` visits nothing after `stop`."""
    visits = visits_of(two_lines)
    before = len(visits)
    two_lines()
    assert len(visits) == before


def test_later_windows_can_be_traced():
    """A `LineTracer` can be started again after `stop`, and visits nothing in between."""
    visits = Visits()
    tracer = LineTracer(visits, is_wanted)
    for _ in range(2):
        tracer.start(None)
        two_lines()
        tracer.stop()
        two_lines()
    assert visits.count(("two_lines", "call")) == 2


@pytest.fixture
def trace_before():
    """Install a trace function before the test, as debuggers and coverage tools do."""
    before = sys.gettrace()

    def trace(_frame, _event, _arg):
        return trace

    sys.settrace(trace)
    yield trace
    sys.settrace(before)


def test_trace_function_comes_back(trace_before):
    """A `LineTracer` replaces a debugger's trace function, and restores it at `stop`."""
    tracer = LineTracer(Visits(), is_wanted)
    tracer.start(None)
    inside = sys.gettrace()
    tracer.stop()
    after = sys.gettrace()
    assert inside != trace_before
    assert after is trace_before


def test_whoever_saw_a_call_sees_the_return():
    """A tool that saw the call of a frame also sees its return, though tracing began in between.

    Coverage tools in Python keep a stack of calls, which a missing return would break.
    """
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
        Visits(), lambda frame: is_wanted(frame) and frame.f_code is not stream.__code__
    )
    sys.settrace(stack)
    try:
        consume()
    finally:
        sys.settrace(before)
    assert (calls, unknown) == ([], [])


def test_trace_functions_of_frames_come_back():
    """A `LineTracer` restores the trace function of each frame that was already running."""

    def local(_frame, _event, _arg):
        return local

    frame = sys._getframe()
    frame.f_trace = local
    tracer = LineTracer(Visits(), is_wanted)

    def inner():
        tracer.start(sys._getframe())
        while_tracing = [frame.f_trace is not local, sys._getframe().f_trace is not None]
        tracer.stop()
        return [*while_tracing, frame.f_trace is local, sys._getframe().f_trace is None]

    results = inner()
    frame.f_trace = None
    assert results == [True, True, True, True]


def test_frames_are_let_go():
    """A stopped `LineTracer` keeps no frame alive, and so no variable of a frame."""
    tracer = LineTracer(Visits(), is_wanted)

    def inner():
        variable = Visits()
        tracer.start(sys._getframe())
        tracer.stop()
        return weakref.ref(variable)

    assert inner()() is None


def test_stopping_what_never_traced(trace_before):
    """`stop` of a `LineTracer` that was never started leaves a debugger's trace function alone."""
    LineTracer(Visits(), is_wanted).stop()
    assert sys.gettrace() is trace_before


def test_tracer_stopped_elsewhere_leaves_that_thread_alone(trace_before):
    """`stop` does not change the trace function of a thread that the tracer did not trace."""
    tracer = LineTracer(Visits(), is_wanted)
    thread = threading.Thread(target=tracer.start, args=(None,))
    thread.start()
    thread.join()
    tracer.stop()
    assert sys.gettrace() is trace_before


def test_tracer_stopped_elsewhere_takes_itself_out():
    """A tracer that another thread stops removes itself at the next call in its own thread."""
    visits = Visits()
    tracer = LineTracer(visits, is_wanted)
    started, stopped, remaining = threading.Event(), threading.Event(), []

    def other():
        before = sys.gettrace()
        tracer.start(None)
        started.set()
        stopped.wait()
        two_lines()
        remaining.append(sys.gettrace() is before)

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    tracer.stop()
    visits.clear()
    stopped.set()
    thread.join()
    assert (remaining, visits) == ([True], [])


# -- threads that the code under test starts


@pytest.fixture
def tracers():
    """Yield a line tracer and a callee tracer for this file and new threads, with their records.

    The tracers are not started yet.
    """
    visits, names = Visits(), []
    tracer = LineTracer(visits, is_wanted)
    callee_tracer = CalleeTracer(names.append, is_wanted)
    with tracer.in_new_threads(), callee_tracer.in_new_threads():
        yield tracer, callee_tracer, visits, names
    tracer.stop()
    callee_tracer.stop()


def call_in_thread(function):
    """Call `function` in a new thread, and wait for its end."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def call_len():
    """Call `len`, a function that is not of this file."""
    return len("text")


def test_a_new_thread_is_seen(tracers):
    """Line and callee tracers report what a new thread does between `start` and `stop`."""
    tracer, callee_tracer, visits, names = tracers
    tracer.start(None)
    callee_tracer.start()
    call_in_thread(call_len)
    callee_tracer.stop()
    tracer.stop()
    assert [event for name, event in visits if name == "call_len"] == ["call", "line", "return"]
    assert "len" in names


def test_a_thread_that_runs_already_is_seen(tracers):
    """Line and callee tracers report a thread that was in the middle of a function at `start`."""
    tracer, callee_tracer, visits, names = tracers
    running, started = threading.Event(), threading.Event()

    def work():
        running.set()
        started.wait()
        call_len()

    thread = threading.Thread(target=work)
    thread.start()
    running.wait()
    tracer.start(None)
    callee_tracer.start()
    started.set()
    thread.join()
    callee_tracer.stop()
    tracer.stop()
    assert ("work", "line") in visits
    assert "len" in names


def test_a_new_thread_is_seen_in_between_only(tracers):
    """A thread that runs before `start` or after `stop` is not traced."""
    tracer, callee_tracer, visits, names = tracers
    call_in_thread(call_len)
    tracer.start(None)
    callee_tracer.start()
    callee_tracer.stop()
    tracer.stop()
    visits.clear()
    names.clear()
    call_in_thread(call_len)
    assert ([visit for visit in visits if visit[0] == "call_len"], names) == ([], [])


@pytest.mark.parametrize(("hook", "tracer"), [("trace", LineTracer), ("profile", CalleeTracer)])
def test_a_thread_that_goes_on_is_let_go(hook, tracer):
    """A thread that outlives the tracing drops the tracer at its next call.

    It then has the trace or profile function that new threads got before the tracing.
    """
    before = getattr(threading, f"get{hook}")()
    running, over, remaining = threading.Event(), threading.Event(), []

    def work():
        running.set()
        over.wait()
        call_len()
        remaining.append(getattr(sys, f"get{hook}")())

    with tracer(Visits(), is_wanted).in_new_threads():
        thread = threading.Thread(target=work)
        thread.start()
        running.wait()
    over.set()
    thread.join()
    assert remaining == [before]
    assert getattr(threading, f"get{hook}")() is before
