"""Check that a server sends a large answer while it makes it, and does not keep all of it.

`assert_streamed` takes an ASGI app or a URL and a request, and returns a `Verdict`. Each round
sends the request and notes the arrival of each part of the answer. All times are in seconds.

- A count decides first: no chunk may be larger than `max_chunk` bytes.
- A clock decides next: the first quarter of the answer must not arrive in the last quarter of the
  time. One round that is early enough passes.
- An answer without chunks gives no chunk sizes, so only the clock decides.
"""

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

# An answer that takes fewer seconds may arrive all at once. Not measured: no user waits for it.
_MIN_DURATION_S = 0.1
# The first part of an answer, as a share of its bytes. Not measured.
_FIRST_PART = 0.25
# Share of the time after which the arrival of the first part is late. Not measured.
_LATE = 0.75


class BodyArrival(NamedTuple):
    """The arrival of a part of an answer.

    `at` is the time in seconds since the request, `size` is in bytes, and `begins` tells whether a
    chunk begins with this part.
    """

    at: float
    size: int
    begins: bool


def assert_streamed(
    server: App | str, request: Request, *, max_chunk: Bytes = 2**20, rounds: int = 3
) -> Verdict:
    """Check that the server sends a large answer while it makes it, in chunks of a limited size.

    No chunk that the server sends may have more than `max_chunk` bytes. The first quarter of the
    answer must arrive before three quarters of the time are over. The check tries that up to
    `rounds` times, and one success is enough. The time is no evidence where the answer takes longer
    to send than to make, or where its first part takes long; there, only the chunk size counts.

    Raises `ServerExceeded` for an answer that breaks a rule, and `NothingMeasured` where the
    request is refused. Raises the `TimeoutError` or `ConnectionError` of a client, and `TypeError`
    or `ValueError` for a bad argument.

        assert_streamed(app, Request("GET", "/export"))
    """
    with served(server) as url:

        async def main() -> list[Sequence[BodyArrival]]:
            results: list[Sequence[BodyArrival]] = []
            while len(results) < rounds and (not results or _first_part_is_late(results[-1])):
                results.append(await _arrivals(url, request))
            return results

        results = run("assert_streamed", main)
    outcome = verdict_on_arrivals(results, str(request), argument("max_chunk", bytes_of, max_chunk))
    return concluded(outcome)


async def _arrivals(url: str, request: Request) -> Sequence[BodyArrival]:
    """Send the request, and return the arrivals of the parts of its answer."""
    arrivals: list[BodyArrival] = []
    began = time.perf_counter()

    def arrived(length: int, begins: bool) -> None:  # noqa: FBT001 - the signature of `Arrived`
        arrivals.append(BodyArrival(time.perf_counter() - began, length, begins))

    check_answer(request, await ask(url, request, arrived=arrived))
    return arrivals


def verdict_on_arrivals(
    rounds: Sequence[Sequence[BodyArrival]], request: str, max_chunk: int
) -> Verdict:
    """Return the verdict on the chunk sizes of the last round and on the times of all rounds."""
    chunks: list[int] = []
    for arrival in rounds[-1]:
        if arrival.begins:
            chunks.append(0)
        if chunks:  # an answer without chunks does not tell which parts were sent at once
            chunks[-1] += arrival.size
    total, largest = sum(arrival.size for arrival in rounds[-1]), max(chunks, default=0)
    figures = Figures(
        given={"of": request},
        bytes={"whole": total, "largest piece": largest},
        limits={"largest piece": max_chunk},
    )
    fault = None
    if largest > max_chunk:
        fault = (
            f"the largest chunk has {size(largest)} of {size(total)}, limit {size(max_chunk)}",
            "the server holds that much in memory for each client that asks",
        )
    elif all(map(_first_part_is_late, rounds)):
        late, over = _first_part_time(rounds[-1]), rounds[-1][-1].at
        fault = (
            f"the first quarter of {size(total)} came after {duration(late)} of {duration(over)}",
            "the server makes the whole answer, keeps it in memory, and only then sends it",
        )
    if fault is None:
        summary = f"{size(total)} in {len(chunks):,} chunks, the largest of {size(largest)}"
        summary = summary if chunks else f"{size(total)} without chunks, sent while it was made"
        return passed(summary, figures)
    headline, means = fault
    entries = {"where": request, "means": means, "try": "yield each chunk as soon as it is made"}
    return exceeded(headline, figures, labelled_lines(entries))


def _first_part_time(arrivals: Sequence[BodyArrival]) -> float:
    """Return the time in seconds at which the first quarter of the bytes had arrived."""
    totals = list(accumulate(arrival.size for arrival in arrivals))
    return next(
        arrival.at
        for arrival, so_far in zip(arrivals, totals, strict=True)
        if so_far >= _FIRST_PART * totals[-1]
    )


def _first_part_is_late(arrivals: Sequence[BodyArrival]) -> bool:
    """Return whether the first quarter of a long answer arrived in the last quarter of the time."""
    over = arrivals[-1].at
    return over >= _MIN_DURATION_S and _first_part_time(arrivals) > _LATE * over
