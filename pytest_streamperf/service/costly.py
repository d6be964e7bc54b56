"""What is costly to answer: made beside the event loop, so that others go on, and bit by bit."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from statistics import median
from typing import NamedTuple

from pytest_streamperf import verdict
from pytest_streamperf.figures import Figures
from pytest_streamperf.here import Line, line_of, stack
from pytest_streamperf.service.clients import Answer, Request, ask, tasks, until
from pytest_streamperf.service.outcome import concluded, exceeded, passed
from pytest_streamperf.service.serve import App, Seen, run, served
from pytest_streamperf.verdict import Verdict, duration, size

__tracebackhide__ = True  # pytest shows the user's own frames

# Gaps to know how steady a stream is, and seconds from look to look at what the server does.
_STEADY = 5
_LOOK, _BEAT = 0.005, 0.002
# An answer that takes less, in seconds, is not held to come piece by piece: nobody waits for it.
_SOON = 0.1
_FIRST_PART, _LATE = 0.25, 0.75


class Round(NamedTuple):
    """For how long, in seconds, streams stood still, and which line of the server's ran then."""

    stall: float
    line: Line | None


class Arrival(NamedTuple):
    """A part of an answer: when it came, in seconds, its size, and whether a piece begins there."""

    at: float
    size: int
    begins: bool


def assert_responsive(  # noqa: PLR0913 - what is asked, beside what, and how far that may stutter
    server: App | str,
    request: Request,
    *,
    beside: Request,
    clients: int = 10,
    max_stall: float = 0.05,
    rounds: int = 5,
) -> Verdict:
    """Ask for what is costly while `clients` read a stream, and hold that the streams go on.

    `beside` is a request whose answer is a stream, which lasts longer than `request` takes. Of an
    app, a stall is the time from one beat of its event loop to the next; of a URL, the longest gap
    in any of the streams meanwhile, less the longest before: so it takes streams that are steady,
    with gaps of half of `max_stall` at most. A busy machine stutters now and then, and a blocked
    loop every time: it is tried until one of `rounds` has no stall of over `max_stall` seconds.
    What blocks once and never again is not found. The line that blocks is told of an app.

    Raises `ServiceExceeded`, `NothingMeasured` where a stream ends too soon or the request is
    refused, and what clients meet: `TimeoutError`, `ConnectionError`.

        assert_responsive(app, Request("GET", "/report"), beside=Request("GET", "/events"))
    """
    seen = Seen(server) if callable(server) else None
    with served(seen or server) as url:

        async def main() -> list[Round]:
            found: list[Round] = []
            measured = partial(
                _round, url, request, beside=beside, clients=clients, max_stall=max_stall, seen=seen
            )
            while len(found) < rounds and (not found or found[-1].stall > max_stall):
                found.append(await measured())
            return found

        found = min(run("assert_responsive", main))
    outcome = undisturbed(found, str(request), clients, max_stall)
    return concluded(outcome)


def assert_streamed(
    server: App | str, request: Request, *, max_piece: int = 2**20, rounds: int = 3
) -> Verdict:
    """Ask for what is large, and hold that it is sent as it is made, not kept until it is whole.

    No chunk, as the server sends them, may have more than `max_piece` bytes. And a quarter of it is
    to have come when three quarters of the time are over: that is tried `rounds` times. What takes
    less to make than to send, or waits long for its first part, is better held by its chunks.

    Raises `ServiceExceeded`, `NothingMeasured` where the request is refused, and what clients meet:
    `TimeoutError`, `ConnectionError`.

        assert_streamed(app, Request("GET", "/export"))
    """
    with served(server) as url:

        async def main() -> list[Sequence[Arrival]]:
            found: list[Sequence[Arrival]] = []
            while len(found) < rounds and (not found or _held_back(found[-1])):
                found.append(await _arrivals(url, request))
            return found

        found = run("assert_streamed", main)
    outcome = piecemeal(found, str(request), max_piece)
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
    times: list[list[float]] = [[] for _ in range(clients)]
    beats: list[float] = []
    looks: list[tuple[float, Line]] = []

    def arrived(mine: list[float]) -> Callable[[int, bool], None]:
        return lambda _size, _begins: mine.append(time.perf_counter())

    async with tasks() as running:
        streams = [asyncio.create_task(ask(url, beside, arrived=arrived(each))) for each in times]
        running.extend(streams)
        if seen and seen.loop:
            running.append(asyncio.create_task(_look(seen.thread, looks)))
            beating = asyncio.run_coroutine_threadsafe(_beat(beats), seen.loop)
            running.append(asyncio.ensure_future(asyncio.wrap_future(beating)))

        def over() -> bool:
            return any(each.done() for each in streams)

        await until(lambda: over() or all(len(each) > _STEADY for each in times))
        quiet = [after - before for each in times for before, after in pairwise(each)]
        began = time.perf_counter()
        if not over():
            _check(request, await ask(url, request))
        ended = time.perf_counter()
        await until(lambda: over() or all(each[-1] > ended for each in times))
        for each in streams:
            if each.done():
                raise verdict.nothing_measured(
                    "service",
                    f"{beside} ended ({each.result().status}) before {request} was answered",
                    "give beside= a stream that takes longer",
                )
    if not beats and median(quiet) > max_stall / 2:
        gaps = duration(median(quiet))
        raise verdict.nothing_measured(
            "service",
            f"{beside} has gaps of {gaps}: a stall of {duration(max_stall)} is not seen",
            "give beside= a stream that sends more often, or an app in place of a URL",
        )
    stall, before, after = max(
        (after - before - (_BEAT if beats else max(quiet)), before, after)
        for each in ([beats] if beats else times)
        for before, after in pairwise(each)
        if after > began and before < ended
    )
    lines = Counter(line for at, line in looks if before <= at <= after)
    return Round(max(0.0, stall), lines.most_common(1)[0][0] if lines else None)


