"""How one run is made: what the consumer is handed, within what is left of the budget."""

import tracemalloc
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import sqrt

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.units import duration
from pytest_streamperf._runtime import clock, instrumentation
from pytest_streamperf.exceptions import GrowthInconclusive
from pytest_streamperf.growth import estimation
from pytest_streamperf.growth.blame import (
    Blame,
    ClockTime,
    CopiedBytes,
    Costs,
    Lines,
    Pieces,
    blamed,
    blamed_for_time,
    early_and_late,
    finish_only,
    least_of_each,
    summed,
)
from pytest_streamperf.growth.meters import (
    BLOCKS,
    Calls,
    Copies,
    Gauge,
    MeteredStream,
    Run,
    Time,
    kept_since,
)
from pytest_streamperf.growth.options import Meter, Terms
from pytest_streamperf.streams.token_stream import TokenStream

__tracebackhide__ = True  # pytest shows the user's own frames

# A consumer that does not pull is stopped when it has used this many times its CPU seconds.
_PATIENCE = 1.05
# One that has not pulled for this part of its CPU seconds, when it is stopped, is not just slow.
_ASTRAY = 0.25
# This part of the CPU seconds is kept for blame, where it seems that somebody is to blame.
_FOR_BLAME = 0.25
# Tracing pure Python line by line makes it slower by this factor or so. One run shows copies and
# calls; of several by time the least counts, as tracing costs more than much that is traced.
_SLOWER = 60
_TRACED_RUNS: Mapping[Meter, int] = {"copies": 1, "calls": 1, "time": 3}
# So many times what a run costs that is not traced is planned for all of them.
_TRACED: Mapping[Meter, float] = {"copies": 4, "calls": 4, "time": 5}
# So many lengths are tried, each at least so many times the last if there is time for longer ones.
_TRIES, _WORTHWHILE = 3, 1.25
# A client is set up so many times to see what that takes at least.
_SET_UPS = 3
# At least so many deltas are traced, early and late; and a stream of so few shows exact counts.
_WINDOW, _FEWEST = 48, 16

_GAUGES: dict[Meter, Callable[[], Gauge]] = {
    "copies": Copies,
    "calls": Calls,
    "time": lambda: Time(clock.cpu),
}

_SPENDING: dict[Meter, Callable[[], Callable[[], float] | None]] = {
    "copies": CopiedBytes,
    "calls": lambda: None,
    "time": lambda: ClockTime(clock.cpu),
}


class Undecided(Exception):  # noqa: N818 - a conclusion, not an error
    """The check ends here without a verdict on growth; the text says why."""


