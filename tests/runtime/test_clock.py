"""The deadline stops a consumer that never ends, and gets in the way of nothing else."""

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

LONG = {"cpu_seconds": 3_600.0, "wall_seconds": 3_600.0}
# A deadline that does not work fails its test after this, and does not hang the suite.
PATIENCE = 10.0


@pytest.fixture(autouse=True)
def _alarm():
    """Set no alarm before the test, and put back what there was after it."""
    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left, interval)


class FakeClocks:
    """CPU and wall time that pass only when told to."""

    cpu_now = 100.0
    wall_now = 1_000.0

    def cpu(self):
        """Tell the CPU time."""
        return self.cpu_now

    def wall(self):
        """Tell the wall time."""
        return self.wall_now

    def pass_by(self, *, cpu=0.0, wall=0.0):
        """Let time pass, and the deadline look at the clocks."""
        self.cpu_now += cpu
        self.wall_now += wall
        signal.raise_signal(signal.SIGALRM)


@pytest.fixture
def clocks(monkeypatch):
    """Put fake clocks in place of the real ones."""
    fake = FakeClocks()
    monkeypatch.setattr(clock, "cpu", fake.cpu)
    monkeypatch.setattr(clock, "wall", fake.wall)
    return fake


class Rings:
    """An alarm's handler, of pytest-timeout for one."""

    def __init__(self, error=None) -> None:
        self.times = 0
        self.error = error

    def __call__(self, _signum, _frame):
        """Ring."""
        self.times += 1
        if self.error:
            raise self.error


@pytest.fixture
def outer():
    """Set an alarm before the deadline: in 100 seconds."""
    rings = Rings()
    signal.signal(signal.SIGALRM, rings)
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    return rings


