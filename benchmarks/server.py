"""What does the reference server cost under load? Beside a bare app that sends the same bytes.

    python -m benchmarks.server                             # a quarter of an hour
    python -m benchmarks.server --crowds 100 --rounds 1
    python -m benchmarks.server --crowds 1000 --every 0.05  # each delta takes its time
    python -m benchmarks.server --only start-up

Streams of 1,000 deltas, read by 1, 100 and 1,000 clients at once: turns of the agent, beside a
bare ASGI app that sends what they came to, write for write, all at a time or with a rest where
the agent has one; and replies as OpenAI streams them, whose deltas share writes. Then 100 at once
with each seeded regression in place that they pass by, beside none; then how long the server
takes to start. Each has a server of its own, in a process of its own, as the crowd is. All are run
in every round; told are medians of the rounds, of a ratio the median of the ratios within each.
"""

import argparse
import asyncio
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median
from typing import IO, Any, NamedTuple

import psutil

from benchmarks.crowd import BODY
from benchmarks.environment import ROOT, machine
from pytest_streamperf.wire.server import serve_app
from reference_impl import REGRESSIONS, create_app, regressed
from reference_impl.agent import Message
from reference_impl.demo import paced

DELTAS = 1_000
RUN, REPLY = "/agents/demo/run", "/v1/chat/completions"
PATHS = {"bare": RUN, "bare, in turns": RUN, "agent": RUN, "replies": REPLY}
# After how many writes a bare app lets others go on: after none, or as often as the agent.
RESTS = {"bare": DELTAS * 2, "bare, in turns": 4}
STACKS = {"asyncio": "h11", "uvloop": "httptools"}
CROWD = 100
"""With regressions."""

# What these streams pass by, and on the way to what.
PASSED = {
    "reference_impl.agent:Reply": "agent",
    "reference_impl.responses:ResponseWriter": "replies",
    "reference_impl.metrics:Tracked": "agent",
    "reference_impl.cors:allowed": "agent",
    "reference_impl.app:read_json": "agent",
    "reference_impl.writers:to_the_end": "agent",
}
# A stream by itself is over too soon to tell what it costs; a few take no memory that would show.
_STREAMS, _WARM_UP, _LARGE = 20, 3, 50
# Of all turns, the bare app's too, in bytes: one.
_LENGTHS: set[int] = set()


class Seen(NamedTuple):
    """Seconds of CPU per delta, to the first chunk (median, 99th percentile), of the longest gap.

    And bytes of memory per stream; seconds of CPU per delta of the crowd itself.
    """

    cpu: float
    first: float
    late: float
    gap: float
    memory: float
    reading: float


async def engine(_messages: list[Message]) -> AsyncIterator[str]:
    """Say all there is, without a pause."""
    for number in range(DELTAS):
        yield f"word {number} "


