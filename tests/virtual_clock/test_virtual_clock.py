"""Tests of `VirtualClock`: virtual time passes while code waits, and stops while code works.

The tests run sync, asyncio, trio and anyio code while a clock is entered. They compare `clock.now`,
the virtual seconds since the clock was entered, with the time that the code waited. Code that waits
for ever, or for a real connection, must raise `VirtualTimeError`. Leaving the clock must restore
every real clock.
"""

import asyncio
import datetime as dt
import functools
import gc
import os
import queue
import selectors
import socket
import sys
import threading
import time
import types
import warnings
from contextlib import contextmanager
from datetime import datetime
from time import monotonic, sleep

import anyio
import partial_json_parser
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_streamperf import TokenStream, VirtualClock, VirtualTimeError
from pytest_streamperf.virtual_clock import loops, new_event_loop

# Functions that run `main` on an event loop. They look `trio.run` and its like up at each call,
# because a virtual clock replaces them.
RUNNERS = pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda main: asyncio.run(main()), id="asyncio"),
        pytest.param(lambda main: trio.run(main), id="trio"),  # noqa: PLW0108
        pytest.param(lambda main: anyio.run(main), id="anyio-asyncio"),  # noqa: PLW0108
        pytest.param(lambda main: anyio.run(main, backend="trio"), id="anyio-trio"),
    ],
)


# -- clocks that follow virtual time


