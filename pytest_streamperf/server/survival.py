"""Check that a server survives a fault load, and then returns to its earlier state.

`assert_survives` takes an ASGI app or a URL, and returns a `Verdict`. The kinds of fault load are
in `fault_load`.

- After each kind the server must answer as before, with the same gauges and tasks. A failure can
  therefore name the kind that caused it.
- After all rounds the memory may not have grown steadily, and the log may hold no traceback.
- The tasks and the log are visible for an app only; the memory of a URL needs a `pid`.
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
from pytest_streamperf.server.serving import App, ServedApp, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

# Share by which memory may grow. 5%: benchmarks/survival.py holds longer runs to the same share.
_MAX_GROWTH = 0.05
# Rows of the table in a message, which has at most 16 lines.
_MAX_ROWS = 4


class SurvivalEvidence(NamedTuple):
    """The results of a check: all hits, and the memory in bytes after each round.

    The first memory reading follows the warm-up rounds. `logged` holds the last line of each
    unexpected error, and `grew` the line whose allocations grew most.
    """

    hits: Sequence[Hit]
    memory: Sequence[int]
    logged: Sequence[str]
    grew: str = ""


def assert_survives(  # noqa: PLR0913 - options of the load and of the check
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
    """Check that a server survives a fault load, and then returns to its earlier state.

    `requests` are the requests that clients send. Clients leave their streams in the middle, first
    a few clients and then `crowd` of them at once. The same paths get a body of 10 MB and JSON
    nested 100,000 deep, which the server must refuse without failing. At the path `websocket` a
    client sends bytes that are no WebSocket frame. `read` and `gauges` are as in
    `assert_gauges_settle`; leave out both for a server without metrics.

    After each kind of load the server must answer the first of `requests` as before. Its gauges and
    the tasks of its event loop have `within` seconds to return to their earlier state.

    After `rounds` of all kinds, the memory of the process may be 5% more than after the first few
    rounds. Memory that was taken all at once belongs to the allocator, and does not count. For an
    app the check measures Python's memory. For a URL it reads the process `pid`, and sees neither
    tasks nor log. The log may hold tracebacks of `expected` errors only.

    Raises `ServerExceeded` for a server that fails. Raises `NothingMeasured` where the first
    request is refused or errors are not logged. Raises `TypeError` and `ValueError` for a bad
    argument, for fewer than two rounds, and where only one of `read` and `gauges` is given.

        assert_survives(app, requests=[Request("POST", "/chat", {"text": "hello"})])
    """
    _check(requests, crowd, rounds)
    if (read is None) is bool(gauges):
        msg = "read= and gauges= go together: the path of the metrics, and the names of gauges"
        raise ValueError(msg)
    within_seconds = argument("within", seconds_of, within)
    served_app = ServedApp(server) if callable(server) else None
    with (
        served(served_app or server) as url,
        _collect_errors(expected, in_process=served_app is not None) as logged,
        memory_of(server, pid) as process,
    ):

        async def reading() -> Reading:
            return await reading_of(url, read, gauges) if read is not None else {}

        target = Target(url, requests, websocket, crowd, served_app, reading, within_seconds)

        async def main() -> SurvivalEvidence:
            hits: list[Hit] = []
            memory: list[int] = []
            fault_loads, warm_up_rounds = target.fault_loads(), process.warm if process else 0
            before, usual = await reading(), await target.answers()
            if not usual.startswith("2"):
                raise nothing_measured(
                    "server",
                    f"{requests[0]} answers {usual}",
                    "give requests= that the server answers with 2xx",
                )
            for number in range(warm_up_rounds + rounds):
                for name, fault_load in fault_loads.items():
                    hits.append(await target.hit(name, fault_load, before, usual))
                    if _failure(hits[-1]):
                        return SurvivalEvidence(hits, (), logged)
                if process is not None and number >= warm_up_rounds - 1:
                    memory.append(process.read())
            return SurvivalEvidence(hits, memory, logged, process.where() if process else "")

        evidence = run("assert_survives", main)
    return concluded(verdict_on_survival(evidence))


def _check(requests: Sequence[Request], crowd: int, rounds: int) -> None:
    """Raise `NothingMeasured` without requests, and `ValueError` for a number that is too small."""
    if not requests:
        raise nothing_measured("server", "there is no request", "give requests=[...]")
    # Steady growth shows in two rounds, not in one.
    for name, value, least in (("crowd", crowd, 1), ("rounds", rounds, 2)):
        if value < least:
            msg = f"{name} must be {least} or more, not {value!r}"
            raise ValueError(msg)


def verdict_on_survival(evidence: SurvivalEvidence) -> Verdict:
    """Return the verdict on the hits, the memory and the log."""
    hits, memory, logged, grew = evidence
    grown = memory[-1] - memory[0] if memory else 0
    figures = Figures(
        given={"clients": sum(sum(hit.statuses.values()) for hit in hits)},
        counts={"errors logged": len(logged)},
        shares={"memory grown": min(1.0, max(0.0, grown / memory[0]))} if memory else {},
        limits={"memory grown": _MAX_GROWTH},
    )
    hit, failure = next(
        ((hit, failure) for hit in hits if (failure := _failure(hit))), (None, None)
    )
    if failure is None and logged:
        failure = (
            f"errors in the log: {len(logged)}, limit 0; first: {logged[0]}",
            "clients can cause these errors, and each one looks like a failure of the server",
            "catch errors that a client can cause; list the types that you allow in expected=(...)",
        )
    if failure is None and memory and grown > _MAX_GROWTH * memory[0] and steadily(memory):
        failure = (
            (
                f"memory grew by {size(grown)} to {size(memory[-1])} in {len(memory) - 1} rounds, "
                f"limit {_MAX_GROWTH:.0%}"
            ),
            "each request leaves something in memory, until the server runs out of it",
            "compare heap snapshots from before and after, and see what holds the difference",
        )
    if failure is None:
        growth = f", memory {100 * grown / memory[0]:+.1f}%" if memory else ""
        return passed(f"{len(hits)} fault loads survived, and nothing left behind{growth}", figures)
    headline, means, advice = failure
    hits_so_far = hits[: hits.index(hit) + 1] if hit else ()
    rows = [
        [shown.name, ", ".join(f"{count} x {status}" for status, count in shown.statuses.items())]
        for shown in hits_so_far[-_MAX_ROWS:]
    ]
    table = table_lines(["fault load", "clients got"], rows, "here") if rows else []
    where = next(iter(hit.left), "") if hit else "" if logged else grew
    lines = labelled_lines({"where": where, "means": means, "try": advice})
    return exceeded(headline, figures, lines, table)


def _failure(hit: Hit) -> tuple[str, str, str] | None:
    """Return the headline, the meaning and the advice for a hit that shows a fault, or None."""
    for status, count in hit.statuses.items():
        # 503 is no fault: an overloaded server answers with it.
        if status in {HUNG_UP, SILENT} or (status.startswith("5") and status != "503"):
            return (
                f"{hit.name}: {count} of {sum(hit.statuses.values())} clients got {status}",
                "the input of a client makes the server fail, and counts as the server's fault",
                "refuse it with 4xx; the server's log has the error (deep JSON: RecursionError)",
            )
    if hit.statuses[LEFT_OPEN]:
        return (
            f"{hit.name} was left open",
            "a client that breaks the protocol can hold a connection for as long as it likes",
            "close it with status 1002 (protocol error), as WebSocket libraries do",
        )
    if hit.answers != hit.usual:
        return (
            f"other clients get {hit.answers} after {hit.name}, not {hit.usual}",
            "one client stops the server for everyone",
            "catch the errors of a request in the code that serves that request",
        )
    for name, value_before in hit.before.items():
        if hit.after[name] != value_before:
            return (
                f"{name} was {value_before:g}, and is {hit.after[name]:g} after {hit.name}",
                "a request that ends this way does not restore the gauge",
                "decrement the gauge in a finally: around the whole app",
            )
    if left := sum(hit.left.values()):
        return (
            f"{'a task is' if left == 1 else f'{left} tasks are'} still running after {hit.name}",
            "no client needs them any more, and what they hold is never released",
            "start tasks in an asyncio.TaskGroup, or cancel them in a finally:",
        )
    return None


@contextmanager
def _collect_errors(
    expected: tuple[type[BaseException], ...], *, in_process: bool
) -> Iterator[list[str]]:
    """Yield a list that receives the last line of each error that is logged in the block.

    The list leaves out errors of the `expected` types, and includes every error of asyncio.
    Raises `NothingMeasured` for an app, which runs `in_process`, if its errors are not logged.
    """
    errors: list[str] = []
    if in_process and not all(
        logging.getLogger(name).isEnabledFor(logging.ERROR) for name in ("uvicorn.error", "asyncio")
    ):
        raise nothing_measured(
            "server",
            "error logging is off in this process, so the check cannot see errors",
            "remove logging.disable(...), or let the root logger pass ERROR",
        )

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            unexpected = error is not None and not isinstance(error, expected)
            text = record.getMessage().strip()
            if (
                unexpected
                or (record.name == "asyncio" and record.levelno >= logging.ERROR)
                or "Traceback (most recent call last)" in text
            ):
                text = text.splitlines()[-1]
                errors.append(f"{type(error).__name__}: {error}" if error else text)

    handler = Handler()
    logging.getLogger().addHandler(handler)
    try:
        yield errors
    finally:
        logging.getLogger().removeHandler(handler)
