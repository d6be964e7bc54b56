"""The agent loop, without I/O: from an engine's deltas to the events of one turn.

An engine yields the model's reply in deltas. A delta that starts with the sentinel U+FFFE is a
control delta and never shown: `Invocation.to_delta` makes the one that invokes a tool, any other
(a hint that arguments are being written, say) is skipped.
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
"""What engines read: `role` and `content`, with `tool_call` where the assistant invoked a tool.

The answer follows as a message of role `tool`, with the `name` of the tool.
"""

Engine = Callable[[list[Message]], AsyncIterable[str]]
"""The model: from the messages so far to the deltas of its reply. Called once per iteration."""

Tool = Callable[..., object]
"""A tool, sync or async, called with the model's arguments by name.

What it returns goes to the model: a string as it is, anything else as JSON. A sync tool runs on
the event loop, so one that blocks must be async.
"""

_SENTINEL = "\ufffe"
_CALL = f"{_SENTINEL}call:"


class AgentError(RuntimeError):
    """The turn cannot go on: a malformed invocation, or tools invoked without end."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of text to show, exactly as the engine yielded it."""

    text: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """The model invokes a tool, which starts now.

    >>> is_sentinel(Invocation("search", {"query": "streams"}).to_delta())
    True
    """

    name: str
    arguments: dict[str, Any]

    def to_delta(self) -> str:
        """Return the control delta by which an engine says this."""
        return _CALL + json.dumps({"name": self.name, "arguments": self.arguments})

    @classmethod
    def from_delta(cls, delta: str) -> Self:
        """Read a control delta; an `AgentError` says what is wrong with a malformed one."""
        problem = "wrong shape"
        try:
            match json.loads(delta.removeprefix(_CALL)):
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
    """A tool is done; `content` is what the model is told, an error message if `failed`."""

    name: str
    content: str
    failed: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The turn is over; `text` is the final reply, `messages` the whole conversation with it.

    Text said before a tool call is not in `text`, but in its own assistant message.
    """

    text: str
    messages: list[Message]


Event = TextDelta | Invocation | ToolResult | Done


def is_sentinel(delta: str) -> bool:
    r"""Tell whether a delta is a control delta, which no user may see.

    >>> is_sentinel("\ufffetool:search"), is_sentinel("text")
    (True, False)
    """
    return delta.startswith(_SENTINEL)


class Reply:
    """Gathers the text of one iteration."""

    def __init__(self) -> None:
        self._deltas: list[str] = []

    def feed(self, delta: str) -> None:
        """Add a delta."""
        self._deltas.append(delta)

    def text(self) -> str:
        """Return all the text so far."""
        return "".join(self._deltas)


async def said(deltas: AsyncIterable[str]) -> AsyncGenerator[str, None]:
    """What a model says, delta by delta, and nothing of the tools that it would like to use.

    The engine's stream is closed on every path; whoever leaves early closes this one.

        async for text in said(engine([{"role": "user", "content": "hi"}])):
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
    """Run one turn: stream the reply, run the tools it invokes, go on until it invokes none.

    The events are `TextDelta` for every piece of text, `Invocation` and `ToolResult` around a
    tool, and `Done` at the end. An invocation ends its iteration: nothing more is pulled from that
    stream. A tool that is unknown, refuses its arguments or raises is a message to the model,
    which may do better in the next iteration.

    `AgentError` is raised for a malformed invocation, and when the model still invokes tools
    after `max_iterations` iterations. What the engine raises passes through. On every path the
    engine's stream is closed; whoever leaves early closes the turn, by `contextlib.aclosing`.

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
                elif delta.startswith(_CALL):
                    invocation = Invocation.from_delta(delta)
                    break
        finally:
            await _close(stream)
        text = reply.text()
        if invocation is None:
            history.append({"role": "assistant", "content": text})
            yield Done(text, history)
            return
        # What was said before the call is part of the conversation: the model must see it again.
        call = {"name": invocation.name, "arguments": invocation.arguments}
        history.append({"role": "assistant", "content": text, "tool_call": call})
        yield invocation
        result = await _run_tool(tools, invocation)
        history.append({"role": "tool", "name": result.name, "content": result.content})
        yield result
    raise AgentError(
        f"the model still invokes tools after {max_iterations} iterations, the most allowed"
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
    except Exception as error:  # noqa: BLE001 - whatever a tool raises, the model can be told
        return ToolResult(name, f"error: {type(error).__name__}: {error}", failed=True)
    return ToolResult(name, content, failed=False)