def _utcnow():
    """Return `datetime.utcnow()`, which is deprecated since Python 3.12 and still in use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return datetime.utcnow()  # noqa: DTZ003


# Functions that return the seconds of one clock. They look the clock up at each call, because a
# virtual clock replaces it.
READINGS = {
    "time": lambda: time.time(),  # noqa: PLW0108
    "time_ns": lambda: time.time_ns() / 1e9,
    "monotonic": lambda: time.monotonic(),  # noqa: PLW0108
    "monotonic_ns": lambda: time.monotonic_ns() / 1e9,
    "perf_counter": lambda: time.perf_counter(),  # noqa: PLW0108
    "perf_counter_ns": lambda: time.perf_counter_ns() / 1e9,
    "from time import monotonic": lambda: monotonic(),  # noqa: PLW0108
    "datetime": lambda: dt.datetime.now(dt.UTC).timestamp(),
    "from datetime import datetime": lambda: datetime.now(dt.UTC).timestamp(),
    "local datetime": lambda: datetime.now().timestamp(),  # noqa: DTZ005
    "today": lambda: datetime.today().timestamp(),  # noqa: DTZ002
    "utcnow": lambda: _utcnow().replace(tzinfo=dt.UTC).timestamp(),
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_clocks_agree(read):
    """Every clock of `time` and `datetime` advances by 600 s during `time.sleep(600)`."""
    with VirtualClock() as clock:
        before = read()
        time.sleep(600)
        after = read()
    assert after - before == pytest.approx(600, abs=1e-6)
    assert clock.now == 600


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_time_stands_still(read):
    """Work that does not wait takes no virtual time, on any clock of `time` and `datetime`."""
    with VirtualClock():
        before = read()
        sum(range(100_000))
        after = read()
    assert before == after


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_real_time_comes_back(read):
    """Every clock of `time` and `datetime` returns real time after the virtual clock is left."""
    before = read()
    with VirtualClock():
        time.sleep(600)
    assert before <= read() < before + 60


def test_every_run_reads_the_same():
    """Every run reads exactly the same virtual times.

    Sums of seconds round alike in each run, so counts that depend on them repeat, too.
    """

    def readings():
        with VirtualClock():
            start, times = time.monotonic(), []
            for _ in range(100):
                time.sleep(0.1)
                times.append((time.monotonic() - start, time.time() % 1))
        return times

    assert readings() == readings()


def test_sleep_by_another_name():
    """A `sleep` that a module imported from `time` takes virtual time only."""
    with VirtualClock() as clock:
        sleep(600)
    assert clock.now == 600


def test_other_threads_see_real_time():
    """Only the thread that entered the clock is in virtual time; other threads read real time."""
    readings = []
    real = time.monotonic()
    with VirtualClock():
        time.sleep(1e9)
        thread = threading.Thread(
            target=lambda: readings.append((time.monotonic(), datetime.now()))  # noqa: DTZ005
        )
        thread.start()
        thread.join()
    assert real <= readings[0][0] < real + 60
    assert readings[0][1].year < 2050


def test_a_datetime_is_a_datetime():
    """`isinstance`, arithmetic and construction of `datetime` work in virtual time as before."""
    before = datetime(2026, 1, 1, tzinfo=dt.UTC)
    with VirtualClock():
        now = datetime.now(dt.UTC)
        assert isinstance(before, datetime)
        assert isinstance(now, datetime)
        assert issubclass(dt.datetime, datetime)
        assert datetime(2026, 1, 1, tzinfo=dt.UTC) == before
        assert datetime.fromisoformat("2026-01-01T00:00:00+00:00") == before
    assert type(now) is datetime
    assert now > before


def test_a_negative_sleep_is_an_error():
    """`time.sleep` of a negative time raises `ValueError`, as in real time."""
    with VirtualClock(), pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)


def test_time_is_moved_by_hand():
    """`advance` moves the clock forward for code that does not wait; it cannot move it back."""
    with VirtualClock() as clock:
        clock.advance(2.5)
        assert clock.now == 2.5
        with pytest.raises(ValueError, match="cannot go back"):
            clock.advance(-1)


def test_time_is_moved_by_a_text_with_a_unit():
    """`advance` accepts a text with a unit, such as "2500ms"; its errors name the argument."""
    with VirtualClock() as clock:
        clock.advance("2500ms")
        assert clock.now == 2.5
        clock.advance("1min")
        assert clock.now == 62.5
        with pytest.raises(ValueError, match=r"^seconds must be a time, .*, not '5%'$"):
            clock.advance("5%")
        with pytest.raises(TypeError, match=r"^seconds must be a time, .*, not None$"):
            clock.advance(None)
        assert clock.now == 62.5


def test_a_sleep_takes_no_text():
    """`time.sleep` raises `TypeError` for a text, as in real time."""
    with VirtualClock() as clock, pytest.raises(TypeError):
        time.sleep("50ms")
    assert clock.now == 0


# -- event loops


@RUNNERS
def test_sleeping_takes_no_time(run):
    """A sleep of an hour takes an hour of virtual time on every event loop."""

    async def main():
        before = time.monotonic()
        await anyio.sleep(3600)
        return time.monotonic() - before

    with VirtualClock() as clock:
        assert run(main) == 3600
    assert clock.now == 3600


@RUNNERS
def test_the_loops_own_time_agrees(run):
    """The time of the event loop and `time.monotonic` advance together."""

    async def main():
        before = anyio.current_time(), time.monotonic()
        await anyio.sleep(1.5)
        time.sleep(2)  # noqa: ASYNC251 - the test blocks the loop on purpose
        return anyio.current_time() - before[0], time.monotonic() - before[1]

    with VirtualClock():
        assert run(main) == (3.5, 3.5)


@RUNNERS
def test_timeouts_are_virtual(run):
    """A timeout of 30 virtual seconds cancels a longer sleep after exactly 30 s."""

    async def main():
        with anyio.move_on_after(30) as scope:
            await anyio.sleep(60)
        return scope.cancelled_caught

    with VirtualClock() as clock:
        assert run(main)
    assert clock.now == 30


def test_asyncio_timeout_and_call_later():
    """`call_later`, `asyncio.timeout` and `wait_for` fire in order, at their virtual times."""
    fired = []

    async def main():
        loop = asyncio.get_running_loop()
        for delay in (3, 1, 2):
            loop.call_later(delay, lambda delay=delay: fired.append((delay, time.monotonic())))
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.sleep(10)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 5)
        return start

    with VirtualClock() as clock:
        start = asyncio.run(main())
    assert fired == [(1, start + 1), (2, start + 2), (3, start + 3)]
    assert clock.now == 10


# Naps of one task, in seconds: multiples of 1/64, because floats add these without rounding.
NAPS = st.lists(st.integers(0, 50).map(lambda ticks: ticks / 64), max_size=6)


@RUNNERS
@settings(max_examples=20)  # for each event loop
@given(naps=st.lists(NAPS, min_size=1, max_size=4))
def test_tasks_wake_when_they_are_due(run, naps):
    """Every task wakes at the sum of its own naps, and the clock stops at the longest sum."""
    woke = []

    async def nap(name, delays):
        for delay in delays:
            await anyio.sleep(delay)
        woke.append((name, anyio.current_time()))

    async def main():
        woke.clear()
        start = anyio.current_time()
        async with anyio.create_task_group() as group:
            for name, delays in enumerate(naps):
                group.start_soon(nap, name, delays)
        return start

    with VirtualClock() as clock:
        start = run(main)
    assert {name: at - start for name, at in woke} == {
        name: sum(delays) for name, delays in enumerate(naps)
    }
    assert clock.now == max(map(sum, naps))


@RUNNERS
def test_a_paced_stream_moves_the_clock(run):
    """A paced stream hands out each delta when it is due; timers of other tasks fire in between."""
    events = []

    async def tick():
        while True:
            await anyio.sleep(0.75)
            events.append(("tick", round(anyio.current_time() - start, 6)))

    async def main():
        nonlocal start
        start = anyio.current_time()
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            async for delta in TokenStream(["abcd"] * 4, every=0.5):
                events.append((delta, round(anyio.current_time() - start, 6)))
            group.cancel_scope.cancel()

    start = 0.0
    with VirtualClock() as clock:
        run(main)
    assert events == [
        ("abcd", 0.0),
        ("abcd", 0.5),
        ("tick", 0.75),
        ("abcd", 1.0),
        *sorted([("abcd", 1.5), ("tick", 1.5)], key=events.index),
    ]
    assert clock.now == 1.5


def test_a_paced_stream_moves_the_clock_in_sync_code():
    """A paced stream moves the clock in a plain `for` loop."""
    with VirtualClock() as clock:
        for _ in TokenStream(tokens=30_001, every=0.02):
            pass
    assert clock.now == pytest.approx(600)


def test_a_stream_that_is_cancelled_loses_no_delta():
    """Cancelling the wait for a delta on trio loses no delta."""

    async def main():
        deltas = aiter(TokenStream(list("abc"), every=1.0))
        taken = []
        while True:
            with trio.move_on_after(0.3):
                try:
                    taken.append(await anext(deltas))
                except StopAsyncIteration:
                    return taken

    with VirtualClock():
        assert trio.run(main) == list("abc")


def test_threads_are_waited_for_in_real_time():
    """Neither work in an executor nor its shutdown takes virtual time."""
    gate = threading.Event()

    async def main():
        asyncio.get_running_loop().call_later(60, gate.set)
        waiting = asyncio.create_task(asyncio.to_thread(threading.get_ident))
        thread = await waiting
        return thread != threading.get_ident(), time.monotonic()

    with VirtualClock() as clock:
        elsewhere, at = asyncio.run(main())
        assert elsewhere
        assert at == time.monotonic()
    assert clock.now == 0


def test_connections_on_one_loop():
    """A server and its client on the same event loop run in virtual time."""

    async def serve(_reader, writer):
        for _ in range(5):
            await asyncio.sleep(1)
            writer.write(b"x")
            await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(10):
            received = await reader.read()
        writer.close()
        server.close()
        return received

    with VirtualClock() as clock:
        assert asyncio.run(main()) == b"xxxxx"
    assert clock.now == 5


# -- code that cannot run in virtual time


def test_waiting_for_ever_fails_at_once():
    """A deadlock raises `VirtualTimeError` at once, with the waiting task and its line."""

    async def stuck():
        await asyncio.Event().wait()

    async def main():
        await asyncio.create_task(stuck(), name="reader")

    with VirtualClock(), pytest.raises(VirtualTimeError, match="for ever") as caught:
        asyncio.run(main())
    assert "reader at test_virtual_clock.py:" in str(caught.value)
    assert "stuck" in str(caught.value)


def test_waiting_for_ever_fails_at_once_on_trio():
    """A deadlock on trio raises `VirtualTimeError`, with the waiting task and its line.

    The run is cancelled, so that the code under test can release its resources.
    """
    released = []

    async def stuck():
        try:
            await trio.Event().wait()
        finally:
            released.append(True)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stuck, name="reader")

    with VirtualClock(), pytest.raises(VirtualTimeError, match="for ever") as caught:
        trio.run(main)
    assert "reader at test_virtual_clock.py:" in str(caught.value)
    assert released == [True]


def test_many_who_wait_are_not_all_shown():
    """The error of a deadlock lists five waiting tasks, and counts the rest."""

    async def main():
        await asyncio.gather(*(asyncio.create_task(stuck()) for _ in range(9)))

    async def stuck():
        await asyncio.Event().wait()

    with VirtualClock(), pytest.raises(VirtualTimeError, match="and 5 more"):
        asyncio.run(main())


def test_a_real_connection_is_told():
    """Waiting for a server outside the event loop raises `VirtualTimeError`.

    That server answers in real time, so a virtual timeout would fire before the answer.
    """
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        async def main():
            reader, writer = await asyncio.open_connection(*server.getsockname())
            try:
                async with asyncio.timeout(5):
                    await reader.read(1)
            finally:
                writer.close()

        with VirtualClock(), pytest.raises(VirtualTimeError, match="takes real time"):
            asyncio.run(main())


def test_a_real_connection_is_told_on_trio():
    """Waiting for a server outside the trio run raises `VirtualTimeError`.

    The run is cancelled, so that the code under test closes its stream.
    """
    streams = []
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        async def main():
            streams.append(await trio.open_tcp_stream(*server.getsockname()))
            async with streams[0]:
                with trio.fail_after(5):
                    await streams[0].receive_some()

        with VirtualClock(), pytest.raises(VirtualTimeError, match="takes real time"):
            trio.run(main)
    assert streams[0].socket.fileno() == -1


def test_a_server_on_the_same_loop_may_take_its_time_on_trio():
    """A server and a client of the same trio run may both sleep between messages.

    Their connection is not mistaken for one that leaves the run.
    """

    async def serve(stream):
        await stream.send_all(await stream.receive_some())
        await trio.sleep(5)
        await stream.send_all(b"done")

    async def main():
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(
                functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
            )
            stream = await trio.open_tcp_stream(*listener.socket.getsockname())
            await trio.sleep(3)
            await stream.send_all(b"go")
            with trio.fail_after(10):
                received = [await stream.receive_some(), await stream.receive_some()]
            await stream.aclose()
            nursery.cancel_scope.cancel()
        return received

    with VirtualClock() as clock:
        assert trio.run(main) == [b"go", b"done"]
    assert clock.now == 8


def test_a_pipe_is_told_on_trio():
    """Waiting on trio for a pipe raises `VirtualTimeError` as soon as a timer would fire."""
    ours, theirs = os.pipe()

    async def main():
        async with trio.lowlevel.FdStream(ours) as stream:
            with trio.fail_after(5):
                await stream.receive_some()

    with VirtualClock(), pytest.raises(VirtualTimeError, match="a pipe or a subprocess"):
        trio.run(main)
    os.close(theirs)


def test_a_pipe_is_told():
    """Waiting on asyncio for a pipe, such as a subprocess's output, raises `VirtualTimeError`."""
    ours, theirs = os.pipe()

    async def main():
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours)
        )
        try:
            await reader.read()
        finally:
            transport.close()

    with VirtualClock(), pytest.raises(VirtualTimeError, match="takes real time"):
        asyncio.run(main())
    os.close(theirs)


