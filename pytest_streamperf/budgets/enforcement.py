"""Enforce a budget on a whole test.

`Held` takes the budget of one test. While the test runs, it observes the event loop, memory and CPU
time, the streams that the test reads, and the counters that it creates. `conclude` then checks each
limit and raises the first failure.

>>> from pytest_streamperf.budgets.declaration import budget_of, layer_of
>>> held = Held(budget_of([layer_of({"max_gap": "200ms"}, lambda key: "here")]))
>>> with held:
...     run_the_test()
>>> held.conclude()
"""

import functools
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal, Self

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.reporter import report
from pytest_streamperf._results.text import labelled_lines
from pytest_streamperf.budgets.declaration import GROWTH_BUDGETS, KEYS, Budget, Budgeted
from pytest_streamperf.exceptions import BudgetExceeded, Inconclusive
from pytest_streamperf.responsiveness.stall_watch import ResponsivenessResult, StallWatch
from pytest_streamperf.streams.token_stream import Stream
from pytest_streamperf.throttling.flush_counter import FlushCounter
from pytest_streamperf.throttling.update_counter import UpdateCounter

__tracebackhide__ = True  # pytest shows the user's own frames

Part = Literal["all", "watched", "memory"]

# By budget: the measured value in a result, or None if nothing was measured.
_RESPONSIVENESS: dict[str, Callable[[ResponsivenessResult], object]] = {
    "max_gap": lambda result: result.longest_gap,
    "max_stall": lambda result: result.stalls,
    "max_gc_pause": lambda result: result.pauses,
    "peak_memory": lambda result: result.peak_memory,
    "cpu_share": lambda result: result.cpu_shares or None,
}


