"""Is the work linear? The stream is the meter, and the code under test is called with it.

>>> from pytest_streamperf import measure_growth
>>> measure_growth(lambda stream: "".join(stream)).verdict
'within'
"""

import asyncio
import inspect
import threading
import warnings
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, Unpack

from pytest_streamperf import clock
from pytest_streamperf.clock import Noise
from pytest_streamperf.growth import fit, message
from pytest_streamperf.growth.blame import Blame
from pytest_streamperf.growth.plan import Evidence, Plan
from pytest_streamperf.growth.runs import Probe
from pytest_streamperf.growth.terms import GrowthTerms, Meter, Terms
from pytest_streamperf.here import running_loop, running_task
from pytest_streamperf.verdict import (
    GrowthExceeded,
    GrowthUnproven,
    StreamperfWarning,
    Verdict,
    conclude,
    current_policy,
    current_sink,
    missing_extra,
)

__all__ = [
    "Blame",
    "Growth",
    "assert_linear",
    "assert_linear_async",
    "measure_growth",
    "measure_growth_async",
]

__tracebackhide__ = True  # pytest shows the user's own frames

Consumer = Callable[[Any], Any]
RunAsync = Callable[[Coroutine[Any, Any, None]], None]

# An async consumer that waits is cancelled by its loop; one that blocks the loop is stopped this
# many seconds later.
_GRACE = 0.1
# An event loop of our own is given this many seconds to end what is still on it.
_CLOSING = 2.0

# Who is checking: process-wide hooks, clocks and the collector serve one check at a time.
_checking: list[tuple[int, object]] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth(Verdict):
    """What `measure_growth` found.

    `share` is the superlinear part of all the work at the horizon, 0 to 1, in what the witness
    counts (bytes, calls or CPU time), with an interval; work of n log n counts as linear. `half_at`
    is the length, in deltas, at which it reaches half; `proven_to` the longest stream really run;
    `witness` the meter that decided; `blame` the guilty lines, guiltiest first. `along` maps each
    meter to pairs of length and cost per delta there, an octave apart; `noise` is what disturbed
    the measurement; `warning` what `copies="warn"` accepted.

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
    seconds: float = 2.0,
    timeout: float = 30.0,
    meters: Sequence[Meter] = ("copies", "time", "calls"),
    backend: Literal["asyncio", "trio"] = "asyncio",
) -> Growth:
    """Find out whether what `consume(stream)` does grows faster than the stream.

    `consume` is called many times, with streams of different lengths, and builds its state inside.
    It may be a function or a generator function (which is drained), and either may be async: then
    it gets an event loop of its own, of `backend`. The verdict is never raised.

    `up_to` is the horizon in deltas and `limit` the superlinear share of the work there that is
    accepted; `copies="warn"` accepts code whose every delta copies those before it. `delta` makes
    the deltas, from their index, for consumers of something else than text. With `sizes`,
    `consume(n)` is called instead, for code that takes its whole input at once. `seconds` is the
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
        seconds=seconds,
        timeout=timeout,
        meters=meters,
    )
    if backend not in tuple(_LOOPS):
        msg = f"backend must be one of {', '.join(map(repr, _LOOPS))}, not {backend!r}"
        raise ValueError(msg)
    with _driven(Plan(terms).evidence()) as drive, _LOOPS[backend]() as run_async:
        while drive.probe is not None:
            with drive, _deadline(drive.probe):
                _call(consume, drive.probe, run_async)
    return _growth(drive.evidence, terms)


async def measure_growth_async(consume: Consumer, **terms: Unpack[GrowthTerms]) -> Growth:
    """Do as `measure_growth` does, but await the consumer in the current task.

    So the consumer can use what lives on the running loop, asyncio's or trio's. Takes the keyword
    arguments of `measure_growth`, but for `backend`.

    >>> async def test_reply():
    ...     assert (await measure_growth_async(consume)).verdict == "within"
    """
    checked = Terms.checked(consume, **terms)
    with _driven(Plan(checked).evidence()) as drive:
        while drive.probe is not None:
            with drive, _deadline(drive.probe):
                await _settle(consume(drive.probe.argument), drive.probe)
    return _growth(drive.evidence, checked)


def assert_linear(
    consume: Consumer,
    *,
    backend: Literal["asyncio", "trio"] = "asyncio",
    **terms: Unpack[GrowthTerms],
) -> Growth:
    """Fail unless what `consume(stream)` does is linear in the length of the stream.

    Takes what `measure_growth` takes, by default what the project's settings say, and returns what
    it returns. Raises `GrowthExceeded`, `GrowthUnproven`, and what `measure_growth` raises.

    >>> def test_reply():
    ...     assert_linear(consume, up_to=20_000)
    """
    asked: dict[str, Any] = {**current_policy().growth, **terms}
    return _concluded(measure_growth(consume, backend=backend, **asked))


def assert_linear_async(
    consume: Consumer, **terms: Unpack[GrowthTerms]
) -> Coroutine[Any, Any, Growth]:
    """Do as `assert_linear` does, awaiting the consumer in the current task.

    Under pytest, a test that calls it and never awaits it fails.

    >>> async def test_reply():
    ...     await assert_linear_async(consume)
    """
    sink = current_sink()
    asked: dict[str, Any] = {**current_policy().growth, **terms}

    async def check() -> Growth:
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


