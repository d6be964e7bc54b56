"""Schedule the runs of one check, from short streams to the maximum length, within its budget.

In go the options; out comes a `GrowthResult` without its texts. The scheduler is a generator
without I/O. It yields one run at a time; the driver hands the stream to the consumer, in whatever
way the consumer is called, and resumes the scheduler. So sync, asyncio and trio share every
decision.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Literal

from pytest_streamperf._results.units import duration, percent
from pytest_streamperf._results.verdict import Outcome
from pytest_streamperf._runtime import clock, instrumentation
from pytest_streamperf.exceptions import GrowthInconclusive
from pytest_streamperf.growth import estimation
from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.cost_curve import CostCurve, late_growth
from pytest_streamperf.growth.metered_stream import Run
from pytest_streamperf.growth.options import GrowthOptions, Metric
from pytest_streamperf.growth.result import GrowthResult
from pytest_streamperf.growth.runner import Probe, Runner, Stopped, Undecided
from pytest_streamperf.growth.thresholds import THRESHOLDS

__tracebackhide__ = True  # pytest shows the user's own frames

Counted = Literal["allocated_bytes", "calls"]

# The part of the maximum length to which counts must show that they are linear, or are not: all of
# it where counts alone decide.
_TO_THE_END: Mapping[Outcome, float] = {"within": 1, "exceeded": 1}
_BESIDE_TIME: Mapping[Outcome, float] = {
    "within": THRESHOLDS.within_part_beside_time,
    "exceeded": THRESHOLDS.exceeded_part_beside_time,
}
_COUNTED_CPU_PARTS: Mapping[Counted, float] = {
    "allocated_bytes": THRESHOLDS.allocation_run_cpu_part,
    "calls": THRESHOLDS.call_run_cpu_part,
}
_NO_CALLS = "a profiler is on, so calls could not be counted"


class Scheduler:
    """A growth check in steps: `result` is the generator to drive."""

    def __init__(self, options: GrowthOptions) -> None:
        self._options = options
        self._counts: dict[Metric, list[Run]] = {"allocated_bytes": [], "calls": []}
        self._timed: dict[int, list[Run]] = {}
        self._pairs: dict[int, list[tuple[Run, Run]]] = {}
        self._counted_lengths = options.lengths
        self._linear: set[Metric] = set()
        self._counted: list[Counted] = []
        if "allocated_bytes" in options.metrics:
            self._counted.append("allocated_bytes")
        if "calls" in options.metrics and not instrumentation.calls_traced():
            self._counted.append("calls")
        self._stopped: Stopped | None = None
        self._runner = Runner(options)

    def result(self) -> Generator[Probe, None, GrowthResult]:
        """Run until the verdict is clear or the budget is spent; return the result, unworded."""
        before, start = clock.noise(), clock.wall()
        result = yield from self._measure()
        noise = clock.noise().since(before)
        waited_part = (noise.waited or 0.0) / (clock.wall() - start)
        why = result.why
        if result.verdict == "inconclusive" and waited_part > THRESHOLDS.busy_wait_part:
            busy = f"no core was free {percent(waited_part)} of the time"
            why = f"{why}; the machine was busy: {busy}"
        exceeded = result.verdict == "exceeded"
        share_at = result.measured_to if exceeded else self._options.max_length
        half_at = estimation.half_at(result.superlinear_share, share_at)
        return replace(result, why=why, noise=noise, half_at=half_at)

    def _measure(self) -> Generator[Probe, None, GrowthResult]:
        try:
            yield from self._runner.warm_up()
            if "allocated_bytes" in self._options.metrics and not self._options.sizes:
                self._counts["allocated_bytes"] += yield from self._runner.look_for_state(
                    self._options.lengths[:3], THRESHOLDS.allocation_run_cpu_part
                )
            for times in (1, THRESHOLDS.retry_cpu_factor):
                self._runner.allowed = self._options.seconds * times
                result = yield from self._measure_once()
                if result is not None:
                    return result
                self._drop_unclear_counts()
        except Undecided as undecided:
            return self._inconclusive(str(undecided))
        except GrowthInconclusive as inconclusive:
            return self._inconclusive(inconclusive.verdict.headline)
        return self._inconclusive(self._remedy_for_no_verdict())

    def _measure_once(self) -> Generator[Probe, None, GrowthResult | None]:
        timed = "cpu_time" in self._options.metrics
        needed_parts = _BESIDE_TIME if timed else _TO_THE_END
        for metric in self._counted:
            if metric not in self._linear:
                with self._runner.keeping_for_blame():
                    part = _COUNTED_CPU_PARTS["allocated_bytes" if self._options.serve else metric]
                    verdict = yield from self._count_lengths(metric, needed_parts, part)
                    if verdict == "exceeded":
                        # The message shows the full cost, and a window may be full by then.
                        showing_part = THRESHOLDS.showing_run_cpu_part
                        verdict = yield from self._count_lengths(metric, _TO_THE_END, showing_part)
                if verdict == "exceeded":
                    return (yield from self._exceeded_by_count(metric))
                if verdict == "within":
                    self._linear.add(metric)
        if len(self._linear) < len(self._counted) and not self._stopped:
            return None
        result = (yield from self._measure_time()) if timed else None
        if self._stopped and (result is None or result.verdict == "within"):
            hasty = self._options.sizes or self._stopped.cpu_seconds < self._options.seconds / 2
            if hasty and self._runner.allowed < self._options.seconds * THRESHOLDS.retry_cpu_factor:
                return None  # the consumer had little time, or pulls nothing: try with more
            raise self._stopped  # it is not known to end, so it does not pass
        return result if timed else self._within_by_count()

    def _within_by_count(self) -> GrowthResult:
        runs, max_length = (
            self._counts["allocated_bytes"] or self._counts["calls"],
            self._options.max_length,
        )
        if not runs:
            raise Undecided(_NO_CALLS)
        low, high = (
            estimation.carried(share, runs[-1].length, max_length)
            for share in estimation.counted_shares(runs)
        )
        return GrowthResult(
            verdict="within",
            superlinear_share=low,
            superlinear_interval=(low, high),
            measured_to=runs[-1].length,
            curves=self._curves(),
        )

    # -- counts are exact: one run of each length will do

    def _count_lengths(
        self, metric: Counted, needed_parts: Mapping[Outcome, float], part: float
    ) -> Generator[Probe, None, Outcome | None]:
        """Count longer streams until the verdict is clear; return it, or None.

        `needed_parts` holds, for each verdict, the part of the maximum length that it needs. `part`
        is the part of the CPU seconds that a run may take.
        """
        runs, max_length = self._counts[metric], self._options.max_length
        least = min(THRESHOLDS.min_counted_deltas, max_length // 4)
        for length in self._counted_lengths:
            verdict = self._counted_verdict(metric)
            enough = verdict and runs[-1].length >= max(
                least, int(needed_parts[verdict] * max_length)
            )
            hidden = (
                metric == "allocated_bytes" and verdict == "within" and _could_hide_copies(runs[-1])
            )
            if (enough and not hidden) or not (
                yield from self._add_counted_run(metric, length, part)
            ):
                break
        return self._counted_verdict(metric)

    def _counted_verdict(self, metric: Counted) -> Outcome | None:
        runs = self._counts[metric]
        options = self._options
        verdict = estimation.counted_verdict(
            metric, runs, options.max_superlinear, options.max_length
        )
        few = self._options.sizes and len(runs) < THRESHOLDS.min_sizes
        return None if few and verdict == "within" else verdict  # set-up may hide growth

    def _drop_unclear_counts(self) -> None:
        """Drop counted runs that were not clear, so that they are made again.

        A run of half the maximum length is added. Counts vary where threads take turns, and most in
        short streams.
        """
        for metric in self._counted:
            if metric not in self._linear:
                del self._counts[metric][-2:]
        if not self._options.sizes:
            *shorter, last = self._options.lengths
            self._counted_lengths = (*shorter, last // 2, last)

    def _add_counted_run(
        self, metric: Counted, length: int, part: float
    ) -> Generator[Probe, None, bool]:
        """Add a run of this length, or as far as the budget goes; return whether to go on."""
        runs = self._counts[metric]
        reached = runs[-1].length if runs else 0
        if reached >= length:
            return True
        seconds, afforded = min(self._runner.cpu_left(), self._runner.allowed * part), length
        if runs and _is_weighty(runs[-1]):  # a stream can be cut, a finish cannot
            afforded = min(
                length, int(THRESHOLDS.planned_cpu_part * seconds / self._runner.cost(metric, 1))
            )
        least = int(reached * THRESHOLDS.min_length_ratio)
        if afforded < min(length, least) or seconds < self._runner.cost(metric, least):
            return False
        run = yield from self._run_or_stop(metric, afforded, seconds)
        if run is None:
            return False
        if run.length > reached:
            runs.append(run)
        return run.length == length

    def _run_or_stop(
        self, metric: Metric, length: int, seconds: float | None = None
    ) -> Generator[Probe, None, Run | None]:
        """Make a run; return None if it had to be stopped and shorter ones had not."""
        try:
            run = yield from self._runner.run(metric, length, seconds)
        except Stopped as stopped:
            if not self._counts.get(metric, self._timed):
                raise
            self._stopped = stopped
            return None
        if self._stopped and run.length >= self._stopped.length:
            self._stopped = None  # the traced run was slow, but the consumer ends
        return run

    def _exceeded_by_count(self, metric: Counted) -> Generator[Probe, None, GrowthResult]:
        runs = self._counts[metric]
        low, high = estimation.counted_shares(runs)
        length = runs[-1].length
        _, excess = estimation.finish_growth(runs[-1], runs[-2])
        timed: list[Run] = []
        if "cpu_time" in self._options.metrics and not instrumentation.allocations_traced():
            # A counted run costs more than a timed one will. If a timed one is stopped, leave it.
            with self._runner.keeping_for_blame(), suppress(Stopped):
                cost, afforded = self._runner.cost(metric, length), self._runner.cpu_left() / 2
                while (
                    len(timed) < THRESHOLDS.shown_timed_runs and (cost if timed else 0.0) < afforded
                ):
                    run = yield from self._runner.run("cpu_time", length, afforded)
                    if run.length < length:
                        break
                    timed.append(run)
                    afforded = self._runner.cpu_left() / 2
        blame = yield from self._find_blame(metric, runs[-1:], excess)
        return GrowthResult(
            verdict="exceeded",
            metric=metric,
            superlinear_share=low,
            superlinear_interval=(low, high),
            measured_to=length,
            blame=blame,
            curves=_cost_curves({metric: runs, "cpu_time": timed}),
        )

    # -- times are noisy: run until the votes are clear

    def _measure_time(self) -> Generator[Probe, None, GrowthResult | None]:
        if self._stopped and self._runner.cpu_left() <= 0:
            raise self._stopped  # that run spent all CPU seconds
        if instrumentation.allocations_traced():
            msg = "tracemalloc is on, so time could not be measured; counts alone are linear"
            raise Undecided(msg)
        with instrumentation.arenas_held(self._memory_to_hold()):
            length = yield from self._time_longer_streams()
            verdict = (
                (yield from self._vote_at(length, THRESHOLDS.max_timed_runs)) if length else None
            )
        on_a_bound = verdict == "within" and length < self._options.max_length
        if verdict is None or (on_a_bound and self._options.sizes):  # set-up may hide growth there
            return None
        runs, excess, blame = self._timed[length], self._finish_excess(length), []
        at = length if verdict == "exceeded" else self._options.max_length
        low, share, high = estimation.interval(runs, excess, at)
        if verdict == "exceeded":
            blame = yield from self._find_blame("cpu_time", runs, excess.lower)
        return GrowthResult(
            verdict=verdict,
            metric="cpu_time" if verdict == "exceeded" else None,
            superlinear_share=share,
            superlinear_interval=(low, high),
            measured_to=length,
            blame=blame,
            curves=self._curves(),
        )

    def _time_longer_streams(self) -> Generator[Probe, None, int]:
        """Time longer and longer streams; return the length that fails, or the longest timed."""
        reached = max(self._timed, default=0)
        for planned in [length for length in self._options.lengths if length > reached]:
            if reached and self._is_suspicious(reached):
                # A longer run or two of quadratic work may take all that is left: vote here, then.
                squared = self._runner.cost("cpu_time", planned) * planned / reached
                longer_runs = max(1.0, self._runner.cpu_left() / squared)
                most = int(THRESHOLDS.max_runs_before_longer / longer_runs**2)
                most = max(THRESHOLDS.runs_to_fail, most)
                if (yield from self._vote_at(reached, most)) == "exceeded":
                    break
            if self._runner.cpu_left() < self._runner.cost(
                "cpu_time", int(reached * THRESHOLDS.min_length_ratio)
            ):
                break
            length = self._next_length(reached, planned) if reached else planned
            longer = yield from self._run_or_stop("cpu_time", length)
            if longer is None or longer.length <= reached:
                break
            reached = longer.length
            self._add_timed_run(longer)
            if longer.length < length:
                break
        return reached

    def _is_suspicious(self, length: int) -> bool:
        run, excess = self._timed[length][0], self._finish_excess(length)
        long_enough = run.total > THRESHOLDS.min_timed_run_cpu_seconds
        limit = self._options.max_superlinear
        return long_enough and estimation.suspicious(run, excess.upper, limit)

    def _next_length(self, reached: int, planned: int) -> int:
        """Return the length to time next: `planned`, or that of the only long run that fits."""
        max_length, left = self._options.max_length, self._runner.cpu_left()
        if self._options.sizes or left > 2 * self._runner.cost("cpu_time", max_length):
            return planned
        # A finish cannot be cut, so it is not leapt at.
        farthest = planned if _is_weighty(self._timed[reached][0]) else max_length
        return min(
            farthest, int(THRESHOLDS.planned_cpu_part * left / self._runner.cost("cpu_time", 1))
        )

    def _vote_at(self, length: int, most: int) -> Generator[Probe, None, Outcome | None]:
        """Time this length until votes are clear or `most` runs were made; return the verdict."""
        runs, shorter, runner = self._timed[length], self._shorter_length(length), self._runner
        lengths = [shorter, length] if shorter and _is_weighty(runs[0]) else [length]
        with runner.keeping_for_blame() if self._is_suspicious(length) else nullcontext():
            while True:
                short_of_cpu = runner.cpu_left() < runner.cost("cpu_time", sum(lengths))
                last = short_of_cpu or runner.wall_left() <= 0
                options, excess = self._options, self._finish_excess(length)
                verdict = estimation.timed_verdict(
                    runs, excess, options.max_superlinear, options.max_length, last=last
                )
                if verdict is not None or last or len(runs) >= most:
                    return verdict
                for timed_length in lengths:
                    run = yield from self._run_or_stop("cpu_time", timed_length)
                    if run is None or run.length < timed_length:
                        return None
                    self._add_timed_run(run)

    def _add_timed_run(self, run: Run) -> None:
        """Keep a timed run, and the last shorter one, whose finish its own is compared with."""
        shorter = self._shorter_length(run.length)
        self._timed.setdefault(run.length, []).append(run)
        pairs = self._pairs.setdefault(run.length, [])
        if shorter:
            pairs.append((run, self._timed[shorter][-1]))

    def _finish_excess(self, length: int) -> estimation.Excess:
        """Return the superlinear part of the finish of the timed runs of this length."""
        return estimation.finish_excess(self._pairs[length])

    def _shorter_length(self, length: int) -> int | None:
        """Return the length whose finish is compared: a sixteenth, or the shortest timed length."""
        longest = length // THRESHOLDS.finish_length_ratio
        short_enough = [timed for timed in self._timed if timed <= longest]
        shorter = max(short_enough, default=min(self._timed, default=length))
        return shorter if shorter < length else None

    def _memory_to_hold(self) -> int:
        runs = self._counts["allocated_bytes"]
        if not runs:
            return THRESHOLDS.max_held_bytes // 8
        return min(
            THRESHOLDS.max_held_bytes,
            2**20 + runs[-1].held * self._options.max_length // runs[-1].length,
        )

    def _find_blame(
        self, metric: Metric, runs: Sequence[Run], excess: float
    ) -> Generator[Probe, None, list[Blame]]:
        """Return the guilty lines: of a delta or of the finish, whichever grew by more."""
        length, growth = runs[0].length, late_growth(runs)
        slope = excess / length**2
        in_the_finish = excess > growth * length * THRESHOLDS.finish_blame_part
        if not in_the_finish:
            return (yield from self._runner.blame(metric, runs))
        return (yield from self._runner.blame_finish(metric, length, slope))

    def _curves(self) -> dict[Metric, CostCurve]:
        timed = [run for runs in self._timed.values() for run in runs]
        return _cost_curves({**self._counts, "cpu_time": timed})

    def _inconclusive(self, why: str) -> GrowthResult:
        result = GrowthResult(verdict="inconclusive", why=why, curves=self._curves())
        if not self._timed:
            return result
        length = max(self._timed)
        low, share, high = estimation.interval(
            self._timed[length], self._finish_excess(length), self._options.max_length
        )
        return replace(
            result,
            superlinear_share=share,
            superlinear_interval=(low, high),
            measured_to=length,
        )

    def _remedy_for_no_verdict(self) -> str:
        length, spent = max(self._timed, default=0), duration(self._runner.allowed)
        if self._runner.wall_left() <= 0:
            return f"{duration(self._options.timeout)} were not enough; a longer timeout= would be"
        if not length:
            return "work grew in the longest stream only; a farther up_to= would settle it"
        if length < self._options.max_length:
            return f"{spent} of CPU were not enough to tell; more seconds= or a nearer up_to= would"
        low, _, high = estimation.interval(self._timed[length], self._finish_excess(length), length)
        return (
            f"{percent(low)} to {percent(high)} is too near the limit to tell in {spent} of CPU; "
            "a max_superlinear= outside of that, or more seconds=, would settle it"
        )


def _cost_curves(runs: Mapping[Metric, Sequence[Run]]) -> dict[Metric, CostCurve]:
    """Return the cost curve of each metric that has runs."""
    return {metric: estimation.cost_curve(made) for metric, made in runs.items() if made}


def _could_hide_copies(run: Run) -> bool:
    """Return whether a copy of all deltas is smaller than the usual allocation per delta."""
    return run.length * THRESHOLDS.min_delta_bytes < 2 * run.total / run.length


def _is_weighty(run: Run) -> bool:
    """Return whether the finish is a part of the run that is large enough to compare again."""
    return run.finish > run.total * THRESHOLDS.weighty_finish_part
