"""OpenAI's chat completions, as they are streamed.

https://platform.openai.com/docs/api-reference/chat-streaming

    a chunk that names the role
    text          choices[0].delta.content
    reasoning     choices[0].delta.reasoning_content, as DeepSeek and vLLM have it; OpenAI has none
    a tool call   choices[0].delta.tool_calls[0]: index, id, type, name; then index and arguments
    a chunk with finish_reason, and one with the usage and no choices, if that was asked for
    an error      {"error": {...}} in a chunk's place
    [DONE]        which some servers say after an error, too
"""

from collections.abc import Callable, Iterator
from typing import Any

from pytest_streamperf.streams.messages import Delta, Failure, ReasoningDelta, ToolCallDelta, Turn
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

NAME, PATH, MEDIA_TYPE = "openai-chat", "/v1/chat/completions", "text/event-stream"

_DONE = "[DONE]"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the chunks of a turn, one for each delta and those around them.

    >>> from pytest_streamperf.streams.messages import Text
    >>> b"".join(encode(Turn(Text("Hi")))).endswith(b"data: [DONE]\n\n")
    True
    """

    def chunk(**more: Any) -> bytes:
        head = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": model}
        return sse.encode_json({**head, **more})

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    yield choice({"role": "assistant", "content": ""})
    reason = "stop"
    for piece in pieces_of(turn):
        delta = piece.delta
        if isinstance(delta, Failure):
            yield sse.encode_json({"error": {"message": delta.message, "type": delta.type}})
            return
        if isinstance(delta, ToolCallDelta):
            reason = "tool_calls"
            if piece.first:
                function = {"name": delta.name, "arguments": ""}
                yield choice(_call(delta.index, id=delta.id, type="function", function=function))
        yield choice(_choice(delta))
    yield choice({}, reason)
    if turn.usage is not None:
        read, written = turn.usage.input_tokens, turn.usage.output_tokens
        usage = {"prompt_tokens": read, "completion_tokens": written}
        yield chunk(choices=[], usage={**usage, "total_tokens": read + written})
    yield sse.encode(sse.Event(_DONE))


def _choice(delta: str | ReasoningDelta | ToolCallDelta) -> dict[str, Any]:
    match delta:
        case str():
            return {"content": delta}
        case ReasoningDelta():
            return {"reasoning_content": delta.text}
        case ToolCallDelta():
            return _call(delta.index, function={"arguments": delta.arguments})


def _call(index: int, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **more}]}


# The members of a chunk's delta that are text.
_TEXTS: dict[str, Callable[[str], Delta]] = {
    "reasoning_content": ReasoningDelta,
    "content": str,
    "refusal": str,
}


class Decoder(Reader[sse.Event]):
    r"""Reads chunks back to deltas.

    >>> Decoder().feed(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n')
    ['Hi']
    """

    _end = f"data: {_DONE}"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._calls = Calls()
        self._failed = False

    def _read(self, event: sse.Event) -> Iterator[Delta]:
        if event.data == _DONE:
            self.ended = True
            yield from self._calls.without_pieces()
            return
        chunk = object_in(event.data)
        if (error := maybe(chunk, "error", dict)) is not None:
            self.ended = self._failed = True
            yield failure_in(error, "type")
            return
        if (usage := maybe(chunk, "usage", dict)) is not None:
            self.usage = usage_in(usage, "prompt_tokens", "completion_tokens")
        for choice in member(chunk, "choices", list):
            delta = member(choice, "delta", dict)
            for name, kind in _TEXTS.items():
                if text := maybe(delta, name, str):
                    yield kind(text)
            for call in members(delta, "tool_calls"):
                yield from self._called(call)

    def _read_late(self, event: sse.Event) -> Iterator[Delta]:
        if not self._failed or event.data != _DONE:
            return super()._read_late(event)
        self._failed = False
        return iter(())

    def _called(self, call: dict[str, Any]) -> Iterator[Delta]:
        index, function = member(call, "index", int), maybe(call, "function", dict) or {}
        known, named = self._calls.begun.get(index), maybe(call, "id", str)
        arguments = maybe(function, "arguments", str)
        if named is not None and (known is None or named not in {"", known.id}):
            self._calls.begin(index, named, member(function, "name", str))
            arguments = arguments or None  # what comes first is empty as a rule, and no piece
        elif known is None:
            msg = f"a tool call begins with its id and name, which index {index} has not had"
            raise UnexpectedError(msg)
        if arguments is not None:
            yield self._calls.piece(index, arguments)
