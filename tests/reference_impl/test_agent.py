"""The agent loop of the reference server, without I/O."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from reference_impl.agent import (
    AgentError,
    Done,
    Engine,
    Event,
    Invocation,
    Message,
    TextDelta,
    Tool,
    ToolResult,
    run_turn,
)

HELLO = [{"role": "user", "content": "hello"}]
SEARCH = Invocation("search", {"query": "streams"})


def engine_of(*replies: list[str]) -> Engine:
    """Make an engine that says one scripted reply per iteration."""

    async def engine(messages: list[Message]) -> AsyncIterator[str]:
        for delta in replies[sum(message["role"] == "tool" for message in messages)]:
            yield delta

    return engine


def play(engine: Engine, tool: Tool = lambda **_: "found", **options: int) -> list[Event]:
    """Run one whole turn, with `tool` as the tool named search."""

    async def collect() -> list[Event]:
        return [e async for e in run_turn(engine, HELLO, tools={"search": tool}, **options)]

    return asyncio.run(collect())


def done(events: list[Event]) -> Done:
    """Return the last event of a turn that came to its end."""
    assert isinstance(events[-1], Done)
    return events[-1]


def test_text_streams_as_yielded() -> None:
    """Every delta is an event of its own, and the reply is all of them."""
    events = play(engine_of(["Hel", "lo", ""]))
    assert events[:-1] == [TextDelta("Hel"), TextDelta("lo"), TextDelta("")]
    assert done(events).text == "Hello"


def test_text_before_a_tool_call_is_kept() -> None:
    """The assistant message of an iteration that invoked a tool holds what was said before."""
    events = play(engine_of(["Let me ", "look.", SEARCH.to_delta()], ["There."]))
    assert done(events).messages == [
        *HELLO,
        {
            "role": "assistant",
            "content": "Let me look.",
            "tool_call": {"name": "search", "arguments": {"query": "streams"}},
        },
        {"role": "tool", "name": "search", "content": "found"},
        {"role": "assistant", "content": "There."},
    ]


def test_the_engine_reads_the_whole_conversation() -> None:
    """The next iteration is given all of the messages, and they do not change under it."""
    given = []

    def engine(messages: list[Message]) -> AsyncIterator[str]:
        given.append(messages)
        return aiter(engine_of(["Wait.", SEARCH.to_delta()], ["There."])(messages))

    messages = done(play(engine)).messages
    assert given == [messages[:1], messages[:3]]


def test_the_callers_messages_are_left_alone() -> None:
    """A turn works on a copy of the conversation that it is given."""
    play(engine_of(["Hello."]))
    assert HELLO == [{"role": "user", "content": "hello"}]


def test_the_final_text_is_that_of_the_last_iteration() -> None:
    """What was said before a tool call is not repeated in the reply."""
    assert done(play(engine_of(["Wait.", SEARCH.to_delta()], ["There."]))).text == "There."


def test_sentinels_are_skipped() -> None:
    """A hint is neither streamed nor part of the text, wherever it comes."""
    events = play(engine_of(["\ufffetool:search", "Hel", "\ufffe", "lo", "\ufffedone"]))
    assert events == [TextDelta("Hel"), TextDelta("lo"), done(events)]
    assert done(events).text == "Hello"


def test_the_sentinel_counts_only_at_the_start() -> None:
    """Text that holds the sentinel character further on is text."""
    assert done(play(engine_of(["a\ufffecall:{}"]))).text == "a\ufffecall:{}"


def test_an_invocation_ends_the_iteration() -> None:
    """What an engine says after invoking a tool is not read."""
    events = play(engine_of([SEARCH.to_delta(), "never"], ["There."]))
    assert TextDelta("never") not in events


def test_an_async_tool_is_awaited() -> None:
    """A tool may be a coroutine function; it is given the arguments by name."""

    async def tool(query: str) -> str:
        return query.upper()

    events = play(engine_of([SEARCH.to_delta()], []), tool)
    assert events[:2] == [SEARCH, ToolResult("search", "STREAMS", failed=False)]


def test_a_result_that_is_no_string_is_told_as_json() -> None:
    """The model is told a list as JSON."""
    events = play(engine_of([SEARCH.to_delta()], []), lambda query: [query, None])
    assert events[1] == ToolResult("search", '["streams", null]', failed=False)


def test_an_unknown_tool_is_told_to_the_model() -> None:
    """The message names the tool and what is allowed, and the turn goes on."""
    events = play(engine_of([Invocation("delete", {}).to_delta()], ["Sorry."]))
    message = "error: unknown tool 'delete', allowed: search"
    assert events[1] == ToolResult("delete", message, failed=True)
    assert done(events).messages[2] == {"role": "tool", "name": "delete", "content": message}
    assert done(events).text == "Sorry."


def refuses() -> None:
    """Take no arguments."""


def raises(query: str) -> None:
    """Fail."""
    raise LookupError(query)


def unspeakable(query: str) -> object:
    """Return what JSON cannot say."""
    return {query}


@pytest.mark.parametrize(
    ("tool", "error"),
    [
        (refuses, "TypeError: refuses() got an unexpected keyword argument 'query'"),
        (raises, "LookupError: streams"),
        (unspeakable, "TypeError: Object of type set is not JSON serializable"),
    ],
)
def test_a_failed_tool_is_told_to_the_model(tool: Tool, error: str) -> None:
    """Whatever a tool raises becomes its result, and the turn goes on."""
    events = play(engine_of([SEARCH.to_delta()], ["Sorry."]), tool)
    assert events[1] == ToolResult("search", f"error: {error}", failed=True)
    assert done(events).text == "Sorry."


@pytest.mark.parametrize(
    "json",
    ["", "{", '"search"', '{"name": "search"}', '{"name": 1, "arguments": {}}', "[" * 200_000],
)
def test_a_malformed_invocation_ends_the_turn(json: str) -> None:
    """The error says that the engine broke its contract, and what the contract is."""
    with pytest.raises(AgentError, match=r"malformed tool invocation .* allowed: \{\"name\""):
        play(engine_of([f"\ufffecall:{json}"]))


def test_iterations_are_bounded() -> None:
    """A model that never stops to invoke tools is stopped."""
    with pytest.raises(AgentError, match="still invokes tools after 3 iterations"):
        play(engine_of(*[[SEARCH.to_delta()]] * 4), max_iterations=3)


def test_the_last_iteration_allowed_may_end_the_turn() -> None:
    """The bound counts iterations, not tools."""
    assert done(play(engine_of([SEARCH.to_delta()], ["There."]), max_iterations=2)).text == "There."


class Stream:
    """An engine's stream that is no generator, and counts how often it is closed."""

    def __init__(self, *deltas: str | Exception) -> None:
        self.deltas = iter(deltas)
        self.closed = 0

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> str:
        delta = next(self.deltas, None)
        if delta is None:
            raise StopAsyncIteration
        if isinstance(delta, Exception):
            raise delta
        return delta

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1


