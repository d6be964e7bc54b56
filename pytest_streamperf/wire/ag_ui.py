"""AG-UI, the protocol between agents and their user interfaces, as server-sent events.

https://docs.ag-ui.com/concepts/events

    RUN_STARTED
    TEXT_MESSAGE_START, _CONTENT, _END              a message, by its id
    REASONING_START, REASONING_MESSAGE_START, _CONTENT, _END, REASONING_END
    TOOL_CALL_START, _ARGS, _END                    a tool call, by its id
    RUN_FINISHED, with the usage, or RUN_ERROR

TEXT_MESSAGE_CHUNK, REASONING_MESSAGE_CHUNK and TOOL_CALL_CHUNK, which are read, too, stand for the
start and a piece at once: where no id is said, that of the last chunk of its kind holds.
"""

from collections.abc import Iterator
from typing import Any

from pytest_streamperf.streams.messages import (
    Delta,
    Failure,
    ReasoningDelta,
    ToolCallDelta,
    Turn,
    text_of,
)
from pytest_streamperf.wire import sse
from pytest_streamperf.wire.reader import (
    Calls,
    Reader,
    UnexpectedError,
    failure_in,
    maybe,
    member,
    members,
    object_in,
    pieces_of,
    usage_in,
)

NAME, PATH, MEDIA_TYPE = "ag-ui", "/", "text/event-stream"

_RUN = {"threadId": "thread_0", "runId": "run_0"}


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the events of a turn: one for each delta and those around them.

    >>> from pytest_streamperf.streams.messages import Text
    >>> b"".join(encode(Turn(Text("Hi")))).count(b"TEXT_MESSAGE_CONTENT")
    1
    """
    yield _event("RUN_STARTED", **_RUN)
    for piece in pieces_of(turn):
        delta = piece.delta
        if isinstance(delta, Failure):
            yield _event("RUN_ERROR", message=delta.message, code=delta.type)
            return
        before, kind, after = _AROUND[type(delta)]
        if isinstance(delta, ToolCallDelta):
            of, more = {"toolCallId": delta.id}, {"toolCallName": delta.name}
        else:
            role = "reasoning" if isinstance(delta, ReasoningDelta) else "assistant"
            of, more = {"messageId": f"message_{piece.number}"}, {"role": role}
        for name in before if piece.first else ():
            yield _event(name, **of, **(more if name == before[-1] else {}))
        yield _event(kind, **of, delta=text_of(delta))
        for name in after if piece.last else ():
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


# What the pieces of an item are called, and the member that has its id.
_ITEMS = {
    "TEXT_MESSAGE": ("CONTENT", "messageId"),
    "REASONING_MESSAGE": ("CONTENT", "messageId"),
    "TOOL_CALL": ("ARGS", "toolCallId"),
}
_TYPES = {
    f"{item}_{what}": (item, what)
    for item, (piece, _) in _ITEMS.items()
    for what in ("START", piece, "END", "CHUNK")
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
        super().__init__(sse.Decoder())
        self._open: set[tuple[str, str]] = set()
        self._chunked: dict[str, str] = {}  # of which id the last chunk of an item was
        self._calls = Calls()

    def _read(self, event: sse.Event) -> Iterator[Delta]:
        value = object_in(event.data)
        match member(value, "type", str):
            case kind if kind in _TYPES:
                yield from self._item(*_TYPES[kind], value)
            case "RUN_FINISHED":
                self.ended = True
                yield from self._calls.without_pieces()
                for usage in members(value, "usage"):
                    self.usage = usage_in(usage, "inputTokens", "outputTokens")
            case "RUN_ERROR":
                self.ended = True
                yield failure_in(value, "code")

    def _item(self, item: str, what: str, value: dict[str, Any]) -> Iterator[Delta]:
        piece, of = _ITEMS[item]
        if what == "CHUNK":
            value = {**value, of: maybe(value, of, str) or self._chunked.get(item)}
        key = item, member(value, of, str)
        match what:
            case "START":
                self._open.add(key)
                if item == "TOOL_CALL":
                    self._calls.begin(key, key[1], member(value, "toolCallName", str))
            case "CHUNK":
                self._chunked[item] = key[1]
                if key not in self._open:
                    yield from self._item(item, "START", value)
                if value.get("delta") is not None:
                    yield from self._item(item, piece, value)
            case "END":
                self._open.discard(key)
                yield from self._calls.without_pieces(key)
            case _ if key not in self._open:
                msg = f"{item}_{what} needs a {item}_START before it, which {key[1]!r} has not had"
                raise UnexpectedError(msg)
            case _:
                yield self._piece(key, member(value, "delta", str))

    def _piece(self, key: tuple[str, str], text: str) -> Delta:
        match key[0]:
            case "TOOL_CALL":
                return self._calls.piece(key, text)
            case "REASONING_MESSAGE":
                return ReasoningDelta(text)
        return text
