"""AG-UI, the protocol between agents and their user interfaces, as server-sent events.

https://docs.ag-ui.com/concepts/events

    RUN_STARTED
    TEXT_MESSAGE_START, _CONTENT, _END              a message, by its id
    REASONING_START, REASONING_MESSAGE_START, _CONTENT, _END, REASONING_END
    TOOL_CALL_START, _ARGS, _END                    a tool call, by its id
    RUN_FINISHED, with the usage, or RUN_ERROR
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pytest_streamperf.turns import (
    Delta,
    Failure,
    ReasoningDelta,
    ToolCallDelta,
    Turn,
    text_of,
    whole_of,
)
from pytest_streamperf.wire import sse
from pytest_streamperf.wire.reader import (
    Reader,
    UnexpectedError,
    member,
    members,
    object_in,
    usage_in,
)

NAME, PATH, MEDIA_TYPE = "ag-ui", "/", "text/event-stream"

_RUN = {"threadId": "thread_0", "runId": "run_0"}


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the events of a turn: one for each delta and those around them.

    >>> from pytest_streamperf.turns import Text
    >>> b"".join(encode(Turn(Text("Hi")))).count(b"TEXT_MESSAGE_CONTENT")
    1
    """
    yield _event("RUN_STARTED", **_RUN)
    for index, (_, deltas) in enumerate(groupby(turn, whole_of)):
        first = next(deltas)
        if isinstance(first, Failure):
            yield _event("RUN_ERROR", message=first.message, code=first.type)
            return
        before, kind, after = _AROUND[type(first)]
        if isinstance(first, ToolCallDelta):
            of, more = {"toolCallId": first.id}, {"toolCallName": first.name}
        else:
            role = "reasoning" if isinstance(first, ReasoningDelta) else "assistant"
            of, more = {"messageId": f"message_{index}"}, {"role": role}
        for name in before:
            yield _event(name, **of, **(more if name == before[-1] else {}))
        for delta in (first, *deltas):
            yield _event(kind, **of, delta=text_of(delta))
        for name in after:
            yield _event(name, **of)
    usage = {}
    if turn.usage is not None:
        read, written = turn.usage.input_tokens, turn.usage.output_tokens
        usage = {"usage": [{"model": model, "inputTokens": read, "outputTokens": written}]}
    yield _event("RUN_FINISHED", **_RUN, **usage)


# The events before, for and after the deltas of one kind.
_AROUND: dict[type, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    str: (("TEXT_MESSAGE_START",), "TEXT_MESSAGE_CONTENT", ("TEXT_MESSAGE_END",)),
    ReasoningDelta: (
        ("REASONING_START", "REASONING_MESSAGE_START"),
        "REASONING_MESSAGE_CONTENT",
        ("REASONING_MESSAGE_END", "REASONING_END"),
    ),
    ToolCallDelta: (("TOOL_CALL_START",), "TOOL_CALL_ARGS", ("TOOL_CALL_END",)),
}


def _event(kind: str, **more: Any) -> bytes:
    return sse.encode_json({"type": kind, **more})


class Decoder(Reader[sse.Event]):
    r"""Reads events back to deltas. Types that are no part of a turn, states say, are passed over.

    >>> Decoder().feed(b'data: {"type": "STEP_STARTED", "stepName": "plan"}\n\n')
    []
    """

    _end = "RUN_FINISHED"

    def __init__(self) -> None:
        super().__init__(sse.Decoder(mode="sdk"))
        self._open: dict[str, str] = {}
        self._calls: dict[str, tuple[int, str, str]] = {}

    def _read(self, event: sse.Event) -> Iterator[Delta]:
        value = object_in(event.data)
        match member(value, "type", str):
            case "TEXT_MESSAGE_START" | "REASONING_MESSAGE_START" as kind:
                self._open[member(value, "messageId", str)] = kind
            case "TEXT_MESSAGE_CONTENT":
                yield self._piece(value, "messageId", "TEXT_MESSAGE_START")
            case "REASONING_MESSAGE_CONTENT":
                yield ReasoningDelta(self._piece(value, "messageId", "REASONING_MESSAGE_START"))
            case "TOOL_CALL_START" as kind:
                call = member(value, "toolCallId", str)
                self._open[call] = kind
                self._calls[call] = len(self._calls), call, member(value, "toolCallName", str)
            case "TOOL_CALL_ARGS":
                text = self._piece(value, "toolCallId", "TOOL_CALL_START")
                yield ToolCallDelta(*self._calls[value["toolCallId"]], text)
            case "TEXT_MESSAGE_END" | "REASONING_MESSAGE_END" | "TOOL_CALL_END" as kind:
                of = "toolCallId" if kind == "TOOL_CALL_END" else "messageId"
                self._open.pop(member(value, of, str), None)
            case "RUN_FINISHED":
                self.ended = True
                for usage in members(value, "usage"):
                    self.usage = usage_in(usage, "inputTokens", "outputTokens")
            case "RUN_ERROR":
                self.ended = True
                yield Failure(member(value, "message", str), value.get("code") or "server_error")

    def _piece(self, value: dict[str, Any], of: str, begun: str) -> str:
        message = member(value, of, str)
        if self._open.get(message) != begun:
            msg = f"{value['type']} needs a {begun} before it, which {message!r} has not had"
            raise UnexpectedError(msg)
        return member(value, "delta", str)
