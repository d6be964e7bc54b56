"""Gauges that go back, and totals that miss nothing: what a server says of itself, held to account.

Clients read to the end, leave midway and leave at once, for each request; after each of these the
gauges are to be what they were, and never below 0 on the way. Which clients did it is then known.
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
Read = str | Callable[[], Mapping[str, Any]]
"""A server's metrics: a path that answers with JSON, or what returns them, from a thread."""

_WAYS: Mapping[Leave, str] = {
    "never": "read to the end",
    "midway": "left midway",
    "at once": "left at once",
}
# Seconds from look to look, and how many in a row must find everything settled.
_LOOK = 0.02
_MOST_ROWS = 4
_LOOKS = 2


class Phase(NamedTuple):
    """What some clients did, and what the server said of itself before, on the way and after."""

    request: str
    clients: int
    did: str
    before: Reading
    lowest: Reading
    after: Reading

    def grew(self, name: str) -> float:
        """By how much a number grew."""
        return self.after[name] - self.before[name]


class Fault(NamedTuple):
    """What is wrong: the headline, what shows it, what it means and what helps."""

    headline: str
    names: Sequence[str]
    means: str
    advice: str


def assert_gauges_settle(  # noqa: PLR0913 - what is sent, what is read, and how long
    server: App | str,
    *,
    requests: Sequence[Request],
    read: Read,
    gauges: Sequence[str],
    totals: Sequence[tuple[str, str]] = (),
    clients: int = 10,
    within: Seconds = 5.0,
) -> Verdict:
    """Have clients come and go, and hold what the server says of itself to that.

    `requests` are what clients ask for: one whose answer takes a while, so that they can leave
    before its end, and one that fails, if there is one. `read` is the path of the metrics, JSON, or
    what returns them. `gauges` are their names, by the last part or with those before it and dots
    between; `totals` are pairs: what counts a beginning, and what counts its end. A name that is
    nowhere in the metrics is a `ValueError`.

    After `clients` of a kind have gone, each gauge has `within` to be what it was: seconds, or a
    text such as "5s". Raises
    `ServerExceeded`, `NothingMeasured` where no client could leave before the end, and what
    clients meet: `TimeoutError`, `ConnectionError`.

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

        async def main() -> tuple[list[Phase], int]:
            phases, left = [], 0
            for request in requests:
                for leave in _WAYS:
                    before = await reading()
                    async with tasks() as asking:
                        asking.extend(
                            asyncio.create_task(ask(url, request, leave)) for _ in range(clients)
                        )
                        phase = await _watched(asking, before, reading, settled, within_seconds)
                        answers = [each.result() for each in asking]
                    phases.append(phase._replace(request=str(request), did=_did(leave, answers)))
                    left += sum(answer is not None and not answer.complete for answer in answers)
            return phases, left

        phases, left = run("assert_gauges_settle", main)
    if not left:
        raise nothing_measured(
            "server",
            "no client could leave midway: every answer was complete by then",
            "add a request whose answer takes a while, as a stream does",
        )
    found = judged(phases, gauges, totals)
    return concluded(found)


async def reading_of(url: str, read: Read, names: Sequence[str]) -> Reading:
    """What a server says of itself now, of these names; see `assert_gauges_settle`."""
    if callable(read):
        return named(await asyncio.to_thread(read), names)
    answer = await ask(url, Request("GET", read))
    if answer.status != 200:  # noqa: PLR2004 - OK
        raise nothing_measured(
            "server", f"GET {read} answers {answer.status}", "give read= the path of the metrics"
        )
    return named(json.loads(answer.body), names)


def named(data: Mapping[str, Any], names: Sequence[str]) -> Reading:
    """The numbers of these names, wherever they are in the metrics.

    >>> named({"metrics": {"pending": 2}}, ["pending"])
    {'pending': 2}
    """
    numbers = dict(_numbers(data))
    found = {}
    for name in names:
        fits = [path for path in numbers if f".{path}".endswith(f".{name}")]
        if len(fits) != 1:
            what = f"is both {' and '.join(fits)}" if fits else f"is none of {', '.join(numbers)}"
            msg = f"{name!r} {what}"
            raise ValueError(msg)
        found[name] = numbers[fits[0]]
    return found


def _numbers(data: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, float]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{before}{name}.")
        elif isinstance(value, int | float):
            yield f"{before}{name}", value


def _did(leave: Leave, answers: Sequence[Answer | None]) -> str:
    statuses = sorted({answer.status for answer in answers if answer})
    return " ".join([_WAYS[leave], *(f"({status})" for status in statuses)])


async def _watched(
    asking: Sequence[asyncio.Task[Any]],
    before: Reading,
    reading: Callable[[], Awaitable[Reading]],
    settled: Callable[[Reading, Reading], bool],
    within: float,
) -> Phase:
    """Read until all clients have gone and all is settled, or for so many seconds after that."""
    time = asyncio.get_running_loop().time
    after, lowest, until, looks = before, dict(before), time() + within, 0
    # A client that left at once may come to the server's notice after the one that looks.
    while looks < _LOOKS and time() < until:
        over = all(each.done() for each in asking)
        after = await reading()
        lowest = {name: min(lowest[name], after[name]) for name in after}
        looks = looks + 1 if over and settled(before, after) else 0
        until = until if over else time() + within
        await asyncio.sleep(_LOOK)
    return Phase("", len(asking), "", before, lowest, after)


def judged(
    phases: Sequence[Phase], gauges: Sequence[str], totals: Sequence[tuple[str, str]]
) -> Verdict:
    """Hold what was read against what clients did."""
    clients = sum(phase.clients for phase in phases)
    figures = Figures(given={"clients": clients, "gauges": len(gauges)})
    faults = ((phase, _fault(phase, phases[0], gauges, totals)) for phase in phases)
    phase, fault = next((each for each in faults if each[1]), (None, None))
    if phase is None or fault is None:
        names = "1 gauge" if len(gauges) == 1 else f"{len(gauges)} gauges"
        what = f"{names} back to what was before {clients} clients"
        return passed(what, figures)
    until = phases[: phases.index(phase) + 1]
    shown = [each for each in until if each.request == phase.request][-_MOST_ROWS:]
    rows = [
        [f"{each.clients} {each.did}", *(f"{each.after[name]:g}" for name in fault.names)]
        for each in shown
    ]
    entries = {"where": phase.request, "means": fault.means, "try": fault.advice}
    table = table_lines(["clients", *fault.names], rows, "here")
    return exceeded(fault.headline, figures, labelled_lines(entries), table)


def _fault(
    phase: Phase, first: Phase, gauges: Sequence[str], totals: Sequence[tuple[str, str]]
) -> Fault | None:
    who = f"{phase.clients} clients {phase.did}"
    for name in gauges:
        least, was, now = phase.lowest[name], phase.before[name], phase.after[name]
        if least < 0:
            return Fault(
                f"{name} fell to {least:g} as {who}",
                [name],
                "an end is counted twice: where it is handled, and where all is over",
                "count down in one place, a finally: around the whole app",
            )
        if now != was:
            return Fault(
                f"{name} was {was:g}, and is {now:g} since {who}",
                [name],
                "what is counted when it begins is not counted when it ends this way",
                "count down in a finally: around the whole app, not where its answer ends",
            )
    for begun, ended in totals:
        if phase.grew(begun) != phase.grew(ended):
            return Fault(
                f"{ended} grew by {phase.grew(ended):g}, {begun} by {phase.grew(begun):g}",
                [begun, ended],
                f"some ends are not counted when {who}",
                "count an end in a finally: around the whole app, whatever comes of it",
            )
        missed = first.grew(begun) - phase.grew(begun)
        if missed > 0 and phase.did != _WAYS["at once"]:  # a server may never see those
            return Fault(
                f"{begun} grew by {phase.grew(begun):g} when {who}",
                [begun],
                f"some beginnings are not counted: there were {first.grew(begun):g} before",
                "count a beginning before anything else is done with it",
            )
    return None
