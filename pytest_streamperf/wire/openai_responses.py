"""OpenAI's responses, as they are streamed.

https://platform.openai.com/docs/api-reference/responses-streaming

Each event is named as the `type` in its data, and numbered. Deltas have an `obfuscation` of random
length, which hides how long they are.

    response.created, response.in_progress         the response, empty
    response.output_item.added                     a message, reasoning or a function call, by index
    response.content_part.added                    of a message; of reasoning, its summary's part
    response.output_text.delta, .done
    response.reasoning_summary_text.delta, .done
    response.function_call_arguments.delta, .done
    response.content_part.done, response.output_item.done
    response.completed                             the response, whole, with its usage
    error                                          in place of all that would have come

A response that ends as response.incomplete, or as response.failed with its error, is read, too.
"""

from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

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
    Piece,
    Reader,
    UnexpectedError,
    failure_in,
    maybe,
    member,
    object_in,
    pieces_of,
    usage_in,
)

NAME, PATH, MEDIA_TYPE = "openai-responses", "/v1/responses", "text/event-stream"

_LONGEST_OBFUSCATION = 16


class _Kind(NamedTuple):
    """How an item of one kind is told: its type, what its pieces are called, and its one part."""

    item: str
    piece: str
    parts: str = ""
    at: dict[str, int] = {}  # noqa: RUF012 - never changed
    held_as: str = ""
    part: dict[str, Any] = {}  # noqa: RUF012


_KINDS: dict[type, _Kind] = {
    str: _Kind(
        *("message", "output_text", "content_part", {"content_index": 0}, "content"),
        {"type": "output_text", "annotations": []},
    ),
    ReasoningDelta: _Kind(
        *("reasoning", "reasoning_summary_text", "reasoning_summary_part", {"summary_index": 0}),
        *("summary", {"type": "summary_text"}),
    ),
    ToolCallDelta: _Kind("function_call", "function_call_arguments"),
}
_PIECES = {f"response.{kind.piece}.delta": kind.item for kind in _KINDS.values()} | {
    "response.refusal.delta": "message",
    "response.reasoning_text.delta": "reasoning",
}
_ENDS = {f"response.{end}" for end in ("completed", "incomplete", "failed")}


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the events of a turn: one for each delta and those around them.

    >>> from pytest_streamperf.streams.messages import Text
    >>> b"".join(encode(Turn(Text("Hi")))).count(b"event: response.output_text.delta\n")
    1
    """
    for number, event in enumerate(_events(turn, model)):
        yield sse.encode_json({**event, "sequence_number": number}, type=event["type"])


def _events(turn: Turn, model: str) -> Iterator[dict[str, Any]]:
    response: dict[str, Any] = {
        "id": "resp_0",
        "object": "response",
        "created_at": 0,
        "model": model,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "output": [],
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "usage": None,
    }
    yield {"type": "response.created", "response": response}
    yield {"type": "response.in_progress", "response": response}
    items: dict[int, dict[str, Any]] = {}
    random = Random(0)  # noqa: S311 - it hides nothing here
    for piece in pieces_of(turn):
        delta = piece.delta
        if isinstance(delta, Failure):
            failure = {"code": delta.type, "message": delta.message, "param": None}
            yield {"type": "error", **failure}
            return
        if piece.first:
            yield from _begin(piece)
        hidden = "x" * random.randint(1, _LONGEST_OBFUSCATION)
        kind, text = _KINDS[type(delta)].piece, text_of(delta)
        told = {"delta": text, "obfuscation": hidden}
        yield {"type": f"response.{kind}.delta", **_at(piece), **told}
        if piece.last:
            *events, done = _end(piece)
            items[piece.number] = done["item"]
            yield from (*events, done)
    output = [items[index] for index in sorted(items)]
    whole = {**response, "status": "completed", "output": output, "usage": _usage(turn.usage)}
    yield {"type": "response.completed", "response": whole}


def _begin(piece: Piece) -> Iterator[dict[str, Any]]:
    kind, item = _KINDS[type(piece.delta)], {**_item(piece, ""), "status": "in_progress"}
    if kind.parts:
        item[kind.held_as] = []
    yield {"type": "response.output_item.added", "output_index": piece.number, "item": item}
    if kind.parts:
        part = {**kind.part, "text": ""}
        yield {"type": f"response.{kind.parts}.added", **_at(piece), "part": part}


def _end(piece: Piece) -> Iterator[dict[str, Any]]:
    kind, text = _KINDS[type(piece.delta)], "".join(map(text_of, piece.block))
    done = {"text": text} if kind.parts else {"arguments": text}
    yield {"type": f"response.{kind.piece}.done", **_at(piece), **done}
    if kind.parts:
        part = {**kind.part, "text": text}
        yield {"type": f"response.{kind.parts}.done", **_at(piece), "part": part}
    item = {**_item(piece, text), "status": "completed"}
    yield {"type": "response.output_item.done", "output_index": piece.number, "item": item}


def _at(piece: Piece) -> dict[str, Any]:
    kind = _KINDS[type(piece.delta)]
    return {"item_id": f"{kind.item}_{piece.number}", "output_index": piece.number, **kind.at}


def _item(piece: Piece, text: str) -> dict[str, Any]:
    """The item that a delta is a piece of, with this text."""
    kind, delta = _KINDS[type(piece.delta)], piece.delta
    item: dict[str, Any] = {"id": f"{kind.item}_{piece.number}", "type": kind.item}
    if isinstance(delta, ToolCallDelta):
        return {**item, "call_id": delta.id, "name": delta.name, "arguments": text}
    role = {"role": "assistant"} if kind.item == "message" else {}
    return {**item, **role, kind.held_as: [{**kind.part, "text": text}]}


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class Decoder(Reader[sse.Event]):
    r"""Reads events back to deltas. Types that it does not know are passed over.

    >>> Decoder().feed(b'event: keepalive\ndata: {"type": "keepalive"}\n\n')
    []
    """

    _end = "response.completed"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._items: dict[int, str] = {}
        self._calls = Calls()

    def _read(self, event: sse.Event) -> Iterator[Delta]:
        value = object_in(event.data)
        match member(value, "type", str):
            case "response.output_item.added":
                self._begin(member(value, "output_index", int), member(value, "item", dict))
            case "response.output_item.done":
                yield from self._calls.without_pieces(member(value, "output_index", int))
            case kind if kind in _PIECES:
                yield self._piece(value, kind)
            case kind if kind in _ENDS:
                self.ended = True
                response = member(value, "response", dict)
                if (usage := maybe(response, "usage", dict)) is not None:
                    self.usage = usage_in(usage, "input_tokens", "output_tokens")
                if kind == "response.failed":
                    yield failure_in(member(response, "error", dict), "code")
            case "error":
                self.ended = True
                yield failure_in(value, "code")

    def _begin(self, index: int, item: dict[str, Any]) -> None:
        self._items[index] = member(item, "type", str)
        if self._items[index] == "function_call":
            self._calls.begin(index, member(item, "call_id", str), member(item, "name", str))

    def _piece(self, value: dict[str, Any], kind: str) -> Delta:
        index, text = member(value, "output_index", int), member(value, "delta", str)
        begun = self._items.get(index)
        if begun != _PIECES[kind]:
            what = f"not of a {begun}" if begun else "and that has not begun"
            msg = f"{kind} is of a {_PIECES[kind]}, {what}: output_index {index}"
            raise UnexpectedError(msg)
        match begun:
            case "function_call":
                return self._calls.piece(index, text)
            case "reasoning":
                return ReasoningDelta(text)
        return text
