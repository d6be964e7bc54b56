"""Tests of `EventStream`, the ASGI response that writes a turn, called without a socket."""

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
    """A turn that yields `deltas` deltas, or endlessly many, and suspends after each one.

    `pulled` counts the deltas that the response has taken. `closed` is whether the turn was closed.
    """

    def __init__(self, deltas: float = float("inf")) -> None:
        self.deltas = deltas
        self.pulled = 0
        self.closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the deltas as events."""
        try:
            while self.pulled < self.deltas:
                self.pulled += 1
                yield TextDelta("x")
                await asyncio.sleep(0)
        finally:
            self.closed = True


async def write_turn(
    turn: Turn,
    send: Callable[[Sent], Awaitable[None]],
    *,
    client_leaves: asyncio.Event | None = None,
    heartbeat: float = 15.0,
) -> None:
    """Write a turn to a client that disconnects when `client_leaves` is set.

    Asserts that no task is left, and that the turn was closed.
    """

    async def receive() -> Sent:
        await (client_leaves or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    tasks_before = asyncio.all_tasks()
    try:
        await EventStream(turn.events(), heartbeat)({}, receive, send)
    finally:
        assert asyncio.all_tasks() == tasks_before
        assert turn.closed


def test_one_write_per_event() -> None:
    """The response writes every event in one write, and ends with an empty write."""
    sent: list[Sent] = []

    async def send(message: Sent) -> None:
        sent.append(message)

    asyncio.run(write_turn(Turn(3), send))
    assert [message["type"] for message in sent] == ["http.response.start"] + [
        "http.response.body"
    ] * 4
    assert [message["body"] for message in sent[1:]] == [FRAME] * 3 + [b""]
    assert [message["more_body"] for message in sent[1:]] == [True] * 3 + [False]


def test_pings_never_land_inside_an_event() -> None:
    """No ping starts during another write, even if a ping is always due and every write is slow."""
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

    asyncio.run(write_turn(Turn(50), send, heartbeat=1e-9))
    assert bodies.count(FRAME) == 50
    assert bodies.count(PING) > 10
    assert bodies[-1] == b""
    assert set(bodies) == {None, FRAME, PING, b""}


def test_the_engine_goes_at_the_pace_of_the_client() -> None:
    """The response pulls a delta only after the client has taken the previous one."""
    turn = Turn(50)
    bodies_taken = 0

    async def send(message: Sent) -> None:
        nonlocal bodies_taken
        for _ in range(3):
            await asyncio.sleep(0)
        if message.get("body"):
            bodies_taken += 1
            assert turn.pulled == bodies_taken

    asyncio.run(write_turn(turn, send))
    assert bodies_taken == 50


def test_a_client_that_leaves() -> None:
    """When a client leaves, the turn is closed, no task is left, and the response ends silently."""

    async def scenario() -> None:
        client_leaves = asyncio.Event()

        async def send(message: Sent) -> None:
            if message.get("body"):
                client_leaves.set()

        await write_turn(Turn(), send, client_leaves=client_leaves)

    asyncio.run(scenario())


def test_a_client_that_leaves_while_it_holds_up_a_write() -> None:
    """A client that leaves while it holds up a write also ends the turn."""

    async def scenario() -> None:
        client_leaves = asyncio.Event()

        async def send(message: Sent) -> None:
            if message.get("body"):
                client_leaves.set()
                await asyncio.Event().wait()

        await write_turn(Turn(), send, client_leaves=client_leaves)

    asyncio.run(scenario())


def test_a_server_that_tells_by_the_write() -> None:
    """The response also ends silently if `send` raises `OSError`, as it does from ASGI 2.4 on."""

    async def send(message: Sent) -> None:
        if message.get("body"):
            raise BrokenPipeError

    asyncio.run(write_turn(Turn(), send))


def test_a_server_that_stops() -> None:
    """A server that stops cancels the response, which then sends an error event and its end."""
    sent: list[Sent] = []

    async def scenario() -> None:
        started = asyncio.Event()

        async def send(message: Sent) -> None:
            sent.append(message)
            started.set()

        response = asyncio.ensure_future(write_turn(Turn(), send))
        await started.wait()
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
    """A client that reads nothing does not keep the server from stopping."""
    monkeypatch.setattr(writers, "_LAST_WRITE_SECONDS", 0.01)

    async def scenario() -> None:
        stalled = asyncio.Event()

        async def send(message: Sent) -> None:
            if message.get("body"):
                stalled.set()
                await asyncio.Event().wait()

        response = asyncio.ensure_future(write_turn(Turn(), send))
        await stalled.wait()
        response.cancel()
        await response

    asyncio.run(scenario())
