"""The dialect `openai-responses`: the stream of OpenAI's Responses API, over SSE.

https://platform.openai.com/docs/api-reference/responses-streaming

The type of an event equals the `type` in its data, and `sequence_number` counts the events. A delta
has an `obfuscation` of random length, which hides the length of the delta. `encode` sends these:

    response.created, response.in_progress         the response without output
    response.output_item.added                     a message, reasoning or a function call
    response.content_part.added                    for a message
    response.reasoning_summary_part.added          for reasoning
    response.output_text.delta, .done
    response.reasoning_summary_text.delta, .done
    response.function_call_arguments.delta, .done
    response.content_part.done, response.reasoning_summary_part.done
    response.output_item.done
    response.completed                             the whole response, with its usage
    error                                          ends the turn in place of all later events

`Decoder` also accepts response.incomplete as the end, and response.failed with its error.
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
    PlacedDelta,
    Reader,
    ToolCalls,
    UnexpectedError,
    failure_from,
    member,
    optional_member,
    parse_object,
    placed_deltas,
    usage_from,
)

NAME, PATH, MEDIA_TYPE = "openai-responses", "/v1/responses", "text/event-stream"

# Not measured: no source for the range of OpenAI's lengths is on record.
_MAX_OBFUSCATION_CHARS = 16


class _ItemFormat(NamedTuple):
    """The format of one type of output item, which may have one part."""

    item: str
    """The type of the item."""
    delta_event: str
    """The name in the events that carry its deltas: `response.NAME.delta`."""
    part_event: str = ""
    """The name in the events of its part, `response.NAME.added`; empty for an item without one."""
    part_index: dict[str, int] = {}  # noqa: RUF012 - never changed
    """The member of its events that holds the index of the part."""
    parts_name: str = ""
    """The member of the item that holds its parts."""
    part: dict[str, Any] = {}  # noqa: RUF012 - never changed
    """The part without its text."""


# The format of the output item for each type of delta.
_FORMATS: dict[type, _ItemFormat] = {
    str: _ItemFormat(
        *("message", "output_text", "content_part", {"content_index": 0}, "content"),
        {"type": "output_text", "annotations": []},
    ),
    ReasoningDelta: _ItemFormat(
        *("reasoning", "reasoning_summary_text", "reasoning_summary_part", {"summary_index": 0}),
        *("summary", {"type": "summary_text"}),
    ),
    ToolCallDelta: _ItemFormat("function_call", "function_call_arguments"),
}
# The item type that each type of delta event belongs to.
_DELTA_EVENTS = {f"response.{form.delta_event}.delta": form.item for form in _FORMATS.values()} | {
    "response.refusal.delta": "message",
    "response.reasoning_text.delta": "reasoning",
}
_END_EVENTS = {f"response.{end}" for end in ("completed", "incomplete", "failed")}


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Yield the events of a turn: one for each delta, and those that frame the deltas.

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
    random = Random(0)  # noqa: S311 - scripted text is no secret
    for placed in placed_deltas(turn):
        delta = placed.delta
        if isinstance(delta, Failure):
            failure = {"code": delta.type, "message": delta.message, "param": None}
            yield {"type": "error", **failure}
            return
        if placed.first:
            yield from _begin_events(placed)
        obfuscation = "x" * random.randint(1, _MAX_OBFUSCATION_CHARS)
        name, text = _FORMATS[type(delta)].delta_event, text_of(delta)
        members = {"delta": text, "obfuscation": obfuscation}
        yield {"type": f"response.{name}.delta", **_position(placed), **members}
        if placed.last:
            *events, done = _end_events(placed)
            items[placed.number] = done["item"]
            yield from (*events, done)
    output = [items[index] for index in sorted(items)]
    whole = {
        **response,
        "status": "completed",
        "output": output,
        "usage": _usage_member(turn.usage),
    }
    yield {"type": "response.completed", "response": whole}


def _begin_events(placed: PlacedDelta) -> Iterator[dict[str, Any]]:
    form, item = _FORMATS[type(placed.delta)], {**_item(placed, ""), "status": "in_progress"}
    if form.part_event:
        item[form.parts_name] = []
    yield {"type": "response.output_item.added", "output_index": placed.number, "item": item}
    if form.part_event:
        part = {**form.part, "text": ""}
        yield {"type": f"response.{form.part_event}.added", **_position(placed), "part": part}


def _end_events(placed: PlacedDelta) -> Iterator[dict[str, Any]]:
    form, text = _FORMATS[type(placed.delta)], "".join(map(text_of, placed.block))
    done = {"text": text} if form.part_event else {"arguments": text}
    yield {"type": f"response.{form.delta_event}.done", **_position(placed), **done}
    if form.part_event:
        part = {**form.part, "text": text}
        yield {"type": f"response.{form.part_event}.done", **_position(placed), "part": part}
    item = {**_item(placed, text), "status": "completed"}
    yield {"type": "response.output_item.done", "output_index": placed.number, "item": item}


def _position(placed: PlacedDelta) -> dict[str, Any]:
    """Return the members of an event that name the item, and its part, if it has one."""
    form, index = _FORMATS[type(placed.delta)], placed.number
    return {"item_id": f"{form.item}_{index}", "output_index": index, **form.part_index}


def _item(placed: PlacedDelta, text: str) -> dict[str, Any]:
    """Return the output item that the block of a delta forms, with `text` as its content."""
    form, delta = _FORMATS[type(placed.delta)], placed.delta
    item: dict[str, Any] = {"id": f"{form.item}_{placed.number}", "type": form.item}
    if isinstance(delta, ToolCallDelta):
        return {**item, "call_id": delta.id, "name": delta.name, "arguments": text}
    role = {"role": "assistant"} if form.item == "message" else {}
    return {**item, **role, form.parts_name: [{**form.part, "text": text}]}


def _usage_member(usage: Usage | None) -> dict[str, Any] | None:
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
    r"""The decoder of `openai-responses`. It skips events of unknown types.

    >>> Decoder().feed(b'event: keepalive\ndata: {"type": "keepalive"}\n\n')
    []
    """

    _end_marker = "response.completed"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._item_types: dict[int, str] = {}
        self._calls = ToolCalls()

    def _deltas_in(self, event: sse.Event) -> Iterator[Delta]:
        value = parse_object(event.data)
        match member(value, "type", str):
            case "response.output_item.added":
                self._begin_item(member(value, "output_index", int), member(value, "item", dict))
            case "response.output_item.done":
                yield from self._calls.end(member(value, "output_index", int))
            case kind if kind in _DELTA_EVENTS:
                yield self._delta(value, kind)
            case kind if kind in _END_EVENTS:
                self.ended = True
                response = member(value, "response", dict)
                if (usage := optional_member(response, "usage", dict)) is not None:
                    self.usage = usage_from(usage, "input_tokens", "output_tokens")
                if kind == "response.failed":
                    yield failure_from(member(response, "error", dict), "code")
            case "error":
                self.ended = True
                yield failure_from(value, "code")

    def _begin_item(self, index: int, item: dict[str, Any]) -> None:
        self._item_types[index] = member(item, "type", str)
        if self._item_types[index] == "function_call":
            self._calls.begin(index, member(item, "call_id", str), member(item, "name", str))

    def _delta(self, value: dict[str, Any], kind: str) -> Delta:
        index, text = member(value, "output_index", int), member(value, "delta", str)
        item_type = self._item_types.get(index)
        if item_type != _DELTA_EVENTS[kind]:
            actual = f"is a {item_type}" if item_type else "has not begun"
            msg = f"{kind} needs a {_DELTA_EVENTS[kind]}, but item {index} {actual}"
            raise UnexpectedError(msg)
        match item_type:
            case "function_call":
                return self._calls.delta(index, text)
            case "reasoning":
                return ReasoningDelta(text)
        return text
