"""Quadratic accumulators: the same three, each with one line gone wrong."""

from contextlib import aclosing

import httpx

from reference_impl import regressed, run_turn

MESSAGES = [{"role": "user", "content": "Tell me a long story."}]


class Reply:
    def __init__(self):
        self.text = ""

    def feed(self, delta):
        self.text += delta


def test_my_own_reply(assert_linear):
    def consume(stream):
        reply = Reply()
        for delta in stream:
            reply.feed(delta)
        return reply.text

    assert_linear(consume)


def test_the_agent_loop(assert_linear):
    async def consume(stream):
        async with aclosing(run_turn(lambda _: stream, MESSAGES, tools={})) as events:
            async for _ in events:
                pass

    with regressed("quadratic-accumulator"):
        assert_linear(consume, seconds=4.0)  # a slow machine shows all of it, too


def test_the_server(agent_server, assert_linear):
    agent_server.regress("quadratic-accumulator")

    def consume(stream):
        agent_server.engine = lambda _: stream
        url = f"{agent_server.url}/agents/demo/run"
        with httpx.stream("POST", url, json={"messages": MESSAGES}) as response:
            for _ in response.iter_bytes():
                pass

    assert_linear(consume, up_to=4_000, seconds=8.0)  # sockets take their time
