"""Is the work linear? The stream is the meter, and the code under test is called with it.

>>> from pytest_streamperf import measure_growth
>>> measure_growth(lambda stream: "".join(stream)).verdict
'within'
"""

import warnings
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from pytest_streamperf._results.conclusion import conclude, current_policy
from pytest_streamperf._results.metrics import Place
from pytest_streamperf._results.reporter import current_sink
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.clock import Noise
from pytest_streamperf._runtime.interference import noted
from pytest_streamperf.exceptions import GrowthExceeded, GrowthInconclusive, StreamperfWarning
from pytest_streamperf.growth import estimation, message
from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.consumers import (
    LOOPS,
    Consumer,
    call,
    deadline,
    driven,
    served,
    settle,
)
from pytest_streamperf.growth.options import GrowthTerms, Meter, Terms
from pytest_streamperf.growth.result import Evidence
from pytest_streamperf.growth.scheduler import Plan

__all__ = [
    "Blame",
    "GrowthResult",
    "assert_linear",
    "assert_linear_async",
    "measure_growth",
    "measure_growth_async",
]

__tracebackhide__ = True  # pytest shows the user's own frames


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthResult(Verdict):
    """What `measure_growth` found.

    `share` is the superlinear part of all the work at the horizon, 0 to 1, in what the witness
    counts (bytes, calls or CPU time), with an interval. Work of n log n counts as linear, and so
    does what caches cost where work is left to the end: up to 2.6 times the time per delta in a
    stream that is sixteen times as long. `half_at` is the length, in deltas, at which it reaches
    half; `proven_to` the longest stream really run; `witness` the meter that decided; `blame` the
    guilty lines, guiltiest first. `along` maps each meter to pairs of length and cost per delta
    there, an octave apart; `noise` is what disturbed the measurement; `warning` what
    `copies="warn"` accepted.

    >>> measure_growth(lambda stream: "".join(stream), up_to=1_000).proven_to
    1000
    """

    share: float
    share_interval: tuple[float, float]
    proven_to: int
    witness: Meter | None
    blame: Sequence[Blame]
    half_at: int | None
    along: Mapping[Meter, Sequence[tuple[int, float]]]
    noise: Noise
    warning: str = ""


