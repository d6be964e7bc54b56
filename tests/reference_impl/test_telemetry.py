"""Telemetry over WebSockets: what is told, kept, left out, and who is hung up on."""

import asyncio
import json

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pytest_streamperf import VirtualClock
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app
from reference_impl.telemetry import Hub, Session, broadcast


def listening(url, **terms):
    """Connect a client."""
    return connect(f"ws{url[4:]}/ws/telemetry", compression=None, **terms)


def told(client, text):
    """Read until there is a message with that in it."""
    while text not in (message := client.recv(timeout=10)):
        pass
    return message


def test_what_is_told():
    """The metrics, every second, in which this client is counted."""
    with serve_app(create_app()) as url, listening(url) as client:
        found = json.loads(client.recv(timeout=10))["metrics"]
    assert found["pendingWebSockets"] == 1
    assert found["totals"]["websocketOpens"] == 1


def test_everyone_is_told():
    """What is published, and those who left are counted out."""
    with serve_app(create_app(debug=True)) as url:
        with listening(url) as first, listening(url) as second:
            httpx.post(f"{url}/api/dev/telemetry", content="héllo")
            assert told(first, "héllo") == told(second, "héllo") == "héllo"
            found = httpx.get(f"{url}/api/dev/metrics").json()
            assert found["telemetry"] == {"clients": 2, "bufferedBytes": 0}
        assert httpx.get(f"{url}/api/dev/metrics").json()["metrics"]["pendingWebSockets"] == 0


def test_who_says_nothing_is_closed():
    """With 1001, and the reason."""
    with (
        serve_app(create_app(hub=Hub(idle=0.05))) as url,
        listening(url) as client,
        pytest.raises(ConnectionClosed) as closed,
    ):
        client.recv(timeout=10)
    assert closed.value.rcvd.code == 1001
    assert closed.value.rcvd.reason == "nothing was heard for 0.05 s"


class Stalled:
    """A socket that takes nothing until it may, and says nothing."""

    def __init__(self):
        self.may = asyncio.Event()
        self.texts, self.closed = [], None

    async def accept(self):
        """Shake hands."""

    async def receive(self):
        """Wait."""
        await asyncio.Event().wait()

    async def send_text(self, text):
        """Take a message."""
        await self.may.wait()
        self.texts.append(text)

    async def close(self, code, reason):
        """Hang up."""
        self.closed = code, reason


async def served(hub, texts):
    """Serve a socket that takes nothing, while there is something to tell, and then takes it."""
    client = Stalled()
    serving = asyncio.create_task(Session(hub, client).serve())
    await asyncio.sleep(0)
    for text in texts:
        await broadcast(hub, text)
    kept = hub.snapshot()["bufferedBytes"]
    client.may.set()
    await asyncio.sleep(0.5)
    await broadcast(hub, "here again")
    await asyncio.sleep(0.1)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert hub.snapshot() == {"clients": 0, "bufferedBytes": 0}
    return client, kept


def test_who_falls_behind_is_told_so():
    """How many messages were left out; and what comes then is told again."""
    with VirtualClock():
        client, kept = asyncio.run(served(Hub(limit=100), ["x" * 60, "y" * 60, "z" * 60]))
    assert kept == 60
    assert client.texts == ["x" * 60, '{"skipped": 2}', "here again"]


def test_who_falls_behind_is_hung_up_on():
    """By the other policy, with 1013."""
    with VirtualClock():
        client, _ = asyncio.run(served(Hub(limit=100, policy="close"), ["x" * 60, "y" * 60]))
    assert client.closed == (1013, "100 bytes behind")


def test_a_session_keeps_bytes_not_characters():
    """A message of two bytes a character takes twice the room."""

    async def main():
        hub = Hub(limit=10)
        session = Session(hub, None)
        hub.sessions.add(session)
        await broadcast(hub, "äöüß")
        await broadcast(hub, "ä")
        await broadcast(hub, "ö")
        return session

    session = asyncio.run(main())
    assert (session.buffered, session.skipped) == (10, 1)


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"limit": 0}, "limit=0: must be more than 0"),
        ({"idle": float("nan")}, "idle=nan: must be more than 0"),
        ({"policy": "drop"}, "policy='drop': must be 'skip' or 'close'"),
    ],
)
def test_a_bad_term_is_refused(terms, says):
    """By name, and with what is allowed."""
    with pytest.raises(ValueError, match=says):
        Hub(**terms)


def test_a_body_that_is_no_text():
    """Is refused, and the server goes on."""
    with serve_app(create_app(debug=True)) as url:
        answer = httpx.post(f"{url}/api/dev/telemetry", content=b"\xff")
        assert answer.status_code == 400
        assert httpx.get(f"{url}/v1/models").status_code == 200
