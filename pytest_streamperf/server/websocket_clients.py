"""Clients of a WebSocket, of each kind: fast, slow, stalled, recovering, vanished, idle."""

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

# Bytes of a message, and what sockets themselves may hold of what a client does not read.
MESSAGE, IN_SOCKETS = 2**16, 6 * 2**20
FAST = VANISHED = 3

# How much more than the limit, and that, is broadcast: all of it must have been left out.
_MORE = 8 * 2**20
_NUMBER = re.compile(r"streamperf (\d{6})")
# Seconds that the slow client takes for a message, and between looks and last messages.
_SLOWLY, _LOOK = 0.002, 0.02


@dataclass(slots=True)
class Heard:
    """A client: the numbers of the messages that it got, and whether and why it was hung up on."""

    who: str
    numbers: list[int] = field(default_factory=list)
    closed: bool = False
    why: str = ""


@dataclass(slots=True)
class Evidence:
    """What came of it.

    `flood` messages were broadcast while one client read nothing, or fewer where `stuck`. Of those
    that read and say something, `closed` were hung up on. For `silent` seconds at most one could
    say nothing, and for `untold` nothing was broadcast while a client kept quiet.
    """

    flood: int
    clients: list[Heard]
    stuck: bool = False
    hung_up: bool = False
    resumed: bool = False
    still_counted: float = 0.0
    quiet_stays: bool = False
    closed: list[Heard] = field(default_factory=list)
    silent: float = 0.0
    untold: float = 0.0

    @property
    def kept(self) -> int:
        """Bytes that were kept for the client that read nothing while they were broadcast."""
        return sum(number < self.flood for number in self.clients[-1].numbers) * MESSAGE


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """Connect a client, and hang up at the end, without a word.

    Raises `NothingMeasured` where there is no WebSocket.
    """
    # Of the extra that serves.
    from websockets.asyncio.client import connect  # noqa: PLC0415
    from websockets.exceptions import InvalidStatus  # noqa: PLC0415

    address = urlsplit(url)
    secure = address.scheme == "wss"
    # Small, so that little of what a client does not read is on its side.
    plain = socket.create_connection((address.hostname, address.port or (443 if secure else 80)))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MESSAGE)
    plain.setblocking(False)  # noqa: FBT003 - its only argument
    terms: dict[str, Any] = {"compression": None, "max_size": None, "ping_interval": None}
    try:
        client = await connect(url, sock=plain, max_queue=1, close_timeout=0, **terms)
    except InvalidStatus as error:
        raise nothing_measured(
            "server",
            f"no WebSocket at {address.path}: it answers {error.response.status_code}",
            "give the path of a WebSocket",
        ) from None
    try:
        yield client
    finally:
        client.transport.abort()
        await client.wait_closed()


@dataclass(slots=True)
class Drive:
    """How the server is reached, what was broadcast, and how long a client said nothing for.

    It may be used again: `first` is the number of the first message of this time, and `nobody` what
    the gauge was when it was used first.
    """

    url: str
    tell: Callable[[str], Awaitable[None]]
    within: float
    say: str
    every: float
    published: int = 0
    first: int = 0
    nobody: float | None = None
    silent: float = 0.0

    async def publish(self) -> int:
        """Broadcast a message; its number, of this time."""
        number, self.published = self.published, self.published + 1
        await self.tell(f"streamperf {number:06} ".ljust(MESSAGE, "x"))
        return number - self.first

    async def in_step(self, fast: Sequence[Heard], messages: int) -> bool:
        """Broadcast so many, and whether each reached those who read before the next one."""
        with suppress(TimeoutError):
            for _ in range(messages):
                async with asyncio.timeout(self.within):
                    number = await self.publish()
                    while not all(number in each.numbers[-1:] for each in fast):
                        if any(each.closed for each in fast):
                            return False
                        await asyncio.sleep(0)
            return True
        return False

    async def listen(self, client: Any, heard: Heard, pause: float = 0.0) -> None:
        """Read what a client gets until it is hung up on, with a pause after each message."""
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        try:
            while True:
                message = await client.recv()
                text = message if isinstance(message, str) else message.decode("utf-8", "replace")
                numbers = (int(number) - self.first for number in _NUMBER.findall(text))
                heard.numbers += (number for number in numbers if number >= 0)
                if pause:
                    await asyncio.sleep(pause)
        except ConnectionClosed as error:
            heard.closed, heard.why = True, str(error.rcvd or "no word")

    @asynccontextmanager
    async def connected(self, *, silent: bool = False) -> AsyncIterator[Any]:
        """Connect a client, which says something now and then."""
        async with connected(self.url) as client, tasks() as saying:
            if not silent:
                saying.append(asyncio.create_task(self._keep_saying(client)))
            yield client

    async def _keep_saying(self, client: Any) -> None:
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        said = clock.wall()
        with suppress(ConnectionClosed):
            while True:
                await client.send(self.say)
                try:
                    # A server's clock goes on, whatever that of this loop does.
                    while clock.wall() - said < self.every:  # noqa: ASYNC110
                        await asyncio.sleep(_LOOK)
                finally:
                    self.silent, said = max(self.silent, clock.wall() - said), clock.wall()


