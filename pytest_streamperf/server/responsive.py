"""Check that a costly request does not block the event loop: streams go on meanwhile.

`assert_responsive` takes an ASGI app or a URL, and returns a `Verdict`. Each round reads streams,
sends the costly request, and gives a `Round` with the longest stall. All times are in seconds.

- For an app, a heartbeat on its event loop measures stalls. For a URL, the gaps of the streams do.
- The time that the loop's thread waited for a core is no stall (run-queue delay, on Linux).
- A busy machine stutters now and then; a blocked loop does so every time. So one round without a
  stall passes.
- A sampler on the clients' event loop notes which line of the app runs. Where the sampler stood
  still too, the machine may have caused the stall, and the round does not blame the server.
"""

import asyncio
import sys
import time
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from statistics import median
from types import FrameType
from typing import NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import fit_line, labelled_lines, location_lines
from pytest_streamperf._results.units import Seconds, argument, duration, seconds_of
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime import clock
from pytest_streamperf._runtime.context import Line, line_of, stack
from pytest_streamperf.server.clients import Request, ask, tasks, until
from pytest_streamperf.server.serving import App, ServedApp, run, served
from pytest_streamperf.server.verdicts import (
    check_answer,
    concluded,
    exceeded,
    inconclusive,
    passed,
)

__tracebackhide__ = True  # pytest shows the user's own frames

# Gaps of each stream that are measured before the costly request. Not measured.
_GAPS_BEFORE = 5
# Seconds between two samples of the line that runs. Not measured: a tenth of the default limit.
_SAMPLE_S = 0.005
# Seconds between two heartbeats. Not measured: a small part of the default limit of 50 ms.
_BEAT_S = 0.002
# Factor on `rounds` where the machine may have caused the stalls. Not measured.
_DOUBT_FACTOR = 3
# Top-level packages of the server itself. A stack with no other package blames no line.
_SERVER_PACKAGES = sys.stdlib_module_names | {
    *("h11", "httptools", "uvicorn", "uvloop", "websockets"),
    "pytest_streamperf",
}


class Beat(NamedTuple):
    """A heartbeat of an event loop, or the arrival of a part of a stream; all times in seconds.

    A heartbeat also has the totals so far: `waited` is the run-queue delay of the loop's thread,
    `thread` its CPU time, and `process` the CPU time of the whole process.
    """

    at: float
    waited: float = 0.0
    thread: float = 0.0
    process: float = 0.0


class Look(NamedTuple):
    """A sample of the server: its time, the CPU time of this process, and the line that ran."""

    at: float
    cpu: float
    line: Line | None = None


class Round(NamedTuple):
    """The longest stall of one round in seconds, and the line that ran during it.

    `sure` is the stall without the time that the machine may have caused. The rest of `stall` is
    due to the server or to the machine.
    """

    stall: float
    sure: float
    line: Line | None = None


def assert_responsive(  # noqa: PLR0913 - options of the load and the limit
    server: App | str,
    request: Request,
    *,
    beside: Request,
    clients: int = 10,
    max_stall: Seconds = 0.05,
    rounds: int = 5,
) -> Verdict:
    """Send a costly request while `clients` read a stream, and check that the streams go on.

    `beside` is a request whose answer is a stream, which lasts longer than `request` takes. For an
    app, a stall is the time from one heartbeat of its event loop to the next, without the time that
    its thread waited for a core. For a URL it is the longest gap in any stream meanwhile, minus the
    longest gap before. The streams of a URL must be steady: their median gap must be half of
    `max_stall` at most.

    A busy machine stutters now and then, a blocked loop every time. So the check passes when one of
    `rounds` has no stall over `max_stall` seconds. Where the machine may have stood still, the
    check tries three times as often, and is then inconclusive. It does not find a call that blocks
    once and never again. For an app, the message names the line that blocks.

    Raises `ServerExceeded` for a stall over the limit, and `Inconclusive` where the machine may
    have caused it. Raises `NothingMeasured` where a stream ends too soon or the request is refused,
    `TypeError` and `ValueError` for a bad argument, and the `TimeoutError` or `ConnectionError` of
    a client.

        assert_responsive(app, Request("GET", "/report"), beside=Request("GET", "/events"))
    """
    limit = argument("max_stall", seconds_of, max_stall)
    served_app = ServedApp(server) if callable(server) else None
    with served(served_app or server) as url:

        async def main() -> list[Round]:
            results: list[Round] = []
            while not settled(results, limit, rounds):
                results.append(
                    await _measure_round(
                        url,
                        request,
                        beside=beside,
                        clients=clients,
                        max_stall=limit,
                        served_app=served_app,
                    )
                )
            return results

        results = run("assert_responsive", main)
    return concluded(undisturbed(results, str(request), clients, limit))