def _concluded(growth: Growth) -> Growth:
    conclude(growth, GrowthExceeded, GrowthUnproven, stacklevel=3)
    if growth.warning:
        warnings.warn(growth.warning, StreamperfWarning, stacklevel=3)
    return growth


def _growth(evidence: Evidence, terms: Terms) -> Growth:
    headline = message.headline(evidence, terms)
    accepted = evidence.witness == "copies" and terms.copies == "warn"
    return Growth(
        stem="growth",
        verdict="within" if accepted else evidence.verdict,
        headline=headline,
        details=() if accepted else message.details(evidence, terms),
        figures=message.figures(evidence),
        picture=message.picture(evidence),
        share=evidence.share,
        share_interval=evidence.share_interval,
        proven_to=evidence.proven_to,
        witness=evidence.witness,
        blame=evidence.blame,
        half_at=fit.half_at(
            evidence.share,
            evidence.proven_to if evidence.verdict == "exceeded" else terms.horizon,
        ),
        along={meter: fit.along(runs) for meter, runs in evidence.runs.items() if runs},
        noise=evidence.noise,
        warning=headline if accepted else "",
    )


class _Drive:
    """Steps through a plan: as a context manager, it tells the plan what came of one run."""

    def __init__(self, steps: Generator[Probe, None, Evidence]) -> None:
        self._steps = steps
        self.probe: Probe | None = None
        self.evidence: Evidence

    def advance(self, error: BaseException | None = None) -> None:
        try:
            self.probe = next(self._steps) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.probe, self.evidence = None, stop.value

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        self.advance(error)
        return True


@contextmanager
def _driven(steps: Generator[Probe, None, Evidence]) -> Iterator[_Drive]:
    me = threading.get_ident(), running_task()
    if _checking and _checking[-1] != me:
        msg = "another growth check is running, in another task or thread: make them one by one"
        raise RuntimeError(msg)
    _checking.append(me)
    drive = _Drive(steps)
    try:
        drive.advance()
        yield drive
    finally:
        steps.close()
        _checking.remove(me)


def _deadline(probe: Probe) -> AbstractContextManager[None]:
    return clock.deadline(
        cpu_seconds=probe.cpu_seconds,
        wall_seconds=probe.wall_seconds + _GRACE,
        progress=probe.stream.watch,
    )


def _call(consume: Consumer, probe: Probe, run_async: RunAsync) -> None:
    # The result dies with this frame: what is left when the plan looks is what the consumer kept.
    result = consume(probe.argument)
    if inspect.isawaitable(result) or inspect.isasyncgen(result):
        if running_loop() is not None:
            if inspect.iscoroutine(result):
                result.close()
            msg = (
                "an event loop is running here, so an async consumer cannot be run to its end: "
                "use await assert_linear.aio(consume) or await measure_growth_async(consume)"
            )
            raise TypeError(msg)
        probe.stream.charge_loop = True
        run_async(_settle(result, probe))
    else:
        _drain(result)
        probe.returned()


async def _settle(result: object, probe: Probe) -> None:
    """Wait for what a consumer returned, if it has to be waited for."""
    if inspect.isasyncgen(result):
        result = _drain_async(result)
    if inspect.isawaitable(result):
        limited = _limited_trio if running_loop() == "trio" else _limited_asyncio
        result = await limited(result, probe.wall_seconds)
    else:
        _drain(result)
    probe.returned()


def _drain(result: object) -> None:
    if inspect.isgenerator(result):
        deque(result, maxlen=0)


async def _drain_async(result: AsyncIterator[object]) -> None:
    async for _ in result:
        pass


async def _limited_asyncio(result: Awaitable[object], wall_seconds: float) -> object:
    try:
        async with asyncio.timeout(wall_seconds) as scope:
            return await result
    except TimeoutError:
        if scope.expired():
            raise clock.Overrun("wall") from None
        raise


async def _limited_trio(result: Awaitable[object], wall_seconds: float) -> object:
    import trio  # noqa: PLC0415 - it is running, so it is there

    with trio.move_on_after(wall_seconds):
        return await result
    raise clock.Overrun("wall")


@contextmanager
def _asyncio_loop() -> Iterator[RunAsync]:
    runner: asyncio.Runner | None = None

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        nonlocal runner
        runner = runner or asyncio.Runner()
        runner.run(coroutine)

    try:
        yield run
    finally:
        if runner is not None:
            # Tasks that cannot be cancelled and threads that do not end are left behind.
            with (
                suppress(clock.Overrun),
                clock.deadline(cpu_seconds=_CLOSING, wall_seconds=_CLOSING),
            ):
                runner.close()


@contextmanager
def _trio_loop() -> Iterator[RunAsync]:
    try:
        import trio  # noqa: PLC0415 - only for this backend
    except ModuleNotFoundError as error:
        raise missing_extra("trio", "trio", "backend='trio'") from error

    def run(coroutine: Coroutine[Any, Any, None]) -> None:
        async def main() -> None:
            await coroutine

        trio.run(main)

    yield run


_LOOPS = {"asyncio": _asyncio_loop, "trio": _trio_loop}