def test_time_while_trio_is_being_imported(monkeypatch):
    """The clock also works while the import of trio is incomplete."""
    with VirtualClock() as clock:
        monkeypatch.setitem(sys.modules, "trio", types.ModuleType("trio"))
        time.sleep(1)
        assert clock.now == 1


def test_a_clock_inside_a_clock():
    """Entering a second clock in the same thread raises `RuntimeError`."""
    with VirtualClock(), pytest.raises(RuntimeError, match="entered here already"), VirtualClock():
        pass


def test_a_clock_beside_a_clock():
    """Entering a clock while another thread is in one raises `RuntimeError`."""
    errors = []

    def other():
        try:
            VirtualClock().__enter__()
        except RuntimeError as error:
            errors.append(str(error))

    with VirtualClock():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "in another thread already" in errors[0]


def test_a_loop_that_runs_already():
    """Entering a clock while an asyncio loop is running raises `VirtualTimeError`."""

    async def main():
        with VirtualClock():
            pass

    with pytest.raises(VirtualTimeError, match="running already"):
        asyncio.run(main())
    with VirtualClock():  # the clock that raised is not entered
        pass


def test_a_trio_run_that_runs_already():
    """Entering a clock inside a trio run raises `VirtualTimeError`."""

    async def main():
        with VirtualClock():
            pass

    with pytest.raises(VirtualTimeError, match="trio run goes by"):
        trio.run(main)