async def _measure_round(  # noqa: PLR0913 - the options of `assert_responsive`
    url: str,
    request: Request,
    *,
    beside: Request,
    clients: int,
    max_stall: float,
    served_app: ServedApp | None,
) -> Round:
    """Read the streams, send the costly request, and return the longest stall of the round.

    Raises `NothingMeasured` where a stream ends before the answer, or its gaps hide a stall.
    """
    arrivals: list[list[Beat]] = [[] for _ in range(clients)]
    beats: list[Beat] = []
    looks: list[Look] = []

    def recorder(stream_arrivals: list[Beat]) -> Callable[[int, bool], None]:
        return lambda _size, _begins: stream_arrivals.append(Beat(time.perf_counter()))

    async with tasks() as running:
        streams = [
            asyncio.create_task(ask(url, beside, arrived=recorder(stream_arrivals)))
            for stream_arrivals in arrivals
        ]
        running.extend(streams)
        running.append(asyncio.create_task(_sample(served_app.thread if served_app else 0, looks)))
        if served_app and served_app.loop:
            heartbeat = asyncio.run_coroutine_threadsafe(_beat(beats), served_app.loop)
            running.append(asyncio.ensure_future(asyncio.wrap_future(heartbeat)))

        def a_stream_ended() -> bool:
            return any(stream.done() for stream in streams)

        await until(
            lambda: a_stream_ended() or all(len(stream) > _GAPS_BEFORE for stream in arrivals)
        )
        gaps_before = [
            after.at - before.at for stream in arrivals for before, after in pairwise(stream)
        ]
        began = time.perf_counter()
        if not a_stream_ended():
            check_answer(request, await ask(url, request))
        ended = time.perf_counter()
        await until(lambda: a_stream_ended() or all(stream[-1].at > ended for stream in arrivals))
        for task in streams:
            if task.done():
                raise nothing_measured(
                    "server",
                    f"{beside} ended ({task.result().status}) before {request} was answered",
                    "give beside= a stream that takes longer",
                )
    if not beats and median(gaps_before) > max_stall / 2:
        usual = duration(median(gaps_before))
        raise nothing_measured(
            "server",
            f"{beside} has gaps of {usual}: a stall of {duration(max_stall)} is not seen",
            "give beside= a stream that sends more often, or an app in place of a URL",
        )
    gaps = [
        (before, after)
        for series in ([beats] if beats else arrivals)
        for before, after in pairwise(series)
        if after.at > began and before.at < ended
    ]
    return longest(gaps, _BEAT_S if beats else max(gaps_before), looks)


def longest(gaps: Sequence[tuple[Beat, Beat]], usual: float, looks: Sequence[Look]) -> Round:
    """Return the longest stall among the gaps, and the line that ran most often during it.

    A stall is the length of a gap minus the `usual` gap in seconds and the run-queue delay.
    """

    def sure_stall(gap: tuple[Beat, Beat]) -> float:
        return max(0.0, _length(*gap) - usual - max(_queued(*gap), _machine_stall(*gap, looks)))

    before, after = worst = max(gaps, key=sure_stall)
    lines = Counter(
        look.line for look in looks if look.line and before.at <= look.at <= after.at
    ).most_common(1)
    stall = max(_length(*gap) - usual - _queued(*gap) for gap in gaps)
    return Round(max(0.0, stall), sure_stall(worst), lines[0][0] if lines else None)


def _length(before: Beat, after: Beat) -> float:
    return after.at - before.at


