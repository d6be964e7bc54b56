"""What to run next: a sequential check, from short streams to the horizon, within its budget.

The plan is a generator without I/O. It yields one run at a time; whoever drives it hands the stream
to the consumer, in whatever way that wants to be called, and resumes the plan. So sync, asyncio and
trio share every decision.
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
from pytest_streamperf.growth.meters import Run
from pytest_streamperf.growth.options import LEAST_SIZES, Meter, Terms
from pytest_streamperf.growth.result import Evidence
from pytest_streamperf.growth.runner import Probe, Runner, Stopped, Undecided
from pytest_streamperf.growth.state import look_for_state

__tracebackhide__ = True  # pytest shows the user's own frames

Counted = Literal["copies", "calls"]

# A check that cannot be concluded within its CPU seconds is given this many times as much.
_AGAIN = 3
# The part of the CPU seconds that a counted run may take. Tracing allocations slows code down most.
_COUNTING_PART = {"copies": 0.35, "calls": 0.1}
# The part of the horizon to which counts must show that they are linear, or are not; at least a
# quarter, or so many deltas if that is less. Time is measured all the way, counts beside it not.
_TO_THE_END: Mapping[Outcome, float] = {"within": 1, "exceeded": 1}
_BESIDE_TIME: Mapping[Outcome, float] = {"within": 1 / 16, "exceeded": 1 / 4}
_LEAST_COUNTED = 1_000
# The bytes of a delta, at least. A copy shows where it is larger than what else a delta allocates.
_LEAST_DELTA = 4
# The part that a longer run may take, where counts decided already.
_SHOWING_PART = 0.25
# Timed runs that are shorter, in CPU seconds, are too short to stop at.
_LEAST_TIMED = 0.01
_MOST_TIMED_RUNS, _MANY_RUNS = 160, 40
# Timed runs that the figures of a message are taken from, where counts decided already.
_SHOWN_RUNS = 3
# A longer run is worth its cost if it is likely to get this many times as far.
_WORTHWHILE = 1.5
# The part of what is left that a run is planned to take; and that of a run below which its finish
# is not looked at twice.
_SAFELY, _WEIGHTY = 0.9, 0.1
_MOST_HELD = 64 * 2**20
# A machine is busy if a thread waits for a core for more than this part of the time.
_BUSY = 0.2
_NO_CALLS = "a profiler is on, so calls could not be counted"


class Plan:
    """One check, in steps: `evidence` is the generator to drive."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._counts: dict[Meter, list[Run]] = {"copies": [], "calls": []}
        self._timed: dict[int, list[Run]] = {}
        self._pairs: dict[int, list[tuple[Run, Run]]] = {}
        self._counted_lengths = terms.lengths
        self._linear: set[Meter] = set()
        self._counted: list[Counted] = []
        if "copies" in terms.meters:
            self._counted.append("copies")
        if "calls" in terms.meters and not instrumentation.calls_traced():
            self._counted.append("calls")
        self._stopped: Stopped | None = None
        self._runner = Runner(terms)

    def evidence(self) -> Generator[Probe, None, Evidence]:
        """Run until the evidence is clear or the budget is spent."""
        before, start = clock.noise(), clock.wall()
        found = yield from self._find()
        noise = clock.noise().since(before)
        part = (noise.waited or 0.0) / (clock.wall() - start)
        if found.verdict == "inconclusive" and part > _BUSY:
            why = f"{found.why}; the machine was busy: no core was free {percent(part)} of the time"
            found = replace(found, why=why)
        return replace(found, noise=noise)

    def _find(self) -> Generator[Probe, None, Evidence]:
        try:
            yield from self._runner.warm_up()
            if "copies" in self._terms.meters and not self._terms.sizes:
                self._counts["copies"] += yield from look_for_state(
                    self._runner, self._terms.lengths[:3], _COUNTING_PART["copies"]
                )
            for times in (1, _AGAIN):
                self._runner.allowed = self._terms.seconds * times
                found = yield from self._attempt()
                if found is not None:
                    return found
                self._look_again()
        except Undecided as undecided:
            return self._inconclusive(str(undecided))
        except GrowthInconclusive as inconclusive:
            return self._inconclusive(inconclusive.verdict.headline)
        return self._inconclusive(self._what_would_settle_it())

    def _attempt(self) -> Generator[Probe, None, Evidence | None]:
        timed = "time" in self._terms.meters
        far = _BESIDE_TIME if timed else _TO_THE_END
        for meter in self._counted:
            if meter not in self._linear:
                with self._runner.keeping_for_blame():
                    part = _COUNTING_PART["copies" if self._terms.serve else meter]
                    verdict = yield from self._count(meter, far, part)
                    if verdict == "exceeded":
                        # People want to see what it comes to, and a window may be full by then.
                        verdict = yield from self._count(meter, _TO_THE_END, _SHOWING_PART)
                if verdict == "exceeded":
                    return (yield from self._exceeded_by_count(meter))
                if verdict == "within":
                    self._linear.add(meter)
        if len(self._linear) < len(self._counted) and not self._stopped:
            return None
        found = (yield from self._time()) if timed else None
        if self._stopped and (found is None or found.verdict == "within"):
            hasty = self._terms.sizes or self._stopped.cpu_seconds < self._terms.seconds / 2
            if hasty and self._runner.allowed < self._terms.seconds * _AGAIN:
                return None  # it was given little time, or pulls nothing: who knows
            raise self._stopped  # it is not known to end, so it does not pass
        return found if timed else self._within_by_count()

    def _within_by_count(self) -> Evidence:
        runs, horizon = self._counts["copies"] or self._counts["calls"], self._terms.horizon
        if not runs:
            raise Undecided(_NO_CALLS)
        low, high = (
            estimation.carried(share, runs[-1].length, horizon)
            for share in estimation.counted_shares(runs)
        )
        return Evidence(
            verdict="within",
            share=low,
            share_interval=(low, high),
            proven_to=runs[-1].length,
            runs=self._runs(),
        )

    # -- counts are exact: one run of each length will do

    def _count(
        self, meter: Counted, far: Mapping[Outcome, float], part: float
    ) -> Generator[Probe, None, Outcome | None]:
        """Count longer streams until the verdict is clear as far as `far`, or the part is spent."""
        runs, horizon = self._counts[meter], self._terms.horizon
        least = min(_LEAST_COUNTED, horizon // 4)
        for length in self._counted_lengths:
            verdict = self._counted_verdict(meter)
            enough = verdict and runs[-1].length >= max(least, int(far[verdict] * horizon))
            hidden = meter == "copies" and verdict == "within" and _could_hide_copies(runs[-1])
            if (enough and not hidden) or not (yield from self._climb(meter, length, part)):
                break
        return self._counted_verdict(meter)

    def _counted_verdict(self, meter: Counted) -> Outcome | None:
        runs = self._counts[meter]
        verdict = estimation.counted_verdict(meter, runs, self._terms.limit, self._terms.horizon)
        few = self._terms.sizes and len(runs) < LEAST_SIZES
        return None if few and verdict == "within" else verdict  # set-up may hide growth

    def _look_again(self) -> None:
        """Let counted runs be made again that were not clear, and one of half the horizon.

        Counts vary where threads take turns, and most in short streams.
        """
        for meter in self._counted:
            if meter not in self._linear:
                del self._counts[meter][-2:]
        if not self._terms.sizes:
            *shorter, last = self._terms.lengths
            self._counted_lengths = (*shorter, last // 2, last)

    def _climb(self, meter: Counted, length: int, part: float) -> Generator[Probe, None, bool]:
        """Add a run of this length, or as far as the budget goes; whether to go on from there."""
        runs = self._counts[meter]
        reached = runs[-1].length if runs else 0
        if reached >= length:
            return True
        seconds, afforded = min(self._runner.cpu_left(), self._runner.allowed * part), length
        if runs and _is_weighty(runs[-1]):  # a stream can be cut, a finish cannot
            afforded = min(length, int(_SAFELY * seconds / self._runner.cost(meter, 1)))
        least = int(reached * _WORTHWHILE)
        if afforded < min(length, least) or seconds < self._runner.cost(meter, least):
            return False
        run = yield from self._run(meter, afforded, seconds)
        if run is None:
            return False
        if run.length > reached:
            runs.append(run)
        return run.length == length

    def _run(
        self, meter: Meter, length: int, seconds: float | None = None
    ) -> Generator[Probe, None, Run | None]:
        """Make a run; None if it had to be stopped, where shorter ones have not."""
        try:
            run = yield from self._runner.run(meter, length, seconds)
        except Stopped as stopped:
            if not self._counts.get(meter, self._timed):
                raise
            self._stopped = stopped
            return None
        if self._stopped and run.length >= self._stopped.length:
            self._stopped = None  # it was slow, as what is traced is, but it ends
        return run

    def _exceeded_by_count(self, meter: Counted) -> Generator[Probe, None, Evidence]:
        runs = self._counts[meter]
        low, high = estimation.counted_shares(runs)
        length = runs[-1].length
        _, excess = estimation.finish_growth(runs[-1], runs[-2])
        timed: list[Run] = []
        if "time" in self._terms.meters and not instrumentation.allocations_traced():
            # What a counted run took is more than a timed one will.
            with self._runner.keeping_for_blame(), suppress(Stopped):  # not known to end, then
                cost, afforded = self._runner.cost(meter, length), self._runner.cpu_left() / 2
                while len(timed) < _SHOWN_RUNS and (cost if timed else 0.0) < afforded:
                    run = yield from self._runner.run("time", length, afforded)
                    if run.length < length:
                        break
                    timed.append(run)
                    afforded = self._runner.cpu_left() / 2
        return Evidence(
            verdict="exceeded",
            witness=meter,
            share=low,
            share_interval=(low, high),
            proven_to=length,
            blame=(yield from self._blame(meter, runs[-1:], excess)),
            runs={meter: runs, "time": timed},
        )

    # -- times are noisy: run until the votes are clear

    def _time(self) -> Generator[Probe, None, Evidence | None]:
        if self._stopped and self._runner.cpu_left() <= 0:
            raise self._stopped  # it spent all there was
        if instrumentation.allocations_traced():
            msg = "tracemalloc is on, so time could not be measured; counts alone are linear"
            raise Undecided(msg)
        with instrumentation.arenas_held(self._memory_to_hold()):
            length = yield from self._reach()
            verdict = (yield from self._vote(length, _MOST_TIMED_RUNS)) if length else None
        on_a_bound = verdict == "within" and length < self._terms.horizon
        if verdict is None or (on_a_bound and self._terms.sizes):  # set-up may hide growth there
            return None
        runs, excess, blame = self._timed[length], self._excess(length), []
        at = length if verdict == "exceeded" else self._terms.horizon
        low, share, high = estimation.interval(runs, excess, at)
        if verdict == "exceeded":
            blame = yield from self._blame("time", runs, excess.least)
        return Evidence(
            verdict=verdict,
            witness="time" if verdict == "exceeded" else None,
            share=share,
            share_interval=(low, high),
            proven_to=length,
            blame=blame,
            runs=self._runs(),
        )

    def _reach(self) -> Generator[Probe, None, int]:
        """Time longer and longer streams, as far as the budget goes or until one is exceeded."""
        reached = max(self._timed, default=0)
        for rung in [each for each in self._terms.lengths if each > reached]:
            if reached and self._is_suspicious(reached):
                # A longer run or two of quadratic work may take all there is: look here, then.
                squared = self._runner.cost("time", rung) * rung / reached
                longer_runs = max(1.0, self._runner.cpu_left() / squared)
                most = max(estimation.RUNS_TO_FAIL, int(_MANY_RUNS / longer_runs**2))
                if (yield from self._vote(reached, most)) == "exceeded":
                    break
            if self._runner.cpu_left() < self._runner.cost("time", int(reached * _WORTHWHILE)):
                break
            length = self._next(reached, rung) if reached else rung
            longer = yield from self._run("time", length)
            if longer is None or longer.length <= reached:
                break
            reached = longer.length
            self._add(longer)
            if longer.length < length:
                break
        return reached

    def _is_suspicious(self, length: int) -> bool:
        run, excess = self._timed[length][0], self._excess(length)
        return run.total > _LEAST_TIMED and estimation.suspicious(
            run, excess.most, self._terms.limit
        )

    def _next(self, reached: int, rung: int) -> int:
        """The length to time next: `rung`, or that of the only long run that can be had."""
        horizon, left = self._terms.horizon, self._runner.cpu_left()
        if self._terms.sizes or left > 2 * self._runner.cost("time", horizon):
            return rung
        farthest = rung if _is_weighty(self._timed[reached][0]) else horizon  # it cannot be cut
        return min(farthest, int(_SAFELY * left / self._runner.cost("time", 1)))

    def _vote(self, length: int, most: int) -> Generator[Probe, None, Outcome | None]:
        """Time this length again and again, until the votes are clear or `most` runs were made."""
        runs, shorter, runner = self._timed[length], self._shorter(length), self._runner
        each_time = [shorter, length] if shorter and _is_weighty(runs[0]) else [length]
        with runner.keeping_for_blame() if self._is_suspicious(length) else nullcontext():
            while True:
                short_of_cpu = runner.cpu_left() < runner.cost("time", sum(each_time))
                last = short_of_cpu or runner.wall_left() <= 0
                verdict = estimation.timed_verdict(
                    runs, self._excess(length), self._terms.limit, self._terms.horizon, last=last
                )
                if verdict is not None or last or len(runs) >= most:
                    return verdict
                for each in each_time:
                    run = yield from self._run("time", each)
                    if run is None or run.length < each:
                        return None
                    self._add(run)

    def _add(self, run: Run) -> None:
        """Keep a timed run, and the last shorter one that its finish is compared with."""
        shorter = self._shorter(run.length)
        self._timed.setdefault(run.length, []).append(run)
        pairs = self._pairs.setdefault(run.length, [])
        if shorter:
            pairs.append((run, self._timed[shorter][-1]))

    def _excess(self, length: int) -> estimation.Excess:
        """The superlinear part of the finish of the timed runs of this length."""
        return estimation.finish_excess(self._pairs[length])

    def _shorter(self, length: int) -> int | None:
        """The length whose finish is compared: a sixteenth, or the shortest there is."""
        sixteenth = [each for each in self._timed if each <= length // 16]
        shorter = max(sixteenth, default=min(self._timed, default=length))
        return shorter if shorter < length else None

    def _memory_to_hold(self) -> int:
        runs = self._counts["copies"]
        if not runs:
            return _MOST_HELD // 8
        return min(_MOST_HELD, 2**20 + runs[-1].held * self._terms.horizon // runs[-1].length)

    # -- what else there is to know
    def _blame(
        self, meter: Meter, runs: Sequence[Run], excess: float
    ) -> Generator[Probe, None, list[Blame]]:
        """Who did it: in what is spent on a delta, or in the finish, whichever grew by more."""
        length, growth = runs[0].length, estimation.late_growth(runs)
        slope = excess / length**2
        in_the_finish = excess > growth * length * 2 / 3
        if not in_the_finish:
            return (yield from self._runner.blame(meter, runs))
        return (yield from self._runner.blame_finish(meter, length, slope))

    def _runs(self) -> dict[Meter, Sequence[Run]]:
        return {**self._counts, "time": [run for runs in self._timed.values() for run in runs]}

    def _inconclusive(self, why: str) -> Evidence:
        found = Evidence(verdict="inconclusive", why=why, runs=self._runs())
        if not self._timed:
            return found
        length = max(self._timed)
        low, share, high = estimation.interval(
            self._timed[length], self._excess(length), self._terms.horizon
        )
        return replace(found, share=share, share_interval=(low, high), proven_to=length)

    def _what_would_settle_it(self) -> str:
        length, spent = max(self._timed, default=0), duration(self._runner.allowed)
        if self._runner.wall_left() <= 0:
            return f"{duration(self._terms.timeout)} were not enough; a longer timeout= would be"
        if not length:
            return "work grew in the longest stream only; a farther up_to= would settle it"
        if length < self._terms.horizon:
            return f"{spent} of CPU were not enough to tell; more seconds= or a nearer up_to= would"
        low, _, high = estimation.interval(self._timed[length], self._excess(length), length)
        return (
            f"{percent(low)} to {percent(high)} is too near the limit to tell in {spent} of CPU; "
            "a limit= outside of that, or more seconds=, would settle it"
        )


def _could_hide_copies(run: Run) -> bool:
    """Whether a copy of all deltas would be lost in what each allocates anyway."""
    return run.length * _LEAST_DELTA < 2 * run.total / run.length


def _is_weighty(run: Run) -> bool:
    """Whether a finish is to be looked at twice."""
    return run.finish > run.total * _WEIGHTY
