"""What is costly to load: loaded once for all who ask first, warm by then, and nothing kept after.

Clients come all at once, before anything is loaded; then many more. All that decides is counted: by
the server, or by a `LoadCounter` around what loads.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures, known
from pytest_streamperf._results.text import fit_line, labelled_lines, location_lines, table_lines
from pytest_streamperf._results.units import argument, mean_bytes_of, size
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf._runtime.context import Line, line_of, stack
from pytest_streamperf.server.clients import Request, ask, tasks
from pytest_streamperf.server.gauges import Read, Reading, reading_of
from pytest_streamperf.server.memory import Process, memory_of, steadily
from pytest_streamperf.server.serving import App, Door, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

# How often memory is read; the first part of the requests is for it to find its size.
_PARTS = 5
# Seconds for a server to let go of what it has answered.
_SETTLE = 0.05
# How many times something was loaded before anybody asked.
_BEFORE = {"on first use": 0, "at start": 1}


_P = ParamSpec("_P")
_T = TypeVar("_T")


class LoadCounter(Generic[_P, _T]):
    """Wraps what loads a model, and counts: called as that is, it returns what that does.

    `line` is whose call was the last of many.

    >>> load = LoadCounter(dict)
    >>> load(name="curves"), load.count
    ({'name': 'curves'}, 1)
    """

    def __init__(self, load: Callable[_P, _T]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self.count = 0
        self.line: Line | None = None

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Load it."""
        with self._lock:
            self.count += 1
            self.line = line_of(stack(sys._getframe(1)))  # noqa: SLF001 - there is no other way
        return self._load(*args, **kwargs)


class Counts(NamedTuple):
    """After so many clients, said as people say it: how often it was loaded, and was asked cold."""

    clients: str
    loads: float
    cold: float | None


class Loading(NamedTuple):
    """What was counted: loads `before` anybody came, when all had come at once, and after more.

    Memory is in bytes, after each part of `requests`; `noise` is no growth, `grew` says what for,
    and `line` who loads.
    """

    before: float
    at_once: Counts
    after: Counts
    memory: Sequence[int] = ()
    requests: int = 0
    noise: int = 0
    grew: str = ""
    line: Line | None = None


def assert_loaded_once(  # noqa: PLR0913 - what is asked, what is read, and how much of it
    server: App | str,
    request: Request,
    *,
    read: Read | None = None,
    loads: str | LoadCounter[..., Any],
    cold: str | None = None,
    loaded: Literal["on first use", "at start"] = "on first use",
    clients: int = 20,
    requests: int = 1_000,
    max_kept: float | str = 1024,
    pid: int | None = None,
) -> Verdict:
    """Have `clients` ask first, all at once, then `requests` more, and hold one load to them all.

    `read` is the path of what the server says of itself, JSON, or what returns it. `loads` is the
    name in it of how often it has loaded, or a `LoadCounter`; `cold` that of how many were answered
    by what had not run before, None where that is not counted. Names are as in
    `assert_gauges_settle`. It has to be a server that nobody has asked; `loaded="at start"` is for
    one that loads before it listens.

    An app lets all of the first in at the same moment; of a URL it is up to the network. Memory may
    grow by `max_kept` bytes for each request, in the last four fifths of them: Python's memory of
    an app, the process `pid` of a URL. These may take 32 KiB and 1 MiB for themselves: with fewer
    than 40 requests, and 1,280, that hides what may not be kept, and the headline says so.

    Raises `ServerExceeded`; `NothingMeasured` where nothing was loaded, or was before, or
    requests are refused; `ValueError` for too few clients or requests, and
    names that are nowhere; and what clients meet: `TimeoutError`, `ConnectionError`.

        predict = Request("POST", "/predict", {"x": [1, 2]})
        assert_loaded_once(app, predict, read="/models", loads="loads")
    """
    for name, value, least in (("clients", clients, 2), ("requests", requests, _PARTS)):
        if value < least:
            msg = f"{name} must be {least} or more, not {value!r}"
            raise ValueError(msg)
    if loaded not in _BEFORE:
        msg = f"loaded must be {' or '.join(map(repr, _BEFORE))}, not {loaded!r}"
        raise ValueError(msg)
    max_kept_bytes = argument("max_kept", mean_bytes_of, max_kept)
    names = [name for name in (loads, cold) if isinstance(name, str)]
    if names and read is None:
        msg = f"read= is needed: where the metrics are that hold {' and '.join(names)}"
        raise ValueError(msg)
    door = Door(server) if callable(server) else None
    with served(door or server) as url:

        async def counts(clients: str) -> Counts:
            told: Reading = await reading_of(url, read, names) if read and names else {}
            count = told[loads] if isinstance(loads, str) else loads.count
            return Counts(clients, count, told[cold] if cold is not None else None)

        async def main() -> Loading:
            before = (await counts("")).loads
            _check_fresh(before, loaded)
            if door is not None:
                door.close(clients)
            await _asked(url, request, clients)
            at_once = await counts(f"{clients} at once")
            part = requests // _PARTS
            with memory_of(server, pid) as process:
                memory = [
                    await _memory(url, request, part, clients, process) for _ in range(_PARTS)
                ]
                grew = process.where() if process else ""
            after = await counts(f"{part * _PARTS:,} more")
            _check_counted(after.loads, request)
            return Loading(
                before,
                at_once,
                after,
                [each for each in memory if each is not None],
                part * (_PARTS - 1),
                process.noise if process else 0,
                grew,
                None if isinstance(loads, str) else loads.line,
            )

        found = run("assert_loaded_once", main)
    outcome = judged(found, str(request), max_kept_bytes)
    return concluded(outcome)


