r"""Faults of a connection or a server, as values that are added to a stream.

    TokenStream(500).with_fault(Disconnect(after=120))

A fault is a function from the items sent to the items that arrive. Items are counted from 0: the
deltas of a `TokenStream`, the events of a `WireStream`, or the chunks of a recording after its cut.

A fault beyond the end of the stream raises `ValueError` when it is added to the stream. A number
below 0 raises `ValueError` when the fault is made.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import Any, Self

from pytest_streamperf._results.units import Bytes, Seconds, argument, bytes_of, seconds_of
from pytest_streamperf.exceptions import RateLimited
from pytest_streamperf.streams.messages import Failure, ToolCallDelta

# `EndlessLine` repeats one piece of this size, so that a line of 32 MiB takes little memory.
_PIECE_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True)
class _CountingFault:
    """Base of faults whose numbers must all be 0 or more."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 0:
                msg = f"{self!r}: {field.name} must be at least 0, and items are counted from 0"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Disconnect(_CountingFault):
    """Reset the connection after `after` items.

    >>> from pytest_streamperf import TokenStream
    >>> TokenStream(5).with_fault(Disconnect(after=2)).error
    ConnectionResetError('the connection was reset after 2 items')
    """

    after: int

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        yield from _first_items(self, self.after, iter(items))
        msg = f"the connection was reset after {self.after:,} items"
        raise ConnectionResetError(msg)


@dataclass(frozen=True, slots=True)
class Truncate(_CountingFault):
    """Close the connection after `after` items, as if the stream were complete."""

    after: int

    ends_well = True

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        return _first_items(self, self.after, iter(items))


@dataclass(frozen=True, slots=True, init=False)
class RateLimit:
    """Refuse the request with a rate limit: the client shall wait for `retry_after`.

    `retry_after` is in seconds, or a text such as "30s". No item arrives.
    """

    retry_after: float

    def __init__(self, retry_after: Seconds = 1.0) -> None:
        object.__setattr__(self, "retry_after", argument("retry_after", seconds_of, retry_after))

    def __call__(self, _items: Iterable[Any]) -> Iterator[Any]:
        raise RateLimited(self.retry_after)


@dataclass(frozen=True, slots=True)
class Duplicate(_CountingFault):
    """Send item `at` twice.

    >>> list(Duplicate(1)("ab"))
    ['a', 'b', 'b']
    """

    at: int

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        rest = iter(items)
        for item in _first_items(self, self.at + 1, rest):
            yield item
        yield item
        yield from rest


@dataclass(frozen=True, slots=True)
class Reorder(_CountingFault):
    """Swap item `at` with the item after it.

    >>> list(Reorder(1)("abc"))
    ['a', 'c', 'b']
    """

    at: int

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        rest = iter(items)
        *before, item, next_item = _first_items(self, self.at + 2, rest)
        yield from (*before, next_item, item)
        yield from rest


@dataclass(frozen=True, slots=True)
class Corrupt(_CountingFault):
    r"""Replace the byte in the middle of item `at` by NUL, which JSON does not allow.

    >>> list(Corrupt(0)([b"data: 1\n\n"]))
    [b'data\x00 1\n\n']
    """

    at: int

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        return _with_middle_byte(self, self.at, items, b"\0", instead=True)


@dataclass(frozen=True, slots=True)
class InvalidUtf8(_CountingFault):
    r"""Insert a byte that UTF-8 never uses in the middle of item `at`.

    >>> list(InvalidUtf8(0)([b"data: 1\n\n"]))
    [b'data\xff: 1\n\n']
    """

    at: int

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        return _with_middle_byte(self, self.at, items, b"\xff", instead=False)


@dataclass(frozen=True, slots=True)
class CommentFlood(_CountingFault):
    """Send a flood of keep-alive comments after `after` events.

    JSON has no comments, so a stream of JSON lines gets empty lines instead.
    """

    after: int
    comments: int = 100_000
    comment: bytes = b": ping\n\n"

    def within(self, media_type: str) -> Self:
        """Return the fault as it happens to a stream of this media type."""
        return replace(self, comment=b"\n") if "json" in media_type else self

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        rest = _bytes_items(self, items)
        yield from _first_items(self, self.after, rest)
        yield from repeat(self.comment, self.comments)
        yield from rest


@dataclass(frozen=True, slots=True, init=False)
class EndlessLine(_CountingFault):
    """Send a line without an end after `after` events, and nothing else.

    `size` is the length of the line in bytes, or a text such as "32MiB". It includes the `data: `
    at the start of the line.
    """

    after: int
    size: int

    def __init__(self, after: int, size: Bytes = 32 * 2**20) -> None:
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "size", argument("size", bytes_of, size))
        self.__post_init__()

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        yield from _first_items(self, self.after, _bytes_items(self, items))
        start, piece = b"data: "[: self.size], b"x" * _PIECE_BYTES
        yield start
        for remaining in range(self.size - len(start), 0, -_PIECE_BYTES):
            yield piece[:remaining]


@dataclass(frozen=True, slots=True)
class ErrorEvent(_CountingFault):
    """Send an error event after `after` deltas, and end the stream.

    >>> list(ErrorEvent(1)(["a", "b"]))
    ['a', Failure(message='Overloaded', type='overloaded_error')]
    """

    after: int
    message: str = "Overloaded"
    type: str = "overloaded_error"

    of_deltas = ends_well = True

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        yield from _first_items(self, self.after, iter(items))
        yield Failure(self.message, self.type)


@dataclass(frozen=True, slots=True)
class Unclosed:
    """Drop the last character of the last tool call's arguments, so that their JSON stays open.

    In a stream of `str` deltas, drop the last character of the last delta.

    >>> list(Unclosed()(['{"path": ', '"a"}']))
    ['{"path": ', '"a"']
    """

    of_deltas = True

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        deltas = list(items)
        calls = [at for at, delta in enumerate(deltas) if isinstance(delta, ToolCallDelta)]
        if not calls and not all(isinstance(delta, str) for delta in deltas[-1:]):
            msg = f"{self!r} needs a tool call, which is not there"
            raise ValueError(msg)
        for at, delta in enumerate(deltas):
            if at != (calls or [len(deltas) - 1])[-1]:
                yield delta
            elif isinstance(delta, ToolCallDelta):
                yield replace(delta, arguments=delta.arguments[:-1])
            else:
                yield delta[:-1]


def _first_items(fault: object, wanted: int, items: Iterator[Any]) -> Iterator[Any]:
    """Yield the first `wanted` items; `ValueError` if there are fewer."""
    for count in range(wanted):
        try:
            yield next(items)
        except StopIteration:
            msg = f"{fault!r} would never happen: there are {count:,} items"
            raise ValueError(msg) from None


def _bytes_items(fault: object, items: Iterable[Any]) -> Iterator[bytes]:
    """Return the items; `TypeError` if one of them is not bytes."""
    items = list(items)
    for item in items:
        if not isinstance(item, bytes):
            msg = f"{fault!r} is for the bytes of a WireStream, not for {item!r}"
            raise TypeError(msg)
    return iter(items)


def _with_middle_byte(
    fault: object, at: int, items: Iterable[bytes], byte: bytes, *, instead: bool
) -> Iterator[bytes]:
    """Yield the items, with `byte` in the middle of item `at`: inserted, or in place of one."""
    rest = _bytes_items(fault, items)
    *before, item = _first_items(fault, at + 1, rest)
    middle = len(item) // 2
    yield from before
    yield item[:middle] + byte + item[middle + instead :]
    yield from rest
