"""Tests of `clock`: CPU and wall time, noise (run-queue delay, page faults), ticks, deadlines.

`ticks(every, look)` calls `look` at each tick of a SIGALRM timer. `deadline` raises `Overrun` at
the first tick after its limits, and so stops a consumer that never ends. Neither may disturb an
alarm that was set before, such as the one of pytest-timeout. Most tests use fake clocks and raise
SIGALRM themselves, so that they do not wait.
"""

import doctest
import mmap
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest

from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.clock import Noise, Overrun, deadline

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="deadlines need POSIX interval timers"
)

# Limits that no test reaches: one hour.
UNREACHED_LIMITS = {"cpu_seconds": 3_600.0, "wall_seconds": 3_600.0}
# A test of a broken deadline fails after this time, so that the suite does not hang. Not measured:
# the deadlines under test end within 0.1 s.
PATIENCE_SECONDS = 10.0


@pytest.fixture(autouse=True)
def _alarm():
    """Start the test without an alarm, and restore the earlier alarm after it."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left, interval)


class FakeClocks:
    """CPU and wall clocks, in seconds, that advance only when a test advances them."""

    cpu_now = 100.0
    wall_now = 1_000.0

    def cpu(self):
        """Return the fake CPU time, in seconds."""
        return self.cpu_now

    def wall(self):
        """Return the fake wall time, in seconds."""
        return self.wall_now

    def advance_and_tick(self, *, cpu=0.0, wall=0.0):
        """Advance both clocks by these seconds, then raise SIGALRM: one tick."""
        self.cpu_now += cpu
        self.wall_now += wall
        signal.raise_signal(signal.SIGALRM)


@pytest.fixture
def clocks(monkeypatch):
    """Replace the real CPU and wall clocks by fake ones, and return the fake ones."""
    fake = FakeClocks()
    monkeypatch.setattr(clock, "cpu", fake.cpu)
    monkeypatch.setattr(clock, "wall", fake.wall)
    return fake


class CountingAlarm:
    """A SIGALRM handler, such as the one of pytest-timeout, that counts its calls."""

    def __init__(self, error=None) -> None:
        self.calls = 0
        self.error = error

    def __call__(self, _signum, _frame):
        """Count one call, and raise `error` if there is one."""
        self.calls += 1
        if self.error:
            raise self.error


@pytest.fixture
def outer():
    """Set an alarm, due in 100 seconds, before the deadline opens; return its handler."""
    alarm = CountingAlarm()
    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    return alarm


def spin():
    """Use CPU time until an exception stops it, for at most `PATIENCE_SECONDS`."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        pass


# -- deadlines by the real clocks


def test_spinning_loop_is_stopped():
    """A deadline interrupts code that uses CPU time without end, and names the CPU limit."""
    with (
        pytest.raises(Overrun) as stopped,
        deadline(cpu_seconds=0.05, wall_seconds=PATIENCE_SECONDS),
    ):
        spin()
    assert stopped.value.resource == "cpu"


def test_waiting_call_is_stopped():
    """A deadline interrupts code that waits without end, and names the wall-time limit."""
    with (
        pytest.raises(Overrun) as stopped,
        deadline(cpu_seconds=PATIENCE_SECONDS, wall_seconds=0.05),
    ):
        threading.Event().wait(PATIENCE_SECONDS)
    assert stopped.value.resource == "wall"


def test_swallowed_overrun_is_raised_again():
    """Code that catches `Overrun` and runs on is interrupted again."""

    def stubborn():
        with suppress(Overrun):
            spin()
        spin()

    with pytest.raises(Overrun), deadline(cpu_seconds=0.01, wall_seconds=2 * PATIENCE_SECONDS):
        stubborn()


def test_outer_alarm_rings_in_time():
    """An alarm that was set before the deadline still rings inside it, when it is due."""
    alarm = CountingAlarm()
    signal.signal(signal.SIGALRM, alarm)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.06)
    with deadline(**UNREACHED_LIMITS):
        while not alarm.calls and time.monotonic() < start + PATIENCE_SECONDS:
            pass
        assert time.monotonic() - start >= 0.06
        assert alarm.calls == 1


def test_cpu_counts_every_thread():
    """The CPU clock counts the work of other threads, too."""
    before = clock.cpu()

    def work():
        while time.thread_time() < 0.02:
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert clock.cpu() - before >= 0.02


# -- noise


def test_noise_is_what_came_since():
    """`Noise.since` subtracts each figure of the earlier reading; an unknown figure stays None."""
    assert Noise(2.5, 9).since(Noise(0.5, 4)) == Noise(2.0, 5)
    assert Noise(None, None).since(Noise(None, None)) == Noise(None, None)