def test_the_stream_is_closed_at_the_end() -> None:
    """A stream that has ended is closed."""
    stream = Stream("Hello")
    play(lambda _: stream)
    assert stream.closed == 1


def test_the_stream_is_closed_before_the_tool_runs() -> None:
    """The stream of an iteration does not stay open while its tool runs."""
    streams = [Stream(SEARCH.to_delta(), "never"), Stream("There.")]
    events = play(
        lambda messages: streams[len(messages) > 1], lambda query: str(streams[0].closed) + query
    )
    assert events[1] == ToolResult("search", "1streams", failed=False)


@pytest.mark.parametrize("last", [OSError("gone"), "\ufffecall:{}"])
def test_the_stream_is_closed_when_the_turn_fails(last: str | Exception) -> None:
    """What the engine raises passes through, and its stream is closed."""
    stream = Stream("Hello", last)
    with pytest.raises((OSError, AgentError)):
        play(lambda _: stream)
    assert stream.closed == 1


def test_the_stream_is_closed_when_the_turn_is_left() -> None:
    """Closing the turn early closes the engine's stream."""
    stream = Stream("Hel", "lo")

    async def leave() -> None:
        async with aclosing(run_turn(lambda _: stream, HELLO, tools={})) as turn:
            assert await anext(turn) == TextDelta("Hel")

    asyncio.run(leave())
    assert stream.closed == 1


def test_a_stream_needs_no_aclose() -> None:
    """Any async iterable will do for a stream."""

    class Bare:
        def __aiter__(self) -> "Bare":
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

    assert done(play(lambda _: Bare())).text == ""
