"""Check that the gauges of a server return to their old values after its clients have gone.

`assert_gauges_settle` takes an ASGI app or a URL, requests, and names in the metrics that the
server itself publishes. For each request, one group of clients reads the answers to the end, one
leaves midway, and one leaves at once. The check returns a `Verdict`.

- A gauge must return to the value that it had before the group, and must never fall below 0.
- A total that counts starts must grow by as much as the total that counts ends.
- The groups come one after the other, so the verdict names the group that left a wrong number.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._results.metrics import Figures
from pytest_streamperf._results.text import labelled_lines, table_lines
from pytest_streamperf._results.units import Seconds, argument, seconds_of
from pytest_streamperf._results.verdict import Verdict
from pytest_streamperf.server.clients import Answer, Leave, Request, ask, tasks
from pytest_streamperf.server.serving import App, run, served
from pytest_streamperf.server.verdicts import concluded, exceeded, passed
from pytest_streamperf.wire.server import repeated_errors, unlogged

__tracebackhide__ = True  # pytest shows the user's own frames

Reading = Mapping[str, float]
"""The numbers of one reading of the metrics, by name."""

Read = str | Callable[[], Mapping[str, Any]]
"""The path of a server's metrics (JSON), or a function that returns them, called from a thread."""

_BEHAVIOURS: Mapping[Leave, str] = {
    "never": "read to the end",
    "midway": "left midway",
    "at once": "left at once",
}
# Seconds between two readings of the metrics. Not measured: short beside the default `within`, 5 s.
_POLL_S = 0.02
# Rows of the table in a message. Not measured: a message has at most 16 lines.
_MAX_ROWS = 4
# Settled readings in a row that end a phase. Not measured: the server may notice a client that left
# at once only after the first of them.
_SETTLED_READINGS = 2


class GaugePhase(NamedTuple):
    """A group of clients with one `request` and one `behaviour`, and the metrics around it.

    `before` and `after` are the metrics before and after the group. `lowest` holds the lowest value
    of each metric from start to end.
    """

    request: str
    clients: int
    behaviour: str
    before: Reading
    lowest: Reading
    after: Reading

    def grew(self, name: str) -> float:
        """Return by how much the metric `name` grew from before the group to after it."""
        return self.after[name] - self.before[name]


class GaugeFault(NamedTuple):
    """A broken rule: the headline, the metrics to show in the table, the meaning and the advice."""

    headline: str
    names: Sequence[str]
    means: str
    advice: str


def assert_gauges_settle(  # noqa: PLR0913 - options of the load and the metrics
    server: App | str,
    *,
    requests: Sequence[Request],
    read: Read,
    gauges: Sequence[str],
    totals: Sequence[tuple[str, str]] = (),
    clients: int = 10,
    within: Seconds = 5.0,
) -> Verdict:
    """Send `requests` from clients that stay or leave, and check the metrics of the server.

    Three groups of `clients` clients send each request: one reads the answers to the end, one
    leaves midway, one leaves at once. Give a request whose answer takes a while, so that clients
    can leave before its end, and one that fails, if there is one.

    `read` is the path of the metrics, which are JSON, or a function that returns them. `gauges` are
    names of metrics that must go back. `totals` are pairs of names: a counter of starts, and the
    counter of their ends. A name is the last part of a metric's path ("pending"), or several parts
    with dots between them ("ws.pending").

    After each group, gauges and totals have the time `within` to settle: seconds, or a text such as
    "5s".

    Raises `ServerExceeded` for a wrong gauge or total. Raises `NothingMeasured` where no request is
    given, where the metrics cannot be read, or where no client could leave before the end. Raises
    `ValueError` for a name that fits no metric or several, and the `TimeoutError` or
    `ConnectionError` of a client.

        chat = Request("POST", "/chat", {"message": "hello"})
        assert_gauges_settle(app, requests=[chat], read="/metrics", gauges=["in_flight"])
    """
    within_seconds = argument("within", seconds_of, within)
    if not gauges and not totals:
        msg = "gauges and totals are both empty: name at least one number of the metrics"
        raise ValueError(msg)
    if not requests:
        raise nothing_measured(
            "server", "no request to send", "give requests=[Request('POST', '/chat', {...})]"
        )
    with served(server) as url, unlogged(repeated_errors()):

        async def reading() -> Reading:
            return await reading_of(
                url, read, [*gauges, *(name for pair in totals for name in pair)]
            )

        def settled(before: Reading, after: Reading) -> bool:
            return all(after[gauge] == before[gauge] for gauge in gauges) and all(
                after[begun] - before[begun] == after[ended] - before[ended]
                for begun, ended in totals
            )

        async def main() -> tuple[list[GaugePhase], int]:
            phases, left_early = [], 0
            for request in requests:
                for leave in _BEHAVIOURS:
                    before = await reading()
                    async with tasks() as running:
                        running.extend(
                            asyncio.create_task(ask(url, request, leave)) for _ in range(clients)
                        )
                        phase = await _watch_group(
                            running, before, reading, settled, within_seconds
                        )
                        answers = [task.result() for task in running]
                    phases.append(
                        phase._replace(
                            request=str(request), behaviour=_behaviour_text(leave, answers)
                        )
                    )
                    left_early += sum(
                        answer is not None and not answer.complete for answer in answers
                    )
            return phases, left_early

        phases, left_early = run("assert_gauges_settle", main)
    if not left_early:
        raise nothing_measured(
            "server",
            "no client could leave midway: every answer was complete by then",
            "add a request whose answer takes a while, such as a stream",
        )
    verdict = verdict_on_phases(phases, gauges, totals)
    return concluded(verdict)


