"""The dialect `ollama-chat`: the stream of Ollama's chat API, one line of JSON for each delta.

https://docs.ollama.com/api/streaming

    text           message.content
    reasoning      message.thinking
    a tool call    message.tool_calls[0].function, with all its arguments in one object
    the last line  done, the reason, and the counters
    an error       {"error": "..."} in place of the next line; it ends the turn

An error has no type on the wire, so the decoder gives it the type "server_error".
"""

import json
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
from pytest_streamperf.wire import ndjson
from pytest_streamperf.wire.reader import (
    Reader,
    array_member,
    member,
    optional_member,
    parse_object,
    placed_deltas,
)

NAME, PATH, MEDIA_TYPE = "ollama-chat", "/api/chat", "application/x-ndjson"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Yield a line for each text delta, reasoning delta and tool call of a turn, then a last line.

    The format requires a usage, so a turn without one gets 0 input and 0 output tokens. A tool call
    is sent whole at its first delta, even if other deltas come between its deltas. A call whose
    arguments a failure truncates is not sent.

    >>> from pytest_streamperf.streams.messages import Text
    >>> len([*encode(Turn(Text("Hi")))])
    2
    """

    def line(message: dict[str, Any], **members: Any) -> bytes:
        head = {"model": model, "created_at": "1970-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": "", **message}
        return ndjson.encode({**head, "message": message, "done": False, **members})

    cut_off = turn[-2] if len(turn) > 1 and isinstance(turn[-1], Failure) else None
    for placed in placed_deltas(turn):
        match placed.delta:
            case str(text):
                yield line({"content": text})
            case ReasoningDelta(text=text):
                yield line({"thinking": text})
            case ToolCallDelta(name=name) if placed.first:
                try:
                    arguments = _parse_arguments("".join(map(text_of, placed.block)))
                except ValueError:
                    if placed.block[-1] is cut_off:
                        continue
                    raise
                function = {"name": name, "arguments": arguments}
                yield line({"tool_calls": [{"function": function}]})
            case Failure(message=message):
                yield ndjson.encode({"error": message})
                return
    usage = turn.usage or Usage(0, 0)
    counters = {
        "total_duration": 0,
        "load_duration": 0,
        "prompt_eval_count": usage.input_tokens,
        "prompt_eval_duration": 0,
        "eval_count": usage.output_tokens,
        "eval_duration": 0,
    }
    yield line({}, done=True, done_reason="stop", **counters)


def _parse_arguments(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError as error:
        msg = f"{NAME} sends arguments whole, so these cannot be sent: {error}"
        raise ValueError(msg) from None


class Decoder(Reader[str]):
    r"""The decoder of `ollama-chat`. It returns a tool call as one delta with a generated id.

    >>> Decoder().feed(b'{"message": {"content": "Hi"}, "done": false}\n')
    ['Hi']
    """

    _end_marker = '"done": true'

    def __init__(self) -> None:
        super().__init__(ndjson.Decoder())
        self._call_count = 0

    def _deltas_in(self, event: str) -> Iterator[Delta]:
        value = parse_object(event)
        if (error := optional_member(value, "error", str)) is not None:
            self.ended = True
            yield Failure(error)
            return
        message = member(value, "message", dict)
        if reasoning := optional_member(message, "thinking", str):
            yield ReasoningDelta(reasoning)
        if text := optional_member(message, "content", str):
            yield text
        for call in array_member(message, "tool_calls"):
            function = member(call, "function", dict)
            arguments = json.dumps(member(function, "arguments", dict), ensure_ascii=False)
            name = member(function, "name", str)
            yield ToolCallDelta(self._call_count, f"call_{self._call_count}", name, arguments)
            self._call_count += 1
        if value.get("done"):
            self.ended = True
            counts = [
                optional_member(value, name, int) for name in ("prompt_eval_count", "eval_count")
            ]
            if counts != [None, None]:
                self.usage = Usage(*(count or 0 for count in counts))
