"""Tests of `assert_backpressure`, on the reference server with each regression, and on small apps.

The check connects fast, slow, stalled and vanished WebSocket clients, and broadcasts to them.
No client may wait for a slower one, and the server may keep only a limited amount for each.
"""

import asyncio
import ctypes
import sys
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from pytest_streamperf import Inconclusive, NothingMeasured, ServerExceeded
from pytest_streamperf.server import assert_backpressure
from pytest_streamperf.server.backpressure import BackpressureLimits, verdict_on_broadcasts
from pytest_streamperf.server.websocket_clients import (
    FAST,
    IN_SOCKETS,
    MESSAGE,
    BackpressureEvidence,
    ClientLog,
)
from reference_impl import create_app, regressed
from reference_impl.telemetry import Hub, broadcast
from tests.failure_messages import headline_of
from tests.matrix.reference_server import BROADCAST

LIMITS = BackpressureLimits("skip", 2**20, 1.0, 5.0)


def checked(policy="skip", idle=None):
    """Check the reference server with the given policy.

    The server closes a client that sends nothing for `idle` seconds.
    """
    app = create_app(debug=True, hub=Hub(policy=policy, idle=idle or 30.0))
    return assert_backpressure(app, **BROADCAST, policy=policy, idle=idle, within=1.0)


@pytest.mark.parametrize("policy", ["skip", "close"])
def test_the_reference_server_keeps_its_promise(policy):
    """The reference server passes under both policies, and closes a client that sends nothing."""
    found = checked(policy, idle=1.0)
    assert found.verdict == "within"
    assert found.figures.bytes["kept"] <= 2**20 + IN_SOCKETS


@pytest.mark.parametrize(
    ("regression", "idle", "says"),
    [
        ("buffer-without-end", None, r"15\.7 MB were kept for a client that read nothing"),
        ("broadcast-waits", None, r"got \d+ of 240 messages, then none for 1\.0 s"),
        ("never-resumes", None, r"a client that reads again received nothing for 1\.0 s"),
        ("dead-clients-kept", None, "3 of 3 clients that vanished are still counted"),
        ("idle-reset-by-sends", 1.0, r"sent nothing for 3\.0 s was not closed, limit 1\.0 s"),
    ],
)
def test_a_mistake_is_told(regression, idle, says):
    """Every seeded regression of the broadcast produces its own headline in at most 13 lines."""
    with regressed(regression), pytest.raises(ServerExceeded, match=says) as caught:
        checked(idle=idle)
    headline_of(caught)


def test_an_app_that_is_not_ours():
    """An app that awaits one socket after the other fails.

    The check accepts a function that broadcasts as `publish`.
    """
    sockets, loops = {}, []

    async def watch(socket):
        await socket.accept()
        sockets[socket] = None
        loops[:] = [asyncio.get_running_loop()]
        try:
            while (await socket.receive())["type"] != "websocket.disconnect":
                pass
        finally:
            del sockets[socket]

    async def broadcast(text):
        for socket in tuple(sockets):
            with suppress(WebSocketDisconnect, RuntimeError):  # it is gone
                await socket.send_text(text)

    def publish(text):
        asyncio.run_coroutine_threadsafe(broadcast(text), loops[0]).result()

    app = Starlette(routes=[WebSocketRoute("/ws", watch)])
    with pytest.raises(ServerExceeded, match=r"then none for 1\.0 s"):
        assert_backpressure(app, "/ws", publish=publish, within=1.0)


def test_the_other_policy():
    """A server that follows one policy fails the check of the other."""
    for policy, other, says in (
        ("skip", "close", "was not closed, against"),
        ("close", "skip", "was closed, against"),
    ):
        app = create_app(debug=True, hub=Hub(policy=policy))
        with pytest.raises(ServerExceeded, match=says):
            assert_backpressure(app, **BROADCAST, policy=other, within=1.0)


