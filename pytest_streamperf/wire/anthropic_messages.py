"""The dialect `anthropic-messages`: the stream of Anthropic's Messages API, over SSE.

https://docs.anthropic.com/en/docs/build-with-claude/streaming

The type of an event equals the `type` in its data. `encode` sends these events:

    message_start          the message without content, and the input tokens
    ping                   may come at any time
    content_block_start    the index and the type of a block: text, thinking or tool_use
    content_block_delta    a delta of the block: text_delta, thinking_delta or input_json_delta
    content_block_stop
    message_delta          the stop reason, and the output tokens
    message_stop
    error                  ends the turn in place of all later events

`Decoder` also reads calls of tools that the service runs itself, server_tool_use and mcp_tool_use.
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
    Reader,
    ToolCalls,
    UnexpectedError,
    member,
    parse_object,
    placed_deltas,
)

NAME, PATH, MEDIA_TYPE = "anthropic-messages", "/v1/messages", "text/event-stream"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Yield the events of a turn: one for each delta, and those that frame the deltas.

    The format requires a usage, so a turn without one gets 0 input and 0 output tokens.

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
    for placed in placed_deltas(turn):
        delta, index = placed.delta, placed.number
        if isinstance(delta, Failure):
            yield _event("error", error={"type": delta.type, "message": delta.message})
            return
        block, kind, text_name = _BLOCKS[type(delta)]
        if isinstance(delta, ToolCallDelta):
            block, reason = {**block, "id": delta.id, "name": delta.name}, "tool_use"
        if placed.first:
            yield _event("content_block_start", index=index, content_block=block)
        block_delta = {"type": kind, text_name: text_of(delta)}
        yield _event("content_block_delta", index=index, delta=block_delta)
        if placed.last:
            yield _event("content_block_stop", index=index)
    stop = {"stop_reason": reason, "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": usage.output_tokens})
    yield _event("message_stop")


# For each type of delta: its block as it starts, the delta's type, and the member with its text.
_BLOCKS: dict[type, tuple[dict[str, Any], str, str]] = {
    str: ({"type": "text", "text": ""}, "text_delta", "text"),
    ReasoningDelta: (
        {"type": "thinking", "thinking": "", "signature": ""},
        "thinking_delta",
        "thinking",
    ),
    ToolCallDelta: ({"type": "tool_use", "input": {}}, "input_json_delta", "partial_json"),
}
_DELTAS = {kind: (block["type"], text_name) for block, kind, text_name in _BLOCKS.values()}
_CALL_TYPES = dict.fromkeys(("tool_use", "server_tool_use", "mcp_tool_use"), "tool_use")
_BLOCK_TYPES = {"text": "text", "thinking": "thinking", **_CALL_TYPES}


def _event(kind: str, **members: Any) -> bytes:
    return sse.encode_json({"type": kind, **members}, type=kind)


class Decoder(Reader[sse.Event]):
    r"""The decoder of `anthropic-messages`. It skips unknown types, as Anthropic demands.

    >>> Decoder().feed(b'event: ping\ndata: {"type": "ping"}\n\n')
    []
    """

    _end_marker = "event: message_stop"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._input_tokens = 0
        self._blocks: dict[int, str] = {}
        self._calls = ToolCalls()

    def _deltas_in(self, event: sse.Event) -> Iterator[Delta]:
        if not event.data:
            return  # Anthropic's SDK skips an event without data, too
        value = parse_object(event.data)
        kind = member(value, "type", str)
        if event.type != kind:
            msg = f"an event is named as its type, {kind!r}, not {event.type!r}"
            raise UnexpectedError(msg)
        match kind:
            case "message_start":
                usage = member(member(value, "message", dict), "usage", dict)
                self._input_tokens = member(usage, "input_tokens", int)
            case "content_block_start":
                self._begin(member(value, "index", int), member(value, "content_block", dict))
            case "content_block_delta":
                yield from self._block_deltas(self._open_index(value), member(value, "delta", dict))
            case "content_block_stop":
                index = self._open_index(value)
                del self._blocks[index]
                yield from self._calls.end(index)
            case "message_delta":
                output_tokens = member(member(value, "usage", dict), "output_tokens", int)
                self.usage = Usage(self._input_tokens, output_tokens)
            case "message_stop":
                self.ended = True
            case "error":
                error = member(value, "error", dict)
                self.ended = True
                yield Failure(member(error, "message", str), member(error, "type", str))

    def _begin(self, index: int, block: dict[str, Any]) -> None:
        self._blocks[index] = _BLOCK_TYPES.get(member(block, "type", str), "")
        if self._blocks[index] == "tool_use":
            self._calls.begin(index, member(block, "id", str), member(block, "name", str))

    def _open_index(self, value: dict[str, Any]) -> int:
        index = member(value, "index", int)
        if index not in self._blocks:
            msg = f"a block begins with content_block_start, and block {index} is not open"
            raise UnexpectedError(msg)
        return index

    def _block_deltas(self, index: int, value: dict[str, Any]) -> Iterator[Delta]:
        kind, open_block = member(value, "type", str), self._blocks[index]
        if kind not in _DELTAS or not open_block:
            return
        block, text_name = _DELTAS[kind]
        if block != open_block:
            msg = f"{kind} belongs to a {block} block, but block {index} is a {open_block} block"
            raise UnexpectedError(msg)
        text = member(value, text_name, str)
        match block:
            case "tool_use":
                yield self._calls.delta(index, text)
            case "thinking":
                yield ReasoningDelta(text)
            case _:
                yield text