def spin():
    """Use CPU time until somebody stops it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        pass


# -- with real clocks


def test_spinning_loop_is_stopped():
    """Code that spends CPU without end is interrupted, for its CPU time."""
    with pytest.raises(Overrun) as stopped, deadline(cpu_seconds=0.05, wall_seconds=PATIENCE):
        spin()
    assert stopped.value.resource == "cpu"


def test_waiting_call_is_stopped():
    """Code that waits without end is interrupted, for its wall time."""
    with pytest.raises(Overrun) as stopped, deadline(cpu_seconds=PATIENCE, wall_seconds=0.05):
        threading.Event().wait(PATIENCE)
    assert stopped.value.resource == "wall"


def test_swallowed_overrun_is_raised_again():
    """Code that catches everything is interrupted until it lets go."""

    def stubborn():
        with suppress(Overrun):
            spin()
        spin()

    with pytest.raises(Overrun), deadline(cpu_seconds=0.01, wall_seconds=2 * PATIENCE):
        stubborn()


def test_outer_alarm_rings_in_time():
    """An alarm that is due inside rings there, and not too soon."""
    rings = Rings()
    signal.signal(signal.SIGALRM, rings)
    start = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 0.06)
    with deadline(**LONG):
        while not rings.times and time.monotonic() < start + PATIENCE:
            pass
        assert time.monotonic() - start >= 0.06
        assert rings.times == 1


def test_cpu_counts_every_thread():
    """Work that is handed to another thread is on the CPU clock too."""
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
    """Each figure is the difference, or None where the system did not tell."""
    assert Noise(2.5, 9).since(Noise(0.5, 4)) == Noise(2.0, 5)
    assert Noise(None, None).since(Noise(None, None)) == Noise(None, None)


def test_page_faults_are_noticed():
    """Memory that is touched for the first time is seen."""
    before = clock.noise()
    memory = mmap.mmap(-1, 64 * mmap.PAGESIZE)
    for page in range(64):
        memory[page * mmap.PAGESIZE] = 1
    memory.close()
    assert clock.noise().since(before).page_faults >= 64


@pytest.mark.skipif(sys.platform != "linux", reason="schedstat is Linux's")
def test_waiting_for_a_core_is_told():
    """It never goes back."""
    before = clock.noise()
    assert clock.noise().since(before).waited >= 0


@pytest.mark.parametrize("content", [None, b"", b"1", b"1 x 3"])
def test_a_system_that_does_not_tell(monkeypatch, content):
    """Where `schedstat` is missing or says something else, the wait is unknown."""

    def pread(_file, _count, _offset):
        if content is None:
            raise FileNotFoundError
        return content

    monkeypatch.setattr(os, "pread", pread)
    assert clock.noise().waited is None


# -- with fake ones


def test_nothing_is_raised_in_time(clocks):
    """Up to the deadline nothing happens."""
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        clocks.pass_by(cpu=2.0, wall=30.0)


@pytest.mark.parametrize(
    ("passed", "resource"),
    [
        ({"cpu": 2.1, "wall": 3.0}, "cpu"),
        ({"cpu": 1.0, "wall": 30.1}, "wall"),
        ({"cpu": 2.1, "wall": 30.1}, "wall"),
    ],
)
def test_overrun_names_the_resource(clocks, passed, resource):
    """What ran out is told: wall time if both did."""
    with pytest.raises(Overrun) as stopped, deadline(cpu_seconds=2.0, wall_seconds=30.0):
        clocks.pass_by(**passed)
    assert stopped.value.resource == resource


def test_overrun_tells_how_long_it_was_stuck(clocks):
    """CPU time since a look at which there was progress."""
    come = []

    def work():
        for spent in (0.5, 0.5, 1.25):
            clocks.pass_by(cpu=spent)
            if not come:
                come.append("a delta")

    with (
        pytest.raises(Overrun) as stopped,
        deadline(cpu_seconds=2.0, wall_seconds=30.0, progress=lambda: len(come)),
    ):
        work()
    assert stopped.value.stuck == pytest.approx(1.25)


@pytest.mark.parametrize(("cpu_seconds", "every"), [(60.0, 0.05), (0.4, 0.01), (0.001, 0.005)])
def test_short_deadlines_look_more_often(cpu_seconds, every):
    """What is to take a tenth of a second is not stopped at half as much again."""
    with deadline(cpu_seconds=cpu_seconds, wall_seconds=3_600.0):
        interval = signal.getitimer(signal.ITIMER_REAL)[1]
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert interval == pytest.approx(every, rel=0.05)


def test_one_more_tick_where_things_move(clocks):
    """What still makes progress at the deadline may end in good order; then it is stopped."""
    come = []

    def work():
        clocks.pass_by(cpu=1.0)
        come.append("a delta")
        clocks.pass_by(cpu=1.1)
        come.append("the last one")

    def work_on():
        work()
        clocks.pass_by(cpu=0.1)

    with deadline(cpu_seconds=2.0, wall_seconds=30.0, progress=lambda: len(come)):
        work()
    with (
        pytest.raises(Overrun),
        deadline(cpu_seconds=2.0, wall_seconds=30.0, progress=lambda: len(come)),
    ):
        work_on()


def test_without_progress_it_was_stuck_all_the_time(clocks):
    """So it is where nobody tells of any."""
    with pytest.raises(Overrun) as stopped, deadline(cpu_seconds=2.0, wall_seconds=30.0):
        clocks.pass_by(cpu=2.5)
    assert stopped.value.stuck == pytest.approx(2.5)


def test_overrun_is_no_exception():
    """Code under test that catches every `Exception` does not catch it."""
    assert not issubclass(Overrun, Exception)


def test_every_look_raises_again(clocks):
    """Past the deadline every look at the clocks interrupts."""
    raised = 0
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        for _ in range(3):
            try:
                clocks.pass_by(cpu=3.0)
            except Overrun:
                raised += 1
        clocks.cpu_now = 100.0
    assert raised == 3


@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt, Overrun])
@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN, Rings()])
def test_handler_is_restored(clocks, error, handler):
    """The signal's handler is the one it was, and the timer off, however the context ends."""
    signal.signal(signal.SIGALRM, handler)
    inside = None

    def body():
        nonlocal inside
        with deadline(cpu_seconds=2.0, wall_seconds=30.0):
            inside = signal.getsignal(signal.SIGALRM)
            if error is Overrun:
                clocks.pass_by(cpu=3.0)
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
    """An alarm that is not due inside has the rest of its time afterwards."""
    with deadline(**LONG):
        clocks.pass_by(wall=40.0)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 50.0 < left <= 60.0
    assert interval == 0.0
    assert signal.getsignal(signal.SIGALRM) is outer
    assert outer.times == 0


