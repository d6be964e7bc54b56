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
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from pytest_streamperf.turns import (
    Delta,
    Failure,
    ReasoningDelta,
    ToolCallDelta,
    Turn,
    Usage,
    text_of,
    whole_of,
)
from pytest_streamperf.wire import sse
from pytest_streamperf.wire.reader import Reader, UnexpectedError, member, object_in

NAME, PATH, MEDIA_TYPE = "anthropic-messages", "/v1/messages", "text/event-stream"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the events of a turn: one for each delta and those around them.

    A turn that says no usage has none of either: the format has to say one.

    >>> from pytest_streamperf.turns import Text
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
    for index, (_, deltas) in enumerate(groupby(turn, whole_of)):
        first = next(deltas)
        if isinstance(first, Failure):
            yield _event("error", error={"type": first.type, "message": first.message})
            return
        start, kind, name = _START[type(first)]
        block = start
        if isinstance(first, ToolCallDelta):
            block, reason = {**start, "id": first.id, "name": first.name}, "tool_use"
        yield _event("content_block_start", index=index, content_block=block)
        for delta in (first, *deltas):
            piece = {"type": kind, name: text_of(delta)}
            yield _event("content_block_delta", index=index, delta=piece)
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


def _event(kind: str, **more: Any) -> bytes:
    return sse.encode_json({"type": kind, **more}, type=kind)


class _Block(NamedTuple):
    """A block that has begun: of which kind, and of a call its number, id and name."""

    kind: str
    call: tuple[int, str, str]


_NO_CALL = 0, "", ""


class Decoder(Reader[sse.Event]):
    r"""Reads events back to deltas. Types that it does not know are passed over, as asked for.

    >>> Decoder().feed(b'event: ping\ndata: {"type": "ping"}\n\n')
    []
    """

    _end = "event: message_stop"

    def __init__(self) -> None:
        super().__init__(sse.Decoder(mode="sdk"))
        self._tokens_read = 0
        self._blocks: dict[int, _Block] = {}
        self._calls = 0

    def _read(self, event: sse.Event) -> Iterator[Delta]:
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
                self._open(value)
                del self._blocks[value["index"]]
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
        kind, call = member(block, "type", str), _NO_CALL
        if kind == "tool_use":
            call = self._calls, member(block, "id", str), member(block, "name", str)
            self._calls += 1
        self._blocks[index] = _Block(kind, call)

    def _open(self, value: dict[str, Any]) -> _Block:
        index = member(value, "index", int)
        if index not in self._blocks:
            msg = f"a block begins with content_block_start, and block {index} is not open"
            raise UnexpectedError(msg)
        return self._blocks[index]

    def _piece(self, block: _Block, piece: dict[str, Any]) -> Iterator[Delta]:
        kind = member(piece, "type", str)
        if kind not in _PIECES:
            return
        belongs, name = _PIECES[kind]
        if belongs != block.kind:
            msg = f"{kind} is a piece of a {belongs} block, not of a {block.kind} block"
            raise UnexpectedError(msg)
        if text := member(piece, name, str):
            match belongs:
                case "tool_use":
                    yield ToolCallDelta(*block.call, text)
                case "thinking":
                    yield ReasoningDelta(text)
                case _:
                    yield text
