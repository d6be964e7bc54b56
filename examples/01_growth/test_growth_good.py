"""Linear accumulators: of one's own, of an agent loop, and of a server behind a socket."""

from contextlib import aclosing

import httpx

from reference_impl import run_turn

MESSAGES = [{"role": "user", "content": "Tell me a long story."}]


class Reply:
    def __init__(self):
        self.deltas = []

    def feed(self, delta):
        self.deltas.append(delta)

    def text(self):
        return "".join(self.deltas)


def test_my_own_reply(assert_linear):
    def consume(stream):  # called many times: it builds its state inside
        reply = Reply()
        for delta in stream:
            reply.feed(delta)
        return reply.text()

    assert_linear(consume)


def test_the_agent_loop(assert_linear):
    async def consume(stream):  # the metered stream is the model
        async with aclosing(run_turn(lambda _: stream, MESSAGES, tools={})) as events:
            async for _ in events:
                pass

    assert_linear(consume)


def test_the_server(agent_server, assert_linear):
    def consume(stream):  # the same, with a real server, a real socket and a real client around it
        agent_server.engine = lambda _: stream
        url = f"{agent_server.url}/agents/demo/run"
        with httpx.stream("POST", url, json={"messages": MESSAGES}) as response:
            for _ in response.iter_bytes():
                pass

    assert_linear(consume, up_to=4_000, seconds=4.0)  # sockets take their time
