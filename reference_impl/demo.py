"""What the server runs out of the box: one agent, one tool, and a scripted model that uses it."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from itertools import cycle, islice

from reference_impl.agent import Engine, Invocation, Message

AGENTS = {"demo": "You count the words of what the user says."}
"""The agents the server knows: id and system prompt."""

# What the model can be asked for, so that there is something to look at.
_TELL = re.compile(
    r"tell me (?P<words>\d{1,4}) words(?: of (?P<letters>\d{1,4}) letters)?"
    r"(?:,? (?P<pause>\d{1,4}) ms apart)?(?P<fails>,? then fail)?",
    re.IGNORECASE,
)
_TALE = (
    "A stream that is fine by itself may stutter beside another one. Nobody sees the stall in a "
    "test that waits for the whole reply, and everybody sees it on the screen: the words stop, and "
    "then they all come at once. So we count what is sent, and look at the longest silence."
)


async def demo_engine(messages: list[Message]) -> AsyncIterator[str]:
    """Say some text and count the words of the last message, then say the count.

    Asked to "tell me 300 words of 5 letters, 20 ms apart, then fail", or a part of that, it does.
    """
    last = messages[-1]
    if last["role"] == "tool":
        for delta in ("Word ", "count: ", last["content"], "."):
            yield delta
        return
    if asked := _TELL.search(last["content"]):
        async with aclosing(_tale(asked)) as tale:
            async for delta in tale:
                yield delta
    else:
        for delta in ("Let", " me", " count", "."):
            yield delta
    yield "\ufffetool:word_count"
    yield Invocation("word_count", {"text": last["content"]}).to_delta()


async def _tale(asked: re.Match[str]) -> AsyncGenerator[str, None]:
    letters, pause = int(asked["letters"] or 0), int(asked["pause"] or 0)
    for number, word in enumerate(islice(cycle(_TALE.split()), int(asked["words"]))):
        await asyncio.sleep(pause / 1000)
        text = (word * letters)[:letters] if letters else word
        yield f" {text}" if number else text
    if asked["fails"]:
        raise ConnectionError("the model hung up, as it was asked to")


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
