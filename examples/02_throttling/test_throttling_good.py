"""Throttled updates: a UI callback, tool calls whose arguments stream in, and a test of a test."""

import asyncio
import time
from unittest.mock import Mock, patch

from pytest_streamperf import (
    TokenStream,
    ToolCall,
    ToolCallDelta,
    UpdateCounter,
    VirtualClock,
    assert_test_detects,
)
from reference_impl import throttle


class Reply:
    """Shows the text so far, ten times a second at most."""

    def __init__(self, show):
        self.show = show
        self.parts = []
        self.shown_at = float("-inf")
        self.pending = False

    def feed(self, delta):
        self.parts.append(delta)
        self.pending = True
        if time.monotonic() - self.shown_at >= 0.1:
            self.flush()

    def end(self):
        if self.pending:
            self.flush()

    def flush(self):
        self.show("".join(self.parts))
        self.shown_at = time.monotonic()
        self.pending = False


def test_my_own_throttle(virtual_clock, update_counter):
    stream = TokenStream(tokens=30_000, every=0.02)  # ten minutes
    show = update_counter(of=stream, value=lambda call: call.args[0])
    reply = Reply(show)
    for delta in stream:
        reply.feed(delta)
    reply.end()
    show.assert_throttled(every=0.1, trailing="end")


def test_tool_calls(virtual_clock, update_counter):
    stream = TokenStream.turn(
        ToolCall("write", {"path": "agent.py", "content": "import asyncio\n" * 40}),
        ToolCall("run", {"command": "pytest -p streamperf " * 9}),
        every=0.02,
    )
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
        await asyncio.sleep(1)  # would anything still come?
        send.assert_throttled(every=0.1)

    with patch.object(throttle, "parse", spy):
        asyncio.run(main())


def notices(make_throttle):
    """Two tool calls at once, with time between deltas, and every way in which it may end."""

    async def turn(ending):
        pieces = [ToolCallDelta(n % 2, f"call_{n % 2}", "edit", "word ") for n in range(60)]
        stream = TokenStream(pieces, every=0.03)
        send = UpdateCounter(
            of=stream, key=lambda call: call.args[0], value=lambda call: call.args[1]
        )
        updates = make_throttle(send, 0.1)
        texts = {"call_0": "", "call_1": ""}
        async for delta in stream:
            texts[delta.id] += delta.arguments
            updates.feed(texts[delta.id], delta.id)
            if ending != "end" and len(texts["call_0"]) == 100:
                break
        getattr(updates if ending == "end" else send, ending)()
        getattr(send if ending == "end" else updates, ending)()
        await asyncio.sleep(1)
        send.assert_throttled(every=0.1)

    for ending in ("end", "cancel", "error", "retry"):
        with VirtualClock():
            asyncio.run(turn(ending))


def test_my_test():
    assert_test_detects(notices)
