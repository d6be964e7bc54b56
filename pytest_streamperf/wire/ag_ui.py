"""The dialect `ag-ui`: AG-UI, the protocol between agents and user interfaces, over SSE.

https://docs.ag-ui.com/concepts/events

    RUN_STARTED
    TEXT_MESSAGE_START, _CONTENT, _END              a message, by its id
    REASONING_START, REASONING_MESSAGE_START, _CONTENT, _END, REASONING_END
    TOOL_CALL_START, _ARGS, _END                    a tool call, by its id
    RUN_FINISHED, with the usage, or RUN_ERROR

`encode` sends these events in this order. `Decoder` also reads TEXT_MESSAGE_CHUNK,
REASONING_MESSAGE_CHUNK and TOOL_CALL_CHUNK. Such an event starts its item if necessary and carries
a delta. Without an id, it belongs to the item of the latest CHUNK event of its type.
"""

from collections.abc import Iterator
from typing import Any

from pytest_streamperf.streams.messages import (
    Delta,
    Failure,
    ReasoningDelta,
    ToolCallDelta,
    Turn,
    text_of,
)
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

NAME, PATH, MEDIA_TYPE = "ag-ui", "/", "text/event-stream"

_RUN = {"threadId": "thread_0", "runId": "run_0"}


def encode(turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
    r"""Yield the events of a turn: one for each delta, and those that frame the deltas.

    >>> from pytest_streamperf.streams.messages import Text
    >>> b"".join(encode(Turn(Text("Hi")))).count(b"TEXT_MESSAGE_CONTENT")
    1
    """
    yield _event("RUN_STARTED", **_RUN)
    for placed in placed_deltas(turn):
        delta = placed.delta
        if isinstance(delta, Failure):
            yield _event("RUN_ERROR", message=delta.message, code=delta.type)
            return
        before, kind, after = _BLOCK_EVENTS[type(delta)]
        if isinstance(delta, ToolCallDelta):
            id_member, start_members = {"toolCallId": delta.id}, {"toolCallName": delta.name}
        else:
            role = "reasoning" if isinstance(delta, ReasoningDelta) else "assistant"
            id_member, start_members = {"messageId": f"message_{placed.number}"}, {"role": role}
        for name in before if placed.first else ():
            yield _event(name, **id_member, **(start_members if name == before[-1] else {}))
        yield _event(kind, **id_member, delta=text_of(delta))
        for name in after if placed.last else ():
            yield _event(name, **id_member)
    usage = {}
    if turn.usage is not None:
        input_, output = turn.usage.input_tokens, turn.usage.output_tokens
        usage = {"usage": [{"model": model, "inputTokens": input_, "outputTokens": output}]}
    yield _event("RUN_FINISHED", **_RUN, **usage)


# For each type of delta: the events that begin its block, the one event that carries a delta, and
# the events that end the block.
_BLOCK_EVENTS: dict[type, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    str: (("TEXT_MESSAGE_START",), "TEXT_MESSAGE_CONTENT", ("TEXT_MESSAGE_END",)),
    ReasoningDelta: (
        ("REASONING_START", "REASONING_MESSAGE_START"),
        "REASONING_MESSAGE_CONTENT",
        ("REASONING_MESSAGE_END", "REASONING_END"),
    ),
    ToolCallDelta: (("TOOL_CALL_START",), "TOOL_CALL_ARGS", ("TOOL_CALL_END",)),
}


# For each item: the suffix of the event that carries a delta, and the member that holds its id.
_ITEMS = {
    "TEXT_MESSAGE": ("CONTENT", "messageId"),
    "REASONING_MESSAGE": ("CONTENT", "messageId"),
    "TOOL_CALL": ("ARGS", "toolCallId"),
}
# The item and the suffix of each event type that concerns an item.
_ITEM_EVENTS = {
    f"{item}_{suffix}": (item, suffix)
    for item, (delta_suffix, _) in _ITEMS.items()
    for suffix in ("START", delta_suffix, "END", "CHUNK")
}


def _event(kind: str, **members: Any) -> bytes:
    return sse.encode_json({"type": kind, **members})


class Decoder(Reader[sse.Event]):
    r"""The decoder of `ag-ui`. It skips events that are no part of a turn, such as STEP_STARTED.

    >>> Decoder().feed(b'data: {"type": "STEP_STARTED", "stepName": "plan"}\n\n')
    []
    """

    _end_marker = "RUN_FINISHED"

    def __init__(self) -> None:
        super().__init__(sse.Decoder())
        self._open: set[tuple[str, str]] = set()
        self._latest_chunk_ids: dict[str, str] = {}  # id of the latest CHUNK event of an item
        self._calls = ToolCalls()

    def _deltas_in(self, event: sse.Event) -> Iterator[Delta]:
        value = parse_object(event.data)
        match member(value, "type", str):
            case kind if kind in _ITEM_EVENTS:
                yield from self._item_deltas(*_ITEM_EVENTS[kind], value)
            case "RUN_FINISHED":
                self.ended = True
                yield from self._calls.end()
                for usage in array_member(value, "usage"):
                    self.usage = usage_from(usage, "inputTokens", "outputTokens")
            case "RUN_ERROR":
                self.ended = True
                yield failure_from(value, "code")

    def _item_deltas(self, item: str, suffix: str, value: dict[str, Any]) -> Iterator[Delta]:
        delta_suffix, id_name = _ITEMS[item]
        if suffix == "CHUNK":
            item_id = optional_member(value, id_name, str) or self._latest_chunk_ids.get(item)
            value = {**value, id_name: item_id}
        key = item, member(value, id_name, str)
        match suffix:
            case "START":
                self._open.add(key)
                if item == "TOOL_CALL":
                    self._calls.begin(key, key[1], member(value, "toolCallName", str))
            case "CHUNK":
                self._latest_chunk_ids[item] = key[1]
                if key not in self._open:
                    yield from self._item_deltas(item, "START", value)
                if value.get("delta") is not None:
                    yield from self._item_deltas(item, delta_suffix, value)
            case "END":
                self._open.discard(key)
                yield from self._calls.end(key)
            case _ if key not in self._open:
                msg = f"{item}_{suffix} of {key[1]!r} needs a {item}_START before it"
                raise UnexpectedError(msg)
            case _:
                yield self._delta(key, member(value, "delta", str))

    def _delta(self, key: tuple[str, str], text: str) -> Delta:
        match key[0]:
            case "TOOL_CALL":
                return self._calls.delta(key, text)
            case "REASONING_MESSAGE":
                return ReasoningDelta(text)
        return text
