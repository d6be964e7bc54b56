"""Tests of telemetry: broadcasts, buffered and dropped messages, and closed connections."""

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


def telemetry_client(url, **options):
    """Connect a WebSocket client to the telemetry of a server."""
    return connect(f"ws{url[4:]}/ws/telemetry", compression=None, **options)


def next_message_with(client, text):
    """Return the next message that contains `text`."""
    while text not in (message := client.recv(timeout=10)):
        pass
    return message


def test_what_is_told():
    """A client gets the server's metrics every second, and the metrics count the client itself."""
    with serve_app(create_app()) as url, telemetry_client(url) as client:
        metrics = json.loads(client.recv(timeout=10))["metrics"]
    assert metrics["pendingWebSockets"] == 1
    assert metrics["totals"]["websocketOpens"] == 1


def test_everyone_is_told():
    """A published text reaches every client, and clients that left are no longer counted."""
    with serve_app(create_app(debug=True)) as url:
        with telemetry_client(url) as first, telemetry_client(url) as second:
            httpx.post(f"{url}/api/dev/telemetry", content="héllo")
            for client in (first, second):
                assert next_message_with(client, "héllo") == "héllo"
            report = httpx.get(f"{url}/api/dev/metrics").json()
            assert report["telemetry"] == {"clients": 2, "bufferedBytes": 0}
        assert httpx.get(f"{url}/api/dev/metrics").json()["metrics"]["pendingWebSockets"] == 0


def test_who_says_nothing_is_closed():
    """A client that sends no message is closed with code 1001, and the reason names the time."""
    with (
        serve_app(create_app(hub=Hub(idle=0.05))) as url,
        telemetry_client(url) as client,
        pytest.raises(ConnectionClosed) as closed,
    ):
        client.recv(timeout=10)
    assert closed.value.rcvd.code == 1001
    assert closed.value.rcvd.reason == "nothing was heard for 0.05 s"


class StalledSocket:
    """A test double of a WebSocket: it sends nothing, and reads nothing until `may_read` is set."""

    def __init__(self):
        self.may_read = asyncio.Event()
        self.texts, self.closed = [], None

    async def accept(self):
        """Accept the handshake."""

    async def receive(self):
        """Wait for a message that never comes."""
        await asyncio.Event().wait()

    async def send_text(self, text):
        """Take a message as soon as `may_read` is set."""
        await self.may_read.wait()
        self.texts.append(text)

    async def close(self, code, reason):
        """Record the close code and the reason."""
        self.closed = code, reason


async def serve_stalled_client(hub, texts):
    """Broadcast texts to a stalled socket, then let it read, and broadcast once more.

    Returns the socket, and the bytes that were kept for it while it was stalled.
    """
    client = StalledSocket()
    serving = asyncio.create_task(Session(hub, client).serve())
    await asyncio.sleep(0)
    for text in texts:
        await broadcast(hub, text)
    buffered_bytes = hub.snapshot()["bufferedBytes"]
    client.may_read.set()
    await asyncio.sleep(0.5)
    await broadcast(hub, "here again")
    await asyncio.sleep(0.1)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert hub.snapshot() == {"clients": 0, "bufferedBytes": 0}
    return client, buffered_bytes


def test_who_falls_behind_is_told_so():
    """A slow client later gets the number of dropped messages, and then new messages again."""
    with VirtualClock():
        client, buffered_bytes = asyncio.run(
            serve_stalled_client(Hub(limit=100), ["x" * 60, "y" * 60, "z" * 60])
        )
    assert buffered_bytes == 60
    assert client.texts == ["x" * 60, '{"skipped": 2}', "here again"]


def test_who_falls_behind_is_hung_up_on():
    """With the policy "close", a slow client is closed with code 1013."""
    with VirtualClock():
        client, _ = asyncio.run(
            serve_stalled_client(Hub(limit=100, policy="close"), ["x" * 60, "y" * 60])
        )
    assert client.closed == (1013, "100 bytes behind")


def test_a_session_keeps_bytes_not_characters():
    """The limit of a session counts bytes of UTF-8, not characters."""

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
    ("options", "message"),
    [
        ({"limit": 0}, "limit=0: must be more than 0"),
        ({"idle": float("nan")}, "idle=nan: must be more than 0"),
        ({"policy": "drop"}, "policy='drop': must be 'skip' or 'close'"),
    ],
)
def test_a_bad_term_is_refused(options, message):
    """A hub refuses an invalid argument with its name and the allowed values."""
    with pytest.raises(ValueError, match=message):
        Hub(**options)


def test_a_body_that_is_no_text():
    """A published body that is not UTF-8 is refused with 400, and the server keeps serving."""
    with serve_app(create_app(debug=True)) as url:
        response = httpx.post(f"{url}/api/dev/telemetry", content=b"\xff")
        assert response.status_code == 400
        assert httpx.get(f"{url}/v1/models").status_code == 200