async def driven(
    drive: Drive,
    counted: Callable[[], Awaitable[float]],
    limit: int,
    idle: float | None,
) -> Evidence:
    """Have all kinds of clients, broadcast, and see what they get."""
    fast = [Heard(f"fast {number + 1}") for number in range(FAST)]
    slow, stalled, chatty = Heard("slow"), Heard("stalled"), Heard("chatty")
    found = Evidence((limit + IN_SOCKETS + _MORE) // MESSAGE, [*fast, slow, stalled])
    drive.first, drive.silent = drive.published, 0.0
    if drive.nobody is None:
        drive.nobody = await counted()
    else:
        await _left(counted, drive.nobody, drive.within)
    async with AsyncExitStack() as stack:
        listening = await stack.enter_async_context(tasks())

        async def listener(heard: Heard, pause: float = 0.0) -> None:
            client = await stack.enter_async_context(drive.connected())
            listening.append(asyncio.create_task(drive.listen(client, heard, pause)))

        for heard in fast:
            await listener(heard)
        await listener(slow, _SLOWLY)
        reader = await stack.enter_async_context(drive.connected())
        before = await counted()
        async with AsyncExitStack() as leaving:
            for _ in range(VANISHED):
                await leaving.enter_async_context(drive.connected())
        found.stuck = not await drive.in_step(fast, found.flood)
        if not found.stuck:
            listening.append(asyncio.create_task(drive.listen(reader, stalled)))
            found.resumed = await _resumes(drive, stalled, found.flood)
            found.hung_up = stalled.closed
            found.still_counted = await _left(counted, before, drive.within)
            if idle is not None:
                await listener(chatty)
                found.quiet_stays, found.untold = await _stays(drive, idle)
        # Not later: then it is our own doing.
        found.closed = [each for each in [*fast, chatty] if each.closed]
    found.silent = drive.silent
    return found


async def _resumes(drive: Drive, stalled: Heard, flood: int) -> bool:
    """Whether a client that reads again is told what is broadcast from now on."""
    with suppress(TimeoutError):
        async with asyncio.timeout(drive.within):
            while not stalled.closed:
                await drive.publish()
                await asyncio.sleep(_LOOK)
                if any(number >= flood for number in stalled.numbers[-1:]):
                    return True
    return False


async def _left(counted: Callable[[], Awaitable[float]], before: float, within: float) -> float:
    """How many more clients are counted than there were, when they had so long to go."""
    left = 0.0
    with suppress(TimeoutError):
        async with asyncio.timeout(within):
            while (left := await counted() - before) > 0:  # noqa: ASYNC110 - it is a server's
                await asyncio.sleep(_LOOK)
    return max(0.0, left)


async def _stays(drive: Drive, idle: float) -> tuple[bool, float]:
    """Whether a client that says nothing is let stay, while there is something to hear.

    And the most seconds for which there was nothing.
    """
    quiet, untold, told = Heard("quiet"), 0.0, clock.wall()
    async with drive.connected(silent=True) as client, tasks() as hearing:
        hearing.append(asyncio.create_task(drive.listen(client, quiet)))
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * idle + 1):
                while not quiet.closed:
                    await drive.publish()
                    await asyncio.sleep(idle / 10)
                    untold, told = max(untold, clock.wall() - told), clock.wall()
        return not quiet.closed, untold
