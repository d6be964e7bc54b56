"""The seeded regressions of the reference server: visible in the cost of a turn, nowhere else."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf.wire.server import serve_app
from reference_impl import REGRESSIONS, agent, create_app, regressed, run_turn
from reference_impl.agent import Invocation, Message, Reply, TextDelta
from reference_impl.regressions import QuadraticReply

BODY = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()


async def engine(messages: list[Message]) -> AsyncIterator[str]:
    """Say 300 deltas and invoke a tool, then say 300 deltas more."""
    for i in range(300):
        yield f"piece {i}, \N{SNOWMAN} "
    if messages[-1]["role"] != "tool":
        yield Invocation("word_count", {"text": "one two"}).to_delta()


def wire_bytes(url: str) -> bytes:
    """Return every byte the server sends for one turn, from the status line to the last chunk."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        connection.sendall(
            b"POST /agents/demo/run HTTP/1.1\r\nHost: reference\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
        )
        with connection.makefile("rb") as response:
            return response.read()


@pytest.mark.parametrize("name", REGRESSIONS)
def test_the_wire_bytes_are_the_same(name: str) -> None:
    """Over a real socket, nothing that the server sends gives the regression away."""
    with serve_app(create_app(engine)) as url:
        healthy = wire_bytes(url)
        with regressed(name):
            assert wire_bytes(url) == healthy
    assert healthy.startswith(b"HTTP/1.1 200 OK\r\n")
    assert healthy.count(b"event: delta\n") == 600
    assert healthy.endswith(b"\r\n0\r\n\r\n")


@given(st.lists(st.text()))
def test_both_replies_gather_the_same_text(deltas: list[str]) -> None:
    """The regressed reply differs from the healthy one in nothing but cost."""
    healthy, quadratic = Reply(), QuadraticReply()
    for delta in deltas:
        healthy.feed(delta)
        quadratic.feed(delta)
    assert healthy.text() == quadratic.text() == "".join(deltas)


def test_a_turn_uses_the_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent loop looks its reply up when the turn runs, and feeds it every delta."""
    fed = []
    monkeypatch.setattr(QuadraticReply, "feed", lambda _, delta: fed.append(delta))

    async def play() -> list[str]:
        turn = run_turn(engine, [{"role": "tool", "content": "2"}], tools={})
        return [event.text async for event in turn if isinstance(event, TextDelta)]

    with regressed("quadratic-accumulator"):
        assert asyncio.run(play()) == fed


@pytest.mark.parametrize("name", REGRESSIONS)
def test_every_regression_is_described(name: str) -> None:
    """An entry goes by its own name, and tells its story in one sentence."""
    regression = REGRESSIONS[name]
    assert regression.name == name
    assert regression.story.endswith(".")


def test_the_healthy_code_is_restored() -> None:
    """It is put back when the block raises, and when a name is given twice."""
    healthy = agent.Reply
    with pytest.raises(KeyError, match="QuadraticReply"), regressed(*["quadratic-accumulator"] * 2):
        raise KeyError(agent.Reply.__name__)
    assert agent.Reply is healthy


def test_an_unknown_name_is_refused() -> None:
    """The error lists the allowed names, and nothing has been replaced."""
    message = "unknown regression 'slow', allowed: .*quadratic-accumulator"
    with pytest.raises(ValueError, match=message), regressed("quadratic-accumulator", "slow"):
        pass
    assert agent.Reply is Reply