async def _beat(beats: list[float]) -> None:
    while True:
        beats.append(time.perf_counter())
        await asyncio.sleep(_BEAT)


async def _look(thread: int, looks: list[tuple[float, Line]]) -> None:
    """Note, now and then, which line runs in a thread; not where it waits for something to do."""
    while True:
        frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no other way
        if frame is not None and frame.f_code.co_name not in {"select", "run_forever", "run"}:
            line = line_of(stack(frame))
            if line is not None and not line.where.startswith("server.py"):  # uvicorn's, and ours
                looks.append((time.perf_counter(), line))
        await asyncio.sleep(_LOOK)


async def _arrivals(url: str, request: Request) -> Sequence[Arrival]:
    found: list[Arrival] = []
    began = time.perf_counter()

    def arrived(length: int, begins: bool) -> None:  # noqa: FBT001 - as it is told
        found.append(Arrival(time.perf_counter() - began, length, begins))

    _check(request, await ask(url, request, arrived=arrived))
    return found


def _check(request: Request, answer: Answer) -> None:
    if answer.status // 100 != 2 or not answer.body:  # noqa: PLR2004 - OK
        raise verdict.nothing_measured(
            "service",
            f"{request} answers {answer.status}, {size(len(answer.body))}",
            "ask for something that is there",
        )


def undisturbed(found: Round, request: str, clients: int, max_stall: float) -> Verdict:
    """Hold a stall against its limit."""
    figures = Figures(
        given={"streams": clients, "beside": request},
        seconds={"longest stall": found.stall},
        limits={"longest stall": max_stall},
    )
    stood = f"{clients} streams stood still for {duration(found.stall)}"
    if found.stall <= max_stall:
        return passed(verdict.fit(f"{stood} at most beside {request}"), figures)
    line = found.line
    seen = verdict.where([line.where], line.source, "") if line else []
    entries = {
        "while": request,
        "means": "the event loop is blocked, or starved by a thread that computes",
        "try": "await asyncio.to_thread(...), or another process, and let it rest now and then",
    }
    lines = [*(each.rstrip() for each in seen), *verdict.lines_of(entries)]
    return exceeded(f"{stood}, limit {duration(max_stall)}", figures, lines)


def piecemeal(found: Sequence[Sequence[Arrival]], request: str, max_piece: int) -> Verdict:
    """Hold the pieces of an answer against their limit, and when they came."""
    pieces: list[int] = []
    for each in found[-1]:
        if each.begins:
            pieces.append(0)
        if pieces:  # without chunks it is not known what was sent at once
            pieces[-1] += each.size
    total, largest = sum(each.size for each in found[-1]), max(pieces, default=0)
    figures = Figures(
        given={"of": request},
        bytes={"whole": total, "largest piece": largest},
        limits={"largest piece": max_piece},
    )
    fault = None
    if largest > max_piece:
        fault = (
            f"one piece has {size(largest)} of {size(total)}, limit {size(max_piece)}",
            "it is in memory as a whole, once for each who asks",
        )
    elif all(map(_held_back, found)):
        late, over = _first_part(found[-1]), found[-1][-1].at
        fault = (
            f"a quarter of {size(total)} had come after {duration(late)} of {duration(over)}",
            "it is made as a whole, kept in memory, and sent when all of it is there",
        )
    if fault is None:
        what = f"{size(total)} in {len(pieces):,} pieces, the largest of {size(largest)}"
        what = what if pieces else f"{size(total)}, not in chunks, as it was made"
        return passed(what, figures)
    headline, means = fault
    entries = {"where": request, "means": means, "try": "yield each piece when it is made"}
    return exceeded(headline, figures, verdict.lines_of(entries))


def _first_part(arrivals: Sequence[Arrival]) -> float:
    """When a quarter had come."""
    come = list(accumulate(each.size for each in arrivals))
    return next(
        each.at
        for each, so_far in zip(arrivals, come, strict=True)
        if so_far >= _FIRST_PART * come[-1]
    )


def _held_back(arrivals: Sequence[Arrival]) -> bool:
    over = arrivals[-1].at
    return over >= _SOON and _first_part(arrivals) > _LATE * over