class Held:
    """A test and its budget: enter it while the test runs, then call `conclude`.

    `stems` collects the stems of the checks that the test itself makes. A test with `rerun` runs
    twice: the part "memory" enforces `peak_memory`, and the part "watched" the other limits.
    """

    def __init__(self, budget: Budget, part: Part = "all") -> None:
        self._limits = {
            key: limit
            for key, limit in budget.limits.items()
            if part == "all" or (key == "peak_memory") is (part == "memory")
        }
        self._budget = budget
        self.stems: set[str] = set()
        self._counters: list[UpdateCounter | FlushCounter] = []
        self._watch: StallWatch | None = None
        if self._limits.keys() & _RESPONSIVENESS.keys():
            memory, shares = "peak_memory" in self._limits, self._limits.get("cpu_share")
            self._watch = StallWatch(peak_memory=memory, cpu_share=shares.value if shares else ())

    def tightened(self, policy: Policy) -> Policy:
        """Return the settings for checks within the test: the project's, with this budget."""
        limits = self._budget.limits
        budgeted = {key: limits[key].value for key in GROWTH_BUDGETS if key in limits}
        growth, mode = {**policy.growth, **budgeted}, self._budget.mode or policy.mode
        return replace(policy, growth=growth, mode=mode)

    def concerns(self, subject: object) -> None:
        """Observe every stream that the test reads and every counter that it creates."""
        if isinstance(subject, Stream) and self._watch and "max_gap" in self._limits:
            self._watch.follow(subject)
        elif isinstance(subject, UpdateCounter | FlushCounter):
            self._counters.append(subject)

    def __enter__(self) -> Self:
        if self._watch:
            self._watch.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._watch:
            self._watch.__exit__(*error)

    def close(self) -> None:
        """Stop observing, also if the test never began."""
        self.__exit__()

    def around(
        self, test: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Wrap an async test so that it enters this context inside its own event loop."""

        @functools.wraps(test)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await test(*args, **kwargs)

        return watched

    def around_each(
        self, example: Callable[..., Coroutine[Any, Any, Any]]
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Wrap an async example of a Hypothesis test, whose many examples share this context.

        The caller enters the context once. Each example runs in an event loop of its own, which
        the wrapper adds to the watch.
        """

        @functools.wraps(example)
        async def watched(*args: Any, **kwargs: Any) -> Any:
            with self._watch.on_loop() if self._watch else nullcontext():
                return await example(*args, **kwargs)

        return watched

    def conclude(self) -> None:
        """Report the measured values, and raise the first failure, with further ones as notes.

        Raises `BudgetExceeded` or `Inconclusive`. Raises `NothingMeasured` if a marker sets a limit
        that could not be measured. A project's default skips limits without a measured value.
        """
        failures: list[BudgetExceeded | Inconclusive] = []
        for check, keys in self._checks():
            try:
                check()
            except (BudgetExceeded, Inconclusive) as failure:
                failure.add_note("\n".join(labelled_lines({"limit": self._limit_texts(keys)})))
                failures.append(failure)
        if failures:
            first, *further = failures
            for later in further:
                first.add_note(f"also: {later.verdict.headline}")
            raise first

    def report(self) -> None:
        """Report the measured values without a verdict, for a test that has failed by itself."""
        if self._watch:
            report(self._watch.result())

    def _checks(self) -> Iterator[tuple[Callable[[], object], list[str]]]:
        if self._watch:
            result = self._watch.result()
            limits = {
                key: limit.value
                if limit.required
                else _measured_part(limit.value, _RESPONSIVENESS[key](result))
                for key, limit in self._limits.items()
                if key in _RESPONSIVENESS
                and (limit.required or _RESPONSIVENESS[key](result) is not None)
            }
            if "max_stall" in limits and result.stalls is None:
                del limits["max_stall"]
                yield (
                    functools.partial(_raise_nothing_measured, "responsiveness", "max_stall"),
                    ["max_stall"],
                )
            if limits:
                yield functools.partial(self._watch.assert_smooth, **limits), [*limits]
        for key, kind in (("updates_every", UpdateCounter), ("flushes_per_second", FlushCounter)):
            limit = self._limits.get(key)
            counters = [counter for counter in self._counters if isinstance(counter, kind)]
            if limit and limit.required and not counters:
                yield functools.partial(_raise_nothing_measured, "throttling", key), [key]
            for counter in counters:
                if limit and not counter.asserted and (limit.required or _is_used(counter)):
                    yield _throttling_check(counter, limit), [key]
        for key in GROWTH_BUDGETS:
            if "growth" not in self.stems and key in self._limits and self._limits[key].required:
                yield functools.partial(_raise_nothing_measured, "growth", key), [key]

    def _limit_texts(self, keys: list[str]) -> str:
        return "; ".join(
            f"{key} {KEYS[key].format_value(self._limits[key].value)}, {self._limits[key].origin}"
            for key in keys
        )


# By stem of a check: the next step for a limit that nothing in the test was measured against.
_TRY = {
    "growth": "use assert_linear in it",
    "throttling": "use an update_counter or a flush_counter in it",
    "responsiveness": "make it async, or use stall_watch where its event loop runs",
}


def _raise_nothing_measured(stem: str, key: str) -> None:
    problem = f"the test has nothing that {key} could be held against"
    raise nothing_measured(stem, problem, _TRY[stem])


def _measured_part(limit: Any, measured: object) -> Any:
    """Return the limit; of a table of limits, only those by whose name a value was measured."""
    if not isinstance(limit, Mapping) or not isinstance(measured, Mapping):
        return limit
    return {name: share for name, share in limit.items() if name in measured}


def _is_used(counter: UpdateCounter | FlushCounter) -> bool:
    return bool(counter.calls if isinstance(counter, UpdateCounter) else counter.record.flushes)


def _throttling_check(
    counter: UpdateCounter | FlushCounter, limit: Budgeted
) -> Callable[[], object]:
    if isinstance(counter, UpdateCounter):
        return functools.partial(counter.assert_throttled, every=limit.value)
    no_limit = sys.float_info.max  # the budget does not limit how long a delta may wait
    return functools.partial(counter.assert_coalesced, per_second=limit.value, max_held=no_limit)
