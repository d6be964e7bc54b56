"""Call consumers: at once, in an event loop of their own, or awaited on the running one.

In go a consumer and the steps of a scheduler; a `Drive` calls the consumer for each step and ends
with the scheduler's `GrowthResult`.
"""

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from pytest_streamperf._results.reporter import progress
from pytest_streamperf._results.units import duration
from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import running_loop, running_task
from pytest_streamperf.exceptions import missing_extra
from pytest_streamperf.growth.options import GrowthOptions
from pytest_streamperf.growth.result import GrowthResult
from pytest_streamperf.growth.runner import Probe
from pytest_streamperf.growth.thresholds import THRESHOLDS

__tracebackhide__ = True  # pytest shows the user's own frames

Consumer = Callable[[Any], Any]
RunAsync = Callable[[Coroutine[Any, Any, None]], None]

# The thread and task of each running check: process-wide hooks, clocks and the collector serve one
# check at a time.
_checking: list[tuple[int, object]] = []


@contextmanager
def served(consume: Consumer, options: GrowthOptions) -> Iterator[Consumer]:
    """Yield the callable for a probe's argument; with `serve=`, a server runs inside the block."""
    if options.serve is None:
        yield consume
        return
    from pytest_streamperf.wire.server_process import served_elsewhere  # noqa: PLC0415 - it is not cheap

    with served_elsewhere(options.serve) as url_for:
        yield lambda deltas: consume(url_for(deltas))


class Drive:
    """Steps through a scheduler. As a context manager it reports one run to the scheduler."""

    def __init__(self, steps: Generator[Probe, None, GrowthResult]) -> None:
        self._steps = steps
        self.probe: Probe | None = None
        self.result: GrowthResult
        self._began, self._progress_at = clock.wall(), 0.0

    def report_progress(self) -> None:
        """Report the progress of a long check, and its end."""
        took = clock.wall() - self._began
        next_at = self._progress_at + THRESHOLDS.progress_interval_seconds
        if self.probe is not None and took > max(THRESHOLDS.quiet_seconds, next_at):
            progress(f"growth: {duration(took)}, now {self.probe.length:,} deltas")
            self._progress_at = took
        elif self.probe is None and self._progress_at:
            progress("")

    def advance(self, error: BaseException | None = None) -> None:
        try:
            self.probe = next(self._steps) if error is None else self._steps.throw(error)
        except StopIteration as stop:
            self.probe, self.result = None, stop.value
        except BaseException:
            self.probe = None
            raise
        finally:
            self.report_progress()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        self.advance(error)
        return True


@contextmanager
def driven(steps: Generator[Probe, None, GrowthResult]) -> Iterator[Drive]:
    """Start to step through a scheduler; only one check may run at a time."""
    me = threading.get_ident(), running_task()
    if _checking and _checking[-1] != me:
        msg = "another growth check runs in another task or thread: run them one after another"
        raise RuntimeError(msg)
    _checking.append(me)
    drive = Drive(steps)
    try:
        drive.advance()
        yield drive
    finally:
        steps.close()
        _checking.remove(me)


def deadline(probe: Probe) -> AbstractContextManager[None]:
    """Stop the consumer if it takes longer than its run may."""
    return clock.deadline(
        cpu_seconds=probe.cpu_seconds,
        wall_seconds=probe.wall_seconds + THRESHOLDS.stop_grace_seconds,
        progress=probe.stream.watch,
    )


def call(consume: Consumer, probe: Probe, run_async: RunAsync) -> None:
    """Make one run of a consumer, sync or async."""
    # The result dies with this frame: all that is left then is what the consumer kept.
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
        run_async(settle(result, probe))
    else:
        _drain(result)
        probe.returned()


async def settle(result: object, probe: Probe) -> None:
    """Await what a consumer returned, or drain a generator."""
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
                clock.deadline(
                    cpu_seconds=THRESHOLDS.loop_closing_seconds,
                    wall_seconds=THRESHOLDS.loop_closing_seconds,
                ),
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


LOOPS = {"asyncio": _asyncio_loop, "trio": _trio_loop}