def test_page_faults_are_noticed():
    """The noise counts a page fault for each page that is touched for the first time."""
    before = clock.noise()
    memory = mmap.mmap(-1, 64 * mmap.PAGESIZE)
    for page in range(64):
        memory[page * mmap.PAGESIZE] = 1
    memory.close()
    assert clock.noise().since(before).page_faults >= 64


@pytest.mark.skipif(sys.platform != "linux", reason="schedstat is Linux's")
def test_waiting_for_a_core_is_told():
    """The run-queue delay can be read on Linux, and it never decreases."""
    before = clock.noise()
    assert clock.noise().since(before).waited >= 0


@pytest.mark.parametrize("content", [None, b"", b"1", b"1 x 3"])
def test_a_system_that_does_not_tell(monkeypatch, content):
    """The run-queue delay is None where `schedstat` is missing or has unexpected content."""

    def pread(_file, _count, _offset):
        if content is None:
            raise FileNotFoundError
        return content

    monkeypatch.setattr(os, "pread", pread)
    assert clock.noise().waited is None


# -- deadlines and ticks by fake clocks


def test_nothing_is_raised_in_time(clocks):
    """A deadline raises nothing at its limits, and `Overrun` at the first tick beyond them."""
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        clocks.advance_and_tick(cpu=2.0, wall=30.0)
        with pytest.raises(Overrun):
            clocks.advance_and_tick(cpu=0.1)
        clocks.cpu_now = 100.0


@pytest.mark.parametrize(
    ("passed", "resource"),
    [
        ({"cpu": 2.1, "wall": 3.0}, "cpu"),
        ({"cpu": 1.0, "wall": 30.1}, "wall"),
        ({"cpu": 2.1, "wall": 30.1}, "wall"),
    ],
)
def test_overrun_names_the_resource(clocks, passed, resource):
    """`Overrun.resource` names the exceeded limit; if both are exceeded, it names wall time."""
    with pytest.raises(Overrun) as stopped, deadline(cpu_seconds=2.0, wall_seconds=30.0):
        clocks.advance_and_tick(**passed)
    assert stopped.value.resource == resource


def test_overrun_tells_how_long_it_was_stuck(clocks):
    """`Overrun.stuck` is the CPU time since the last tick that saw progress."""
    received = []

    def work():
        for spent in (0.5, 0.5, 1.25):
            clocks.advance_and_tick(cpu=spent)
            if not received:
                received.append("a delta")

    with (
        pytest.raises(Overrun) as stopped,
        deadline(cpu_seconds=2.0, wall_seconds=30.0, progress=lambda: len(received)),
    ):
        work()
    assert stopped.value.stuck == pytest.approx(1.25)


@pytest.mark.parametrize(("cpu_seconds", "every"), [(60.0, 0.05), (0.4, 0.01), (0.001, 0.005)])
def test_short_deadlines_look_more_often(cpu_seconds, every):
    """A deadline ticks once per fortieth of its CPU seconds, within 5 to 50 ms.

    With ticks of 50 ms only, a deadline of 0.1 s could let code run for 0.15 s.
    """
    with deadline(cpu_seconds=cpu_seconds, wall_seconds=3_600.0):
        interval = signal.getitimer(signal.ITIMER_REAL)[1]
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert interval == pytest.approx(every, rel=0.05)


def test_one_more_tick_where_things_move(clocks):
    """Code that makes progress at the deadline gets one more tick to end, and no second one."""
    received = []

    def work():
        clocks.advance_and_tick(cpu=1.0)
        received.append("a delta")
        clocks.advance_and_tick(cpu=1.1)
        received.append("the last one")

    def work_on():
        work()
        clocks.advance_and_tick(cpu=0.1)

    with deadline(cpu_seconds=2.0, wall_seconds=30.0, progress=lambda: len(received)):
        work()
    with (
        pytest.raises(Overrun),
        deadline(cpu_seconds=2.0, wall_seconds=30.0, progress=lambda: len(received)),
    ):
        work_on()


def test_without_progress_it_was_stuck_all_the_time(clocks):
    """Without a `progress` function, `Overrun.stuck` is the CPU time since the deadline opened."""
    with pytest.raises(Overrun) as stopped, deadline(cpu_seconds=2.0, wall_seconds=30.0):
        clocks.advance_and_tick(cpu=2.5)
    assert stopped.value.stuck == pytest.approx(2.5)


def test_overrun_is_no_exception():
    """`Overrun` is no `Exception`, so `except Exception` in code under test does not catch it."""
    assert not issubclass(Overrun, Exception)


