"""What is large is sent bit by bit, as it is made, and not kept until it is whole."""

import time
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import labelled_lines
from pytest_streamperf._results.units import Bytes, argument, bytes_of, duration, size
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.clients import Request, ask
from pytest_streamperf.server.serving import App, run, served
from pytest_streamperf.server.verdicts import check_answer, concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

# An answer that takes less, in seconds, is not held to come piece by piece: nobody waits for it.
_SOON = 0.1
_FIRST_PART, _LATE = 0.25, 0.75


class Arrival(NamedTuple):
    """A part of an answer: when it came, in seconds, its size, and whether a piece begins there."""

    at: float
    size: int
    begins: bool


def assert_streamed(
    server: App | str, request: Request, *, max_chunk: Bytes = 2**20, rounds: int = 3
) -> Verdict:
    """Ask for what is large, and hold that it is sent as it is made, not kept until it is whole.

    No chunk, as the server sends them, may have more than `max_chunk` bytes. And a quarter of it is
    to have come when three quarters of the time are over: that is tried `rounds` times. What takes
    less to make than to send, or waits long for its first part, is better held by its chunks.

    Raises `ServerExceeded`, `NothingMeasured` where the request is refused, and what clients meet:
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
    outcome = piecemeal(found, str(request), argument("max_chunk", bytes_of, max_chunk))
    return concluded(outcome)


async def _arrivals(url: str, request: Request) -> Sequence[Arrival]:
    found: list[Arrival] = []
    began = time.perf_counter()

    def arrived(length: int, begins: bool) -> None:  # noqa: FBT001 - as it is told
        found.append(Arrival(time.perf_counter() - began, length, begins))

    check_answer(request, await ask(url, request, arrived=arrived))
    return found


def piecemeal(found: Sequence[Sequence[Arrival]], request: str, max_chunk: int) -> Verdict:
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
        limits={"largest piece": max_chunk},
    )
    fault = None
    if largest > max_chunk:
        fault = (
            f"one piece has {size(largest)} of {size(total)}, limit {size(max_chunk)}",
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
    return exceeded(headline, figures, labelled_lines(entries))


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