class LoopWithOwnTime(asyncio.SelectorEventLoop):
    """An asyncio loop with a time of its own, as uvloop's loop has."""

    def time(self):
        return 0.0


@pytest.mark.parametrize("function", ["monotonic", "time", "perf_counter_ns"])
def test_a_loop_of_somebody_elses(function):
    """Code on a loop with its own time gets `VirtualTimeError` when it reads a clock.

    The error names `new_event_loop`, the factory to use instead.
    """

    async def main():
        getattr(time, function)()

    with (
        VirtualClock(),
        asyncio.Runner(loop_factory=LoopWithOwnTime) as runner,
        pytest.raises(VirtualTimeError, match=r"LoopWithOwnTime.*new_event_loop"),
    ):
        runner.run(main())


def test_a_stream_on_a_loop_of_somebody_elses():
    """A paced stream on a loop with its own time raises `VirtualTimeError`."""

    async def main():
        async for _ in TokenStream(3, every=1.0):
            pass

    with (
        VirtualClock(),
        asyncio.Runner(loop_factory=LoopWithOwnTime) as runner,
        pytest.raises(VirtualTimeError, match="LoopWithOwnTime"),
    ):
        runner.run(main())


def test_a_trio_clock_of_somebody_elses():
    """A trio run with its own clock raises `VirtualTimeError`, which says to omit `clock=`."""

    async def main():
        time.monotonic()

    with VirtualClock(), pytest.raises(VirtualTimeError, match="pass no clock="):
        trio.run(main, clock=trio.testing.MockClock())


