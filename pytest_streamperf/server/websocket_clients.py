"""Drive WebSocket clients of each kind: fast, slow, stalled, recovering, vanished and idle.

`drive_clients` takes a `ClientDriver`: the address of the server and a function that broadcasts a
text. It connects the clients, broadcasts numbered messages, and returns a `BackpressureEvidence`:
the messages that each client received, and which connections the server closed.

- Fast clients stay in step: the next message follows when all of them have received the last one.
- One client reads nothing during the flood and reads afterwards. The messages that it then gets
  are the messages that the server and the sockets kept for it.
- Times in `ClientDriver` are in seconds, of a clock that runs on while this process stands still.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pytest_streamperf._results.conclusion import nothing_measured
from pytest_streamperf._runtime import clock
from pytest_streamperf.server.clients import tasks

# Bytes of one message. Not measured: large enough that a flood of a few hundred fills the sockets.
MESSAGE = 2**16
# Bytes that the sockets of both sides may hold for a client that does not read. Not measured here;
# docs/server.md names the same 6 MiB.
IN_SOCKETS = 6 * 2**20
# Clients of each of these two kinds. Not measured: one client could be right by chance.
FAST = VANISHED = 3

# Bytes that are broadcast beyond the limit and IN_SOCKETS, so that unbounded memory shows.
# Not measured: 8 MiB are 128 messages more than the server may keep.
_EXCESS_BYTES = 8 * 2**20
_NUMBER = re.compile(r"streamperf (\d{6})")
# Seconds that the slow client pauses after each message. Not measured.
_SLOW_PAUSE_S = 0.002
# Seconds between two polls, and between two messages after the flood. Not measured.
_POLL_S = 0.02


@dataclass(slots=True)
class ClientLog:
    """A client: its received message numbers, whether the server closed it, and the reason."""

    name: str
    numbers: list[int] = field(default_factory=list)
    closed: bool = False
    reason: str = ""


@dataclass(slots=True)
class BackpressureEvidence:
    """The result of one run with all kinds of clients.

    The server broadcast `flood` messages while the stalled client read nothing, or fewer if the
    fast clients were `stuck`. `closed` lists the fast and the chatty clients that the server
    closed. `hung_up` tells whether it closed the stalled client, and `resumed` whether that client
    received messages again. `still_counted` is the number of vanished clients left in the gauge.
    `quiet_stays` tells whether a client that sent nothing stayed connected.

    `silent` is the longest time in seconds between two messages that a client sent. `broadcast_gap`
    is the longest time between two broadcasts while the quiet client was connected.
    """

    flood: int
    clients: list[ClientLog]
    stuck: bool = False
    hung_up: bool = False
    resumed: bool = False
    still_counted: float = 0.0
    quiet_stays: bool = False
    closed: list[ClientLog] = field(default_factory=list)
    silent: float = 0.0
    broadcast_gap: float = 0.0

    @property
    def kept(self) -> int:
        """Bytes of the flood that the stalled client received afterwards: they were kept for it."""
        return sum(number < self.flood for number in self.clients[-1].numbers) * MESSAGE


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Connect a client, and abort its connection at the end without a closing handshake.

    Raises `NothingMeasured` if the server refuses to open a WebSocket at `url`.
    """
    # Imported here because websockets comes with an extra.
    from websockets.asyncio.client import connect  # noqa: PLC0415
    from websockets.exceptions import InvalidStatus  # noqa: PLC0415

    address = urlsplit(url)
    secure = address.scheme == "wss"
    connection = socket.create_connection(
        (address.hostname, address.port or (443 if secure else 80))
    )
    # A small receive buffer keeps unread messages on the server's side.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MESSAGE)
    connection.setblocking(False)  # noqa: FBT003 - its only argument
    options: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None}
    try:
        client = await connect(url, sock=connection, max_queue=1, close_timeout=0, **options)
    except InvalidStatus as error:
        raise nothing_measured(
            "server",
            f"no WebSocket at {address.path}: the server answers {error.response.status_code}",
            "give the path of a WebSocket",
        ) from None
    try:
        yield client
    finally:
        client.transport.abort()
        await client.wait_closed()


