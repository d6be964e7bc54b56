"""How the reference server writes a turn: driven on the ASGI response itself, without a socket."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from starlette.types import Message as Sent

from reference_impl import writers
from reference_impl.agent import Event, TextDelta
from reference_impl.writers import EventStream

FRAME = b'event: delta\ndata: {"text": "x"}\n\n'
PING = b": ping\n\n"


class Turn:
    """A turn of some deltas, or without end, that rests after each of them."""

    def __init__(self, deltas: float = float("inf")) -> None:
        self.deltas = deltas
        self.pulled = 0
        self.closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """Play the turn."""
        try:
            while self.pulled < self.deltas:
                self.pulled += 1
                yield TextDelta("x")
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def write(
    turn: Turn,
    send: Callable[[Sent], Awaitable[None]],
    *,
    leaves: asyncio.Event | None = None,
    heartbeat: float = 15.0,
) -> None:
    """Write a turn to a client that leaves when told, and see that no task is left."""

    async def receive() -> Sent:
        await (leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    before = asyncio.all_tasks()
    try:
        await EventStream(turn.events(), heartbeat)({}, receive, send)
    finally:
        assert asyncio.all_tasks() == before
        assert turn.closed


def test_one_write_per_event() -> None:
    """Every event is one whole write, and an empty one ends the response."""
    sent: list[Sent] = []

    async def send(message: Sent) -> None:
        sent.append(message)

    asyncio.run(write(Turn(3), send))
    assert [message["type"] for message in sent] == ["http.response.start"] + [
        "http.response.body"
    ] * 4
    assert [message["body"] for message in sent[1:]] == [FRAME] * 3 + [b""]
    assert [message["more_body"] for message in sent[1:]] == [True] * 3 + [False]


def test_pings_never_land_inside_an_event() -> None:
    """With a ping always due and every write held up, no write begins inside another."""
    writing = False
    bodies = []

    async def send(message: Sent) -> None:
        nonlocal writing
        assert not writing
        writing = True
        for _ in range(3):
            await asyncio.sleep(0)
        writing = False
        bodies.append(message.get("body"))

    asyncio.run(write(Turn(50), send, heartbeat=1e-9))
    assert bodies.count(FRAME) == 50
    assert bodies.count(PING) > 10
    assert bodies[-1] == b""
    assert set(bodies) == {None, FRAME, PING, b""}


def test_the_engine_goes_at_the_pace_of_the_client() -> None:
    """The next delta is pulled only when the one before has been taken: nothing piles up."""
    turn = Turn(50)
    taken = 0

    async def send(message: Sent) -> None:
        nonlocal taken
        for _ in range(3):
            await asyncio.sleep(0)
        if message.get("body"):
            taken += 1
            assert turn.pulled == taken

    asyncio.run(write(turn, send))
    assert taken == 50


def test_a_client_that_leaves() -> None:
    """The turn is closed, no task is left and the response just ends."""

    async def scenario() -> None:
        leaves = asyncio.Event()

        async def send(message: Sent) -> None:
            if message.get("body"):
                leaves.set()

        await write(Turn(), send, leaves=leaves)

    asyncio.run(scenario())


def test_a_client_that_leaves_while_it_holds_up_a_write() -> None:
    """A write that nobody will ever take does not keep the turn."""

    async def scenario() -> None:
        leaves = asyncio.Event()

        async def send(message: Sent) -> None:
            if message.get("body"):
                leaves.set()
                await asyncio.Event().wait()

        await write(Turn(), send, leaves=leaves)

    asyncio.run(scenario())


def test_a_server_that_tells_by_the_write() -> None:
    """From ASGI 2.4 on, a write to a client that has left raises `OSError`."""

    async def send(message: Sent) -> None:
        if message.get("body"):
            raise BrokenPipeError

    asyncio.run(write(Turn(), send))


def test_a_server_that_stops() -> None:
    """It cancels the response, which ends as it should: with an error, and its turn closed."""
    sent: list[Sent] = []

    async def scenario() -> None:
        begun = asyncio.Event()

        async def send(message: Sent) -> None:
            sent.append(message)
            begun.set()

        response = asyncio.ensure_future(write(Turn(), send))
        await begun.wait()
        response.cancel()
        await response

    asyncio.run(scenario())
    *_, error, end = sent
    assert error["body"].startswith(b"event: error")
    assert b"the server is stopping" in error["body"]
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}


def test_a_client_that_reads_nothing_while_the_server_stops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Is not waited for."""
    monkeypatch.setattr(writers, "_LAST_WORDS", 0.01)

    async def scenario() -> None:
        stuck = asyncio.Event()

        async def send(message: Sent) -> None:
            if message.get("body"):
                stuck.set()
                await asyncio.Event().wait()

        response = asyncio.ensure_future(write(Turn(), send))
        await stuck.wait()
        response.cancel()
        await response

    asyncio.run(scenario())
