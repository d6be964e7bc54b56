"""The dialect `openai-chat`: the stream of OpenAI's Chat Completions API, over SSE.

https://platform.openai.com/docs/api-reference/chat-streaming

OpenAI calls an event a chunk. `encode` sends these:

    the first     the role of the message
    text          choices[0].delta.content
    reasoning     choices[0].delta.reasoning_content, as DeepSeek and vLLM do; OpenAI sends none
    a tool call   choices[0].delta.tool_calls[0]: index, id, type, name; then index and arguments
    the reason    finish_reason of choices[0]
    the usage     usage, and no choices; only if the turn has a usage
    an error      {"error": {...}} in place of the next chunk; it ends the turn
    the end       [DONE]; `Decoder` allows it after an error, too, as some servers send it
"""

from collections.abc import Callable, Iterator
from typing import Any

from pytest_streamperf.streams.messages import Delta, Failure, ReasoningDelta, ToolCallDelta, Turn
from pytest_streamperf.wire import sse
from pytest_streamperf.wire.reader import (
    Reader,
    ToolCalls,
    UnexpectedError,
    array_member,
    failure_from,
    member,
    optional_member,
    parse_object,
    placed_deltas,
    usage_from,
)

NAME, PATH, MEDIA_TYPE = "openai-chat", "/v1/chat/completions", "text/event-stream"

_DONE = "[DONE]"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Yield the events of a turn: one for each delta, and those that frame the deltas.

    >>> from pytest_streamperf.streams.messages import Text
    >>> b"".join(encode(Turn(Text("Hi")))).endswith(b"data: [DONE]\n\n")
    True
    """

    def chunk(**members: Any) -> bytes:
        head = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": model}
        return sse.encode_json({**head, **members})

    def choice(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish_reason}])

    yield choice({"role": "assistant", "content": ""})
    reason = "stop"
    for placed in placed_deltas(turn):
        delta = placed.delta
        if isinstance(delta, Failure):
            yield sse.encode_json({"error": {"message": delta.message, "type": delta.type}})
            return
        if isinstance(delta, ToolCallDelta):
            reason = "tool_calls"
            if placed.first:
                function = {"name": delta.name, "arguments": ""}
                yield choice(
                    _call_member(delta.index, id=delta.id, type="function", function=function)
                )
        yield choice(_delta_members(delta))
    yield choice({}, reason)
    if turn.usage is not None:
        input_, output = turn.usage.input_tokens, turn.usage.output_tokens
        usage = {"prompt_tokens": input_, "completion_tokens": output}
        yield chunk(choices=[], usage={**usage, "total_tokens": input_ + output})
    yield sse.encode(sse.Event(_DONE))


def _delta_members(delta: str | ReasoningDelta | ToolCallDelta) -> dict[str, Any]:
    match delta:
        case str():
            return {"content": delta}
        case ReasoningDelta():
            return {"reasoning_content": delta.text}
        case ToolCallDelta():
            return _call_member(delta.index, function={"arguments": delta.arguments})


def _call_member(index: int, **members: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **members}]}


# Members of `choices[0].delta` that hold text, and the type of the delta that each one becomes.
_TEXT_MEMBERS: dict[str, Callable[[str], Delta]] = {
    "reasoning_content": ReasoningDelta,
    "content": str,
    "refusal": str,
}


class Decoder(Reader[sse.Event]):
    r"""The decoder of `openai-chat`.

    >>> Decoder().feed(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n')
    ['Hi']
    """

    _end_marker = f"data: {_DONE}"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._calls = ToolCalls()
        self._failed = False

    def _deltas_in(self, event: sse.Event) -> Iterator[Delta]:
        if event.data == _DONE:
            self.ended = True
            yield from self._calls.end()
            return
        chunk = parse_object(event.data)
        if (error := optional_member(chunk, "error", dict)) is not None:
            self.ended = self._failed = True
            yield failure_from(error, "type")
            return
        if (usage := optional_member(chunk, "usage", dict)) is not None:
            self.usage = usage_from(usage, "prompt_tokens", "completion_tokens")
        for choice in member(chunk, "choices", list):
            delta = member(choice, "delta", dict)
            for name, kind in _TEXT_MEMBERS.items():
                if text := optional_member(delta, name, str):
                    yield kind(text)
            for call in array_member(delta, "tool_calls"):
                yield from self._call_deltas(call)

    def _deltas_after_end(self, event: sse.Event) -> Iterator[Delta]:
        if not self._failed or event.data != _DONE:
            return super()._deltas_after_end(event)
        self._failed = False
        return iter(())

    def _call_deltas(self, call: dict[str, Any]) -> Iterator[Delta]:
        index, function = member(call, "index", int), optional_member(call, "function", dict) or {}
        started, call_id = self._calls.started.get(index), optional_member(call, "id", str)
        arguments = optional_member(function, "arguments", str)
        if call_id is not None and (started is None or call_id not in {"", started.id}):
            self._calls.begin(index, call_id, member(function, "name", str))
            arguments = arguments or None  # most servers begin a call with empty arguments
        elif started is None:
            msg = f"the tool call at index {index} must begin with its id and its name"
            raise UnexpectedError(msg)
        if arguments is not None:
            yield self._calls.delta(index, arguments)
