"""What is costly to answer is made beside the event loop: streams go on meanwhile."""

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
from pytest_streamperf.server.serving import App, Seen, run, served
from pytest_streamperf.server.verdicts import (
    check_answer,
    concluded,
    exceeded,
    inconclusive,
    passed,
)

__tracebackhide__ = True  # pytest shows the user's own frames

# Gaps to know how steady a stream is, and seconds from look to look at what the server does.
_STEADY = 5
_LOOK, _BEAT = 0.005, 0.002
# How many times as often it is tried where it may have been the machine that stood still.
_PATIENCE = 3
# Where only these run, the server reads and writes, and no line of the app is to blame.
_MACHINERY = sys.stdlib_module_names | {
    *("h11", "httptools", "uvicorn", "uvloop", "websockets"),
    "pytest_streamperf",
}


class Beat(NamedTuple):
    """When a loop was free, or a part of a stream came, in seconds.

    Of a loop, too, how many seconds its thread had waited for a core by then, and how many of CPU
    that thread and the whole process had taken.
    """

    at: float
    waited: float = 0.0
    thread: float = 0.0
    process: float = 0.0


class Look(NamedTuple):
    """When the server was looked at, this process's CPU seconds by then, and the line that ran."""

    at: float
    cpu: float
    line: Line | None = None


class Round(NamedTuple):
    """For how long streams stood still, how much of it is the server's for sure, and its line.

    In seconds. What is not for sure is the server's or the machine's.
    """

    stall: float
    sure: float
    line: Line | None = None


def assert_responsive(  # noqa: PLR0913 - what is asked, beside what, and how far that may stutter
    server: App | str,
    request: Request,
    *,
    beside: Request,
    clients: int = 10,
    max_stall: Seconds = 0.05,
    rounds: int = 5,
) -> Verdict:
    """Ask for what is costly while `clients` read a stream, and hold that the streams go on.

    `beside` is a request whose answer is a stream, which lasts longer than `request` takes. Of an
    app, a stall is the time from one beat of its event loop to the next, less what its thread only
    waited for a core; of a URL, the longest gap in any of the streams meanwhile, less the longest
    before: so it takes streams that are steady, with gaps of half of `max_stall` at most. A busy
    machine stutters now and then, and a blocked loop every time: it is tried until one of `rounds`
    has no stall of over `max_stall` seconds. Where it may have been the machine that stood still,
    it is tried three times as often, and then inconclusive. What blocks once and never again is not
    found. The line that blocks is told of an app.

    Raises `ServerExceeded`, `Inconclusive`, `NothingMeasured` where a stream ends too soon or the
    request is refused, and what clients meet: `TimeoutError`, `ConnectionError`.

        assert_responsive(app, Request("GET", "/report"), beside=Request("GET", "/events"))
    """
    limit = argument("max_stall", seconds_of, max_stall)
    seen = Seen(server) if callable(server) else None
    with served(seen or server) as url:

        async def main() -> list[Round]:
            found: list[Round] = []
            while not settled(found, limit, rounds):
                found.append(
                    await _round(
                        url, request, beside=beside, clients=clients, max_stall=limit, seen=seen
                    )
                )
            return found

        found = run("assert_responsive", main)
    outcome = undisturbed(found, str(request), clients, limit)
    return concluded(outcome)


async def _round(  # noqa: PLR0913 - what is asked, and how it is seen
    url: str,
    request: Request,
    *,
    beside: Request,
    clients: int,
    max_stall: float,
    seen: Seen | None,
) -> Round:
    times: list[list[Beat]] = [[] for _ in range(clients)]
    beats: list[Beat] = []
    looks: list[Look] = []

    def arrived(mine: list[Beat]) -> Callable[[int, bool], None]:
        return lambda _size, _begins: mine.append(Beat(time.perf_counter()))

    async with tasks() as running:
        streams = [asyncio.create_task(ask(url, beside, arrived=arrived(each))) for each in times]
        running.extend(streams)
        running.append(asyncio.create_task(_look(seen.thread if seen else 0, looks)))
        if seen and seen.loop:
            beating = asyncio.run_coroutine_threadsafe(_beat(beats), seen.loop)
            running.append(asyncio.ensure_future(asyncio.wrap_future(beating)))

        def over() -> bool:
            return any(each.done() for each in streams)

        await until(lambda: over() or all(len(each) > _STEADY for each in times))
        quiet = [after.at - before.at for each in times for before, after in pairwise(each)]
        began = time.perf_counter()
        if not over():
            check_answer(request, await ask(url, request))
        ended = time.perf_counter()
        await until(lambda: over() or all(each[-1].at > ended for each in times))
        for each in streams:
            if each.done():
                raise nothing_measured(
                    "server",
                    f"{beside} ended ({each.result().status}) before {request} was answered",
                    "give beside= a stream that takes longer",
                )
    if not beats and median(quiet) > max_stall / 2:
        usual = duration(median(quiet))
        raise nothing_measured(
            "server",
            f"{beside} has gaps of {usual}: a stall of {duration(max_stall)} is not seen",
            "give beside= a stream that sends more often, or an app in place of a URL",
        )
    gaps = [
        (before, after)
        for each in ([beats] if beats else times)
        for before, after in pairwise(each)
        if after.at > began and before.at < ended
    ]
    return longest(gaps, _BEAT if beats else max(quiet), looks)


