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
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from random import Random
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
from pytest_streamperf.wire.reader import Reader, UnexpectedError, member, object_in, usage_in

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
_PIECES = {f"response.{kind.piece}.delta": kind.item for kind in _KINDS.values()}


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Give the events of a turn: one for each delta and those around them.

    >>> from pytest_streamperf.turns import Text
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
    output = []
    for index, (_, group) in enumerate(groupby(turn, whole_of)):
        deltas = list(group)
        if isinstance(deltas[0], Failure):
            failure = {"code": deltas[0].type, "message": deltas[0].message, "param": None}
            yield {"type": "error", **failure}
            return
        *events, last = _item(index, deltas)
        output.append(last["item"])
        yield from (*events, last)
    whole = {**response, "status": "completed", "output": output, "usage": _usage(turn.usage)}
    yield {"type": "response.completed", "response": whole}


def _item(index: int, deltas: Sequence[Delta]) -> Iterator[dict[str, Any]]:
    first, text, kind = deltas[0], "".join(map(text_of, deltas)), _KINDS[type(deltas[0])]
    item: dict[str, Any] = {"id": f"{kind.item}_{index}", "type": kind.item}
    if isinstance(first, ToolCallDelta):
        item |= {"call_id": first.id, "name": first.name}
        empty: dict[str, Any] = {"arguments": ""}
        full: dict[str, Any] = {"arguments": text}
    else:
        item |= {"role": "assistant"} if kind.item == "message" else {}
        empty, full = {kind.held_as: []}, {kind.held_as: [{**kind.part, "text": text}]}
    begun = {**item, **empty, "status": "in_progress"}
    yield {"type": "response.output_item.added", "output_index": index, "item": begun}
    at = {"item_id": item["id"], "output_index": index, **kind.at}
    if kind.parts:
        part = {**kind.part, "text": ""}
        yield {"type": f"response.{kind.parts}.added", **at, "part": part}
    random = Random(index)  # noqa: S311 - it hides nothing here
    for delta in deltas:
        hidden = "x" * random.randint(1, _LONGEST_OBFUSCATION)
        piece = {"delta": text_of(delta), "obfuscation": hidden}
        yield {"type": f"response.{kind.piece}.delta", **at, **piece}
    done = {"text": text} if kind.parts else full
    yield {"type": f"response.{kind.piece}.done", **at, **done}
    if kind.parts:
        part = {**kind.part, "text": text}
        yield {"type": f"response.{kind.parts}.done", **at, "part": part}
    whole = {**item, **full, "status": "completed"}
    yield {"type": "response.output_item.done", "output_index": index, "item": whole}


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
        super().__init__(sse.Decoder(mode="sdk"))
        self._items: dict[int, tuple[str, tuple[int, str, str]]] = {}
        self._calls = 0

    def _read(self, event: sse.Event) -> Iterator[Delta]:
        value = object_in(event.data)
        match member(value, "type", str):
            case "response.output_item.added":
                self._begin(member(value, "output_index", int), member(value, "item", dict))
            case kind if kind in _PIECES:
                yield from self._piece(value, kind)
            case "response.completed":
                self.ended = True
                response = member(value, "response", dict)
                if response.get("usage") is not None:
                    usage = member(response, "usage", dict)
                    self.usage = usage_in(usage, "input_tokens", "output_tokens")
            case "error":
                self.ended = True
                yield Failure(member(value, "message", str), value.get("code") or "server_error")

    def _begin(self, index: int, item: dict[str, Any]) -> None:
        kind, call = member(item, "type", str), (0, "", "")
        if kind == "function_call":
            call = self._calls, member(item, "call_id", str), member(item, "name", str)
            self._calls += 1
        self._items[index] = kind, call

    def _piece(self, value: dict[str, Any], kind: str) -> Iterator[Delta]:
        index, text = member(value, "output_index", int), member(value, "delta", str)
        begun, call = self._items.get(index, ("", (0, "", "")))
        if begun != _PIECES[kind]:
            what = f"not of a {begun}" if begun else "and that has not begun"
            msg = f"{kind} is of a {_PIECES[kind]}, {what}: output_index {index}"
            raise UnexpectedError(msg)
        match begun:
            case "function_call":
                yield ToolCallDelta(*call, text)
            case "reasoning":
                yield ReasoningDelta(text)
            case _:
                yield text