# -- the state after the clock is left


@contextmanager
def assert_names_restored():
    """Check that the block changes no clock or `datetime` in the names of any module."""

    def names():
        return {
            (name, attribute): id(value)
            for name, module in list(sys.modules.items())
            for attribute, value in list(vars(module).items())
            if getattr(value, "__module__", None) in {"time", "datetime", "asyncio.events"}
        }

    before = names()
    yield
    assert names() == before


def test_everything_is_put_back():
    """The clock restores every module's names, also if its block raises."""
    with assert_names_restored(), pytest.raises(ZeroDivisionError), VirtualClock():
        _ = 1 / 0


def test_a_loop_goes_on_in_real_time():
    """A loop from `new_event_loop` runs in real time when no clock is entered."""

    async def main():
        before = time.perf_counter()
        await asyncio.sleep(0.01)
        return time.perf_counter() - before

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        with VirtualClock() as clock:
            runner.run(asyncio.sleep(600))
        assert clock.now == 600
        assert runner.run(main()) >= 0.01


def test_timers_that_are_left():
    """`loop.timers()` returns the timers that are not due yet, without the cancelled ones."""

    async def main():
        loop = asyncio.get_running_loop()
        late = loop.call_later(60, print)
        loop.call_later(30, print).cancel()
        await asyncio.sleep(1)
        return loop.timers() == [late]

    with VirtualClock():
        assert asyncio.run(main())


