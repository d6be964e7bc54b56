"""What the server runs out of the box: one agent, one tool, and a scripted model that uses it."""

import asyncio
from collections.abc import AsyncIterator

from reference_impl.agent import Engine, Invocation, Message

AGENTS = {"demo": "You count the words of what the user says."}
"""The agents the server knows: id and system prompt."""


async def demo_engine(messages: list[Message]) -> AsyncIterator[str]:
    """Say some text and count the words of the last message, then say the count."""
    last = messages[-1]
    if last["role"] == "tool":
        for delta in ("Word ", "count: ", last["content"], "."):
            yield delta
        return
    for delta in ("Let", " me", " count", "."):
        yield delta
    yield "\ufffetool:word_count"
    yield Invocation("word_count", {"text": last["content"]}).to_delta()


def paced(engine: Engine, every: float) -> Engine:
    """Have an engine take so many seconds for each delta."""

    async def slow(messages: list[Message]) -> AsyncIterator[str]:
        async for delta in engine(messages):
            await asyncio.sleep(every)
            yield delta

    return slow


def word_count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


TOOLS = {"word_count": word_count}
"""The tools of the demo agent, by name."""
