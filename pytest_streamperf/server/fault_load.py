"""Apply a fault load to a server: clients that leave, oversized bodies, WebSocket garbage.

`Target.fault_loads` returns the kinds of fault load by name. `Target.hit` applies one kind and
returns a `Hit`: the statuses that the clients received, and the state of the server before and
after.

- One kind runs at a time, so that a message can name the kind that left something behind.
- After each kind the server has `within` seconds to finish its tasks and restore its gauges.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from pytest_streamperf._runtime.context import line_of
from pytest_streamperf.server.clients import Leave, Request, ask, tasks
from pytest_streamperf.server.gauges import Reading
from pytest_streamperf.server.serving import ServedApp
from pytest_streamperf.server.websocket_clients import connected

# These texts stand for a status where the server sent none.
HUNG_UP, SILENT = "a closed connection", "no answer for 30 s"
REFUSED = "a closed connection (refused)"
LEFT_OPEN, CLOSED = "left open", "closed"

# Bytes of the oversized body. Not measured.
_LARGE_BYTES = 10 * 2**20
# Levels of nested lists. Not measured: far beyond 1,000, Python's default recursion limit.
_JSON_DEPTH = 100_000
# Clients that send each request in the first kind of fault load. Not measured.
_FEW_CLIENTS = 10
# Seconds between two polls of the server's state after a fault load. Not measured.
_POLL_S = 0.02

FaultLoad = Callable[[Counter[str]], Awaitable[None]]
"""A function that applies one kind of fault load, and counts the statuses that clients get."""


@dataclass(slots=True)
class Hit:
    """The result of one kind of fault load.

    `name` says which kind. `statuses` counts the answers that its clients got. `before` and `after`
    are readings of the gauges.
    """

    name: str
    statuses: Counter[str] = field(default_factory=Counter)
    before: Reading = field(default_factory=dict)
    after: Reading = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    """Tasks that the fault load left behind, counted by the line where they wait."""
    usual: str = "200"
    answers: str = "200"
    """The status of the first request: `usual` before any fault load, `answers` after this one."""


class Target(NamedTuple):
    """A server under test, the requests to send to it, and the means to read its state.

    `crowd` is the number of clients that leave at once. `websocket` is the path of a WebSocket, if
    there is one. `served_app` gives the event loop of an app, and is None for a URL. `reading`
    reads the gauges, and `within` is in seconds.
    """

    url: str
    requests: Sequence[Request]
    websocket: str | None
    crowd: int
    served_app: ServedApp | None
    reading: Callable[[], Awaitable[Reading]]
    within: float

    def fault_loads(self) -> Mapping[str, FaultLoad]:
        """Return the kinds of fault load by the name that messages use."""
        paths = sorted({request.path for request in self.requests})
        large = [
            Request("POST", path, b" " * _LARGE_BYTES, {"expect": "100-continue"}) for path in paths
        ]
        deep = [Request("POST", path, b"[" * _JSON_DEPTH + b"]" * _JSON_DEPTH) for path in paths]
        few = [request for request in self.requests for _ in range(_FEW_CLIENTS)]
        crowd = [self.requests[n % len(self.requests)] for n in range(self.crowd)]
        loads = {
            f"{len(few)} clients left midway": self._send_all(few, "midway"),
            f"{len(crowd)} clients left at once": self._send_all(crowd, "midway"),
            f"{len(crowd)} clients left unanswered": self._send_all(crowd, "at once"),
            # A client that is still sending when the server refuses and closes may not get the
            # answer, so a closed connection counts as refused.
            "a body of 10 MB": self._send_all(large, "never", hung_up=REFUSED),
            "JSON nested 100,000 deep": self._send_all(deep, "never"),
        }
        return loads | ({"a WebSocket that sends garbage": self._garbage} if self.websocket else {})

    def _send_all(
        self, requests: Sequence[Request], leave: Leave, *, hung_up: str = HUNG_UP
    ) -> FaultLoad:
        """Return a fault load that sends all `requests` at once, each over its own connection.

        `leave` says when a client leaves. `hung_up` stands for the status of a closed connection.
        """

        async def apply_load(statuses: Counter[str]) -> None:
            async with tasks() as sending:
                sending.extend(
                    asyncio.create_task(ask(self.url, request, leave)) for request in requests
                )
                await asyncio.wait(sending)
                for task in sending:
                    try:
                        answer = task.result()
                    except ConnectionError:
                        statuses[hung_up] += 1
                    except TimeoutError:
                        statuses[SILENT] += 1
                    else:
                        if answer is not None:
                            statuses[str(answer.status)] += 1

        return apply_load

    async def _garbage(self, statuses: Counter[str]) -> None:
        """Send text, random bytes and an invalid frame, and count whether the server closes."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        async with connected(f"ws{self.url[4:]}{self.websocket}") as client:
            try:
                async with asyncio.timeout(self.within):
                    await client.send("{" * _JSON_DEPTH)
                    await client.send(Random(0).randbytes(2**16))  # noqa: S311 - the same each time
                    client.transport.write(b"\xff" * 2**10)  # not a valid WebSocket frame
                    while True:
                        await client.recv()
            except ConnectionClosed:
                statuses[CLOSED] += 1
            except TimeoutError:
                statuses[LEFT_OPEN] += 1

    async def answers(self) -> str:
        """Send the first request, and return its status."""
        statuses: Counter[str] = Counter()
        await self._send_all(self.requests[:1], "midway")(statuses)
        (status,) = statuses
        return status

    async def hit(self, name: str, fault_load: FaultLoad, before: Reading, usual: str) -> Hit:
        """Apply one kind of fault load, and return its result.

        Wait until the gauges and tasks are as before, or for `within` seconds.
        """
        hit, tasks_before = Hit(name, before=before, usual=usual), await self._tasks()
        await fault_load(hit.statuses)
        hit.answers = await self.answers()
        deadline = asyncio.get_running_loop().time() + self.within
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(_POLL_S)
            hit.after, hit.left = await self.reading(), await self._tasks() - tasks_before
            if hit.after == hit.before and not hit.left:
                break
        return hit

    async def _tasks(self) -> Counter[str]:
        """Return the tasks of the app's event loop, counted by the line where they wait.

        The result is empty for a URL, whose event loop is out of reach.
        """
        if self.served_app is None or self.served_app.loop is None:
            return Counter()
        future = asyncio.run_coroutine_threadsafe(_waiting_tasks(), self.served_app.loop)
        return await asyncio.wrap_future(future)


async def _waiting_tasks() -> Counter[str]:
    """Return the tasks of the running loop except this one, counted by the line they wait at."""
    counts: Counter[str] = Counter()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        line = line_of(task.get_stack(limit=1))
        counts[line.where if line else str(task.get_coro())] += 1
    return counts