class ClockHolder:
    """A class that keeps real clocks in default arguments and in attributes."""

    clock = staticmethod(time.time)

    def __init__(self, now=time.monotonic, *, nap=time.sleep):
        self.now = now
        self.nap = nap


def clock_closure(now=None):
    """Return a closure whose variable `now` keeps a real clock."""
    now = now or time.perf_counter

    def read():
        return now()

    return read


def test_who_is_not_reached_is_told():
    """`unreached` lists the real clocks in default arguments, attributes and closures."""
    kept = ClockHolder(), clock_closure()
    with VirtualClock() as clock:
        unreached = clock.unreached
    in_this_module = [place for place in unreached if __name__ in place]
    del kept
    gc.collect()
    assert in_this_module == sorted(
        [
            f"'now' in {__name__}.clock_closure.<locals>.read",
            f"a {__name__}.ClockHolder.nap",
            f"a {__name__}.ClockHolder.now",
            f"{__name__}.ClockHolder.__init__(nap=)",
            f"{__name__}.ClockHolder.__init__(now=)",
            f"{__name__}.ClockHolder.clock",
        ]
    )


def test_a_library_that_names_a_clock_later_is_told(monkeypatch):
    """`unreached` lists a clock that an installed module got after the first clock was entered.

    Installed modules are searched only once.
    """
    with VirtualClock():
        pass
    monkeypatch.setattr(partial_json_parser, "now", time.monotonic, raising=False)
    with VirtualClock() as clock:
        assert "partial_json_parser.now" in clock.unreached


class Untouchable:
    """A class whose instances raise when they are inspected, as some models and proxies do."""

    @property
    def __dict__(self):
        raise LookupError


class UntouchableKind(type):
    """A metaclass whose classes raise when they are inspected."""

    @property
    def __module__(cls):
        raise LookupError


def test_who_raises_when_looked_at_is_passed_over():
    """The search for `unreached` clocks skips objects that raise when they are inspected."""
    kept = Untouchable(), UntouchableKind("Kind", (), {"now": time.monotonic}), ClockHolder()
    with VirtualClock() as clock:
        assert f"a {__name__}.ClockHolder.now" in clock.unreached
    del kept
    gc.collect()


# -- cases that a code review found


@RUNNERS
def test_sleeping_for_ever_is_no_timer(run):
    """A timeout ends `sleep_forever`; without a timeout it is a deadlock, not a long wait."""

    async def ended():
        with anyio.move_on_after(5):
            await anyio.sleep_forever()

    async def endless():
        await anyio.sleep_forever()

    with VirtualClock() as clock:
        run(ended)
    assert clock.now == 5
    with VirtualClock(), pytest.raises(VirtualTimeError, match="for ever"):
        run(endless)


@RUNNERS
def test_a_year(run):
    """Timers still fire after years of virtual time, although floats are coarser there."""

    async def main():
        for _ in range(3):
            await anyio.sleep(86_400 * 365)

    with VirtualClock() as clock:
        run(main)
    assert clock.now == pytest.approx(3 * 86_400 * 365)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_threads_of_anyios_are_waited_for(backend):
    """A thread of anyio takes no virtual time, so no timeout fires while it works."""
    gate = threading.Event()

    def work():
        gate.wait(0.05)
        return "done"

    async def main():
        with anyio.fail_after(5):
            return await anyio.to_thread.run_sync(work)

    with VirtualClock() as clock:
        assert anyio.run(main, backend=backend) == "done"
    assert clock.now == 0


def test_threads_of_trios_own_limiter_are_waited_for():
    """A trio thread takes no virtual time, also if it has a limiter of its own."""

    async def main():
        with trio.move_on_after(5) as scope:
            limiter = trio.CapacityLimiter(1)
            await trio.to_thread.run_sync(threading.Event().wait, 0.05, limiter=limiter)
        return scope.cancelled_caught

    with VirtualClock() as clock:
        assert not trio.run(main)
    assert clock.now == 0


