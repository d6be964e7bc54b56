"""What the readers of all dialects have in common: where something was wrong, and what."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from pytest_streamperf.turns import Delta, Usage
from pytest_streamperf.wire import WireError

_Kind = TypeVar("_Kind")
_Event = TypeVar("_Event")
_Event_co = TypeVar("_Event_co", covariant=True)
_SAID = {dict: "an object", list: "an array", str: "a string", int: "a whole number"}


class UnexpectedError(ValueError):
    """An event is not as its dialect has it; the text says what was expected."""


class Events(Protocol[_Event_co]):
    """Takes a stream of bytes apart, into events of one kind."""

    offset: int
    """Bytes that were looked at so far."""
    number: int
    """Events that were given so far."""

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

    def feed(self, piece: bytes) -> list[Delta]:
        """Give the deltas that this piece completes."""
        deltas: list[Delta] = []
        try:
            for event in self._events.each(piece):
                if self.ended:
                    raise UnexpectedError(f"nothing may come after the end, but {event!r} did")  # noqa: TRY301
                for delta in self._read(event):
                    deltas.append(delta)  # noqa: PERF402 - those before an error are kept
        except UnexpectedError as wrong:
            raise self._error(str(wrong), deltas) from None
        except WireError as error:
            error.decoded = deltas
            raise
        return deltas

    def close(self) -> None:
        """Say that no more bytes come. Raises `WireError` where the turn is not at its end."""
        if not self.ended:
            msg = f"the stream ended too soon: {self._end} was expected"
            raise self._error(msg, ())

    def _error(self, msg: str, decoded: Sequence[Delta]) -> WireError:
        where = self._events
        return WireError(msg, offset=where.offset, number=where.number, decoded=decoded)

    def _after_the_end(self, event: _Event) -> Iterator[Delta]:
        msg = f"nothing may come after the end, but {_short(event)} did"
        raise UnexpectedError(msg)

    def _read(self, event: _Event) -> Iterator[Delta]:
        """Give the deltas in one event."""
        raise NotImplementedError


def object_in(data: str) -> dict[str, Any]:
    """The JSON object that an event's data is."""
    try:
        value = json.loads(data)
    except ValueError as error:
        msg = f"data must be JSON, not {_short(data)}: {error}"
        raise UnexpectedError(msg) from None
    if not isinstance(value, dict):
        msg = f"data must be an object, not {_short(value)}"
        raise UnexpectedError(msg)
    return value


def members(value: Mapping[str, Any], name: str) -> list[Any]:
    """A member of an object that is an array; none where it is not there."""
    return member(value, name, list) if value.get(name) is not None else []


def member(value: object, name: str, kind: type[_Kind]) -> _Kind:
    """A member of an object that must be there, and of this kind."""
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        msg = f"{name} must be {_SAID[kind]}, not {_short(found)}"
        raise UnexpectedError(msg)
    return found


def usage_in(value: object, read: str, written: str) -> Usage:
    """The usage that an object says, by its members' names."""
    return Usage(member(value, read, int), member(value, written, int))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - most of a line