def test_every_look_raises_again(clocks):
    """After the deadline has passed, every tick raises `Overrun`."""
    raised = 0
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        for _ in range(3):
            try:
                clocks.advance_and_tick(cpu=3.0)
            except Overrun:
                raised += 1
        clocks.cpu_now = 100.0
    assert raised == 3


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt, Overrun])
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, CountingAlarm()])
def test_handler_is_restored(clocks, error, handler):
    """A deadline restores the SIGALRM handler and stops its timer, however its block ends."""
    signal.signal(signal.SIGALRM, handler)
    inside = None

    def body():
        nonlocal inside
        with deadline(cpu_seconds=2.0, wall_seconds=30.0):
            inside = signal.getsignal(signal.SIGALRM)
            if error is Overrun:
                clocks.advance_and_tick(cpu=3.0)
            elif error:
                raise error

    if error:
        with pytest.raises(error):
            body()
    else:
        body()
    assert inside is not handler
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outer_alarm_is_set_again(clocks, outer):
    """An earlier alarm that is not due inside the deadline gets its remaining time afterwards."""
    with deadline(**UNREACHED_LIMITS):
        clocks.advance_and_tick(wall=40.0)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 50.0 < left <= 60.0
    assert interval == 0.0
    assert signal.getsignal(signal.SIGALRM) is outer
    assert outer.calls == 0


def test_outer_alarm_rings_inside(clocks, outer):
    """An earlier alarm that becomes due inside the deadline rings at the next tick."""
    with deadline(**UNREACHED_LIMITS):
        clocks.advance_and_tick(wall=99.0)
        assert outer.calls == 0
        clocks.advance_and_tick(wall=2.0)
        assert outer.calls == 1


def test_outer_alarm_rings_once(clocks, outer):
    """A one-shot alarm rings once: not at every tick, and not after the deadline."""
    with deadline(**UNREACHED_LIMITS):
        for _ in range(3):
            clocks.advance_and_tick(wall=101.0)
    assert outer.calls == 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outer_alarm_keeps_its_interval(clocks, outer):
    """A repeating alarm keeps its interval inside the deadline and after it."""
    signal.setitimer(signal.ITIMER_REAL, 100.0, 30.0)
    with deadline(**UNREACHED_LIMITS):
        clocks.advance_and_tick(wall=101.0)
        clocks.advance_and_tick(wall=20.0)
        assert outer.calls == 1
        clocks.advance_and_tick(wall=20.0)
        assert outer.calls == 2
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 10.0 < left <= 19.0
    assert interval == 30.0


def test_outer_alarm_may_raise(clocks, outer):
    """If an earlier alarm raises an error, as a test timeout does, that error ends the block."""
    outer.error = TimeoutError("too late")
    with pytest.raises(TimeoutError, match="too late"), deadline(**UNREACHED_LIMITS):
        clocks.advance_and_tick(wall=101.0)
    assert outer.calls == 1
    assert signal.getsignal(signal.SIGALRM) is outer
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_overdue_alarm_rings_afterwards(clocks, outer):
    """An alarm that becomes due after the last tick rings when the deadline closes."""
    with deadline(**UNREACHED_LIMITS):
        clocks.wall_now += 101.0
    assert outer.calls or signal.getitimer(signal.ITIMER_REAL)[0] < 0.5
    end = time.monotonic() + PATIENCE_SECONDS
    while not outer.calls and time.monotonic() < end:
        pass
    assert outer.calls == 1


def test_a_deadline_that_passes_on_the_way_out_leaves_no_timer(clocks):
    """A tick that interrupts a context manager's own frame raises no `Overrun`; a later one does.

    An error inside a closing context manager would leave the timer running.
    """

    @contextmanager
    def between():
        alarm(signal.SIGALRM, sys._getframe(1))
        yield

    with deadline(**UNREACHED_LIMITS):
        alarm = signal.getsignal(signal.SIGALRM)
        clocks.cpu_now += 10_000.0
        with between():
            pass
        with pytest.raises(Overrun):
            alarm(signal.SIGALRM, sys._getframe())