class Stopped(Undecided):
    """A run was stopped: it had spent its CPU seconds and did not ask for more deltas."""

    def __init__(self, why: str, length: int, cpu_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.length, self.cpu_seconds = length, cpu_seconds


@dataclass(slots=True)
class Probe:
    """One run to be made: call the consumer with `argument`, for no longer than this."""

    stream: MeteredStream
    length: int
    sized: bool
    gauge: Gauge
    cpu_seconds: float
    wall_seconds: float
    whole: Run | None = None

    @property
    def argument(self) -> MeteredStream | int:
        """The stream, or its length for code that takes its whole input at once."""
        return self.length if self.sized else self.stream

    def returned(self) -> None:
        """Take down the finish; to be called while what the consumer returned is still alive."""
        if self.sized:  # all of it is finish
            edges = tuple(self.length * block // BLOCKS for block in range(BLOCKS + 1))
            self.whole = Run(self.length, edges, (0.0,) * len(edges), self.gauge.read())
        else:
            self.stream.finish()


class Runner:
    """Makes runs, and knows what they cost and what may still be spent.

    `allowed` is the CPU seconds of the whole check so far.
    """

    def __init__(self, terms: Terms) -> None:
        self.allowed = terms.seconds
        self._kept = 0.0
        self._set_up: dict[Meter, float] = {}
        self._terms = terms
        self._start = clock.cpu(), clock.wall()
        self._cost: dict[Meter, float] = {}

    def cpu_left(self) -> float:
        """CPU seconds that may still be spent on measuring."""
        return self._left_for_blame() - self._kept * self.allowed

    @contextmanager
    def keeping_for_blame(self) -> Iterator[None]:
        """Leave some CPU seconds to find out who did it."""
        self._kept = _FOR_BLAME
        try:
            yield
        finally:
            self._kept = 0.0

    def wall_left(self) -> float:
        """Seconds until the timeout."""
        return self._start[1] + self._terms.timeout - clock.wall()

    def cost(self, meter: Meter, length: int) -> float:
        """CPU seconds that a run of this length takes if it goes on as the last one did."""
        return self._cost.get(meter, self._cost.get("time", 0.0)) * length

    def run(
        self, meter: Meter, length: int, cpu_seconds: float | None = None
    ) -> Generator[Probe, None, Run]:
        """Make one run; it comes out shorter than `length` where the budget ended.

        Raises `Undecided` if there is no run to speak of, and what the consumer raises.
        """
        with _steady(meter):
            gauge = _GAUGES[meter]()
            probe = self._probe(
                length, gauge, self.cpu_left() if cpu_seconds is None else cpu_seconds
            )
            before, started = tracemalloc.get_traced_memory()[0], clock.cpu()
            yield from _consume(probe)
            spent = clock.cpu() - started
            kept = 0
            # What a run holds that was cut may live as long as the error that this led to.
            if meter == "copies" and not probe.stream.cut:
                kept = kept_since(before, length)
            run = probe.whole or probe.stream.run()
            if run is None:
                raise _incomplete(probe)
            if isinstance(gauge, Copies):
                run = replace(run, held=gauge.held, kept=kept)
            if meter in self._set_up:
                run = replace(run, finish=max(0.0, run.finish - self._set_up[meter]))
        self._cost[meter] = max(spent, 1e-7) / run.length
        return run

    def warm_up(self) -> Generator[Probe, None, None]:
        """Make runs that do not count: the first is slow, as a rule.

        What is served has a client to be set up, which takes a while: what it takes with a single
        delta is taken off all other runs.
        """
        yield from self.run("time", self._terms.lengths[0])
        for meter in self._terms.meters if self._terms.serve else ():
            took = []
            for _ in range(_SET_UPS):
                run = yield from self.run(meter, 1)
                took.append(run.total)
            self._set_up[meter] = min(took)

    def blame(self, witness: Meter, runs: Sequence[Run]) -> Generator[Probe, None, list[Blame]]:
        """Who did it, where a delta of these runs costs more at the end than at a quarter.

        In as long a stream as there is time for; where a run is cut, its late deltas are not seen,
        and a shorter one is traced.
        """
        length, reached = runs[0].length, 0
        least = self._terms.lengths[0] if witness == "time" else _FEWEST
        guilty: list[Blame] = []
        # Quadratic work takes a quarter of the time where the stream is half as long.
        cost = self.cost(witness, length) * _TRACED[witness]
        shorter = int(length * min(1.0, sqrt(max(0.0, self._left_for_blame()) / cost)))
        for _ in range(_TRIES):
            shorter, left = max(shorter, least), self._left_for_blame()
            found = yield from self._blame_in(witness, runs, shorter)
            if found is not None:
                guilty, reached = found, shorter
                took, left = left - self._left_for_blame(), self._left_for_blame()
                shorter = int(min(length, shorter * sqrt(max(0.0, left) * 2 / 3 / took)))
                if shorter < reached * _WORTHWHILE:
                    break
            elif reached or shorter == least:
                break
            else:
                shorter //= 8
        return guilty

    def _blame_in(
        self, witness: Meter, runs: Sequence[Run], length: int
    ) -> Generator[Probe, None, list[Blame] | None]:
        """Who did it in a stream of this length; None if that takes too long to see.

        Many deltas are traced where few do not show it, as some costs come rarely; and by time, if
        that can be afforded: clocks are noisy.
        """
        many = int(self._left_for_blame() / 2 / self.cost(witness, 1) / _SLOWER)
        enough = max(_WINDOW, many) if witness == "time" else _WINDOW
        growth = estimation.late_growth(runs, length / runs[0].length)
        for window in (enough, length):
            windows = early_and_late(length, window)
            early, late = yield from self._traced(witness, length, windows)
            if not late:
                return None
            judge = blamed_for_time if witness == "time" else blamed
            if guilty := judge(early, late, growth * len(windows[1])):
                return guilty
        return []

    def blame_finish(
        self, witness: Meter, length: int, slope: float
    ) -> Generator[Probe, None, list[Blame]]:
        """Who did it, where the finish costs `slope * length` more per delta.

        All of it is traced, which is slow: in longer and longer streams, as far as there is time;
        the last two are compared, and traced in turns, as a core is faster now and slower then.
        """
        traced: list[tuple[int, Pieces]] = []
        took: list[float] = []
        for each in self._terms.lengths:
            left = self._left_for_blame()
            enough = took[-1] ** 2 / took[-2] * _TRACED_RUNS[witness] if len(traced) > 1 else 0.0
            if len(traced) > 1 and (each > length or enough > left):
                break
            pieces = yield from self._finish_traced(witness, each)
            if len(traced) > 1 and not pieces:
                break
            traced.append((each, pieces))
            took.append(left - self._left_for_blame())
        for _ in range(_TRACED_RUNS[witness] - 1):
            for which in (-2, -1):
                each, pieces = traced[which]
                again = yield from self._finish_traced(witness, each)
                traced[which] = each, least_of_each(pieces, again) if again else pieces
        early, late = (
            {where: spent / each for where, spent in summed(pieces).items()}
            for each, pieces in traced[-2:]
        )
        expected = slope * (traced[-1][0] - traced[-2][0])
        if witness != "time":
            return blamed(early, late, expected)
        return blamed_for_time(early, late, expected, several=2, least=0.5)

    def _finish_traced(self, witness: Meter, length: int) -> Generator[Probe, None, Pieces]:
        """What lines cost in the finish; nothing if there was no time to see its end."""
        windows = finish_only(0 if self._terms.sizes else length)
        (pieces,) = (yield from self._traced_once(witness, length, windows)) or [{}]
        return pieces

    def _left_for_blame(self) -> float:
        return self._start[0] + self.allowed - clock.cpu()

    def _traced(
        self, witness: Meter, length: int, windows: Sequence[range]
    ) -> Generator[Probe, None, list[Costs]]:
        """What lines cost in each window; the least of several runs, as far as there is time."""
        found: list[Pieces] = []
        for _ in range(_TRACED_RUNS[witness]):
            again = yield from self._traced_once(witness, length, windows)
            if again is None:
                break
            found = list(map(least_of_each, found, again)) if found else again
        return [*map(summed, found)] or [{} for _ in windows]

    def _traced_once(
        self, witness: Meter, length: int, windows: Sequence[range]
    ) -> Generator[Probe, None, list[Pieces] | None]:
        """Make one run that is traced line by line; None if it did not come to its end."""
        left = self._left_for_blame() * 3 / 4  # so that there is some for another try
        if left <= 0:
            return None
        with _steady(witness):
            lines = Lines(_SPENDING[witness](), windows)
            probe = self._probe(length, lines, left)
            # A verdict without a guilty line is still a verdict.
            with lines.in_new_threads(), suppress(Undecided):
                yield from _consume(probe)
                return None if probe.stream.cut else lines.costs
        return None

    def _probe(self, length: int, gauge: Gauge, cpu_seconds: float) -> Probe:
        sized = bool(self._terms.sizes)
        deltas = tuple(TokenStream(0 if sized else length, delta=self._terms.delta).deltas)
        wall_seconds = max(0.0, self.wall_left())
        cpu_end, wall_end = clock.cpu() + cpu_seconds, clock.wall() + wall_seconds
        stream = MeteredStream(
            deltas,
            gauge,
            lambda: clock.cpu() > cpu_end or clock.wall() > wall_end,
        )
        return Probe(stream, length, sized, gauge, cpu_seconds * _PATIENCE, wall_seconds)


@contextmanager
def _steady(meter: Meter) -> Iterator[None]:
    """Keep away what would disturb a run."""
    traced = (
        instrumentation.allocations()
        if meter == "copies"
        else instrumentation.allocations_untraced()
    )
    with instrumentation.collector_off(), instrumentation.threads_in_turns(), traced:
        yield


def _consume(probe: Probe) -> Generator[Probe, None, None]:
    if probe.sized:
        probe.gauge.open()
    try:
        yield probe
    except clock.Overrun as overrun:
        _overrun(probe, overrun)
    except BaseExceptionGroup as group:  # a task group of the consumer's was in between
        found = next(_within(group), None)
        if found is None:
            raise
        _overrun(probe, found)
    except GrowthInconclusive:
        raise
    except Exception as error:
        if probe.stream.cut:
            return  # it may well have missed the rest of its stream
        if probe.stream.pulled:
            error.add_note(
                f"consume raised this when it had taken {probe.stream.pulled:,} of the "
                f"{probe.length:,} deltas that pytest-streamperf handed to it"
            )
        raise
    finally:
        probe.gauge.close()


def _within(group: BaseExceptionGroup) -> Iterator[clock.Overrun]:
    for error in group.exceptions:
        if isinstance(error, clock.Overrun):
            yield error
        elif isinstance(error, BaseExceptionGroup):
            yield from _within(error)


def _overrun(probe: Probe, overrun: clock.Overrun) -> None:
    if overrun.resource == "wall":
        taken = f"{probe.stream.pulled:,} of {probe.length:,} deltas"
        msg = (
            f"consume still waited after {duration(probe.wall_seconds)}, with {taken} taken; "
            "timeout= is the wall time that it may take"
        )
        raise Undecided(msg) from None
    # One that was still pulling has not gone astray: the stream had no time to end.
    if overrun.stuck > _ASTRAY * probe.cpu_seconds:
        raise Stopped(_stopped(probe), probe.length, probe.cpu_seconds) from None
    probe.stream.cut_short()


def _incomplete(probe: Probe) -> Exception:
    if probe.stream.cut:
        return Stopped(_stopped(probe), probe.length, probe.cpu_seconds)
    if not probe.stream.pulled:
        what = "consume took no delta from the stream it was handed"
        advice = "iterate over its argument: for delta in stream: ..."
        return nothing_measured("growth", what, advice)
    taken = f"{probe.stream.pulled:,} of {probe.length:,} deltas"
    return Undecided(f"consume took {taken} and returned: only what takes all of them is measured")


def _stopped(probe: Probe) -> str:
    spent = f"it had spent {duration(probe.cpu_seconds)} of CPU"
    if probe.sized:
        return f"consume({probe.length:,}) was stopped when {spent}"
    if probe.stream.pulled == probe.length:
        return f"consume took all of {probe.length:,} deltas and was stopped when {spent}"
    return (
        f"consume spent {duration(probe.cpu_seconds)} of CPU and did not ask for more than "
        f"{probe.stream.pulled:,} of {probe.length:,} deltas"
    )
