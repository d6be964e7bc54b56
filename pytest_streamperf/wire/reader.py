"""The parts that all dialects share: a decoder base class, tool calls, blocks and JSON checks.

A dialect is one format of a turn on the wire. Its decoder derives from `Reader`: bytes go in, and
deltas come out. An event that breaks the rules of the dialect raises `WireError`, with the place.
The deltas do not depend on where the bytes are cut. Its `encode` uses `placed_deltas`, which groups
the deltas of a turn into blocks.
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, groupby
from reprlib import Repr
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from pytest_streamperf.exceptions import WireError
from pytest_streamperf.streams.messages import Delta, Failure, ToolCallDelta, Usage, whole_of

_Kind = TypeVar("_Kind")
_Event = TypeVar("_Event")
_Event_co = TypeVar("_Event_co", covariant=True)
_short_repr = Repr()
# In characters: most of a line of 80, which leaves room for the rest of the message.
_short_repr.maxstring = _short_repr.maxother = 60
_TYPE_NAMES = {dict: "an object", list: "an array", str: "a string", int: "a whole number"}


class UnexpectedError(ValueError):
    """An event breaks the rules of its dialect. The text names the expected content."""


class EventDecoder(Protocol[_Event_co]):
    """A decoder that splits a stream of bytes into events of one type."""

    offset: int
    """Where the latest event begins, in bytes from the start of the stream."""
    number: int
    """Count of the events before the latest one; between two chunks, the count of all events."""

    def iter_events(self, piece: bytes) -> Iterator[_Event_co]:
        """Yield the events that `piece`, the next chunk of the stream, completes."""


class Reader(Generic[_Event]):
    """Base class of the decoders: turns the bytes of one stream back into deltas.

    The chunks may be cut anywhere. `usage` is the usage that the server reported, or None before
    that. `ended` is true after the last event of the turn. An event that the dialect does not allow
    raises `WireError`; its `decoded` holds the deltas that the same chunk contained before it.
    """

    _end_marker = ""
    """The last event of a turn in this dialect, as the error of a truncated stream shows it."""

    def __init__(self, events: EventDecoder[_Event]) -> None:
        self.usage: Usage | None = None
        self.ended = False
        self._events = events
        self._bytes_fed = 0

    def feed(self, piece: bytes) -> list[Delta]:
        """Return the deltas that `piece`, the next chunk of the stream, completes."""
        self._bytes_fed += len(piece)
        deltas: list[Delta] = []
        try:
            for event in self._events.iter_events(piece):
                for delta in (self._deltas_after_end if self.ended else self._deltas_in)(event):
                    deltas.append(delta)  # noqa: PERF402 - keeps the deltas before an error
        except UnexpectedError as unexpected:
            raise self._error(str(unexpected), self._events.offset, deltas) from None
        except WireError as error:
            error.decoded = deltas
            raise
        return deltas

    def close(self) -> None:
        """Declare the end of the stream. Raise `WireError` if the turn has not ended."""
        if not self.ended:
            msg = f"the stream ended too soon: {self._end_marker} was expected"
            raise self._error(msg, self._bytes_fed)

    def _error(self, msg: str, offset: int, decoded: Sequence[Delta] = ()) -> WireError:
        return WireError(msg, offset=offset, number=self._events.number, decoded=decoded)

    def _deltas_in(self, event: _Event) -> Iterator[Delta]:
        """Yield the deltas of one event."""
        raise NotImplementedError

    def _deltas_after_end(self, event: _Event) -> Iterator[Delta]:
        """Yield the deltas of an event after the last one of the turn; most dialects allow none."""
        msg = f"nothing may come after the end, but {_short_repr.repr(event)} did"
        raise UnexpectedError(msg)


class ToolCalls:
    """The tool calls of a turn. The key of a call is what the dialect identifies it by.

    A call without any arguments on the wire is not lost: it becomes one delta with no arguments.
    """

    def __init__(self) -> None:
        self.started: dict[Hashable, ToolCallDelta] = {}
        self._without_delta: dict[Hashable, ToolCallDelta] = {}
        self._indices = count()

    def begin(self, key: Hashable, call_id: str, name: str) -> None:
        """Register a call of the tool `name`."""
        self.started[key] = ToolCallDelta(next(self._indices), call_id, name, "")
        self._without_delta[key] = self.started[key]

    def delta(self, key: Hashable, arguments: str) -> ToolCallDelta:
        """Return a delta of the call `key`, which `begin` has registered."""
        self._without_delta.pop(key, None)
        return replace(self.started[key], arguments=arguments)

    def end(self, *keys: Hashable) -> Iterator[ToolCallDelta]:
        """Yield a delta without arguments for each ended call that had no delta.

        `keys` are the calls that have ended; without keys, all calls of the turn have.
        """
        for key in keys or tuple(self._without_delta):
            if key in self._without_delta:
                yield self._without_delta.pop(key)


class PlacedDelta(NamedTuple):
    """A delta with its block, the number of the block in the turn, and its index in the block."""

    delta: Delta
    number: int
    place: int
    block: list[Delta]

    @property
    def first(self) -> bool:
        """True if this delta is the first one of its block."""
        return self.place == 0

    @property
    def last(self) -> bool:
        """True if this delta is the last one of its block."""
        return self.place == len(self.block) - 1


def placed_deltas(turn: Iterable[Delta]) -> list[PlacedDelta]:
    """Return the deltas of a turn in their order, each one with its block.

    A block of text or reasoning ends where a delta of another type comes. A block of a tool call
    holds all deltas of that call, even if other deltas come between them.
    """
    placed = []
    blocks: dict[Hashable, tuple[int, list[Delta]]] = {}
    for run, (whole, deltas) in enumerate(groupby(turn, whole_of)):
        key = whole if whole[0] is ToolCallDelta else run
        number, block = blocks.setdefault(key, (len(blocks), []))
        for delta in deltas:
            placed.append(PlacedDelta(delta, number, len(block), block))
            block.append(delta)
    return placed


def parse_object(data: str) -> dict[str, Any]:
    """Return the JSON object in the data of an event; raise `UnexpectedError` for other data."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"data must be JSON, not {_short_repr.repr(data)}: {error}"
        raise UnexpectedError(msg) from None
    if not isinstance(value, dict):
        msg = f"data must be an object, not {_short_repr.repr(value)}"
        raise UnexpectedError(msg)
    return value