@dataclass(slots=True)
class ClientDriver:
    """The address of a server, the means to broadcast, and the state of the broadcasts.

    Clients send `say` every `every` seconds; a message may take `within` seconds. `published`
    counts the messages of all runs. One driver serves several runs: `first` is the number of the
    first message of the current run, and `initial_count` the gauge before the first run. `silent`
    is the longest time in seconds between two messages that a client sent in the current run.
    """

    url: str
    broadcast: Callable[[str], Awaitable[None]]
    within: float
    say: str
    every: float
    published: int = 0
    first: int = 0
    initial_count: float | None = None
    silent: float = 0.0

    async def publish(self) -> int:
        """Broadcast one message, and return its number within the current run."""
        number, self.published = self.published, self.published + 1
        await self.broadcast(f"streamperf {number:06} ".ljust(MESSAGE, "x"))
        return number - self.first

    async def in_step(self, fast: Sequence[ClientLog], messages: int) -> bool:
        """Broadcast `messages`, each after all fast clients have received the one before.

        Return False if a fast client is closed, or receives no message for `within` seconds.
        """
        with suppress(TimeoutError):
            for _ in range(messages):
                async with asyncio.timeout(self.within):
                    number = await self.publish()
                    while not all(number in client.numbers[-1:] for client in fast):
                        if any(client.closed for client in fast):
                            return False
                        await asyncio.sleep(0)
            return True
        return False

    async def listen(self, client: Any, log: ClientLog, pause: float = 0.0) -> None:
        """Read messages until the server closes the client, with `pause` seconds after each.

        The numbers go into `log`. Numbers below 0 belong to an earlier run and are left out.
        """
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        try:
            while True:
                message = await client.recv()
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                numbers = (int(number) - self.first for number in _NUMBER.findall(text))
                log.numbers += (number for number in numbers if number >= 0)
                if pause:
                    await asyncio.sleep(pause)
        except ConnectionClosed as error:
            log.closed, log.reason = True, str(error.rcvd or "no close frame")

    @asynccontextmanager
    async def connected(self, *, silent: bool = False) -> AsyncIterator[Any]:
        """Connect a client that sends `say` every `every` seconds, or nothing if `silent`."""
        async with connected(self.url) as client, tasks() as senders:
            if not silent:
                senders.append(asyncio.create_task(self._send_regularly(client)))
            yield client

    async def _send_regularly(self, client: Any) -> None:
        """Send `say` every `every` seconds, and record the longest pause in `silent`."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        last_sent = clock.wall()
        with suppress(ConnectionClosed):
            while True:
                await client.send(self.say)
                try:
                    # The clock of this event loop may stand still; that of the server runs on.
                    while clock.wall() - last_sent < self.every:  # noqa: ASYNC110
                        await asyncio.sleep(_POLL_S)
                finally:
                    self.silent, last_sent = (
                        max(self.silent, clock.wall() - last_sent),
                        clock.wall(),
                    )


async def drive_clients(
    drive: ClientDriver,
    client_count: Callable[[], Awaitable[float]],
    limit: int,
    idle: float | None,
) -> BackpressureEvidence:
    """Connect clients of all kinds, broadcast to them, and return the messages they received.

    `client_count` reads the gauge. `limit` is the number of bytes that the server may keep for the
    stalled client. `idle` is in seconds; without it there is no quiet client.
    """
    fast = [ClientLog(f"fast {number + 1}") for number in range(FAST)]
    slow, stalled, chatty = ClientLog("slow"), ClientLog("stalled"), ClientLog("chatty")
    evidence = BackpressureEvidence(
        (limit + IN_SOCKETS + _EXCESS_BYTES) // MESSAGE, [*fast, slow, stalled]
    )
    drive.first, drive.silent = drive.published, 0.0
    if drive.initial_count is None:
        drive.initial_count = await client_count()
    else:
        await _still_counted(client_count, drive.initial_count, drive.within)
    async with AsyncExitStack() as stack:
        listening = await stack.enter_async_context(tasks())

        async def start_listener(log: ClientLog, pause: float = 0.0) -> None:
            client = await stack.enter_async_context(drive.connected())
            listening.append(asyncio.create_task(drive.listen(client, log, pause)))

        for log in fast:
            await start_listener(log)
        await start_listener(slow, _SLOW_PAUSE_S)
        stalled_client = await stack.enter_async_context(drive.connected())
        count_before = await client_count()
        async with AsyncExitStack() as vanishing:
            for _ in range(VANISHED):
                await vanishing.enter_async_context(drive.connected())
        evidence.stuck = not await drive.in_step(fast, evidence.flood)
        if not evidence.stuck:
            listening.append(asyncio.create_task(drive.listen(stalled_client, stalled)))
            evidence.resumed = await _resumes(drive, stalled, evidence.flood)
            evidence.hung_up = stalled.closed
            evidence.still_counted = await _still_counted(client_count, count_before, drive.within)
            if idle is not None:
                await start_listener(chatty)
                evidence.quiet_stays, evidence.broadcast_gap = await _quiet_stays(drive, idle)
        # Read `closed` before this block ends, because its end closes all clients.
        evidence.closed = [client for client in [*fast, chatty] if client.closed]
    evidence.silent = drive.silent
    return evidence


async def _resumes(drive: ClientDriver, stalled: ClientLog, flood: int) -> bool:
    """Return whether the stalled client receives new broadcasts once it reads again."""
    with suppress(TimeoutError):
        async with asyncio.timeout(drive.within):
            while not stalled.closed:
                await drive.publish()
                await asyncio.sleep(_POLL_S)
                if any(number >= flood for number in stalled.numbers[-1:]):
                    return True
    return False


async def _still_counted(
    client_count: Callable[[], Awaitable[float]], before: float, within: float
) -> float:
    """Return how many clients the gauge counts beyond `before`, after at most `within` seconds."""
    excess = 0.0
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while (excess := await client_count() - before) > 0:  # noqa: ASYNC110 - a server's gauge
                await asyncio.sleep(_POLL_S)
    return max(0.0, excess)


async def _quiet_stays(drive: ClientDriver, idle: float) -> tuple[bool, float]:
    """Return whether a client that sends nothing stays connected while it receives broadcasts.

    The second value is the longest time in seconds between two broadcasts.
    """
    quiet, broadcast_gap, last_broadcast = ClientLog("quiet"), 0.0, clock.wall()
    async with drive.connected(silent=True) as client, tasks() as listening:
        listening.append(asyncio.create_task(drive.listen(client, quiet)))
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * idle + 1):
                while not quiet.closed:
                    await drive.publish()
                    await asyncio.sleep(idle / 10)
                    broadcast_gap, last_broadcast = (
                        max(broadcast_gap, clock.wall() - last_broadcast),
                        clock.wall(),
                    )
        return not quiet.closed, broadcast_gap