def test_outer_alarm_rings_inside(clocks, outer):
    """An alarm that is due inside rings at the next look."""
    with deadline(**LONG):
        clocks.pass_by(wall=99.0)
        assert outer.times == 0
        clocks.pass_by(wall=2.0)
        assert outer.times == 1


def test_outer_alarm_rings_once(clocks, outer):
    """An alarm that was set for once does not ring at every look, nor again afterwards."""
    with deadline(**LONG):
        for _ in range(3):
            clocks.pass_by(wall=101.0)
    assert outer.times == 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_outer_alarm_keeps_its_interval(clocks, outer):
    """An alarm that repeats itself does so inside, and afterwards from where it was."""
    signal.setitimer(signal.ITIMER_REAL, 100.0, 30.0)
    with deadline(**LONG):
        clocks.pass_by(wall=101.0)
        clocks.pass_by(wall=20.0)
        assert outer.times == 1
        clocks.pass_by(wall=20.0)
        assert outer.times == 2
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 10.0 < left <= 19.0
    assert interval == 30.0


def test_outer_alarm_may_raise(clocks, outer):
    """A test that times out inside ends there, by the timeout's own exception."""
    outer.error = TimeoutError("too late")
    with pytest.raises(TimeoutError, match="too late"), deadline(**LONG):
        clocks.pass_by(wall=101.0)
    assert outer.times == 1
    assert signal.getsignal(signal.SIGALRM) is outer
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_overdue_alarm_rings_afterwards(clocks, outer):
    """An alarm that came due between two looks rings when the deadline is gone."""
    with deadline(**LONG):
        clocks.wall_now += 101.0
    assert outer.times or signal.getitimer(signal.ITIMER_REAL)[0] < 0.5
    end = time.monotonic() + PATIENCE
    while not outer.times and time.monotonic() < end:
        pass
    assert outer.times == 1


def test_a_deadline_that_passes_on_the_way_out_leaves_no_timer(clocks):
    """In between frames of the context manager itself nothing is raised: they would not end it."""

    @contextmanager
    def between():
        alarm(signal.SIGALRM, sys._getframe(1))
        yield

    with deadline(**LONG):
        alarm = signal.getsignal(signal.SIGALRM)
        clocks.cpu_now += 10_000.0
        with between():
            pass
        with pytest.raises(Overrun):
            alarm(signal.SIGALRM, sys._getframe())