def longest(gaps: Sequence[tuple[Beat, Beat]], usual: float, looks: Sequence[Look]) -> Round:
    """The longest of the gaps, beyond what they usually are, in seconds."""

    def sure(gap: tuple[Beat, Beat]) -> float:
        return max(0.0, _long(*gap) - usual - max(_waited(*gap), _held_up(*gap, looks)))

    before, after = worst = max(gaps, key=sure)
    lines = Counter(
        each.line for each in looks if each.line and before.at <= each.at <= after.at
    ).most_common(1)
    stall = max(_long(*gap) - usual - _waited(*gap) for gap in gaps)
    return Round(max(0.0, stall), sure(worst), lines[0][0] if lines else None)


def _long(before: Beat, after: Beat) -> float:
    return after.at - before.at


def _waited(before: Beat, after: Beat) -> float:
    """Seconds for which the loop's thread waited for a core, but for what others of ours had it."""
    others = (after.process - before.process) - (after.thread - before.thread)
    return max(0.0, after.waited - before.waited - max(0.0, others))


def _held_up(before: Beat, after: Beat, looks: Sequence[Look]) -> float:
    """Seconds for which whoever looks stood still as well, though this process computed nothing.

    So does the whole machine where its host has other things to do, and whoever waits for the
    interpreter while the thread that has it waits for a core.
    """
    held = 0.0
    first, last = (bisect(looks, each.at, key=lambda look: look.at) for each in (before, after))
    for earlier, later in pairwise(looks[max(0, first - 1) : last + 1]):
        both = min(after.at, later.at) - max(before.at, earlier.at)
        held += max(0.0, both - _LOOK - (later.cpu - earlier.cpu))
    return held


async def _beat(beats: list[Beat]) -> None:
    with closing(clock.RunQueue()) as queue:
        while True:
            beat = Beat(time.perf_counter(), queue.waited() or 0.0, clock.thread_cpu(), clock.cpu())
            beats.append(beat)
            await asyncio.sleep(_BEAT)


async def _look(thread: int, looks: list[Look]) -> None:
    """Note, now and then, which line runs in a thread; not where it waits for something to do."""
    while True:
        frame, line = sys._current_frames().get(thread), None  # noqa: SLF001 - the only way
        idle = frame is None or frame.f_code.co_name in {"select", "run_forever", "run"}
        if not idle and not _roots(frame) <= _MACHINERY:
            line = line_of(stack(frame))
        looks.append(Look(time.perf_counter(), clock.cpu(), line))
        await asyncio.sleep(_LOOK)


def _roots(frame: FrameType | None) -> set[str]:
    """Return the top-level packages whose code runs in this frame and in those that called it."""
    return {each.f_globals.get("__name__", "").partition(".")[0] for each in stack(frame)}


def settled(found: Sequence[Round], max_stall: float, rounds: int) -> bool:
    """Whether it has been tried often enough."""
    if any(each.stall <= max_stall for each in found):
        return True
    sure = all(each.sure > max_stall for each in found)
    return len(found) >= (rounds if sure else _PATIENCE * rounds)


def undisturbed(found: Sequence[Round], request: str, clients: int, max_stall: float) -> Verdict:
    """Hold the best of some rounds against the limit."""
    best, stall = min(found, key=lambda each: each.sure), min(each.stall for each in found)
    surely = best.sure > max_stall
    figures = Figures(
        given={"streams": clients, "beside": request},
        seconds={"longest stall": best.sure if surely else stall},
        limits={"longest stall": max_stall},
    )
    stood = f"{clients} streams stood still for {duration(best.sure if surely else stall)}"
    if stall <= max_stall:
        return passed(fit_line(f"{stood} at most beside {request}"), figures)
    if not surely:
        entries = {
            "while": request,
            "means": f"for all but {duration(best.sure)} this process did not run at all: a busy "
            "machine, or a call into C that waits and lets nobody else run",
            "try": "run it where less else runs, or by itself",
        }
        return inconclusive(f"{stood}, or the machine did", figures, labelled_lines(entries))
    line = best.line
    seen = location_lines([line.where], line.source, "") if line else []
    entries = {
        "while": request,
        "means": "the event loop is blocked, or starved by a thread that computes",
        "try": "await asyncio.to_thread(...), or another process, and let it rest now and then",
    }
    lines = [*(each.rstrip() for each in seen), *labelled_lines(entries)]
    return exceeded(f"{stood}, limit {duration(max_stall)}", figures, lines)
