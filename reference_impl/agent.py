"""The agent loop, without I/O: it turns an engine's deltas into the events of one turn.

An engine yields the model's reply in deltas. A delta that starts with the sentinel U+FFFE is a
control delta, and no user sees it. `Invocation.to_delta` makes the control delta that invokes a
tool. The loop skips any other control delta, such as a hint that arguments are being written.
"""

import inspect
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Self

Message = dict[str, Any]
"""A message of a conversation: `role`, `content`, and `tool_call` if the assistant invoked a tool.

The result of the tool follows as a message of role `tool`, with the `name` of the tool.
"""

Engine = Callable[[list[Message]], AsyncIterable[str]]
"""A model: it takes the messages so far and yields the deltas of its reply.

The agent loop calls it once in each iteration.
"""

Tool = Callable[..., object]
"""A sync or async function that the agent loop calls with the model's arguments by name.

Its return value goes to the model: a string unchanged, any other value as JSON. A sync tool runs
on the event loop, so a tool that waits must be async.
"""

_SENTINEL = "\ufffe"
_CALL_PREFIX = f"{_SENTINEL}call:"


class AgentError(RuntimeError):
    """The turn cannot go on: an invocation is malformed, or the model invokes too many tools."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of text to show, exactly as the engine yielded it."""

    text: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """The model invokes a tool, and the tool starts.

    >>> is_sentinel(Invocation("search", {"query": "streams"}).to_delta())
    True
    """

    name: str
    arguments: dict[str, Any]

    def to_delta(self) -> str:
        """Return the control delta by which an engine invokes the tool."""
        return _CALL_PREFIX + json.dumps({"name": self.name, "arguments": self.arguments})

    @classmethod
    def from_delta(cls, delta: str) -> Self:
        """Parse a control delta. A malformed one raises an `AgentError` that names the problem."""
        problem = "wrong shape"
        try:
            match json.loads(delta.removeprefix(_CALL_PREFIX)):
                case {"name": str(name), "arguments": dict(arguments)}:
                    return cls(name, arguments)
        except (ValueError, RecursionError) as error:
            problem = str(error)
        raise AgentError(
            f"malformed tool invocation ({problem}), "
            'allowed: {"name": string, "arguments": object} as JSON'
        )


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A tool has ended. `content` goes to the model; it is an error message if `failed`."""

    name: str
    content: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The turn is over. `text` is the final reply; `messages` is the conversation including it.

    Text before a tool call is not in `text`; it has an assistant message of its own.
    """

    text: str
    messages: list[Message]


Event = TextDelta | Invocation | ToolResult | Done


def is_sentinel(delta: str) -> bool:
    r"""Return whether a delta is a control delta, which no user may see.

    >>> is_sentinel("\ufffetool:search"), is_sentinel("text")
    (True, False)
    """
    return delta.startswith(_SENTINEL)


class Reply:
    """The text of the model's reply in one iteration, joined from its deltas."""

    def __init__(self) -> None:
        self._deltas: list[str] = []

    def feed(self, delta: str) -> None:
        """Append a delta to the text."""
        self._deltas.append(delta)

    def text(self) -> str:
        """Return the text of all deltas so far."""
        return "".join(self._deltas)


async def text_deltas(deltas: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """Yield the text deltas of a model's reply, without its control deltas.

    It closes the engine's stream on every path. A consumer that stops early must close this stream.

        async for text in text_deltas(engine([{"role": "user", "content": "hi"}])):
            print(text)
    """
    stream = aiter(deltas)
    try:
        async for delta in stream:
            if not is_sentinel(delta):
                yield delta
    finally:
        await _close(stream)


async def run_turn(
    engine: Engine,
    messages: Sequence[Message],
    *,
    tools: Mapping[str, Tool],
    max_iterations: int = 8,
) -> AsyncGenerator[Event, None]:
    """Run one turn: stream the reply, run its tool, and repeat until a reply invokes no tool.

    The events are a `TextDelta` for every text delta, an `Invocation` and a `ToolResult` around
    each tool, and a `Done` at the end. An invocation ends its iteration: the loop reads nothing
    more from that stream. If a tool is unknown, refuses its arguments or raises, the model gets an
    error message and may correct itself in the next iteration.

    A malformed invocation raises an `AgentError`, and so does a model that still invokes tools
    after `max_iterations` iterations. Errors of the engine pass through. The engine's stream is
    closed on every path. A consumer that stops early must close the turn, by `contextlib.aclosing`.

        async for event in run_turn(engine, [{"role": "user", "content": "hi"}], tools={}):
            print(event)
    """
    history = list(messages)
    for _ in range(max_iterations):
        reply = Reply()
        invocation = None
        stream = aiter(engine(list(history)))
        try:
            async for delta in stream:
                if not is_sentinel(delta):
                    reply.feed(delta)
                    yield TextDelta(delta)
                elif delta.startswith(_CALL_PREFIX):
                    invocation = Invocation.from_delta(delta)
                    break
        finally:
            await _close(stream)
        text = reply.text()
        if invocation is None:
            history.append({"role": "assistant", "content": text})
            yield Done(text, history)
            return
        # The text before the call is part of the conversation, so the model must see it again.
        call = {"name": invocation.name, "arguments": invocation.arguments}
        history.append({"role": "assistant", "content": text, "tool_call": call})
        yield invocation
        result = await _run_tool(tools, invocation)
        history.append({"role": "tool", "name": result.name, "content": result.content})
        yield result
    raise AgentError(
        f"the model still invokes tools after {max_iterations} iterations, the maximum"
    )


async def _close(stream: AsyncIterator[str]) -> None:
    if hasattr(stream, "aclose"):
        await stream.aclose()


async def _run_tool(tools: Mapping[str, Tool], invocation: Invocation) -> ToolResult:
    name = invocation.name
    if name not in tools:
        allowed = ", ".join(sorted(tools)) or "none"
        return ToolResult(name, f"error: unknown tool {name!r}, allowed: {allowed}", failed=True)
    try:
        value = tools[name](**invocation.arguments)
        if inspect.isawaitable(value):
            value = await value
        content = value if isinstance(value, str) else json.dumps(value)
    except Exception as error:  # noqa: BLE001 - the model gets any error of a tool
        return ToolResult(name, f"error: {type(error).__name__}: {error}", failed=True)
    return ToolResult(name, content, failed=False)
