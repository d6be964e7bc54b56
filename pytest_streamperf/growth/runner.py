"""Make single runs of the consumer, within the CPU and wall time that is left.

In go the options; the scheduler asks for a run of a metric and a length. The runner yields a
`Probe` for the driver to call the consumer with, and returns a `Run`, or the lines to blame. It
also looks for state that survives from run to run: a consumer that keeps state cannot be measured.
"""

import tracemalloc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import sqrt

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.units import duration
from pytest_streamperf._runtime import clock, instrumentation
from pytest_streamperf._runtime.meters import (
    AllocationLaps,
    AllocationMeter,
    CallMeter,
    ClockLaps,
    CpuTimeMeter,
    Meter,
    kept_since,
)
from pytest_streamperf.exceptions import GrowthInconclusive
from pytest_streamperf.growth.blame import (
    Blame,
    Costs,
    LineMeter,
    Pieces,
    blamed,
    blamed_for_time,
    early_and_late,
    finish_only,
    least_of_each,
    summed,
)
from pytest_streamperf.growth.cost_curve import late_growth
from pytest_streamperf.growth.metered_stream import BLOCKS, MeteredStream, Run
from pytest_streamperf.growth.options import GrowthOptions, Metric
from pytest_streamperf.growth.thresholds import THRESHOLDS
from pytest_streamperf.streams.token_stream import TokenStream

__tracebackhide__ = True  # pytest shows the user's own frames

_METERS: dict[Metric, Callable[[], Meter]] = {
    "allocated_bytes": AllocationMeter,
    "calls": CallMeter,
    "cpu_time": lambda: CpuTimeMeter(clock.cpu),
}
# Readers of the cost of a traced line, by metric; None where the tracer counts calls by itself.
_LAPS: dict[Metric, Callable[[], Callable[[], float] | None]] = {
    "allocated_bytes": AllocationLaps,
    "calls": lambda: None,
    "cpu_time": lambda: ClockLaps(clock.cpu),
}


class Undecided(Exception):  # noqa: N818 - a conclusion, not an error
    """The check ends without a verdict on growth; the text says why."""


class Stopped(Undecided):
    """A run was stopped: it had spent its CPU seconds and did not pull more deltas."""

    def __init__(self, why: str, length: int, cpu_seconds: float = 0.0) -> None:
        super().__init__(why)
        self.length, self.cpu_seconds = length, cpu_seconds


