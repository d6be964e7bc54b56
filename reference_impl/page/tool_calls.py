"""A tool call while the model writes it, with the throttled updates that a UI would get.

    delta       {"text"}                             the next piece of the arguments
    tool_call   {"name", "arguments": {"text"}}      an update: the arguments so far
    done        {"text"}                             the whole text; a later update is too late

The reply of the engine serves as the text that the model passes to the tool.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Hashable
from contextlib import aclosing
from typing import Any

from reference_impl import throttle
from reference_impl.agent import Done, Engine, Event, Invocation, Message, TextDelta, text_deltas

# Longest arguments, in characters: each update parses all of them, so they need a limit. An empty
# piece counts as one character. Not measured.
_MOST_WRITTEN = 2**16
# Seconds for which the stream stays open after `done`, so that the page sees an update that is too
# late. This is twice the interval of the throttle.
_TOO_LATE = 0.2


async def written(engine: Engine, messages: list[Message]) -> AsyncGenerator[Event, None]:
    """Yield the events of one tool call while the engine writes its arguments.

    An error of the engine is raised after all earlier events were yielded. The engine is asked for
    its next delta only after the consumer has taken the earlier events.

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
        async with aclosing(_bounded_deltas(engine, messages)) as deltas:
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


async def _bounded_deltas(engine: Engine, messages: list[Message]) -> AsyncGenerator[str, None]:
    remaining = _MOST_WRITTEN
    async with aclosing(text_deltas(engine(messages))) as deltas:
        async for text in deltas:
            yield text[:remaining]
            remaining -= max(1, len(text))
            if remaining <= 0:
                return
