"""Conduct under fire: what clients do to a server, by mistake or not, and what is left of it.

After each kind of fire the server is to answer as before, its gauges and tasks to be what they
were: so it is known which did it. After all of it its memory is to be what it was, too, and its log
to hold no traceback.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import labelled_lines, table_lines
from pytest_streamperf._results.units import Seconds, argument, seconds_of, size
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.clients import Request
from pytest_streamperf.server.fault_load import HUNG_UP, LEFT_OPEN, SILENT, Hit, Target
from pytest_streamperf.server.gauges import Read, Reading, reading_of
from pytest_streamperf.server.memory import memory_of, steadily
from pytest_streamperf.server.serving import App, Seen, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

_MOST_GROWTH, _MOST_ROWS = 0.05, 4


class Evidence(NamedTuple):
    """All hits; memory in bytes at first and after each round; what was logged, and what grew."""

    hits: Sequence[Hit]
    memory: Sequence[int]
    logged: Sequence[str]
    grew: str = ""


def assert_survives(  # noqa: PLR0913 - what is sent, and what is looked at
    server: App | str,
    *,
    requests: Sequence[Request],
    websocket: str | None = None,
    read: Read | None = None,
    gauges: Sequence[str] = (),
    expected: tuple[type[BaseException], ...] = (),
    pid: int | None = None,
    crowd: int = 200,
    rounds: int = 2,
    within: Seconds = 5.0,
) -> Verdict:
    """Fire at a server, and hold that nothing of it is left.

    `requests` are what clients ask for; of streams they leave in the middle, a few and `crowd` at
    once. To the same paths go a body of 10 MB and JSON that is nested 100,000 deep, which are to be
    refused, not to fail; at the path `websocket` one sends what is no WebSocket's. `read` and
    `gauges` are as in `assert_gauges_settle`; None where there are none.

    After each of these the server must answer the first of `requests` as before, and have its
    gauges and the tasks of its event loop where they were, `within` seconds. After `rounds` of all
    the memory of its process may be 5% more than after the first few; what it took all at once is
    its allocator's, and not counted. Of an app it is Python's memory; of a URL the process is
    looked at with a `pid`, and tasks and log are not seen. In the log there is to be no traceback
    but of errors that are `expected`.

    Raises `ServerExceeded`, `NothingMeasured` where the first request is refused or errors are not
    logged, and `ValueError` for less than two rounds.

        assert_survives(app, requests=[Request("POST", "/chat", {"text": "hello"})])
    """
    _check(requests, crowd, rounds)
    if (read is None) is bool(gauges):
        msg = "read= and gauges= go together: where the metrics are, and which numbers to hold"
        raise ValueError(msg)
    within_seconds = argument("within", seconds_of, within)
    seen = Seen(server) if callable(server) else None
    with (
        served(seen or server) as url,
        _logged(expected, here=seen is not None) as logged,
        memory_of(server, pid) as process,
    ):

        async def reading() -> Reading:
            return await reading_of(url, read, gauges) if read is not None else {}

        target = Target(url, requests, websocket, crowd, seen, reading, within_seconds)

        async def main() -> Evidence:
            hits: list[Hit] = []
            memory: list[int] = []
            fires, warm = target.fires(), process.warm if process else 0
            before, usual = await reading(), await target.answers()
            if not usual.startswith("2"):
                raise nothing_measured(
                    "server", f"{requests[0]} answers {usual}", "give requests= that are answered"
                )
            for number in range(warm + rounds):
                for what, fire in fires.items():
                    hits.append(await target.hit(what, fire, before, usual))
                    if _fault(hits[-1]):
                        return Evidence(hits, (), logged)
                if process is not None and number >= warm - 1:
                    memory.append(process.read())
            return Evidence(hits, memory, logged, process.where() if process else "")

        found = run("assert_survives", main)
    outcome = judged(found)
    return concluded(outcome)


def _check(requests: Sequence[Request], crowd: int, rounds: int) -> None:
    if not requests:
        raise nothing_measured("server", "there is no request", "give requests=[...]")
    for name, value, least in (("crowd", crowd, 1), ("rounds", rounds, 2)):
        if value < least:  # what grows is seen twice
            msg = f"{name} must be {least} or more, not {value!r}"
            raise ValueError(msg)


def judged(found: Evidence) -> Verdict:
    """Hold what is left to nothing."""
    hits, memory, logged, grew = found
    grown = memory[-1] - memory[0] if memory else 0
    figures = Figures(
        given={"clients": sum(sum(hit.statuses.values()) for hit in hits)},
        counts={"errors logged": len(logged)},
        shares={"memory grown": min(1.0, max(0.0, grown / memory[0]))} if memory else {},
        limits={"memory grown": _MOST_GROWTH},
    )
    hit, fault = next(((hit, fault) for hit in hits if (fault := _fault(hit))), (None, None))
    if fault is None and logged:
        fault = (
            f"in the log, {len(logged)} in all: {logged[0]}",
            "whoever looks after the server is called at night, for what clients do",
            "catch what a client can cause, and answer it; expected=(...) leaves others out",
        )
    if fault is None and memory and grown > _MOST_GROWTH * memory[0] and steadily(memory):
        fault = (
            f"{len(memory) - 1} rounds left {size(grown)} of {size(memory[-1])} in memory",
            "something is kept of each request, until the server is killed",
            "look who holds it: a snapshot of the heap before and after, and the difference",
        )
    if fault is None:
        kept = f", memory {100 * grown / memory[0]:+.1f}%" if memory else ""
        what = f"{len(hits)} times under fire, and nothing is left{kept}"
        return passed(what, figures)
    headline, means, advice = fault
    until = hits[: hits.index(hit) + 1] if hit else ()
    rows = [
        [each.what, ", ".join(f"{count} {status}" for status, count in each.statuses.items())]
        for each in until[-_MOST_ROWS:]
    ]
    table = table_lines(["fire", "got"], rows, "here") if rows else []
    where = next(iter(hit.left), "") if hit else "" if logged else grew
    lines = labelled_lines({"where": where, "means": means, "try": advice})
    return exceeded(headline, figures, lines, table)


def _fault(hit: Hit) -> tuple[str, str, str] | None:
    """What is wrong: the headline, what it means and what helps."""
    for status, count in hit.statuses.items():
        # 503 is how a server says that it has enough to do.
        if status in {HUNG_UP, SILENT} or (status.startswith("5") and status != "503"):
            return (
                f"{hit.what}: {count} of {sum(hit.statuses.values())} got {status}",
                "what a client sends makes the server fail: it is taken for the server's fault",
                "refuse it with 4xx; its log says why (json: RecursionError for what is too deep)",
            )
    if hit.statuses[LEFT_OPEN]:
        return (
            f"{hit.what} was not hung up on",
            "whoever speaks no WebSocket holds a connection as long as they like",
            "close it with 1002, which libraries for WebSockets do",
        )
    if hit.answers != hit.usual:
        return (
            f"after {hit.what} others get {hit.answers}, before {hit.usual}",
            "one client stops the server for everyone",
            "catch what a client can cause where it is served",
        )
    for name, was in hit.before.items():
        if hit.after[name] != was:
            return (
                f"{name} was {was:g}, and is {hit.after[name]:g} since {hit.what}",
                "what is counted when it begins is not counted when it ends this way",
                "count down in a finally: around the whole app",
            )
    if left := sum(hit.left.values()):
        return (
            f"{'a task is' if left == 1 else f'{left} tasks are'} left since {hit.what}",
            "they go on for nobody, and what they hold is never given back",
            "start tasks in an asyncio.TaskGroup, or cancel them in a finally:",
        )
    return None


@contextmanager
def _logged(expected: tuple[type[BaseException], ...], *, here: bool) -> Iterator[list[str]]:
    """Errors that are logged meanwhile, but those that are expected; and what asyncio says."""
    found: list[str] = []
    if here and not all(
        logging.getLogger(name).isEnabledFor(logging.ERROR) for name in ("uvicorn.error", "asyncio")
    ):
        raise nothing_measured(
            "server",
            "errors are not logged here, so nothing is known of them",
            "take logging.disable away, or the level of the root logger",
        )

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            unexpected = error is not None and not isinstance(error, expected)
            said = record.getMessage().strip()
            if (
                unexpected
                or (record.name == "asyncio" and record.levelno >= logging.ERROR)
                or "Traceback (most recent call last)" in said
            ):
                said = said.splitlines()[-1]
                found.append(f"{type(error).__name__}: {error}" if error else said)

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger().removeHandler(handler)