@dataclass(slots=True)
class Probe:
    """A run to make: call the consumer with `argument`, within these CPU and wall seconds."""

    stream: MeteredStream
    length: int
    sized: bool
    meter: Meter
    cpu_seconds: float
    wall_seconds: float
    whole: Run | None = None

    @property
    def argument(self) -> MeteredStream | int:
        """The stream, or its length for code that takes its whole input at once."""
        return self.length if self.sized else self.stream

    def returned(self) -> None:
        """Record the finish; call this while the value that the consumer returned is alive."""
        if self.sized:  # all of it is finish
            edges = tuple(self.length * block // BLOCKS for block in range(BLOCKS + 1))
            self.whole = Run(self.length, edges, (0.0,) * len(edges), self.meter.read())
        else:
            self.stream.finish()


class Runner:
    """A maker of runs that tracks their cost and the CPU and wall seconds that are left.

    `allowed` is the CPU seconds that the whole check may spend.
    """

    def __init__(self, options: GrowthOptions) -> None:
        self.allowed = options.seconds
        self._kept = 0.0
        self._set_up: dict[Metric, float] = {}
        self._options = options
        self._start = clock.cpu(), clock.wall()
        self._cost: dict[Metric, float] = {}

    def cpu_left(self) -> float:
        """Return the CPU seconds that may still be spent on measuring."""
        return self._left_for_blame() - self._kept * self.allowed

    @contextmanager
    def keeping_for_blame(self) -> Iterator[None]:
        """Keep some CPU seconds for blame while this is open."""
        self._kept = THRESHOLDS.blame_cpu_part
        try:
            yield
        finally:
            self._kept = 0.0

    def wall_left(self) -> float:
        """Return the wall seconds until the timeout."""
        return self._start[1] + self._options.timeout - clock.wall()

    def cost(self, metric: Metric, length: int) -> float:
        """Return the CPU seconds that a run of this length takes at the rate of the last one."""
        return self._cost.get(metric, self._cost.get("cpu_time", 0.0)) * length

    def run(
        self, metric: Metric, length: int, cpu_seconds: float | None = None
    ) -> Generator[Probe, None, Run]:
        """Make one run; it comes out shorter than `length` where the budget ended.

        Raises `Undecided` if there is no run to speak of, and what the consumer raises.
        """
        with _steady_interpreter(metric):
            meter = _METERS[metric]()
            probe = self._make_probe(
                length, meter, self.cpu_left() if cpu_seconds is None else cpu_seconds
            )
            before, started = tracemalloc.get_traced_memory()[0], clock.cpu()
            yield from _consume(probe)
            spent = clock.cpu() - started
            kept = 0
            # The memory of a run that was cut may live as long as the error that this led to.
            if metric == "allocated_bytes" and not probe.stream.cut:
                kept = kept_since(before, length)
            run = probe.whole or probe.stream.run()
            if run is None:
                raise _incomplete_error(probe)
            if isinstance(meter, AllocationMeter):
                run = replace(run, held=meter.held, kept=kept)
            if metric in self._set_up:
                run = replace(run, finish=max(0.0, run.finish - self._set_up[metric]))
        self._cost[metric] = max(spent, 1e-7) / run.length
        return run

    def warm_up(self) -> Generator[Probe, None, None]:
        """Make runs that do not count, as the first run is slow.

        A consumer of a served stream sets up a client. The cost of that, seen with a single delta,
        is subtracted from all other runs.
        """
        yield from self.run("cpu_time", self._options.lengths[0])
        for metric in self._options.metrics if self._options.serve else ():
            took = []
            for _ in range(THRESHOLDS.set_up_runs):
                run = yield from self.run(metric, 1)
                took.append(run.total)
            self._set_up[metric] = min(took)

    def look_for_state(
        self, lengths: Sequence[int], part: float
    ) -> Generator[Probe, None, list[Run]]:
        """Make runs that count allocations until one leaves no memory behind; return the runs.

        Each run may take `part` of the CPU seconds that are left. Only runs that are longer than
        all before are returned.

        Raises `Undecided` if every run leaves memory behind, and longer runs leave more: the
        consumer keeps state. A cache that is filled once is not state, and neither is an equal
        amount for each run, or a small part of the memory that a run holds. Interpreters and
        libraries keep a little too, and a server releases memory when it has time for it.
        """
        runs: list[Run] = []
        shortest = None
        for length in (*lengths, *[lengths[-1]] * THRESHOLDS.state_retries):
            run = yield from self.run("allocated_bytes", length, self.cpu_left() * part)
            if not runs or run.length > runs[-1].length:
                runs.append(run)
            first = shortest or replace(run, length=0, held=0, kept=0)
            more_held, more_kept = run.held - first.held, run.kept - first.kept
            least_state = max(run.length - first.length, more_held * THRESHOLDS.state_held_part)
            if more_kept < least_state:
                return runs
            shortest = shortest or run
        msg = (
            f"consume kept {run.kept:,} bytes of a stream of {length:,} deltas after it returned: "
            "what it builds must be built inside consume (mocks, log handlers and captured output "
            "keep what they are given, too)"
        )
        raise Undecided(msg)

    def blame(self, metric: Metric, runs: Sequence[Run]) -> Generator[Probe, None, list[Blame]]:
        """Return the guilty lines, where a delta costs more at the end than at a quarter.

        The traced stream is as long as there is time for. A run that is cut does not show its late
        deltas, so a shorter stream is traced then.
        """
        length, reached = runs[0].length, 0
        shortest = THRESHOLDS.min_traced_stream_deltas
        if metric == "cpu_time":
            shortest = self._options.lengths[0]
        guilty: list[Blame] = []
        # Quadratic work takes a quarter of the time where the stream is half as long.
        cost = self.cost(metric, length) * _traced_cost(metric)
        planned = int(length * min(1.0, sqrt(max(0.0, self._left_for_blame()) / cost)))
        for _ in range(THRESHOLDS.blame_attempts):
            planned, before = max(planned, shortest), self._left_for_blame()
            lines = yield from self._blame_in(metric, runs, planned)
            if lines is not None:
                guilty, reached = lines, planned
                left = self._left_for_blame()
                afforded = max(0.0, left) * THRESHOLDS.next_trace_cpu_part
                planned = int(min(length, planned * sqrt(afforded / (before - left))))
                if planned < reached * THRESHOLDS.min_blame_length_ratio:
                    break
            elif reached or planned == shortest:
                break
            else:
                planned //= THRESHOLDS.cut_trace_divisor
        return guilty

    def _blame_in(
        self, metric: Metric, runs: Sequence[Run], length: int
    ) -> Generator[Probe, None, list[Blame] | None]:
        """Return the guilty lines in a stream of this length; None if the traced run was cut.

        Many deltas are traced where few show no growth, as some costs come rarely. For time, many
        are traced from the start if that can be afforded, as clocks are noisy.
        """
        window = THRESHOLDS.min_traced_deltas
        if metric == "cpu_time":
            traced_delta = self.cost(metric, 1) * THRESHOLDS.line_tracing_slowdown
            window = max(window, int(self._left_for_blame() / 2 / traced_delta))
        growth = late_growth(runs, length / runs[0].length)
        for deltas in (window, length):
            windows = early_and_late(length, deltas)
            early, late = yield from self._traced_costs(metric, length, windows)
            if not late:
                return None
            guilty_lines = blamed_for_time if metric == "cpu_time" else blamed
            if guilty := guilty_lines(early, late, growth * len(windows[1])):
                return guilty
        return []

    def blame_finish(
        self, metric: Metric, length: int, slope: float
    ) -> Generator[Probe, None, list[Blame]]:
        """Return the guilty lines, where the finish costs `slope * length` more per delta.

        The whole finish is traced, which is slow: in longer and longer streams, as far as there is
        time. The last two are compared, and traced in turns, as the speed of a core changes.
        """
        traced: list[tuple[int, Pieces]] = []
        took: list[float] = []
        for longer in self._options.lengths:
            left = self._left_for_blame()
            enough = took[-1] ** 2 / took[-2] * _traced_runs(metric) if len(traced) > 1 else 0.0
            if len(traced) > 1 and (longer > length or enough > left):
                break
            pieces = yield from self._finish_traced(metric, longer)
            if len(traced) > 1 and not pieces:
                break
            traced.append((longer, pieces))
            took.append(left - self._left_for_blame())
        for _ in range(_traced_runs(metric) - 1):
            for position in (-2, -1):
                traced_length, pieces = traced[position]
                retry = yield from self._finish_traced(metric, traced_length)
                traced[position] = traced_length, least_of_each(pieces, retry) if retry else pieces
        early, late = (
            {where: spent / traced_length for where, spent in summed(pieces).items()}
            for traced_length, pieces in traced[-2:]
        )
        expected = slope * (traced[-1][0] - traced[-2][0])
        if metric != "cpu_time":
            return blamed(early, late, expected)
        return blamed_for_time(
            early,
            late,
            expected,
            several=THRESHOLDS.slow_core_lines_in_finish,
            least=THRESHOLDS.slow_core_min_factor_in_finish,
        )

    def _finish_traced(self, metric: Metric, length: int) -> Generator[Probe, None, Pieces]:
        """Return the cost of lines in the finish; empty if time ran out before its end."""
        windows = finish_only(0 if self._options.sizes else length)
        (pieces,) = (yield from self._traced_once(metric, length, windows)) or [{}]
        return pieces

    def _left_for_blame(self) -> float:
        return self._start[0] + self.allowed - clock.cpu()

    def _traced_costs(
        self, metric: Metric, length: int, windows: Sequence[range]
    ) -> Generator[Probe, None, list[Costs]]:
        """Return the cost of lines in each window: the least of all runs that time allows."""
        least: list[Pieces] = []
        for _ in range(_traced_runs(metric)):
            pieces = yield from self._traced_once(metric, length, windows)
            if pieces is None:
                break
            least = list(map(least_of_each, least, pieces)) if least else pieces
        return [*map(summed, least)] or [{} for _ in windows]

    def _traced_once(
        self, metric: Metric, length: int, windows: Sequence[range]
    ) -> Generator[Probe, None, list[Pieces] | None]:
        """Make one run that is traced line by line; return None if it was cut off."""
        # The rest is for another attempt.
        left = self._left_for_blame() * THRESHOLDS.traced_run_cpu_part
        if left <= 0:
            return None
        with _steady_interpreter(metric):
            lines = LineMeter(_LAPS[metric](), windows)
            probe = self._make_probe(length, lines, left)
            # A verdict without a guilty line is still a verdict.
            with lines.in_new_threads(), suppress(Undecided):
                yield from _consume(probe)
                return None if probe.stream.cut else lines.costs
        return None

    def _make_probe(self, length: int, meter: Meter, cpu_seconds: float) -> Probe:
        sized = bool(self._options.sizes)
        deltas = tuple(TokenStream(0 if sized else length, delta=self._options.delta).deltas)
        wall_seconds = max(0.0, self.wall_left())
        cpu_end, wall_end = clock.cpu() + cpu_seconds, clock.wall() + wall_seconds
        stream = MeteredStream(
            deltas,
            meter,
            lambda: clock.cpu() > cpu_end or clock.wall() > wall_end,
        )
        return Probe(
            stream, length, sized, meter, cpu_seconds * THRESHOLDS.cpu_patience, wall_seconds
        )


def _traced_runs(metric: Metric) -> int:
    """Return the number of traced runs of which the least counts."""
    timed = metric == "cpu_time"
    return THRESHOLDS.traced_runs_by_time if timed else THRESHOLDS.traced_runs_by_count


def _traced_cost(metric: Metric) -> float:
    """Return the planned cost of all traced runs, in untraced ones."""
    timed = metric == "cpu_time"
    return THRESHOLDS.traced_cost_by_time if timed else THRESHOLDS.traced_cost_by_count


@contextmanager
def _steady_interpreter(metric: Metric) -> Iterator[None]:
    """Keep the collector, threads that hog the interpreter, and foreign tracing off a run."""
    traced = (
        instrumentation.allocations()
        if metric == "allocated_bytes"
        else instrumentation.allocations_untraced()
    )
    with instrumentation.collector_off(), instrumentation.threads_in_turns(), traced:
        yield


def _consume(probe: Probe) -> Generator[Probe, None, None]:
    if probe.sized:
        probe.meter.open()
    try:
        yield probe
    except clock.Overrun as overrun:
        _handle_overrun(probe, overrun)
    except BaseExceptionGroup as group:  # a task group of the consumer's was in between
        first = next(_overruns_in(group), None)
        if first is None:
            raise
        _handle_overrun(probe, first)
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
        probe.meter.close()


def _overruns_in(group: BaseExceptionGroup) -> Iterator[clock.Overrun]:
    for error in group.exceptions:
        if isinstance(error, clock.Overrun):
            yield error
        elif isinstance(error, BaseExceptionGroup):
            yield from _overruns_in(error)


def _handle_overrun(probe: Probe, overrun: clock.Overrun) -> None:
    if overrun.resource == "wall":
        taken = f"{probe.stream.pulled:,} of {probe.length:,} deltas"
        msg = (
            f"consume still waited after {duration(probe.wall_seconds)}, with {taken} taken; "
            "timeout= is the wall time that it may take"
        )
        raise Undecided(msg) from None
    # A consumer that was still pulling has not gone astray: its stream had no time to end.
    if overrun.stuck > THRESHOLDS.stuck_part * probe.cpu_seconds:
        raise Stopped(_stopped_text(probe), probe.length, probe.cpu_seconds) from None
    probe.stream.cut_short()


def _incomplete_error(probe: Probe) -> Exception:
    if probe.stream.cut:
        return Stopped(_stopped_text(probe), probe.length, probe.cpu_seconds)
    if not probe.stream.pulled:
        headline = "consume took no delta from the stream it was handed"
        advice = "iterate over its argument: for delta in stream: ..."
        return nothing_measured("growth", headline, advice)
    taken = f"{probe.stream.pulled:,} of {probe.length:,} deltas"
    return Undecided(f"consume took {taken} and returned: only what takes all of them is measured")


def _stopped_text(probe: Probe) -> str:
    spent = f"it had spent {duration(probe.cpu_seconds)} of CPU"
    if probe.sized:
        return f"consume({probe.length:,}) was stopped when {spent}"
    if probe.stream.pulled == probe.length:
        return f"consume took all of {probe.length:,} deltas and was stopped when {spent}"
    return (
        f"consume spent {duration(probe.cpu_seconds)} of CPU and did not ask for more than "
        f"{probe.stream.pulled:,} of {probe.length:,} deltas"
    )
