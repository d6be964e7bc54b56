"""A tool call while a model writes it, and what a UI is sent of its arguments meanwhile.

    delta       {"text"}                             what the model has written
    tool_call   {"name", "arguments": {"text"}}      an update: the arguments so far
    done        {"text"}                             all of it; an update that follows is too late

What the model says is taken for the text that it hands to a tool.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing
from typing import Any

from reference_impl import throttle
from reference_impl.agent import Done, Engine, Event, Invocation, Message, TextDelta, said

# Characters of arguments, which are parsed whole for each update; a piece of none counts as one.
_MOST_WRITTEN = 2**16
# Seconds in which an update that comes after the end is still seen.
_TOO_LATE = 0.2


async def written(engine: Engine, messages: list[Message]) -> AsyncGenerator[Event, None]:
    """Write a tool call, and throttle what is sent of it.

    What the engine raises is raised when all that came before it was yielded. It is asked for more
    when that was taken: so little waits for a client that does not read.

        async for event in written(engine, [{"role": "user", "content": "hi"}]):
            print(event)
    """
    outbox: asyncio.Queue[Event | None] = asyncio.Queue()
    writing = asyncio.create_task(_write(engine, messages, outbox))
    try:
        while (event := await outbox.get()) is not None:
            yield event
            outbox.task_done()
        await writing
    finally:
        writing.cancel()
        await asyncio.wait([writing])


async def _write(
    engine: Engine, messages: list[Message], outbox: asyncio.Queue[Event | None]
) -> None:
    def update(_call: Hashable, arguments: Any) -> None:
        outbox.put_nowait(Invocation("word_count", arguments))

    updates = throttle.ToolCallUpdates(update)
    texts: list[str] = []
    try:
        updates.feed(0, "call_0", '{"text": "')
        async with aclosing(_bounded(engine, messages)) as deltas:
            async for text in deltas:
                texts.append(text)
                outbox.put_nowait(TextDelta(text))
                updates.feed(0, "call_0", json.dumps(text)[1:-1])
                await outbox.join()
        updates.feed(0, "call_0", '"}')
        updates.end()
        outbox.put_nowait(Done("".join(texts), []))
        await asyncio.sleep(_TOO_LATE)
    except Exception:
        updates.error()
        raise
    finally:
        updates.cancel()
        outbox.put_nowait(None)


async def _bounded(engine: Engine, messages: list[Message]) -> AsyncGenerator[str, None]:
    left = _MOST_WRITTEN
    async with aclosing(said(engine(messages))) as deltas:
        async for text in deltas:
            yield text[:left]
            left -= max(1, len(text))
            if left <= 0:
                return