def standing_still(times, idle):
    """Return the reference server, which pauses the whole process at its first `times` broadcasts.

    A pause lasts 1.5 times `idle`, after which the server closes a client that sends nothing.
    """
    app = create_app(debug=True, hub=Hub(idle=idle))
    left = iter(range(times))

    async def held_up(scope, receive, send):
        if scope["type"] == "http" and scope["method"] == "POST":
            for _ in left:
                ctypes.PyDLL(None).usleep(int(idle * 1.5e6))  # and lets no other thread run
                break
        await app(scope, receive, send)

    return held_up


@pytest.mark.skipif(sys.platform == "win32", reason="has no usleep")
def test_a_machine_that_stood_still_once(monkeypatch):
    """After one pause of the process, the check runs a second time and can pass.

    Messages of the first run that arrive in the second are ignored.
    """
    join, last = Hub.join, []

    def replaying(hub, session):
        join(hub, session)
        for text in last:
            session.offer(text, len(text))

    async def remembering(hub, text):
        last[:] = [text]
        await broadcast(hub, text)

    monkeypatch.setattr(Hub, "join", replaying)
    monkeypatch.setattr("reference_impl.telemetry.broadcast", remembering)
    assert assert_backpressure(standing_still(1, 0.6), **BROADCAST, idle=0.6).verdict == "within"
    assert last


def test_a_gauge_that_is_read_slowly():
    """A slow function of the metrics delays neither the messages of clients nor the deadline."""
    app = create_app(debug=True, hub=Hub(idle=0.6))
    looks = []

    def read():
        looks.append(time.sleep(0.45))
        return {"clients": len(looks) > 2}

    with pytest.raises(ServerExceeded, match="1 of 3 clients that vanished") as caught:
        assert_backpressure(app, **BROADCAST | {"read": read}, idle=0.6, within=0.5)
    assert len(looks) < 6, caught.value


def test_clients_that_are_thrown_out():
    """The failure message shows the close code and the reason that the server gave."""

    async def watch(socket):
        await socket.accept()
        with suppress(WebSocketDisconnect):
            await socket.receive_text()
            await socket.close(1011, "out of order")

    app = Starlette(routes=[WebSocketRoute("/ws", watch)])
    with pytest.raises(ServerExceeded, match="clients that read every message were") as caught:
        assert_backpressure(app, "/ws", publish=lambda _: time.sleep(0.1), within=1.0)
    headline_of(caught)
    assert "fast 3: closed with 1011 (internal error) out of order" in " ".join(
        str(caught.value).split()
    )


@pytest.mark.skipif(sys.platform == "win32", reason="has no usleep")
def test_a_machine_that_stands_still():
    """Pauses of the process in every run make the check inconclusive, if clients were closed."""
    with pytest.raises(Inconclusive, match="were closed") as caught:
        assert_backpressure(standing_still(1_000, 0.3), **BROADCAST, idle=0.3)
    headline_of(caught, most=6)


@pytest.mark.parametrize(
    ("terms", "error", "says"),
    [
        ({"publish": "/nowhere"}, NothingMeasured, "POST /nowhere answers 404"),
        ({"path": "/nowhere"}, NothingMeasured, "no WebSocket at /nowhere: the server answers 403"),
        ({"publish": str}, ServerExceeded, "no client received a message for"),
        ({"publish": asyncio.sleep}, TypeError, "must not be a coroutine function"),
    ],
)
def test_nothing_is_broadcast(terms, error, says):
    """A broadcast that cannot reach the clients raises an error that names the reason."""
    with pytest.raises(error, match=says):
        assert_backpressure(create_app(debug=True), **BROADCAST | {"within": 0.3} | terms)


def test_a_policy_that_there_is_not():
    """An unknown policy raises an error that lists the two policies."""
    with pytest.raises(ValueError, match="policy must be 'skip' or 'close', not 'drop'"):
        assert_backpressure(create_app(), **BROADCAST, policy="drop")


# -- what is made of what they got


def evidence(flood=20, **more):
    """Return a run without faults: fast clients received all, slow and stalled ones a part."""
    everyone = [ClientLog(f"fast {n + 1}", list(range(flood + 1))) for n in range(FAST)]
    everyone += [ClientLog("slow", list(range(0, flood, 2))), ClientLog("stalled", [0, 1, flood])]
    return BackpressureEvidence(flood, everyone, **{"resumed": True} | more)


