"""pydantic-ai: the text of a reply. Every delta copied the text so far."""

from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel


async def stream_text(stream):
    """Show each delta as it comes; the text is kept by the library, for the history."""

    async def reply(_messages, _info):
        async for delta in stream:
            yield delta

    agent = Agent(FunctionModel(stream_function=reply))
    shown = 0
    async with agent.run_stream("Tell me a long story.") as result:
        # Debounced, a fast stream comes in a few large groups, by the clock.
        async for text in result.stream_text(delta=True, debounce_by=None):
            shown += len(text)
    return shown