def array_member(value: Mapping[str, Any], name: str) -> list[Any]:
    """Return the array `name` of a JSON object; a missing or null member counts as empty."""
    return optional_member(value, name, list) or []


def optional_member(value: Mapping[str, Any], name: str, kind: type[_Kind]) -> _Kind | None:
    """Return the member `name` of a JSON object, or None if it is missing or null.

    Raise `UnexpectedError` for a value of another type than `kind`.
    """
    return None if value.get(name) is None else member(value, name, kind)


def member(value: object, name: str, kind: type[_Kind]) -> _Kind:
    """Return the member `name` of a JSON object.

    Raise `UnexpectedError` if it is missing or of another type than `kind`.
    """
    member_value = value.get(name) if isinstance(value, dict) else None
    if not isinstance(member_value, kind) or isinstance(member_value, bool):
        msg = f"{name} must be {_TYPE_NAMES[kind]}, not {_short_repr.repr(member_value)}"
        raise UnexpectedError(msg)
    return member_value


def usage_from(value: object, input_name: str, output_name: str) -> Usage:
    """Return the usage in a JSON object whose members have these two names."""
    return Usage(member(value, input_name, int), member(value, output_name, int))


def failure_from(value: Mapping[str, Any], type_name: str) -> Failure:
    """Return the failure in a JSON object; the member `type_name` holds its type, if any."""
    failure = Failure(member(value, "message", str))
    type_ = optional_member(value, type_name, str)
    return failure if type_ is None else replace(failure, type=type_)
