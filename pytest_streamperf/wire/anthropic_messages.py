"""Anthropic's messages, as they are streamed.

https://docs.anthropic.com/en/docs/build-with-claude/streaming

Each event is named as the `type` in its data.

    message_start          the message, empty, and what was read
    ping                   at any time
    content_block_start    a block of one kind, by index: text, thinking or tool_use
    content_block_delta    a piece of it: text_delta, thinking_delta or input_json_delta
    content_block_stop
    message_delta          why it stopped, and what was written
    message_stop
    error                  in place of all that would have come

Tools that the service itself calls, server_tool_use and mcp_tool_use, are read as others are.
"""

from collections.abc import Iterator
from typing import Any

from pytest_streamperf.streams.messages import (
    Delta,
    Failure,
    ReasoningDelta,
    ToolCallDelta,
    Turn,
    Usage,
    text_of,
)
from pytest_streamperf.wire import sse
from pytest_streamperf.wire.reader import (
    Calls,
    Reader,
    UnexpectedError,
    member,
    object_in,
    pieces_of,
)

NAME, PATH, MEDIA_TYPE = "anthropic-messages", "/v1/messages", "text/event-stream"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the events of a turn: one for each delta and those around them.

    A turn that says no usage has none of either: the format has to say one.

    >>> from pytest_streamperf.streams.messages import Text
    >>> b"".join(encode(Turn(Text("Hi")))).count(b"event: content_block_delta\n")
    1
    """
    usage = turn.usage or Usage(0, 0)
    message: dict[str, Any] = {
        "id": "msg_0",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": 0},
    }
    yield _event("message_start", message=message)
    yield _event("ping")
    reason = "end_turn"
    for piece in pieces_of(turn):
        delta, index = piece.delta, piece.number
        if isinstance(delta, Failure):
            yield _event("error", error={"type": delta.type, "message": delta.message})
            return
        block, kind, name = _START[type(delta)]
        if isinstance(delta, ToolCallDelta):
            block, reason = {**block, "id": delta.id, "name": delta.name}, "tool_use"
        if piece.first:
            yield _event("content_block_start", index=index, content_block=block)
        told = {"type": kind, name: text_of(delta)}
        yield _event("content_block_delta", index=index, delta=told)
        if piece.last:
            yield _event("content_block_stop", index=index)
    stop = {"stop_reason": reason, "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": usage.output_tokens})
    yield _event("message_stop")


# How a block of each kind starts; the type of a piece of it, and where that has its text.
_START: dict[type, tuple[dict[str, Any], str, str]] = {
    str: ({"type": "text", "text": ""}, "text_delta", "text"),
    ReasoningDelta: (
        {"type": "thinking", "thinking": "", "signature": ""},
        "thinking_delta",
        "thinking",
    ),
    ToolCallDelta: ({"type": "tool_use", "input": {}}, "input_json_delta", "partial_json"),
}
_PIECES = {kind: (start["type"], name) for start, kind, name in _START.values()}
_CALLS = dict.fromkeys(("tool_use", "server_tool_use", "mcp_tool_use"), "tool_use")
_KINDS = {"text": "text", "thinking": "thinking", **_CALLS}


def _event(kind: str, **more: Any) -> bytes:
    return sse.encode_json({"type": kind, **more}, type=kind)


class Decoder(Reader[sse.Event]):
    r"""Reads events back to deltas. Types that it does not know are passed over, as asked for.

    >>> Decoder().feed(b'event: ping\ndata: {"type": "ping"}\n\n')
    []
    """

    _end = "event: message_stop"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._tokens_read = 0
        self._blocks: dict[int, str] = {}
        self._calls = Calls()

    def _read(self, event: sse.Event) -> Iterator[Delta]:
        if not event.data:
            return  # as the SDK does
        value = object_in(event.data)
        kind = member(value, "type", str)
        if event.type != kind:
            msg = f"an event is named as its type, {kind!r}, not {event.type!r}"
            raise UnexpectedError(msg)
        match kind:
            case "message_start":
                usage = member(member(value, "message", dict), "usage", dict)
                self._tokens_read = member(usage, "input_tokens", int)
            case "content_block_start":
                self._begin(member(value, "index", int), member(value, "content_block", dict))
            case "content_block_delta":
                yield from self._piece(self._open(value), member(value, "delta", dict))
            case "content_block_stop":
                index = self._open(value)
                del self._blocks[index]
                yield from self._calls.without_pieces(index)
            case "message_delta":
                written = member(member(value, "usage", dict), "output_tokens", int)
                self.usage = Usage(self._tokens_read, written)
            case "message_stop":
                self.ended = True
            case "error":
                error = member(value, "error", dict)
                self.ended = True
                yield Failure(member(error, "message", str), member(error, "type", str))

    def _begin(self, index: int, block: dict[str, Any]) -> None:
        self._blocks[index] = _KINDS.get(member(block, "type", str), "")
        if self._blocks[index] == "tool_use":
            self._calls.begin(index, member(block, "id", str), member(block, "name", str))

    def _open(self, value: dict[str, Any]) -> int:
        index = member(value, "index", int)
        if index not in self._blocks:
            msg = f"a block begins with content_block_start, and block {index} is not open"
            raise UnexpectedError(msg)
        return index

    def _piece(self, index: int, piece: dict[str, Any]) -> Iterator[Delta]:
        kind, block = member(piece, "type", str), self._blocks[index]
        if kind not in _PIECES or not block:
            return
        belongs, name = _PIECES[kind]
        if belongs != block:
            msg = f"{kind} is a piece of a {belongs} block, not of a {block} block"
            raise UnexpectedError(msg)
        text = member(piece, name, str)
        match belongs:
            case "tool_use":
                yield self._calls.piece(index, text)
            case "thinking":
                yield ReasoningDelta(text)
            case _:
                yield text
