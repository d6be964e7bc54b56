"""What all dialects have in common: a turn's blocks, its calls, and where something is wrong."""

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
_shown = Repr()
_shown.maxstring = _shown.maxother = 60  # most of a line
_SAID = {dict: "an object", list: "an array", str: "a string", int: "a whole number"}


class UnexpectedError(ValueError):
    """An event is not as its dialect has it; the text says what was expected."""


class Events(Protocol[_Event_co]):
    """Takes a stream of bytes apart, into events of one kind."""

    offset: int
    """Where the event begins that was given last."""
    number: int
    """Events that were taken: the last one has been, when the next is asked for."""

    def each(self, piece: bytes) -> Iterator[_Event_co]:
        """Give the events that this piece completes, one by one."""


class Reader(Generic[_Event]):
    """Reads events back to deltas, however the bytes are cut.

    `usage` is the server's, once it has come; `ended` is set when nothing more is to come. Raises
    `WireError`, with the deltas before it as `decoded`, for what the dialect does not have.
    """

    _end = ""
    """What the last event is, for who has not had it."""

    def __init__(self, events: Events[_Event]) -> None:
        self.usage: Usage | None = None
        self.ended = False
        self._events = events
        self._seen = 0

    def feed(self, piece: bytes) -> list[Delta]:
        """Give the deltas that this piece completes."""
        self._seen += len(piece)
        deltas: list[Delta] = []
        try:
            for event in self._events.each(piece):
                for delta in (self._read_late if self.ended else self._read)(event):
                    deltas.append(delta)  # noqa: PERF402 - those before an error are kept
        except UnexpectedError as wrong:
            raise self._error(str(wrong), self._events.offset, deltas) from None
        except WireError as error:
            error.decoded = deltas
            raise
        return deltas

    def close(self) -> None:
        """Say that no more bytes come. Raises `WireError` where the turn is not at its end."""
        if not self.ended:
            msg = f"the stream ended too soon: {self._end} was expected"
            raise self._error(msg, self._seen)

    def _error(self, msg: str, offset: int, decoded: Sequence[Delta] = ()) -> WireError:
        return WireError(msg, offset=offset, number=self._events.number, decoded=decoded)

    def _read(self, event: _Event) -> Iterator[Delta]:
        """Give the deltas in one event."""
        raise NotImplementedError

    def _read_late(self, event: _Event) -> Iterator[Delta]:
        """Give the deltas in one that comes after the end, where one may."""
        msg = f"nothing may come after the end, but {_shown.repr(event)} did"
        raise UnexpectedError(msg)


class Calls:
    """The tool calls of a turn, by what tells them apart on the wire.

    A call that has no pieces is not lost: it is a delta without arguments.
    """

    def __init__(self) -> None:
        self.begun: dict[Hashable, ToolCallDelta] = {}
        self._silent: dict[Hashable, ToolCallDelta] = {}
        self._indices = count()

    def begin(self, key: Hashable, call: str, name: str) -> None:
        """Take up a call, by its id and its name."""
        self.begun[key] = ToolCallDelta(next(self._indices), call, name, "")
        self._silent[key] = self.begun[key]

    def piece(self, key: Hashable, arguments: str) -> ToolCallDelta:
        """Give a piece of a call that has begun."""
        self._silent.pop(key, None)
        return replace(self.begun[key], arguments=arguments)

    def without_pieces(self, *keys: Hashable) -> Iterator[ToolCallDelta]:
        """Give those of these calls, or of all, that had no piece, now that none will come."""
        for key in keys or tuple(self._silent):
            if key in self._silent:
                yield self._silent.pop(key)


class Piece(NamedTuple):
    """A delta, the number of the block that it is a piece of, its place there, and the block."""

    delta: Delta
    number: int
    place: int
    block: list[Delta]

    @property
    def first(self) -> bool:
        """Whether the block begins with it."""
        return self.place == 0

    @property
    def last(self) -> bool:
        """Whether the block ends with it."""
        return self.place == len(self.block) - 1


def pieces_of(turn: Iterable[Delta]) -> list[Piece]:
    """Give the deltas of a turn, each with its block.

    One block is text, or reasoning, up to what is none; another all of a tool call, whatever comes
    between.
    """
    pieces = []
    blocks: dict[Hashable, tuple[int, list[Delta]]] = {}
    for run, (whole, deltas) in enumerate(groupby(turn, whole_of)):
        key = whole if whole[0] is ToolCallDelta else run
        number, block = blocks.setdefault(key, (len(blocks), []))
        for delta in deltas:
            pieces.append(Piece(delta, number, len(block), block))
            block.append(delta)
    return pieces


def object_in(data: str) -> dict[str, Any]:
    """The JSON object that an event's data is."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"data must be JSON, not {_shown.repr(data)}: {error}"
        raise UnexpectedError(msg) from None
    if not isinstance(value, dict):
        msg = f"data must be an object, not {_shown.repr(value)}"
        raise UnexpectedError(msg)
    return value


def members(value: Mapping[str, Any], name: str) -> list[Any]:
    """A member of an object that is an array; none where it is not there."""
    return maybe(value, name, list) or []


def maybe(value: Mapping[str, Any], name: str, kind: type[_Kind]) -> _Kind | None:
    """A member of an object that is of this kind, or null, or not there."""
    return None if value.get(name) is None else member(value, name, kind)


def member(value: object, name: str, kind: type[_Kind]) -> _Kind:
    """A member of an object that must be there, and of this kind."""
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        msg = f"{name} must be {_SAID[kind]}, not {_shown.repr(found)}"
        raise UnexpectedError(msg)
    return found


def usage_in(value: object, read: str, written: str) -> Usage:
    """The usage that an object says, by its members' names."""
    return Usage(member(value, read, int), member(value, written, int))


def failure_in(value: Mapping[str, Any], kind: str) -> Failure:
    """The failure that an object says, and its type, if there is one, by that member's name."""
    failure, type_ = Failure(member(value, "message", str)), maybe(value, kind, str)
    return failure if type_ is None else replace(failure, type=type_)