def test_a_thread_that_waits_for_the_loop_is_waited_for_once(monkeypatch):
    """The loop waits only once, in real time, for a thread that itself waits for the loop.

    Later jumps of the clock then cost no real time.
    """
    waits = []
    real_select = selectors.DefaultSelector.select

    def select(self, timeout=None):
        if timeout:
            waits.append(timeout)
        return real_select(self, timeout)

    monkeypatch.setattr(loops, "PATIENCE", 0.01)
    monkeypatch.setattr(selectors.DefaultSelector, "select", select)
    deltas = queue.Queue()

    async def main():
        rendering = asyncio.create_task(asyncio.to_thread(deltas.get))
        for _ in range(5):
            await asyncio.sleep(0.02)
        deltas.put(None)
        await rendering

    with VirtualClock():
        asyncio.run(main())
    assert 1 <= waits.count(0.01) <= 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_deadlock_in_a_shield_ends():
    """A deadlock that cannot be cancelled ends a trio run with `TrioInternalError`.

    Trio then releases no resources.
    """

    async def main():
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with VirtualClock(), pytest.raises(trio.TrioInternalError) as caught:
        trio.run(main)
    assert isinstance(caught.value.__cause__, VirtualTimeError)
    del caught
    gc.collect()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_for_all_tasks_to_be_blocked(backend):
    """`wait_all_tasks_blocked` returns before the clock jumps to the next timer."""

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 5)
            await anyio.wait_all_tasks_blocked()
            at = anyio.current_time()
        return anyio.current_time() - at

    with VirtualClock():
        assert anyio.run(main, backend=backend) == 5


def test_a_server_that_reads_late():
    """Back-pressure between a server and a client on one loop is no real connection."""

    async def main():
        served = asyncio.Event()

        async def serve(reader, writer):
            await asyncio.sleep(1)
            while await reader.read(2**16):
                pass
            writer.close()
            await writer.wait_closed()
            served.set()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x" * 20_000_000)
        await writer.drain()
        writer.close()
        await served.wait()
        server.close()

    with VirtualClock() as clock:
        asyncio.run(main())
    assert clock.now == 1


def test_timers_of_a_loop_fire_when_the_clock_is_left():
    """After the clock is left, timers of its loop fire in real time."""

    async def begin():
        return asyncio.get_running_loop().create_task(asyncio.sleep(0.02))

    async def end(task):
        async with asyncio.timeout(20):
            await task

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        with VirtualClock():
            task = runner.run(begin())
        runner.run(end(task))
    assert task.done()


def test_a_clock_begins_anew():
    """A clock that is entered a second time starts at 0 again."""
    clock = VirtualClock()
    for _ in range(2):
        with clock:
            time.sleep(5)
    assert clock.now == 5


def test_equal_timers_are_two():
    """Cancelling one of two equal timers leaves the other one in `loop.timers()`."""

    async def main():
        loop = asyncio.get_running_loop()
        when = loop.time() + 60
        first, second = loop.call_at(when, print), loop.call_at(when, print)
        first.cancel()
        return loop.timers() == [second]

    with VirtualClock():
        assert asyncio.run(main())


def test_a_module_that_may_not_be_changed(monkeypatch):
    """A module that refuses assignments keeps real time; all other code is in virtual time."""

    class Frozen(types.ModuleType):
        def __setattr__(self, name, value):
            raise TypeError(name)

    frozen = Frozen("frozen")
    frozen.__dict__["sleep"] = time.sleep
    monkeypatch.setitem(sys.modules, "frozen", frozen)
    with assert_names_restored(), VirtualClock() as clock:
        time.sleep(5)
    assert clock.now == 5


def test_a_class_made_from_datetime():
    """A subclass of `datetime` defined in virtual time makes instances of itself."""
    with VirtualClock():

        class Mine(datetime):
            pass

        made = Mine(2026, 1, 1, tzinfo=dt.UTC)
    assert type(made) is Mine
    assert Mine(2026, 1, 1, tzinfo=dt.UTC) == made