def bare(every: float, writes_before_rest: int) -> Any:
    """An app that sends what a turn of the agent comes to, in the same writes."""
    start, *bodies = asyncio.run(_recorded())

    async def app(_scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send(start)
        for number, body in enumerate(bodies, start=1):
            if every:
                await asyncio.sleep(every)
            await send(body)
            if number % writes_before_rest == 0:
                await asyncio.sleep(0)

    return app


async def _recorded() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = []
    asked = iter([{"type": "http.request", "body": BODY, "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in asked:
            return message
        return await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    scope = {"type": "http", "method": "POST", "path": RUN, "headers": [], "query_string": b""}
    await create_app(engine)(scope, receive, send)
    return told


def serve(subject: str, every: float, loop: Any, names: Sequence[str]) -> None:
    """Serve, and answer each line of the standard input with what has been used so far."""
    said = paced(engine, every) if every else engine
    app = bare(every, RESTS[subject]) if subject in RESTS else create_app(said)
    with regressed(*names), serve_app(app, loop=loop, http=STACKS[loop]) as url:  # type: ignore[arg-type]
        print(url.rpartition(":")[2], flush=True)
        for _ in sys.stdin:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(time.process_time(), psutil.Process().memory_info().rss, peak, flush=True)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[str, IO[str], IO[str]]]:
    """The port of a server, and where it is asked for what it has used."""
    command = [sys.executable, "-m", "benchmarks.server", "--serve", *arguments]
    with subprocess.Popen(  # noqa: S603 - ours
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        assert process.stdout is not None  # noqa: S101 - so is this
        try:
            yield process.stdout.readline().strip(), process.stdin, process.stdout
        finally:
            process.kill()


def seen(subject: str, clients: int, every: float, loop: str, *names: str) -> Seen:
    """What a crowd comes to, and the server that it reads from."""
    times = 1 if every else max(1, _STREAMS // clients)
    regress = ["--regress", *names] if names else []
    with serving(subject, "--every", str(every), "--loop", loop, *regress) as (port, ask, answer):

        def used() -> list[float]:
            ask.write("\n")
            ask.flush()
            return [float(each) for each in answer.readline().split()]

        if not every:
            _read(port, subject, 1, _WARM_UP)
        before = used()
        crowd = _read(port, subject, clients, times)
        after = used()
    deltas = DELTAS * clients * times
    return Seen(
        cpu=(after[0] - before[0]) / deltas,
        first=median(crowd["first"]),
        late=sorted(crowd["first"])[math.ceil(0.99 * len(crowd["first"])) - 1],
        gap=max(crowd["gap"]),
        memory=(after[2] - before[1]) / clients if clients >= _LARGE else math.nan,
        reading=crowd["cpu"] / deltas,
    )


def _read(port: str, subject: str, clients: int, times: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.crowd", port, PATHS[subject]]
    printed = subprocess.run(  # noqa: S603 - ours
        [*command, str(clients), str(times)],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    crowd = json.loads(printed)
    if PATHS[subject] == RUN:
        _LENGTHS.update(crowd["size"])
        if len(_LENGTHS) > 1:
            sys.exit(f"{subject}: not the same bytes as before: streams of {_LENGTHS}")
    return crowd


def compared(those: Mapping[str, Callable[[], Seen]], rounds: int) -> None:
    """Run all of them in every round, and print them; ratios are to the first."""
    found: dict[str, list[Seen]] = {name: [] for name in those}
    for _ in range(rounds):
        for name, run in those.items():
            found[name].append(run())
    base = next(iter(found.values()))
    for name, rows in found.items():
        ratio = median(row.cpu / other.cpu for row, other in zip(rows, base, strict=True))
        middle = Seen(*(median(column) for column in zip(*rows, strict=True)))
        memory = "" if math.isnan(middle.memory) else f"{middle.memory / 1e3:.1f}"
        print(
            f"{name:32} {middle.cpu * 1e6:7.1f} {ratio:6.2f} {middle.first * 1e3:9.1f}"
            f" {middle.late * 1e3:9.1f} {middle.gap * 1e3:9.1f} {memory:>8}"
            f" {middle.reading * 1e6:7.1f}",
            flush=True,
        )


def head(title: str) -> None:
    """Name the columns."""
    print(
        f"\n{title:32} {'us CPU':>7} {'':6} {'first':>9} {'first':>9} {'longest':>9} {'kB per':>8}"
        f" {'us to':>7}\n{'':32} {'a delta':>7} {'ratio':>6} {'chunk ms':>9} {'99% ms':>9}"
        f" {'gap ms':>9} {'stream':>8} {'read':>7}"
    )


def crowds(sizes: Sequence[int], every: float, rounds: int) -> None:
    """Crowds of each size, on each stack that there is."""
    for loop, http in STACKS.items():
        if find_spec(loop) is None or find_spec(http) is None:
            print(f"\n{loop} and {http}: not installed")
            continue
        head(f"{loop} and {http}")
        for size in sizes:
            those = {
                f"{size:5,} at once, {subject}": lambda subject=subject, size=size, loop=loop: seen(
                    subject, size, every, loop
                )
                for subject in PATHS
            }
            compared(those, rounds)


def regressions(rounds: int) -> None:
    """A crowd with each in place that it passes by."""
    for subject in ("agent", "replies"):
        head(f"{CROWD} at once, {subject}")
        names = [name for name, each in REGRESSIONS.items() if PASSED.get(each.target) == subject]
        those = {
            name or "none": lambda name=name, subject=subject: seen(
                subject, CROWD, 0.0, "asyncio", *filter(None, [name])
            )
            for name in ["", *names]
        }
        compared(those, rounds)
    others = [name for name, each in REGRESSIONS.items() if each.target not in PASSED]
    print(f"\nnone of these streams passes by: {', '.join(others)}")


def start_up(rounds: int) -> None:
    """Seconds until `python -m reference_impl` says where it serves."""
    took: dict[str, list[float]] = {"": [], "serving": []}
    for _ in range(rounds):
        for what, command in (("", ["-c", "print()"]), ("serving", ["-m", "reference_impl"])):
            start = time.perf_counter()
            with subprocess.Popen(  # noqa: S603 - ours
                [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, text=True
            ) as process:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                process.stdout.readline()
                took[what].append(time.perf_counter() - start)
                process.terminate()
    bare, serving = median(took[""]), median(took["serving"])
    print(
        f"\nstart-up: {serving * 1e3:.0f} ms, longest {max(took['serving']) * 1e3:.0f} ms,"
        f" of which Python alone {bare * 1e3:.0f} ms"
    )


def main() -> None:
    """Run all of it, or what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parts = ("crowds", "regressions", "start-up")
    parser.add_argument("--only", choices=parts, nargs="+", default=parts)
    parser.add_argument("--crowds", type=int, nargs="+", default=[1, 100, 1_000])
    parser.add_argument("--every", type=float, default=0.0, help="seconds from delta to delta")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", choices=PATHS, help=argparse.SUPPRESS)
    parser.add_argument("--loop", choices=STACKS, default="asyncio", help=argparse.SUPPRESS)
    parser.add_argument("--regress", nargs="+", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.every, options.loop, options.regress)
        return
    typed = " ".join(["python -m benchmarks.server", *sys.argv[1:]])
    print(f"{machine()}, {time.strftime('%Y-%m-%d')}: {typed}")
    if "crowds" in options.only:
        crowds(options.crowds, options.every, options.rounds)
    if "regressions" in options.only:
        regressions(options.rounds)
    if "start-up" in options.only:
        start_up(3 * options.rounds)


if __name__ == "__main__":
    main()
