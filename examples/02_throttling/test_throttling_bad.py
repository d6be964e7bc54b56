"""Updates gone wrong: one for every token, a lost tail, and a test that notices neither."""

import asyncio
from unittest.mock import Mock, patch

from pytest_streamperf import TokenStream, ToolCall, VirtualClock, assert_test_detects
from reference_impl import regressed, throttle


class Reply:
    """Shows the text so far, for every token."""

    def __init__(self, show):
        self.show = show
        self.parts = []

    def feed(self, delta):
        self.parts.append(delta)
        self.show("".join(self.parts))


def test_my_own_throttle(virtual_clock, update_counter):
    stream = TokenStream(tokens=500, every=0.02)
    show = update_counter(of=stream, value=lambda call: call.args[0])
    reply = Reply(show)
    for delta in stream:
        reply.feed(delta)
    show.assert_throttled(every=0.1, trailing="end")


def test_tool_calls(virtual_clock, update_counter):
    stream = TokenStream.turn(ToolCall("write", {"content": "import asyncio\n" * 40}), every=0.02)
    parse = throttle.parse
    spy = Mock(wraps=parse)

    async def main():
        send = update_counter(
            of=stream,
            key=lambda call: call.args[0],
            value=lambda call: call.args[1],
            latest=parse,
            parses=spy,
        )
        updates = throttle.ToolCallUpdates(send, every=0.1)
        async for delta in stream:
            updates.feed(delta.index, delta.id, delta.arguments)
        updates.end()
        send.end()
        await asyncio.sleep(1)
        send.assert_throttled(every=0.1)

    with regressed("trailing-value-lost"), patch.object(throttle, "parse", spy):
        asyncio.run(main())


def enqueue_tick_process(make_throttle):
    """All values are there before time moves, and none is consumed while it does."""
    sent = []
    with VirtualClock() as clock:
        queued = ["a", "ab", "abc"]
        clock.advance(0.2)
        updates = make_throttle(lambda _key, value: sent.append(value), 0.1)
        for value in queued:
            updates.feed(value)
        updates.end()
    assert sent == ["a", "abc"]


def test_my_test():
    assert_test_detects(enqueue_tick_process)