async def reading_of(url: str, read: Read, names: Sequence[str]) -> Reading:
    """Return the current values of the metrics `names`; see `assert_gauges_settle` for `read`."""
    if callable(read):
        return select_metrics(await asyncio.to_thread(read), names)
    answer = await ask(url, Request("GET", read))
    if answer.status != 200:  # noqa: PLR2004 - OK
        raise nothing_measured(
            "server", f"GET {read} answers {answer.status}", "set read= to the path of the metrics"
        )
    return select_metrics(json.loads(answer.body), names)


def select_metrics(data: Mapping[str, Any], names: Sequence[str]) -> Reading:
    """Return the numbers with these names, at any depth of the metrics in `data`.

    Raises `ValueError` for a name that fits no number or several.

    >>> select_metrics({"metrics": {"pending": 2}}, ["pending"])
    {'pending': 2}
    """
    numbers = dict(_numbers(data))
    selected = {}
    for name in names:
        fits = [path for path in numbers if f".{path}".endswith(f".{name}")]
        if len(fits) != 1:
            problem = (
                f"is ambiguous in the metrics: {' and '.join(fits)}"
                if fits
                else f"is none of the numbers in the metrics: {', '.join(numbers)}"
            )
            msg = f"{name!r} {problem}"
            raise ValueError(msg)
        selected[name] = numbers[fits[0]]
    return selected


def _numbers(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield the dotted path and the value of each number in nested mappings."""
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def _behaviour_text(leave: Leave, answers: Sequence[Answer | None]) -> str:
    """Return how a group of clients behaved and which statuses it got: "left midway (200)"."""
    statuses = sorted({answer.status for answer in answers if answer})
    return " ".join([_BEHAVIOURS[leave], *(f"({status})" for status in statuses)])


async def _watch_group(
    running: Sequence[asyncio.Task[Any]],
    before: Reading,
    reading: Callable[[], Awaitable[Reading]],
    settled: Callable[[Reading, Reading], bool],
    within: float,
) -> GaugePhase:
    """Read the metrics until all clients have gone and the metrics are settled.

    Settled metrics are awaited for at most `within` seconds after the last client has gone. The
    caller fills in the request and the behaviour of the returned phase.
    """
    time = asyncio.get_running_loop().time
    after, lowest, until, settled_readings = before, dict(before), time() + within, 0
    while settled_readings < _SETTLED_READINGS and time() < until:
        over = all(task.done() for task in running)
        after = await reading()
        lowest = {name: min(lowest[name], after[name]) for name in after}
        settled_readings = settled_readings + 1 if over and settled(before, after) else 0
        until = until if over else time() + within
        await asyncio.sleep(_POLL_S)
    return GaugePhase("", len(running), "", before, lowest, after)


def verdict_on_phases(
    phases: Sequence[GaugePhase], gauges: Sequence[str], totals: Sequence[tuple[str, str]]
) -> Verdict:
    """Return the verdict on the metrics that were read around each group of clients."""
    clients = sum(phase.clients for phase in phases)
    figures = Figures(given={"clients": clients, "gauges": len(gauges)})
    faults = ((phase, _fault(phase, phases[0], gauges, totals)) for phase in phases)
    phase, fault = next((pair for pair in faults if pair[1]), (None, None))
    if phase is None or fault is None:
        gauge_count = "1 gauge" if len(gauges) == 1 else f"{len(gauges)} gauges"
        headline = f"{gauge_count} unchanged after {clients} clients"
        return passed(headline, figures)
    until = phases[: phases.index(phase) + 1]
    shown_phases = [shown for shown in until if shown.request == phase.request][-_MAX_ROWS:]
    rows = [
        [f"{shown.clients} {shown.behaviour}", *(f"{shown.after[name]:g}" for name in fault.names)]
        for shown in shown_phases
    ]
    entries = {"where": phase.request, "means": fault.means, "try": fault.advice}
    table = table_lines(["clients", *fault.names], rows, "here")
    return exceeded(fault.headline, figures, labelled_lines(entries), table)


def _fault(
    phase: GaugePhase, first: GaugePhase, gauges: Sequence[str], totals: Sequence[tuple[str, str]]
) -> GaugeFault | None:
    """Return the first rule that a phase breaks, or None; `first` is the first phase of the check.

    All groups have the same number of clients. So a total of starts must grow in each phase by as
    much as in the first.
    """
    group = f"{phase.clients} clients {phase.behaviour}"
    for name in gauges:
        least, was, now = phase.lowest[name], phase.before[name], phase.after[name]
        if least < 0:
            return GaugeFault(
                f"{name} fell to {least:g} as {group}",
                [name],
                "the server counts more ends than starts of such requests",
                "decrement the gauge in one place: a finally: block around the whole app",
            )
        if now != was:
            return GaugeFault(
                f"{name} was {was:g}, and is {now:g} since {group}",
                [name],
                "the server does not count starts and ends of such requests alike",
                "decrement the gauge in a finally: block around the whole app",
            )
    for begun, ended in totals:
        if phase.grew(begun) != phase.grew(ended):
            return GaugeFault(
                f"{ended} grew by {phase.grew(ended):g}, {begun} by {phase.grew(begun):g}",
                [begun, ended],
                f"the server does not count starts and ends alike when {group}",
                "count each end in a finally: block around the whole app",
            )
        missed = first.grew(begun) - phase.grew(begun)
        # A server may never see the clients that leave at once.
        if missed > 0 and phase.behaviour != _BEHAVIOURS["at once"]:
            return GaugeFault(
                f"{begun} grew by {phase.grew(begun):g} when {group}",
                [begun],
                f"some starts are not counted: the first group added {first.grew(begun):g}",
                "count each start before the app does anything else with the request",
            )
    return None
