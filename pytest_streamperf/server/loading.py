"""Check that a server loads its model once, runs it before the first answer, and keeps no requests.

`assert_loaded_once` takes an ASGI app or a URL, and a request that needs the model. First many
clients ask at the same moment, before anything is loaded; then many more ask in turns. The check
returns a `Verdict`.

- The number of loads decides. The server publishes it, or a `LoadCounter` counts the calls of the
  loading function.
- A cold answer is an answer by a model that had never run before. None is allowed.
- Memory that grows steadily with the requests, beyond a limit for each request, is a leak.
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
from pytest_streamperf.server.memory import ProcessMemory, memory_of, steadily
from pytest_streamperf.server.serving import App, Door, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, passed

__tracebackhide__ = True  # pytest shows the user's own frames

# Memory is read after each of five parts of the requests. In the first part the process finds its
# size, so growth counts from the first reading. Not measured: five is a choice.
_PARTS = 5
# Seconds for a server to free the data of its answers before a reading. Not measured.
_SETTLE_S = 0.05
# Loads before the first request (0, or at least 1) that each value of `loaded` expects.
_LOADS_BEFORE = {"on first use": 0, "at start": 1}


_P = ParamSpec("_P")
_T = TypeVar("_T")


class LoadCounter(Generic[_P, _T]):
    """A wrapper around a function that loads a model: it counts the calls.

    It takes the arguments of that function and returns its result. `count` is the number of calls,
    and `line` is the source line of the last call.

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
        """Count the call, and return the result of the loading function."""
        with self._lock:
            self.count += 1
            self.line = line_of(stack(sys._getframe(1)))  # noqa: SLF001 - there is no other way
        return self._load(*args, **kwargs)


class LoadCounts(NamedTuple):
    """The numbers of loads and of cold answers after some clients, which `clients` describes.

    `clients` is a text such as "20 clients at once". `cold` is None where it is not counted.
    """

    clients: str
    loads: float
    cold: float | None


class LoadMeasurement(NamedTuple):
    """The counts and the memory readings of one check.

    `before` is the number of loads before the first request. `at_once` holds the counts after the
    first clients, and `after` those at the end. `memory` has one reading in bytes after each part
    of the later requests, and `requests` were sent between its first and its last reading. Growth
    up to `noise` bytes is ignored. `grew` names the line that allocated most, and `line` the line
    that loads.
    """

    before: float
    at_once: LoadCounts
    after: LoadCounts
    memory: Sequence[int] = ()
    requests: int = 0
    noise: int = 0
    grew: str = ""
    line: Line | None = None


