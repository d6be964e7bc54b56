"""The defaults of the server: one agent, one tool, and a scripted engine that invokes the tool.

`demo_engine` needs no model. It counts the words of a message by the tool, or yields as many words
as the message asks for, at the pace that the message asks for. `paced` slows any engine down.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from itertools import cycle, islice

from reference_impl.agent import Engine, Invocation, Message

AGENTS = {"demo": "You count the words of what the user says."}
"""The system prompt of each agent that the server has, by the id of the agent."""

# A message of this form chooses the deltas of the reply, so that a user of the page can vary them.
_SCRIPT_REQUEST = re.compile(
    r"tell me (?P<words>\d{1,4}) words(?: of (?P<letters>\d{1,4}) letters)?"
    r"(?:,? (?P<pause>\d{1,4}) ms apart)?(?P<fails>,? then fail)?",
    re.IGNORECASE,
)
_SCRIPT_TEXT = (
    "A stream that is fine by itself may stutter beside another one. Nobody sees the stall in a "
    "test that waits for the whole reply, and everybody sees it on the screen: the words stop, and "
    "then they all come at once. So we count what is sent, and look at the longest silence."
)


async def demo_engine(messages: list[Message]) -> AsyncIterator[str]:
    """Yield a short text, invoke the tool that counts the words, then yield the count.

    A last message such as "Tell me 300 words of 5 letters, 20 ms apart, then fail", or a part of
    it, makes the engine yield these words instead of the short text.
    """
    last = messages[-1]
    if last["role"] == "tool":
        for delta in ("Word ", "count: ", last["content"], "."):
            yield delta
        return
    if script := _SCRIPT_REQUEST.search(last["content"]):
        async with aclosing(_scripted_deltas(script)) as deltas:
            async for delta in deltas:
                yield delta
    else:
        for delta in ("Let", " me", " count", "."):
            yield delta
    yield "\ufffetool:word_count"
    yield Invocation("word_count", {"text": last["content"]}).to_delta()


async def _scripted_deltas(script: re.Match[str]) -> AsyncGenerator[str, None]:
    letters, pause = int(script["letters"] or 0), int(script["pause"] or 0)
    for number, word in enumerate(islice(cycle(_SCRIPT_TEXT.split()), int(script["words"]))):
        await asyncio.sleep(pause / 1000)
        text = (word * letters)[:letters] if letters else word
        yield f" {text}" if number else text
    if script["fails"]:
        raise ConnectionError("the model hung up, as the message asked")


def paced(engine: Engine, every: float) -> Engine:
    """Return an engine that waits `every` seconds before each delta of `engine`."""

    async def slow(messages: list[Message]) -> AsyncIterator[str]:
        async for delta in engine(messages):
            await asyncio.sleep(every)
            yield delta

    return slow


def word_count(text: str) -> int:
    """Return the number of words in a text."""
    return len(text.split())


TOOLS = {"word_count": word_count}
"""The tools of the demo agent, by name."""