def _check_fresh(count: float, loaded: str) -> None:
    """It is not known how often it is loaded when it is there already."""
    if min(count, 1) != _BEFORE[loaded]:
        raise nothing_measured(
            "server",
            f"{count:g} loads were counted before the first request",
            'give a server that nobody has asked; loaded="at start" where it is loaded by then'
            if count
            else 'leave loaded="at start" out, or count a load where it is begun',
        )


def _check_counted(count: float, request: Request) -> None:
    if not count:
        raise nothing_measured(
            "server",
            f"{request} was answered, and no load was counted",
            "count a load where it is begun, or give loads= a LoadCounter around what loads",
        )


async def _asked(url: str, request: Request, clients: int) -> None:
    async with tasks() as asking:
        asking.extend(asyncio.create_task(ask(url, request)) for _ in range(clients))
        for answer in await asyncio.gather(*asking):
            if answer.status // 100 != 2:  # noqa: PLR2004 - OK
                raise nothing_measured(
                    "server",
                    f"{request} answers {answer.status}",
                    "give a request that is answered",
                )


async def _memory(
    url: str, request: Request, requests: int, clients: int, process: Process | None
) -> int | None:
    """The memory after so many requests, `clients` at a time, if it is known."""
    for begun in range(0, requests, clients):
        await _asked(url, request, min(clients, requests - begun))
    if process is None:
        return None
    await asyncio.sleep(_SETTLE)
    return process.read()


def judged(found: Loading, request: str, max_kept: float) -> Verdict:
    """Hold what was counted against one load, none of them cold, and little that is kept."""
    _, at_once, after, memory, requests, noise, *_ = found
    grew = max(0.0, (memory[-1] - memory[0] - noise) / requests) if memory else 0.0
    # What a process may take for itself hides what few requests may not leave.
    kept = grew if memory and (grew > max_kept or noise <= max_kept * requests) else None
    figures = Figures(
        given={"request": request, "clients": f"{at_once.clients}, {after.clients}"},
        counts=known({"loads": after.loads, "cold": after.cold}),
        bytes=known({"kept per request": kept}),
        limits={"loads": 1, "cold": 0, "kept per request": max_kept},
    )
    fault = _fault(found, grew, max_kept)
    if fault is None:
        warm = "" if after.cold is None else ", warm"
        unseen = ", too few to see what is kept" if memory else ""
        flat = unseen if kept is None else f", {size(kept)} kept of each"
        what = f"loaded once for {at_once.clients} and {after.clients}{warm}{flat}"
        return passed(fit_line(what), figures)
    lines = labelled_lines({"means": fault.means, "try": fault.advice, "allow": fault.allow})
    where = fault.where or labelled_lines({"where": request})
    return exceeded(fault.headline, figures, [*where, *lines], table_lines(*fault.rows, "here"))


class _Fault(NamedTuple):
    """What is wrong, the table that shows it, where that is known, and what helps."""

    headline: str
    rows: tuple[Sequence[str], Sequence[Sequence[str]]]
    where: Sequence[str]
    means: str
    advice: str
    allow: str = ""


def _fault(found: Loading, kept: float, max_kept: float) -> _Fault | None:
    before, at_once, after, memory, requests, _, grew, line = found
    loader = location_lines([line.where], line.source, "") if line else []
    if before > 1:
        return _Fault(
            f"loaded {before:,g} times before anybody asked, limit 1",
            _counted(at_once),
            loader,
            "whatever starts the server loads it, and so does something else",
            "load it in one place, and hand it to the others",
        )
    if after.loads > at_once.loads:
        return _Fault(
            f"loaded {after.loads:,g} times for {at_once.clients} and {after.clients}, limit 1",
            _counted(at_once, after),
            loader,
            "whoever asks waits for a load, and has memory taken for it",
            "keep what was loaded for good, and look there first",
        )
    if at_once.loads > 1:
        return _Fault(
            f"loaded {at_once.loads:,g} times for {at_once.clients}, limit 1",
            _counted(at_once),
            loader,
            "who comes while it is loaded has it loaded again, at each start",
            "keep the load under way, a task, and have everyone wait for it",
        )
    if after.cold:
        return _Fault(
            f"the model had never run when {after.cold:,g} asked it, limit 0",
            _counted(at_once) if at_once.cold else _counted(at_once, after),
            [],
            "a first run takes longer: people wait for what the load can do",
            "run it once as it is loaded, on something of the usual size",
            "cold=None, if the first may wait",
        )
    if kept > max_kept and steadily(memory):
        part = requests // (len(memory) - 1)
        rows = [
            [f"{part * number:,}", size(each - memory[0])]
            for number, each in enumerate(memory[1:], start=1)
        ]
        return _Fault(
            f"{requests:,} requests left {size(kept)} each in memory, limit {size(max_kept)}",
            (["requests", "more memory"], rows),
            labelled_lines({"where": grew}),
            "something is kept of each request, until the server is killed",
            "keep numbers instead, or the last few: deque(maxlen=...)",
            "max_kept=..., if it has a bound that is not reached so soon",
        )
    return None


def _counted(*counts: Counts) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """A table: its head and its rows."""
    known_cold = all(each.cold is not None for each in counts)
    head = ["clients", "loads", *(["cold"] if known_cold else [])]
    return head, [
        [each.clients, f"{each.loads:,g}", *([f"{each.cold:,g}"] if known_cold else [])]
        for each in counts
    ]
