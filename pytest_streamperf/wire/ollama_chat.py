"""Ollama's chat, as it is streamed: a line of JSON for each piece.

https://docs.ollama.com/api/streaming

    text           message.content
    reasoning      message.thinking
    a tool call    message.tool_calls[0].function, with all its arguments at once, as an object
    the last line  done, why, and the counters
    an error       {"error": "..."} in a line's place

An error has no type, and comes back as a "server_error".
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
from pytest_streamperf.wire.reader import Reader, maybe, member, members, object_in, pieces_of

NAME, PATH, MEDIA_TYPE = "ollama-chat", "/api/chat", "application/x-ndjson"


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the lines of a turn: one for each delta, one for each tool call, and the last.

    A turn that says no usage has none of either: the format has to say one. A call is sent where it
    begins, also if others come between its pieces; one that a failure cuts off has not been sent.

    >>> from pytest_streamperf.streams.messages import Text
    >>> len([*encode(Turn(Text("Hi")))])
    2
    """

    def line(message: dict[str, Any], **more: Any) -> bytes:
        head = {"model": model, "created_at": "1970-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": "", **message}
        return ndjson.encode({**head, "message": message, "done": False, **more})

    cut_off = turn[-2] if len(turn) > 1 and isinstance(turn[-1], Failure) else None
    for piece in pieces_of(turn):
        match piece.delta:
            case str(text):
                yield line({"content": text})
            case ReasoningDelta(text=text):
                yield line({"thinking": text})
            case ToolCallDelta(name=name) if piece.first:
                try:
                    arguments = _whole("".join(map(text_of, piece.block)))
                except ValueError:
                    if piece.block[-1] is cut_off:
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


def _whole(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError as error:
        msg = f"{NAME} sends arguments whole, so these cannot be sent: {error}"
        raise ValueError(msg) from None


class Decoder(Reader[str]):
    r"""Reads lines back to deltas. A tool call is one delta; its id is made up, as there is none.

    >>> Decoder().feed(b'{"message": {"content": "Hi"}, "done": false}\n')
    ['Hi']
    """

    _end = '"done": true'

    def __init__(self) -> None:
        super().__init__(ndjson.Decoder())
        self._calls = 0

    def _read(self, event: str) -> Iterator[Delta]:
        value = object_in(event)
        if (error := maybe(value, "error", str)) is not None:
            self.ended = True
            yield Failure(error)
            return
        message = member(value, "message", dict)
        if thought := maybe(message, "thinking", str):
            yield ReasoningDelta(thought)
        if text := maybe(message, "content", str):
            yield text
        for call in members(message, "tool_calls"):
            function = member(call, "function", dict)
            arguments = json.dumps(member(function, "arguments", dict), ensure_ascii=False)
            name = member(function, "name", str)
            yield ToolCallDelta(self._calls, f"call_{self._calls}", name, arguments)
            self._calls += 1
        if value.get("done"):
            self.ended = True
            counts = [maybe(value, name, int) for name in ("prompt_eval_count", "eval_count")]
            if counts != [None, None]:
                self.usage = Usage(*(count or 0 for count in counts))