def test_look_at_the_very_end_does_not_raise(clocks, monkeypatch):
    """A tick that comes while the deadline closes raises nothing."""
    setitimer, late_ticks = signal.setitimer, iter(["late"])

    def late_look(which, seconds, interval=0.0):
        if not seconds and next(late_ticks, None):
            signal.raise_signal(signal.SIGALRM)
        return setitimer(which, seconds, interval)

    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        monkeypatch.setattr(signal, "setitimer", late_look)
        clocks.cpu_now += 3.0
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_ignored_alarm_stays_ignored(clocks):
    """An earlier alarm whose handler is SIG_IGN is still ignored, inside the deadline and after."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    with deadline(**UNREACHED_LIMITS):
        clocks.advance_and_tick(wall=101.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN


def test_outer_deadline_holds_inside(clocks):
    """A deadline inside another one does not postpone the outer one."""
    with (
        pytest.raises(Overrun),
        deadline(cpu_seconds=2.0, wall_seconds=30.0),
        deadline(**UNREACHED_LIMITS),
    ):
        clocks.advance_and_tick(cpu=3.0, wall=3.0)


def test_outer_deadline_holds_afterwards(clocks):
    """After an inner deadline has closed, the outer one still raises when it passes."""
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        with deadline(**UNREACHED_LIMITS):
            clocks.advance_and_tick(cpu=1.0)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0.0
        with pytest.raises(Overrun):
            clocks.advance_and_tick(cpu=1.5)
        clocks.cpu_now = 100.0


class RecordingLook(list):
    """A `look` function for `ticks` that records the frame of each call."""

    def __call__(self, frame):
        """Record the frame."""
        self.append(frame)


@pytest.mark.parametrize("first_out", [0, 1])
def test_the_last_one_out_puts_back_whoever_that_is(clocks, outer, first_out):
    """Closing the last of two overlapping `ticks` restores the earlier handler and timer.

    The two do not nest, as in two tasks. Each is called as long as it is open.
    """
    looks, open_ = (RecordingLook(), RecordingLook()), (ExitStack(), ExitStack())
    for look, stack in zip(looks, open_, strict=True):
        stack.enter_context(clock.ticks(0.05, look))
    clocks.advance_and_tick(wall=1.0)
    open_[first_out].close()
    clocks.advance_and_tick(wall=1.0)
    open_[1 - first_out].close()
    assert (len(looks[first_out]), len(looks[1 - first_out])) == (1, 2)
    assert signal.getsignal(signal.SIGALRM) is outer
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert (97.0 < left <= 98.0, interval) == (True, 0.0)


def test_a_deadline_outlives_what_ticked_before_it(clocks):
    """A deadline still works after an earlier `ticks` was closed inside its block."""
    before = ExitStack()
    before.enter_context(clock.ticks(0.03, RecordingLook()))
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        before.close()
        assert signal.getitimer(signal.ITIMER_REAL)[1] == pytest.approx(0.05, rel=0.05)
        with pytest.raises(Overrun):
            clocks.advance_and_tick(cpu=3.0)
        clocks.cpu_now = 100.0
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_each_looks_as_often_as_it_asked(clocks):
    """Several open `ticks` each call their `look` function at their own interval.

    Opening a slower one does not change the timer, and delays no call.
    """
    slow, fast = RecordingLook(), RecordingLook()
    with clock.ticks(1.0, slow), clock.ticks(0.25, fast):
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(8):
            clocks.advance_and_tick(wall=0.25)
        with clock.ticks(0.5, RecordingLook()):
            left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert (len(slow), len(fast)) == (2, 8)
    assert (left, interval) == (pytest.approx(0.25, rel=0.05), 0.25)


def test_an_interrupt_on_the_way_out_is_made_good_at_the_next_tick(monkeypatch):
    """If an interrupt stops `ticks` from closing, the next tick restores the handler and the timer.

    A timer that still ran when Python has removed its handler would end the process.
    """

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), clock.ticks(0.05, RecordingLook()):
        monkeypatch.setattr(signal, "setitimer", interrupted)
    monkeypatch.undo()
    signal.raise_signal(signal.SIGALRM)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_handler_that_the_code_put_in_is_its_own(clocks):
    """`ticks` restores a SIGALRM handler that the code under test installed, and does not call it.

    The outer `ticks` restore the handler that was there before them.
    """
    alarm = CountingAlarm()
    with clock.ticks(0.05, RecordingLook()), clock.ticks(0.05, RecordingLook()):
        signal.signal(signal.SIGALRM, alarm)
        signal.setitimer(signal.ITIMER_REAL, 0)
        with clock.ticks(0.05, looks := RecordingLook()):
            clocks.advance_and_tick(wall=0.05)
        assert signal.getsignal(signal.SIGALRM) is alarm
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert (len(looks), alarm.calls) == (1, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def call_in_thread(function):
    """Call `function` in another thread, and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_off_the_main_thread_it_does_nothing():
    """Outside the main thread, which alone handles signals, a deadline does nothing."""

    def body():
        with deadline(cpu_seconds=0.0, wall_seconds=0.0):
            return signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)

    assert call_in_thread(body) == (signal.SIG_DFL, (0.0, 0.0))


def test_without_timers_it_does_nothing(monkeypatch):
    """A deadline does nothing on a system without interval timers, such as Windows."""
    with monkeypatch.context() as patch:
        patch.delattr(signal, "setitimer")
        with deadline(cpu_seconds=0.0, wall_seconds=0.0):
            assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_docstring_examples():
    """The doctests of the `clock` module pass."""
    assert doctest.testmod(clock).failed == 0
