r"""What goes wrong on the way, each as a value that is added to a stream.

    TokenStream(500).with_fault(Disconnect(after=120))

A fault is a function from what is sent to what arrives. Items are counted from 0: the deltas of a
`TokenStream`, the events of a `WireStream`, the chunks of a recording as it is cut. One that would
never happen, since the stream is shorter, raises `ValueError` where it is added, and a number below
0 where it is made.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import repeat
from typing import Any, Self

from pytest_streamperf._results.units import Bytes, Seconds, argument, bytes_of, seconds_of
from pytest_streamperf.exceptions import RateLimited
from pytest_streamperf.streams.messages import Failure, ToolCallDelta

# A line that does not end comes in pieces of so many bytes; all but the last are one object.
_PIECE = 64 * 2**10


@dataclass(frozen=True, slots=True)
class _Counting:
    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 0:
                msg = f"{self!r}: {field.name} must be at least 0, and items are counted from 0"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Disconnect(_Counting):
    """The connection is reset when `after` items have come.

    >>> from pytest_streamperf import TokenStream
    >>> TokenStream(5).with_fault(Disconnect(after=2)).error
    ConnectionResetError('the connection was reset after 2 items')
    """

    after: int

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        yield from _first(self, self.after, iter(items))
        msg = f"the connection was reset after {self.after:,} items"
        raise ConnectionResetError(msg)


@dataclass(frozen=True, slots=True)
class Truncate(_Counting):
    """No more comes when `after` items have, and the connection is closed as if that were all."""

    after: int

    ends_well = True

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        return _first(self, self.after, iter(items))


@dataclass(frozen=True, slots=True, init=False)
class RateLimit:
    """Nothing comes: the server asks the client to wait for `retry_after`.

    That is in seconds, or a text such as "30s".
    """

    retry_after: float

    def __init__(self, retry_after: Seconds = 1.0) -> None:
        object.__setattr__(self, "retry_after", argument("retry_after", seconds_of, retry_after))

    def __call__(self, _items: Iterable[Any]) -> Iterator[Any]:
        raise RateLimited(self.retry_after)


@dataclass(frozen=True, slots=True)
class Duplicate(_Counting):
    """Item `at` comes twice.

    >>> list(Duplicate(1)("ab"))
    ['a', 'b', 'b']
    """

    at: int

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        rest = iter(items)
        for item in _first(self, self.at + 1, rest):
            yield item
        yield item
        yield from rest


@dataclass(frozen=True, slots=True)
class Reorder(_Counting):
    """Item `at` comes after the next.

    >>> list(Reorder(1)("abc"))
    ['a', 'c', 'b']
    """

    at: int

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        rest = iter(items)
        *before, one, other = _first(self, self.at + 2, rest)
        yield from (*before, other, one)
        yield from rest


@dataclass(frozen=True, slots=True)
class Corrupt(_Counting):
    r"""The byte in the middle of item `at` is NUL, as where a page was lost; JSON has none.

    >>> list(Corrupt(0)([b"data: 1\n\n"]))
    [b'data\x00 1\n\n']
    """

    at: int

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        return _in_the_middle(self, self.at, items, b"\0", instead=True)


@dataclass(frozen=True, slots=True)
class InvalidUtf8(_Counting):
    r"""In the middle of item `at` is one more byte, which UTF-8 never has.

    >>> list(InvalidUtf8(0)([b"data: 1\n\n"]))
    [b'data\xff: 1\n\n']
    """

    at: int

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        return _in_the_middle(self, self.at, items, b"\xff", instead=False)


@dataclass(frozen=True, slots=True)
class CommentFlood(_Counting):
    """After `after` events come so many comments, as a server sends to keep a connection alive.

    Where JSON is streamed, which has none, each is an empty line.
    """

    after: int
    comments: int = 100_000
    comment: bytes = b": ping\n\n"

    def within(self, media_type: str) -> Self:
        """Give the fault for streams of this media type."""
        return replace(self, comment=b"\n") if "json" in media_type else self

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        rest = _bytes(self, items)
        yield from _first(self, self.after, rest)
        yield from repeat(self.comment, self.comments)
        yield from rest


@dataclass(frozen=True, slots=True, init=False)
class EndlessLine(_Counting):
    """After `after` events comes a line that does not end, and nothing else.

    Its `size` is in bytes, or a text such as "32MiB"; the `data: ` that it starts with counts.
    """

    after: int
    size: int

    def __init__(self, after: int, size: Bytes = 32 * 2**20) -> None:
        object.__setattr__(self, "after", after)
        object.__setattr__(self, "size", argument("size", bytes_of, size))
        self.__post_init__()

    def __call__(self, items: Iterable[bytes]) -> Iterator[bytes]:
        yield from _first(self, self.after, _bytes(self, items))
        start, piece = b"data: "[: self.size], b"x" * _PIECE
        yield start
        for left in range(self.size - len(start), 0, -_PIECE):
            yield piece[:left]


@dataclass(frozen=True, slots=True)
class ErrorEvent(_Counting):
    """After `after` deltas the server says that it failed, and no more comes.

    >>> list(ErrorEvent(1)(["a", "b"]))
    ['a', Failure(message='Overloaded', type='overloaded_error')]
    """

    after: int
    message: str = "Overloaded"
    type: str = "overloaded_error"

    of_deltas = ends_well = True

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        yield from _first(self, self.after, iter(items))
        yield Failure(self.message, self.type)


@dataclass(frozen=True, slots=True)
class Unclosed:
    """The arguments of the last tool call lack their last character; all else is as it was.

    Where deltas are `str`, the last of them does.

    >>> list(Unclosed()(['{"path": ', '"a"}']))
    ['{"path": ', '"a"']
    """

    of_deltas = True

    def __call__(self, items: Iterable[Any]) -> Iterator[Any]:
        deltas = list(items)
        called = [at for at, delta in enumerate(deltas) if isinstance(delta, ToolCallDelta)]
        if not called and not all(isinstance(delta, str) for delta in deltas[-1:]):
            msg = f"{self!r} needs a tool call, which is not there"
            raise ValueError(msg)
        for at, delta in enumerate(deltas):
            if at != (called or [len(deltas) - 1])[-1]:
                yield delta
            elif isinstance(delta, ToolCallDelta):
                yield replace(delta, arguments=delta.arguments[:-1])
            else:
                yield delta[:-1]


def _first(fault: object, wanted: int, items: Iterator[Any]) -> Iterator[Any]:
    """Give the first items, of which there must be so many."""
    for had in range(wanted):
        try:
            yield next(items)
        except StopIteration:
            msg = f"{fault!r} would never happen: there are {had:,} items"
            raise ValueError(msg) from None


def _bytes(fault: object, items: Iterable[Any]) -> Iterator[bytes]:
    """Give the items, all of which must be bytes."""
    items = list(items)
    for item in items:
        if not isinstance(item, bytes):
            msg = f"{fault!r} is for the bytes of a WireStream, not for {item!r}"
            raise TypeError(msg)
    return iter(items)


def _in_the_middle(
    fault: object, at: int, items: Iterable[bytes], byte: bytes, *, instead: bool
) -> Iterator[bytes]:
    """Give the items, with this byte in the middle of one."""
    rest = _bytes(fault, items)
    *before, item = _first(fault, at + 1, rest)
    middle = len(item) // 2
    yield from before
    yield item[:middle] + byte + item[middle + instead :]
    yield from rest
