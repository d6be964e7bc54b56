"""A project of somebody else's, with the wheel installed: what it expects to work."""

import httpx
import pytest

from pytest_streamperf import GrowthExceeded


def test_linear(assert_linear):
    assert_linear(lambda stream: "".join(stream))


def test_quadratic(assert_linear):
    class Reply:
        text = ""

    def consume(stream):
        reply = Reply()
        for delta in stream:
            reply.text += delta

    with pytest.raises(GrowthExceeded, match=r"test_outside.py:\d+ in .*consume"):
        assert_linear(consume)


def test_the_reference_server(agent_server, assert_linear):
    """What blame says of a server that is installed, too: the wheel carries it."""
    agent_server.regress("quadratic-accumulator")

    def consume(stream):
        agent_server.engine = lambda _: stream
        body = {"messages": [{"role": "user", "content": "Tell me a story."}]}
        with httpx.stream("POST", f"{agent_server.url}/agents/demo/run", json=body) as response:
            for _ in response.iter_bytes():
                pass

    with pytest.raises(GrowthExceeded, match=r"regressions.py:\d+ in QuadraticReply.feed"):
        assert_linear(consume, up_to=4_000, seconds=4.0)  # sockets take their time
