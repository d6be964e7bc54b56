"""Fire at a server: clients that leave, bodies that nobody wants, a WebSocket that is none."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from pytest_streamperf._runtime.context import line_of
from pytest_streamperf.server.clients import Leave, Request, ask, tasks
from pytest_streamperf.server.gauges import Reading
from pytest_streamperf.server.serving import Seen
from pytest_streamperf.server.websocket_clients import connected

# What stands for a status where there is none.
HUNG_UP, SILENT, REFUSED = "hung up on", "no answer for 30 s", "refused by hanging up"
LEFT_OPEN, CLOSED = "left open", "closed"

_LARGE, _DEEP, _FEW = 10 * 2**20, 100_000, 10
_LOOK = 0.02

Fire = Callable[[Counter[str]], Awaitable[None]]
"""Does something to a server, and counts what clients got: statuses."""


@dataclass(slots=True)
class Hit:
    """One kind of fire, and what came of it."""

    what: str
    statuses: Counter[str] = field(default_factory=Counter)
    before: Reading = field(default_factory=dict)
    after: Reading = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    """Tasks that were not there before, by where they wait."""
    usual: str = "200"
    answers: str = "200"
    """The status of a request as good as any, before all and afterwards."""


class Target(NamedTuple):
    """A server, and what it is fired at with."""

    url: str
    requests: Sequence[Request]
    websocket: str | None
    crowd: int
    seen: Seen | None
    reading: Callable[[], Awaitable[Reading]]
    within: float

    def fires(self) -> Mapping[str, Fire]:
        """What to do, by what it is called."""
        paths = sorted({each.path for each in self.requests})
        large = [Request("POST", path, b" " * _LARGE, {"expect": "100-continue"}) for path in paths]
        deep = [Request("POST", path, b"[" * _DEEP + b"]" * _DEEP) for path in paths]
        few = [each for each in self.requests for _ in range(_FEW)]
        crowd = [self.requests[n % len(self.requests)] for n in range(self.crowd)]
        fires = {
            f"{len(few)} clients left midway": self._asks(few, "midway"),
            f"{len(crowd)} clients left at once": self._asks(crowd, "midway"),
            f"{len(crowd)} clients left unanswered": self._asks(crowd, "at once"),
            # Who goes on sending when it is refused may not come to read why.
            "a body of 10 MB": self._asks(large, "never", hung_up=REFUSED),
            "JSON nested 100,000 deep": self._asks(deep, "never"),
        }
        return fires | ({"a WebSocket that sends garbage": self._garbage} if self.websocket else {})

    def _asks(self, requests: Sequence[Request], leave: Leave, *, hung_up: str = HUNG_UP) -> Fire:
        async def fire(statuses: Counter[str]) -> None:
            async with tasks() as asking:
                asking.extend(asyncio.create_task(ask(self.url, each, leave)) for each in requests)
                await asyncio.wait(asking)
                for each in asking:
                    try:
                        answer = each.result()
                    except ConnectionError:
                        statuses[hung_up] += 1
                    except TimeoutError:
                        statuses[SILENT] += 1
                    else:
                        if answer is not None:
                            statuses[str(answer.status)] += 1

        return fire

    async def _garbage(self, statuses: Counter[str]) -> None:
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        async with connected(f"ws{self.url[4:]}{self.websocket}") as client:
            try:
                async with asyncio.timeout(self.within):
                    await client.send("{" * _DEEP)
                    await client.send(Random(0).randbytes(2**16))  # noqa: S311 - the same each time
                    client.transport.write(b"\xff" * 2**10)  # a frame that there is not
                    while True:
                        await client.recv()
            except ConnectionClosed:
                statuses[CLOSED] += 1
            except TimeoutError:
                statuses[LEFT_OPEN] += 1

    async def answers(self) -> str:
        """The status of the first request."""
        statuses: Counter[str] = Counter()
        await self._asks(self.requests[:1], "midway")(statuses)
        (status,) = statuses
        return status

    async def hit(self, what: str, fire: Fire, before: Reading, usual: str) -> Hit:
        """Fire, and see what is left when all has gone, or had the time to."""
        found, was = Hit(what, before=before, usual=usual), await self._tasks()
        await fire(found.statuses)
        found.answers = await self.answers()
        until = asyncio.get_running_loop().time() + self.within
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_LOOK)
            found.after, found.left = await self.reading(), await self._tasks() - was
            if found.after == found.before and not found.left:
                break
        return found

    async def _tasks(self) -> Counter[str]:
        """Tasks of the server's event loop, by where they wait."""
        if self.seen is None or self.seen.loop is None:
            return Counter()
        there = asyncio.run_coroutine_threadsafe(_waiting(), self.seen.loop)
        return await asyncio.wrap_future(there)


async def _waiting() -> Counter[str]:
    found: Counter[str] = Counter()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        line = line_of(task.get_stack(limit=1))
        found[line.where if line else str(task.get_coro())] += 1
    return found