def assert_loaded_once(  # noqa: PLR0913 - options of the load, the metrics and the limit
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
    """Check that a server loads its model once, however many clients send `request`.

    First `clients` clients send it at once, then `requests` more requests follow.

    `loads` is a `LoadCounter`, or the name of the number of loads in the server's metrics. `cold`
    is the name of the number of cold answers: answers by a model that had never run before. Leave
    `cold` out where the server does not count them. `read` is the path of the metrics, which are
    JSON, or a function that returns them. Names are as in `assert_gauges_settle`.

    The server must be fresh: nobody has sent it a request. Set `loaded="at start"` for a server
    that loads before it listens. An app receives the first requests at the same moment; for a URL,
    the network decides how they arrive.

    Memory may grow by `max_kept` bytes for each request: a number, or a text such as "1kB". The
    first fifth of the requests does not count. For an app, this is the memory that Python
    allocates; for a URL, it is the memory of the process `pid`. The check ignores growth of 32 KiB
    in an app and of 1 MiB in a process. So with the default `max_kept`, fewer than 40 requests (or
    1,280 with `pid`) are too few to see a leak, and the headline says so.

    Raises `ServerExceeded` for a second load, a cold answer or a leak. Raises `NothingMeasured`
    where no load was counted, where one was counted too early, or where the server refuses the
    request. Raises `ValueError` for too few clients or requests and for a name that is not in the
    metrics, and the `TimeoutError` or `ConnectionError` of a client.

        predict = Request("POST", "/predict", {"x": [1, 2]})
        assert_loaded_once(app, predict, read="/models", loads="loads")
    """
    for name, value, least in (("clients", clients, 2), ("requests", requests, _PARTS)):
        if value < least:
            msg = f"{name} must be {least} or more, not {value!r}"
            raise ValueError(msg)
    if loaded not in _LOADS_BEFORE:
        msg = f"loaded must be {' or '.join(map(repr, _LOADS_BEFORE))}, not {loaded!r}"
        raise ValueError(msg)
    max_kept_bytes = argument("max_kept", mean_bytes_of, max_kept)
    names = [name for name in (loads, cold) if isinstance(name, str)]
    if names and read is None:
        msg = f"read= is needed: the path of the metrics that hold {' and '.join(names)}"
        raise ValueError(msg)
    door = Door(server) if callable(server) else None
    with served(door or server) as url:

        async def counts(clients: str) -> LoadCounts:
            reading: Reading = await reading_of(url, read, names) if read and names else {}
            count = reading[loads] if isinstance(loads, str) else loads.count
            return LoadCounts(clients, count, reading[cold] if cold is not None else None)

        async def main() -> LoadMeasurement:
            before = (await counts("")).loads
            _check_fresh(before, loaded)
            if door is not None:
                door.close(clients)
            await _send_at_once(url, request, clients)
            at_once = await counts(f"{clients} clients at once")
            part = requests // _PARTS
            with memory_of(server, pid) as process:
                memory = [
                    await _memory_after(url, request, part, clients, process) for _ in range(_PARTS)
                ]
                grew = process.where() if process else ""
            after = await counts(f"{part * _PARTS:,} more")
            _check_counted(after.loads, request)
            return LoadMeasurement(
                before,
                at_once,
                after,
                [reading for reading in memory if reading is not None],
                part * (_PARTS - 1),
                process.noise if process else 0,
                grew,
                None if isinstance(loads, str) else loads.line,
            )

        measurement = run("assert_loaded_once", main)
    verdict = verdict_on_loads(measurement, str(request), max_kept_bytes)
    return concluded(verdict)


def _check_fresh(count: float, loaded: str) -> None:
    """Raise `NothingMeasured` if the loads before the first request do not fit `loaded`."""
    if min(count, 1) != _LOADS_BEFORE[loaded]:
        raise nothing_measured(
            "server",
            f"the number of loads before the first request was {count:g}",
            'start a fresh server, or set loaded="at start" if it loads before it listens'
            if count
            else 'leave out loaded="at start", or count each load where it begins',
        )


def _check_counted(count: float, request: Request) -> None:
    """Raise `NothingMeasured` if no load was counted after the last request."""
    if not count:
        raise nothing_measured(
            "server",
            f"{request} was answered, and no load was counted",
            "count each load where it begins, or wrap the loading function in a LoadCounter",
        )


async def _send_at_once(url: str, request: Request, clients: int) -> None:
    """Send a request from several clients at once; `NothingMeasured` for an answer that is no 2xx.

    Returns after the last answer.
    """
    async with tasks() as running:
        running.extend(asyncio.create_task(ask(url, request)) for _ in range(clients))
        for answer in await asyncio.gather(*running):
            if answer.status // 100 != 2:  # noqa: PLR2004 - OK
                raise nothing_measured(
                    "server",
                    f"{request} answers {answer.status}",
                    "give a request that the server answers with a 2xx status",
                )


async def _memory_after(
    url: str, request: Request, requests: int, clients: int, process: ProcessMemory | None
) -> int | None:
    """Send `requests` requests, `clients` at a time, and return the memory of `process` in bytes.

    Returns None where the process is unknown.
    """
    for begun in range(0, requests, clients):
        await _send_at_once(url, request, min(clients, requests - begun))
    if process is None:
        return None
    await asyncio.sleep(_SETTLE_S)
    return process.read()


def verdict_on_loads(measurement: LoadMeasurement, request: str, max_kept: float) -> Verdict:
    """Return the verdict on the loads, the cold answers, and the bytes kept for each request.

    `max_kept` is the limit of the bytes that may be kept for each request.
    """
    _, at_once, after, memory, requests, noise, *_ = measurement
    grew = max(0.0, (memory[-1] - memory[0] - noise) / requests) if memory else 0.0
    # With few requests, growth up to the limit is smaller than the noise, so it shows nothing.
    kept = grew if memory and (grew > max_kept or noise <= max_kept * requests) else None
    figures = Figures(
        given={"request": request, "clients": f"{at_once.clients}, {after.clients}"},
        counts=known({"loads": after.loads, "cold": after.cold}),
        bytes=known({"kept per request": kept}),
        limits={"loads": 1, "cold": 0, "kept per request": max_kept},
    )
    fault = _fault(measurement, grew, max_kept)
    if fault is None:
        warm_text = "" if after.cold is None else ", warm"
        unmeasured_text = ", too few to see leaks" if memory else ""
        kept_text = unmeasured_text if kept is None else f", {size(kept)} kept for each"
        headline = f"1 load for {at_once.clients} and {after.clients}{warm_text}{kept_text}"
        return passed(fit_line(headline), figures)
    lines = labelled_lines({"means": fault.means, "try": fault.advice, "allow": fault.allow})
    where = fault.where or labelled_lines({"where": request})
    return exceeded(fault.headline, figures, [*where, *lines], table_lines(*fault.rows, "here"))


class _LoadFault(NamedTuple):
    """A broken rule: headline, table, guilty line, meaning and advice.

    `rows` is the head and the rows of the table; `allow` is the argument that permits the fault.
    """

    headline: str
    rows: tuple[Sequence[str], Sequence[Sequence[str]]]
    where: Sequence[str]
    means: str
    advice: str
    allow: str = ""


def _fault(measurement: LoadMeasurement, kept: float, max_kept: float) -> _LoadFault | None:
    """Return the first broken rule, or None; `kept` and `max_kept` are bytes for each request."""
    before, at_once, after, memory, requests, _, grew, line = measurement
    loader = location_lines([line.where], line.source, "") if line else []
    if before > 1:
        return _LoadFault(
            f"{before:,g} loads before the first request, limit 1",
            _count_table(at_once),
            loader,
            "the server loads it more than once as it starts",
            "load it in one place, and pass it to the code that needs it",
        )
    if after.loads > at_once.loads:
        return _LoadFault(
            f"{after.loads:,g} loads for {at_once.clients} and {after.clients}, limit 1",
            _count_table(at_once, after),
            loader,
            "later requests load it again: each load costs time and memory",
            "keep the first result for the life of the process, and look for it there first",
        )
    if at_once.loads > 1:
        return _LoadFault(
            f"{at_once.loads:,g} loads for {at_once.clients}, limit 1",
            _count_table(at_once),
            loader,
            "requests that arrive during the first load start further loads",
            "keep the running load as a task, and let all requests await that task",
        )
    if after.cold:
        return _LoadFault(
            f"{after.cold:,g} of the requests reached a model that had never run, limit 0",
            _count_table(at_once) if at_once.cold else _count_table(at_once, after),
            [],
            "the first run of a model takes longer, and clients wait for it",
            "run the model once as part of the load, on an input of the usual size",
            "cold=None, if the first clients may wait",
        )
    if kept > max_kept and steadily(memory):
        part = requests // (len(memory) - 1)
        rows = [
            [f"{part * number:,}", size(reading - memory[0])]
            for number, reading in enumerate(memory[1:], start=1)
        ]
        return _LoadFault(
            f"{requests:,} requests left {size(kept)} each in memory, limit {size(max_kept)}",
            (["requests", "memory growth"], rows),
            labelled_lines({"where": grew}),
            "the server keeps data of each request, and its memory grows",
            "keep counters, or only the last few requests: deque(maxlen=...)",
            "max_kept=..., if the kept data has a bound above this growth",
        )
    return None


def _count_table(*counts: LoadCounts) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return the head and the rows of a table of counts, with cold answers where all have them."""
    known_cold = all(row.cold is not None for row in counts)
    head = ["clients", "loads", *(["cold"] if known_cold else [])]
    return head, [
        [row.clients, f"{row.loads:,g}", *([f"{row.cold:,g}"] if known_cold else [])]
        for row in counts
    ]
