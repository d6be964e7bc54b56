"""The public forms of the growth check, which asks whether the work is linear in the stream.

In go a consumer and the arguments of the check; out comes a `GrowthResult`. The flow is: options,
scheduler, runner, meters, estimation, blame, result, message.

>>> from pytest_streamperf import measure_growth
>>> measure_growth(lambda stream: "".join(stream)).verdict
'within'
"""

import warnings
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Literal, Unpack

from pytest_streamperf._results.conclusion import conclude, current_policy
from pytest_streamperf._results.reporter import current_sink
from pytest_streamperf._runtime.interference import noted
from pytest_streamperf.exceptions import GrowthExceeded, GrowthInconclusive, StreamperfWarning
from pytest_streamperf.growth.consumers import (
    LOOPS,
    Consumer,
    call,
    deadline,
    driven,
    served,
    settle,
)
from pytest_streamperf.growth.message import worded
from pytest_streamperf.growth.options import GrowthArguments, GrowthOptions, check_callable
from pytest_streamperf.growth.result import GrowthResult
from pytest_streamperf.growth.scheduler import Scheduler

__all__ = ["assert_linear", "assert_linear_async", "measure_growth", "measure_growth_async"]

__tracebackhide__ = True  # pytest shows the user's own frames


def measure_growth(
    consume: Consumer,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    **arguments: Unpack[GrowthArguments],
) -> GrowthResult:
    """Measure whether the work of `consume(stream)` grows faster than the stream.

    `consume` is called many times, with streams of different lengths, and builds its state inside.
    It may be a function or a generator function (which is drained). Either may be async: then it
    runs in an event loop of its own, of `backend`. No verdict is raised. The options:

    - `up_to`, in deltas (default 20,000): the maximum length that the check vouches for.
    - `max_superlinear`, a part or text as "25%" (default 0.25): the superlinear share of the work
      at that length which is accepted.
    - `copies`, "fail" or "warn" (default "fail"): "warn" accepts code whose every delta copies
      those before it.
    - `delta`, a function: makes the deltas from their index, for consumers of something other than
      text.
    - `sizes`, three or more lengths: calls `consume(n)` instead, for code that takes its whole
      input at once.
    - `serve`, the name of a dialect: calls `consume(url)` instead, for code that talks to a server.
      A server in a process of its own answers each request below that URL with a longer stream.
    - `seconds`, as 2.0 or "2s" (default 2): the CPU time to spend; three times that if the check
      has to measure again.
    - `timeout`, as 30.0 or "30s" (default 30): the wall time that the check may take.
    - `metrics`, of "allocated_bytes", "cpu_time" and "calls" (default all): what is measured.
      `metrics=("allocated_bytes", "calls")` gives the same verdict every time.

    In the main thread a consumer that does not end is stopped; in another thread, only when it
    asks for its next delta.

    Raises `TypeError` and `ValueError` for bad arguments, `NothingMeasured` if the consumer takes
    no delta, and whatever the consumer raises.

    >>> measure_growth(lambda stream: "".join(stream), up_to=1_000).verdict
    'within'
    """
    check_callable("consume", consume)
    options = GrowthOptions.of(**arguments)
    if backend not in tuple(LOOPS):
        msg = f"backend must be one of {', '.join(map(repr, LOOPS))}, not {backend!r}"
        raise ValueError(msg)
    with (
        served(consume, options) as called,
        driven(Scheduler(options).result()) as drive,
        LOOPS[backend]() as run_async,
    ):
        while drive.probe is not None:
            with drive, deadline(drive.probe):
                call(called, drive.probe, run_async)
    return _with_texts(drive.result, options)


async def measure_growth_async(
    consume: Consumer, **arguments: Unpack[GrowthArguments]
) -> GrowthResult:
    """Do as `measure_growth` does, but await the consumer in the current task.

    So the consumer can use what lives on the running loop, asyncio's or trio's. Takes the keyword
    arguments of `measure_growth`, but for `backend`.

    >>> async def test_reply():
    ...     assert (await measure_growth_async(consume)).verdict == "within"
    """
    check_callable("consume", consume)
    options = GrowthOptions.of(**arguments)
    with served(consume, options) as called, driven(Scheduler(options).result()) as drive:
        while drive.probe is not None:
            with drive, deadline(drive.probe):
                await settle(called(drive.probe.argument), drive.probe)
    return _with_texts(drive.result, options)


def assert_linear(
    consume: Consumer,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    **arguments: Unpack[GrowthArguments],
) -> GrowthResult:
    """Fail unless the work of `consume(stream)` is linear in the length of the stream.

    Takes the arguments of `measure_growth` and returns its result. The project's settings replace
    the defaults. Raises `GrowthExceeded`, `GrowthInconclusive`, and what `measure_growth` raises.

    >>> def test_reply():
    ...     assert_linear(consume, up_to=20_000)
    """
    merged: dict[str, Any] = {**current_policy().growth, **arguments}
    return _conclude_growth(measure_growth(consume, backend=backend, **merged))


def assert_linear_async(
    consume: Consumer, **arguments: Unpack[GrowthArguments]
) -> Coroutine[Any, Any, GrowthResult]:
    """Do as `assert_linear` does, awaiting the consumer in the current task.

    Under pytest, a test that calls it and never awaits it fails.

    >>> async def test_reply():
    ...     await assert_linear_async(consume)
    """
    sink = current_sink()
    merged: dict[str, Any] = {**current_policy().growth, **arguments}

    async def run() -> GrowthResult:
        try:
            result = await measure_growth_async(consume, **merged)
        except Exception:  # a check that is cancelled has no result
            if sink is not None:
                sink.end(check)
            raise
        if sink is not None:
            sink.end(check)
        return _conclude_growth(result)

    check = run()
    if sink is not None:
        sink.begin(check)
    return check


assert_linear.aio = assert_linear_async  # type: ignore[attr-defined] # the fixture's async form


def _conclude_growth(result: GrowthResult) -> GrowthResult:
    conclude(result, GrowthExceeded, GrowthInconclusive, stacklevel=3)
    if result.warning:
        warnings.warn(result.warning, StreamperfWarning, stacklevel=3)
    return result


def _with_texts(result: GrowthResult, options: GrowthOptions) -> GrowthResult:
    """Return the result with its texts, and with the tools that disturbed it, if there are any."""
    complete = worded(result, options)
    return replace(complete, figures=noted("growth", complete.figures))
