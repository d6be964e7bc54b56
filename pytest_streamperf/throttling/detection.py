"""Check that a test of a throttle detects faulty throttles.

`assert_test_detects` runs the test with a correct throttle, and then with each faulty one. The test
must pass for the correct throttle and fail for every faulty one.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_streamperf._results.conclusion import conclude
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.policy import Policy
from pytest_streamperf._results.reporter import reporting_to
from pytest_streamperf._results.text import labelled_lines
from pytest_streamperf._results.units import Seconds
from pytest_streamperf._results.verdict import Outcome, Verdict
from pytest_streamperf._runtime.context import running_loop
from pytest_streamperf.exceptions import ThrottlingExceeded, ThrottlingInconclusive
from pytest_streamperf.throttling.mutants import THROTTLE_MUTANTS, Send, Throttle
from pytest_streamperf.virtual_clock import new_event_loop

__tracebackhide__ = True  # pytest shows the user's own frames

Make = Callable[[Send, Seconds], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionResult(Verdict):
    """The result of `assert_test_detects`: names of faulty throttles, noticed and unnoticed."""

    noticed: Sequence[str]
    unnoticed: Sequence[str]


class _DiscardingReporter:
    """Discards the reports of checks inside the test, which are not verdicts of this check."""

    policy = Policy()

    def begin(self, check: object) -> None:
        pass

    def end(self, check: object) -> None:
        pass

    def concerns(self, subject: object) -> None:
        pass

    def progress(self, text: str) -> None:
        pass

    def report(self, verdict: Verdict) -> None:
        pass


def assert_test_detects(
    test: Callable[[Make], object], subjects: Mapping[str, Make] = THROTTLE_MUTANTS
) -> DetectionResult:
    """Fail unless a test passes for a correct throttle and fails for every faulty one.

    `test(make_throttle)` is your own test, sync or async; it may enter a `VirtualClock`. The
    factory `make_throttle(send, every)` returns a throttle that calls `send(key, value)`. A
    throttle has the methods `feed(value, key)`, `end()`, `cancel()`, `error()` and `retry()`.
    `every` is in seconds, or a text such as "50ms". `subjects` maps a description of
    each fault to the factory of a faulty throttle.

    Raises `ThrottlingExceeded` with the faulty throttles that the test did not notice. Raises
    `ThrottlingInconclusive` where the test also fails for a correct throttle, and `TypeError` for
    an async test inside a running event loop.

    >>> def test_my_throttle_test():
    ...     assert_test_detects(my_throttle_test)
    """
    if inspect.iscoroutinefunction(test) and running_loop() is not None:
        msg = "an event loop is running here: call assert_test_detects in a sync test"
        raise TypeError(msg)
    failed = _failure(test, Throttle)
    noticed = [name for name, make in subjects.items() if _failure(test, make) is not None]
    failed = failed or _failure(test, Throttle)  # detects a test that cannot pass twice
    unnoticed = [name for name in subjects if name not in noticed]
    name = getattr(test, "__qualname__", repr(test)).rpartition("<locals>.")[2]
    if failed is not None:
        why = f"it fails for a correct one: {type(failed).__name__}: {failed}".partition("\n")[0]
        headline = f"{name} does not pass for a correct throttle"
        details = labelled_lines({"why": why, "try": "make it pass for a correct throttle first"})
    else:
        headline = f"{name} detects {len(noticed)} of {len(subjects)} faulty throttles, limit all"
        details = labelled_lines(
            {
                "blind": f"to a throttle that {'; '.join(unnoticed)}",
                "try": "let time pass between values: stream.every, VirtualClock, "
                "UpdateCounter.assert_throttled",
            }
        )
    outcome: Outcome = (
        "inconclusive" if failed is not None else "exceeded" if unnoticed else "within"
    )
    proof = DetectionResult(
        stem="throttling",
        verdict=outcome,
        headline=headline,
        details=("", *details) if outcome != "within" else (),
        figures=Figures(given={"throttles": len(subjects)}, counts={"unnoticed": len(unnoticed)}),
        noticed=noticed,
        unnoticed=unnoticed,
    )
    conclude(proof, ThrottlingExceeded, ThrottlingInconclusive, stacklevel=2)
    return proof


def _failure(test: Callable[[Make], object], make: Make) -> Exception | None:
    """Return the error that the test raises for this throttle; None if it passes."""
    try:
        with reporting_to(_DiscardingReporter()):
            result = test(make)
            if inspect.iscoroutine(result):
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    runner.run(result)
    except Exception as error:  # noqa: BLE001 - whatever it raises, it noticed
        return error
    except BaseException as error:
        pytest = sys.modules.get("pytest")
        if pytest is not None and isinstance(error, pytest.fail.Exception):
            return Exception(str(error))
        raise
    return None