def _queued(before: Beat, after: Beat) -> float:
    """Return the run-queue delay of the loop's thread that other processes caused, in seconds.

    CPU time of other threads of this process counts against it: the server started too many.
    """
    other_threads = (after.process - before.process) - (after.thread - before.thread)
    return max(0.0, after.waited - before.waited - max(0.0, other_threads))


def _machine_stall(before: Beat, after: Beat, looks: Sequence[Look]) -> float:
    """Return the seconds for which the sampler stood still while this process used no CPU time.

    That happens when a host stops its virtual machine. It also happens when threads wait for the
    interpreter lock while the thread that holds it waits for a core.
    """
    stalled = 0.0
    first, last = (bisect(looks, beat.at, key=lambda look: look.at) for beat in (before, after))
    for earlier, later in pairwise(looks[max(0, first - 1) : last + 1]):
        overlap = min(after.at, later.at) - max(before.at, earlier.at)
        stalled += max(0.0, overlap - _SAMPLE_S - (later.cpu - earlier.cpu))
    return stalled


async def _beat(beats: list[Beat]) -> None:
    """Append a heartbeat every `_BEAT_S` seconds; runs on the app's event loop."""
    with closing(clock.RunQueue()) as queue:
        while True:
            beat = Beat(time.perf_counter(), queue.waited() or 0.0, clock.thread_cpu(), clock.cpu())
            beats.append(beat)
            await asyncio.sleep(_BEAT_S)


async def _sample(thread: int, looks: list[Look]) -> None:
    """Append a sample every `_SAMPLE_S` seconds, with the line of the app that runs in `thread`.

    The line is None while the event loop is idle, or runs only the server's own packages.
    """
    while True:
        frame, line = sys._current_frames().get(thread), None  # noqa: SLF001 - the only way
        idle = frame is None or frame.f_code.co_name in {"select", "run_forever", "run"}
        if not idle and not _top_level_packages(frame) <= _SERVER_PACKAGES:
            line = line_of(stack(frame))
        looks.append(Look(time.perf_counter(), clock.cpu(), line))
        await asyncio.sleep(_SAMPLE_S)


def _top_level_packages(frame: FrameType | None) -> set[str]:
    """Return the top-level packages of this frame and of the frames that called it."""
    return {caller.f_globals.get("__name__", "").partition(".")[0] for caller in stack(frame)}


def settled(results: Sequence[Round], max_stall: float, rounds: int) -> bool:
    """Return whether the rounds so far are enough for a verdict."""
    if any(result.stall <= max_stall for result in results):
        return True
    certain = all(result.sure > max_stall for result in results)
    return len(results) >= (rounds if certain else _DOUBT_FACTOR * rounds)


def undisturbed(results: Sequence[Round], request: str, clients: int, max_stall: float) -> Verdict:
    """Return the verdict on the round with the shortest stall."""
    best = min(results, key=lambda result: result.sure)
    stall = min(result.stall for result in results)
    certain = best.sure > max_stall
    figures = Figures(
        given={"streams": clients, "beside": request},
        seconds={"longest stall": best.sure if certain else stall},
        limits={"longest stall": max_stall},
    )
    stood = f"{clients} streams stood still for {duration(best.sure if certain else stall)}"
    if stall <= max_stall:
        return passed(fit_line(f"{stood} at most beside {request}"), figures)
    if not certain:
        entries = {
            "while": request,
            "means": f"for all but {duration(best.sure)} this process did not run at all: a busy "
            "machine, or a call into C that waits and lets nobody else run",
            "try": "run it where less else runs, or by itself",
        }
        return inconclusive(f"{stood}, or the machine did", figures, labelled_lines(entries))
    line = best.line
    location = location_lines([line.where], line.source, "") if line else []
    entries = {
        "while": request,
        "means": "the event loop is blocked, or starved by a thread that computes",
        "try": "await asyncio.to_thread(...), or another process, and let it rest now and then",
    }
    lines = [*(text.rstrip() for text in location), *labelled_lines(entries)]
    return exceeded(f"{stood}, limit {duration(max_stall)}", figures, lines)