def test_all_is_well():
    """The headline of a passed check gives the memory that the server kept."""
    assert verdict_on_broadcasts(evidence(), LIMITS).headline == (
        "20 messages of 65.5 kB arrived, 131 kB kept for a stalled client or in sockets"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stuck": True}, "clients that read got 21 of 20 messages, then none for 5.0 s"),
        (
            {"hung_up": True},
            "a client that read nothing was closed, against policy='skip'",
        ),
        ({"resumed": False}, "a client that reads again received nothing for 5.0 s"),
        ({"still_counted": 2.0}, "2 of 3 clients that vanished are still counted"),
        ({"quiet_stays": True}, "a client that sent nothing for 3.0 s was not closed, limit 1.0 s"),
        ({"closed": [ClientLog("chatty")]}, "clients that sent a message every 333 ms were closed"),
        (
            {"closed": [ClientLog("fast 1")], "stuck": True},
            "clients that sent a message every 333 ms were closed",
        ),
    ],
)
def test_what_is_broken(change, says):
    """A broken rule has its own headline; of several broken rules, the first decides."""
    assert verdict_on_broadcasts(evidence(**change), LIMITS).headline == says


@pytest.mark.parametrize(
    ("change", "verdict", "says"),
    [
        (
            {"closed": [ClientLog("chatty")], "silent": 0.7},
            "exceeded",
            "clients that could not send for 700 ms were closed",
        ),
        (
            {"hung_up": True, "silent": 0.7},
            "exceeded",
            "clients that could not send for 700 ms were closed",
        ),
        (
            {"broadcast_gap": 0.7},
            "within",
            "a quiet client was closed, but nothing was broadcast for 700 ms",
        ),
    ],
)
def test_what_proves_nothing(change, verdict, says):
    """The check is inconclusive if clients were closed while this process stood still.

    It stood still for at least two thirds of the time after which the server closes clients.
    """
    outcome = verdict_on_broadcasts(evidence(**change), LIMITS)
    assert (outcome.verdict, outcome.headline) == ("inconclusive", says)
    shorter = {name: 0.6 if value == 0.7 else value for name, value in change.items()}
    assert verdict_on_broadcasts(evidence(**shorter), LIMITS).verdict == verdict
    assert (
        verdict_on_broadcasts(evidence(silent=9.0, broadcast_gap=0.0), LIMITS).verdict == "within"
    )


def test_who_is_to_be_closed():
    """The server must close a stalled client if its policy is "close".

    It need not send that client any more messages.
    """
    closing = LIMITS._replace(policy="close")
    found = evidence(resumed=False)
    assert verdict_on_broadcasts(found, closing).headline == (
        "a client that read nothing was not closed, against policy='close'"
    )
    found.hung_up = True
    assert verdict_on_broadcasts(found, closing).verdict == "within"


@given(st.integers(0, FAST), st.permutations(range(20)))
def test_order_and_loss(which, numbers):
    """The check fails if any client receives messages out of order."""
    found = evidence()
    found.clients[which].numbers = list(numbers)
    ordered = list(numbers) == list(range(20))
    outcome = verdict_on_broadcasts(found, LIMITS)
    assert (outcome.verdict == "within") is ordered
    if not ordered:
        assert outcome.headline == f"messages came out of order to: {found.clients[which].name}"


@given(st.integers(0, FAST - 1), st.integers(0, 19))
def test_a_message_that_is_lost(which, number):
    """The check fails if a fast client misses a message, and the headline names that client."""
    found = evidence()
    found.clients[which].numbers.remove(number)
    assert (
        verdict_on_broadcasts(found, LIMITS).headline
        == f"messages were lost on the way to: fast {which + 1}"
    )


@given(st.integers(0, 200))
def test_what_may_be_kept(messages):
    """A server passes if it keeps at most the limit for a stalled client, plus full sockets."""
    found = evidence(flood=200)
    found.clients[-1].numbers = [*range(messages), 200]
    within = messages * MESSAGE <= LIMITS.max_kept + IN_SOCKETS
    assert (verdict_on_broadcasts(found, LIMITS).verdict == "within") is within