def measure_growth(  # noqa: PLR0913 - one argument for each thing people tune
    consume: Consumer,
    *,
    up_to: int = 20_000,
    limit: float = 0.25,
    copies: Literal["fail", "warn"] = "fail",
    delta: Callable[[int], Any] | None = None,
    sizes: Sequence[int] | None = None,
    serve: str | None = None,
    seconds: float = 2.0,
    timeout: float = 30.0,
    meters: Sequence[Meter] = ("copies", "time", "calls"),
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> GrowthResult:
    """Find out whether what `consume(stream)` does grows faster than the stream.

    `consume` is called many times, with streams of different lengths, and builds its state inside.
    It may be a function or a generator function (which is drained), and either may be async: then
    it gets an event loop of its own, of `backend`. The verdict is never raised.

    `up_to` is the horizon in deltas and `limit` the superlinear share of the work there that is
    accepted; `copies="warn"` accepts code whose every delta copies those before it. `delta` makes
    the deltas, from their index, for consumers of something else than text. With `sizes`,
    `consume(n)` is called instead, for code that takes its whole input at once; with `serve`, the
    name of a dialect, `consume(url)`, for code that talks to a server: one in a process of its own
    answers each request below this base URL with a longer stream. `seconds` is the
    CPU time to spend (three times that when it has to measure again), `timeout` the wall time.
    `meters=("copies", "calls")` is deterministic. In the main thread a consumer that does not end
    is stopped; in another one only when it asks for its next delta.

    Raises `TypeError` and `ValueError` for bad arguments, `NothingMeasured` if the consumer takes
    no delta, and whatever the consumer raises.

    >>> measure_growth(lambda stream: "".join(stream), up_to=1_000).verdict
    'within'
    """
    terms = Terms.checked(
        consume,
        up_to=up_to,
        limit=limit,
        copies=copies,
        delta=delta,
        sizes=sizes,
        serve=serve,
        seconds=seconds,
        timeout=timeout,
        meters=meters,
    )
    if backend not in tuple(LOOPS):
        msg = f"backend must be one of {', '.join(map(repr, LOOPS))}, not {backend!r}"
        raise ValueError(msg)
    with (
        served(consume, terms) as called,
        driven(Plan(terms).evidence()) as drive,
        LOOPS[backend]() as run_async,
    ):
        while drive.probe is not None:
            with drive, deadline(drive.probe):
                call(called, drive.probe, run_async)
    return _growth(drive.evidence, terms)


async def measure_growth_async(consume: Consumer, **terms: Unpack[GrowthTerms]) -> GrowthResult:
    """Do as `measure_growth` does, but await the consumer in the current task.

    So the consumer can use what lives on the running loop, asyncio's or trio's. Takes the keyword
    arguments of `measure_growth`, but for `backend`.

    >>> async def test_reply():
    ...     assert (await measure_growth_async(consume)).verdict == "within"
    """
    checked = Terms.checked(consume, **terms)
    with served(consume, checked) as called, driven(Plan(checked).evidence()) as drive:
        while drive.probe is not None:
            with drive, deadline(drive.probe):
                await settle(called(drive.probe.argument), drive.probe)
    return _growth(drive.evidence, checked)


def assert_linear(
    consume: Consumer,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    **terms: Unpack[GrowthTerms],
) -> GrowthResult:
    """Fail unless what `consume(stream)` does is linear in the length of the stream.

    Takes what `measure_growth` takes, by default what the project's settings say, and returns what
    it returns. Raises `GrowthExceeded`, `GrowthInconclusive`, and what `measure_growth` raises.

    >>> def test_reply():
    ...     assert_linear(consume, up_to=20_000)
    """
    asked: dict[str, Any] = {**current_policy().growth, **terms}
    return _concluded(measure_growth(consume, backend=backend, **asked))


def assert_linear_async(
    consume: Consumer, **terms: Unpack[GrowthTerms]
) -> Coroutine[Any, Any, GrowthResult]:
    """Do as `assert_linear` does, awaiting the consumer in the current task.

    Under pytest, a test that calls it and never awaits it fails.

    >>> async def test_reply():
    ...     await assert_linear_async(consume)
    """
    sink = current_sink()
    asked: dict[str, Any] = {**current_policy().growth, **terms}

    async def check() -> GrowthResult:
        try:
            growth = await measure_growth_async(consume, **asked)
        except Exception:  # but not if it is cancelled: then nothing came of it
            if sink is not None:
                sink.end(begun)
            raise
        if sink is not None:
            sink.end(begun)
        return _concluded(growth)

    begun = check()
    if sink is not None:
        sink.begin(begun)
    return begun


assert_linear.aio = assert_linear_async  # type: ignore[attr-defined] # the fixture's async form


def _concluded(growth: GrowthResult) -> GrowthResult:
    conclude(growth, GrowthExceeded, GrowthInconclusive, stacklevel=3)
    if growth.warning:
        warnings.warn(growth.warning, StreamperfWarning, stacklevel=3)
    return growth


def _growth(evidence: Evidence, terms: Terms) -> GrowthResult:
    headline = message.headline(evidence, terms)
    accepted = evidence.witness == "copies" and terms.copies == "warn"
    return GrowthResult(
        stem="growth",
        verdict="within" if accepted else evidence.verdict,
        headline=headline,
        details=() if accepted else message.details(evidence, terms),
        figures=noted("growth", message.figures(evidence, terms)),
        where=[Place(each.places[0], each.source, each.share) for each in evidence.blame],
        series=message.series(evidence, terms),
        picture=message.picture(evidence),
        share=evidence.share,
        share_interval=evidence.share_interval,
        proven_to=evidence.proven_to,
        witness=evidence.witness,
        blame=evidence.blame,
        half_at=estimation.half_at(
            evidence.share,
            evidence.proven_to if evidence.verdict == "exceeded" else terms.horizon,
        ),
        along={meter: estimation.along(runs) for meter, runs in evidence.runs.items() if runs},
        noise=evidence.noise,
        warning=headline if accepted else "",
    )