def test_look_at_the_very_end_does_not_raise(clocks, monkeypatch):
    """A look at the clocks while the deadline is taken down comes too late."""
    setitimer, looks = signal.setitimer, iter(["late"])

    def late_look(which, seconds, interval=0.0):
        if not seconds and next(looks, None):
            signal.raise_signal(signal.SIGALRM)
        return setitimer(which, seconds, interval)

    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        monkeypatch.setattr(signal, "setitimer", late_look)
        clocks.cpu_now += 3.0
    monkeypatch.undo()
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_ignored_alarm_stays_ignored(clocks):
    """An alarm that nobody listens to is not called."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    with deadline(**LONG):
        clocks.pass_by(wall=101.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN


def test_outer_deadline_holds_inside(clocks):
    """A deadline inside another one does not put the outer one off."""
    with pytest.raises(Overrun), deadline(cpu_seconds=2.0, wall_seconds=30.0), deadline(**LONG):
        clocks.pass_by(cpu=3.0, wall=3.0)


def test_outer_deadline_holds_afterwards(clocks):
    """After the inner deadline the outer one still looks at the clocks."""
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        with deadline(**LONG):
            clocks.pass_by(cpu=1.0)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0.0
        with pytest.raises(Overrun):
            clocks.pass_by(cpu=1.5)
        clocks.cpu_now = 100.0


class Looks(list):
    """What looks, and how often it was called."""

    def __call__(self, frame):
        """Look."""
        self.append(frame)


@pytest.mark.parametrize("first_out", [0, 1])
def test_the_last_one_out_puts_back_whoever_that_is(clocks, outer, first_out):
    """Two that overlap without nesting, as two tasks do: both look, and nothing ticks on."""
    looks, open_ = (Looks(), Looks()), (ExitStack(), ExitStack())
    for each, stack in zip(looks, open_, strict=True):
        stack.enter_context(clock.ticks(0.05, each))
    clocks.pass_by(wall=1.0)
    open_[first_out].close()
    clocks.pass_by(wall=1.0)
    open_[1 - first_out].close()
    assert (len(looks[first_out]), len(looks[1 - first_out])) == (1, 2)
    assert signal.getsignal(signal.SIGALRM) is outer
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert (97.0 < left <= 98.0, interval) == (True, 0.0)


def test_a_deadline_outlives_what_ticked_before_it(clocks):
    """A watch that ends inside takes nothing from it."""
    before = ExitStack()
    before.enter_context(clock.ticks(0.03, Looks()))
    with deadline(cpu_seconds=2.0, wall_seconds=30.0):
        before.close()
        assert signal.getitimer(signal.ITIMER_REAL)[1] == pytest.approx(0.05, rel=0.05)
        with pytest.raises(Overrun):
            clocks.pass_by(cpu=3.0)
        clocks.cpu_now = 100.0
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_each_looks_as_often_as_it_asked(clocks):
    """However often another one does, and whoever comes or goes meanwhile."""
    slow, fast = Looks(), Looks()
    with clock.ticks(1.0, slow), clock.ticks(0.25, fast):
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(8):
            clocks.pass_by(wall=0.25)
        with clock.ticks(0.5, Looks()):
            left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert (len(slow), len(fast)) == (2, 8)
    assert (left, interval) == (pytest.approx(0.25, rel=0.05), 0.25)


def test_an_interrupt_on_the_way_out_is_made_good_at_the_next_tick(monkeypatch):
    """A timer that was left would end the process, when Python no longer handles it."""

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), clock.ticks(0.05, Looks()):
        monkeypatch.setattr(signal, "setitimer", interrupted)
    monkeypatch.undo()
    signal.raise_signal(signal.SIGALRM)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_handler_that_the_code_put_in_is_its_own(clocks):
    """What ticks within it leaves that as it was, and it is rung by nobody."""
    rings = Rings()
    with clock.ticks(0.05, Looks()), clock.ticks(0.05, Looks()):
        signal.signal(signal.SIGALRM, rings)
        signal.setitimer(signal.ITIMER_REAL, 0)
        with clock.ticks(0.05, looks := Looks()):
            clocks.pass_by(wall=0.05)
        assert signal.getsignal(signal.SIGALRM) is rings
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert (len(looks), rings.times) == (1, 0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def in_a_thread(function):
    """Run a function in another thread, and give what it returns."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_off_the_main_thread_it_does_nothing():
    """Only the main thread can be interrupted: elsewhere the context is empty."""

    def body():
        with deadline(cpu_seconds=0.0, wall_seconds=0.0):
            return signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)

    assert in_a_thread(body) == (signal.SIG_DFL, (0.0, 0.0))


def test_without_timers_it_does_nothing(monkeypatch):
    """Where there are no interval timers, on Windows, the context is empty."""
    with monkeypatch.context() as patch:
        patch.delattr(signal, "setitimer")
        with deadline(cpu_seconds=0.0, wall_seconds=0.0):
            assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(clock).failed == 0
