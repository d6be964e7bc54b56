"""Streams of deltas at a pace.

A `TokenStream` is sync and async iterable, any number of times. Equal arguments give equal deltas.
With equal seeds, a shorter stream is a prefix of a longer one.

`Stream` is the base of every stream: it holds items, a pace, the error at its end, and listeners.
A stream calls its listeners for each delta that it hands out. `with_fault` returns a broken copy.
"""

import json
import time
from collections.abc import (
    AsyncIterator,
    Callable,
    Iterable,
    Iterator,
    Sequence,
)
from copy import copy
from functools import partial
from itertools import accumulate, chain, count, islice, repeat
from operator import eq
from random import Random
from typing import Any, Literal, Protocol, Self

from pytest_streamperf._results.reporter import concerns
from pytest_streamperf._results.units import argument, seconds_of
from pytest_streamperf._runtime.clock import to_the_next_step
from pytest_streamperf._runtime.context import Loop, loop_running_here
from pytest_streamperf.streams.messages import Part, Turn
from pytest_streamperf.streams.pacing import Pace, read_pace

# The words have about four characters each: the usual rule of thumb for a token of English text.
_WORDS = (
    *("The ", "reply ", "of ", "a ", "model ", "comes ", "in ", "small ", "piec", "es, "),
    *("each ", "one ", "a ", "delta", ". ", "They ", "are ", "shown ", "as ", "they "),
    *("arriv", "e: ", "text", ", ", "code", " and ", "the ", "argum", "ents ", "of "),
    *("tool ", "calls", ".\n", "What ", "is ", "done ", "for ", "every", " one ", "must "),
    *("not ", "grow ", "with ", "the ", "num", "ber ", "of ", "those ", "befo", "re it. "),
)

# A random byte selects a word. Bytes are drawn in blocks, because a draw takes longer than handing
# out a word does. Not measured: no reason for the size of a block is on record.
_WORD_OF_BYTE = tuple(_WORDS[byte % len(_WORDS)] for byte in range(256))
_BLOCK_WORDS = 4_096


def string_arguments(index: int) -> str:
    """Return delta `index` of tool arguments with one long string, such as a file's content.

    The deltas from 0 on join to the start of a JSON document. Pass the function as `delta=`.

    >>> "".join(map(string_arguments, range(3)))
    '{"path": "notes.md", "content": "The reply '
    """
    if index == 0:
        return '{"path": "notes.md", "content": "'
    return json.dumps(_WORDS[(index - 1) % len(_WORDS)])[1:-1]


def object_arguments(index: int) -> str:
    """Return delta `index` of tool arguments with a list of objects, such as rows to insert.

    The deltas from 0 on join to the start of a JSON document. Pass the function as `delta=`.

    >>> "".join(map(object_arguments, range(3)))
    '{"rows": [{"id": 0, "name": "The "}, {"id": 1, "name": "reply "}'
    """
    if index == 0:
        return '{"rows": ['
    row = {"id": index - 1, "name": _WORDS[(index - 1) % len(_WORDS)]}
    return ("" if index == 1 else ", ") + json.dumps(row)


# `repr` lists the deltas of a stream up to this length. Not measured: no reason is on record.
_MAX_SHOWN_DELTAS = 8
_ARGUMENTS = {"string": (string_arguments, '"}'), "objects": (object_arguments, "]}")}


class Listener(Protocol):
    """A listener to a stream. Its method `began`, if any, is called as each reading begins."""

    def arrived(self, delta: Any) -> None:
        """Take note of a delta that the stream hands out."""

    def ended(self) -> None:
        """Take note of the end of the stream."""


Fault = Callable[[Iterable[Any]], Iterator[Any]]
"""A function from the items sent to the items that arrive; it may raise `ConnectionError`.

A fault that depends on the media type of the bytes has a method `within`: it takes the media type
and returns the fault. A fault with an attribute `ends_well` clears the error of a stream that was
broken before.
"""


class Stream:
    """A stream of items at a pace: sync and async iterable, any number of times.

    A broken stream ends by raising `error`. A server sends a stream of bytes as `media_type`.
    """

    media_type = "text/event-stream"

    def __init__(self, items: Sequence[Any], every: Pace = 0.0) -> None:
        self.deltas = items
        self.every = _checked_pace(every, len(items))
        self.error: ConnectionError | None = None
        self.listeners: list[Listener] = []

    def __len__(self) -> int:
        return len(self.deltas)

    def __iter__(self) -> Iterator[Any]:
        self._begin()
        if not self.every and not self.listeners and not self.error:
            return iter(self.deltas)
        return self._paced()

    def _begin(self) -> None:
        concerns(self)  # at each reading: a stream may be made before the test that reads it
        for listener in self.listeners:
            if hasattr(listener, "began"):
                listener.began()

    def _paced(self) -> Iterator[Any]:
        start = time.monotonic()
        for due, delta in zip(_due_times(self.every), self.deltas, strict=False):
            if self.every:
                time.sleep(max(0.0, start + due - time.monotonic()))
            for listener in self.listeners:
                listener.arrived(delta)
            yield delta
        self.end()

    def end(self) -> None:
        """Tell the listeners that the stream ended, or raise `error` if it is broken."""
        if self.error:
            raise self.error.with_traceback(None)
        for listener in self.listeners:
            listener.ended()

    def with_fault(self, *faults: Fault) -> Self:
        """Return a copy of the stream with these faults, applied in order: see `streams.faults`.

        The pace applies to the items that arrive. Items after the last gap of a pace come at once.

        >>> from pytest_streamperf.streams.faults import Truncate
        >>> len(TokenStream(5).with_fault(Truncate(after=3)))
        3
        """
        broken = copy(self)
        broken.listeners = []
        broken._break(faults)  # noqa: SLF001 - a copy of this stream
        return broken

    def _break(self, faults: Iterable[Fault]) -> None:
        self.deltas, self.error = self._arriving(self.deltas, faults, self.error)

    def _arriving(
        self, items: Sequence[Any], faults: Iterable[Fault], error: ConnectionError | None = None
    ) -> tuple[Sequence[Any], ConnectionError | None]:
        """Return the items that arrive after these faults, and the error at the end, if any."""
        for fault in faults:
            apply = fault.within(self.media_type) if hasattr(fault, "within") else fault
            arrived: list[Any] = []
            if hasattr(fault, "ends_well"):
                error = None
            try:
                for item in apply(items):
                    arrived.append(item)  # noqa: PERF402 - keep the items before an error
            except ConnectionError as broken:
                error = broken
            items = arrived
        return items, error

    def __aiter__(self) -> AsyncIterator[Any]:
        self._begin()
        return _AsyncDeltas(self)

    def __repr__(self) -> str:
        name, every = type(self).__name__, f", every={self.every}" if self.every else ""
        if len(self) > _MAX_SHOWN_DELTAS:
            return f"<{name} of {len(self):,} deltas{every}>"
        return f"{name}({list(self.deltas)!r}{every})"


class TokenStream(Stream):
    """A simulated stream of deltas.

    `tokens` is the number of deltas, or the deltas themselves. A number of deltas is drawn from a
    small English vocabulary by `seed`, or made by `delta`, a callable from index to delta.

    `every` is the pace: seconds, or a text such as "50ms". Delta `i` is handed out no earlier than
    `i * every` after the first. A pace may also be an iterable of the times before each delta: a
    list of measured gaps, or a pace of `streams.pacing`.

    The async form lets the event loop run before each delta, as a network does. It works under
    asyncio and trio.

    Raises `TypeError` or `ValueError` for wrong arguments. A broken stream ends with the
    `ConnectionError` of its fault.

    >>> stream = TokenStream(tokens=3)
    >>> "".join(stream) == stream.text
    True
    """

    def __init__(
        self,
        tokens: int | Iterable[Any] = 5_000,
        *,
        every: Pace = 0.0,
        seed: int = 0,
        delta: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__(_checked_deltas(tokens, seed, delta), every)

    @classmethod
    def turn(cls, *parts: Part, every: Pace = 0.0, seed: int = 0) -> Self:
        """Make a stream of the deltas of `Turn(*parts)`, at a pace as in `TokenStream`."""
        return cls(Turn(*parts, seed=seed), every=every)

    @classmethod
    def tool_call(
        cls,
        tokens: int = 5_000,
        *,
        shape: Literal["string", "objects"] = "string",
        every: Pace = 0.0,
    ) -> Self:
        """Make a stream of one tool call's arguments: a complete JSON document.

        `shape` selects one long string or a list of objects, because code that is linear on one
        can be quadratic on the other. `every` is the pace, as in `TokenStream`.
        """
        if shape not in _ARGUMENTS:
            msg = f"shape must be one of {', '.join(map(repr, _ARGUMENTS))}, not {shape!r}"
            raise ValueError(msg)
        last = count_of("tokens", tokens, least=2) - 1
        opening, closing = _ARGUMENTS[shape]
        return cls(tokens, every=every, delta=partial(_argument_delta, opening, closing, last))

    @property
    def text(self) -> str:
        """The text of the stream: its `str` deltas, joined. Other deltas are left out."""
        return "".join(delta for delta in self.deltas if isinstance(delta, str))


def _argument_delta(opening: Callable[[int], str], closing: str, last: int, index: int) -> str:
    return opening(index) if index < last else closing


class _AsyncDeltas:
    # An async generator needs closing, and warns under trio when a consumer stops early.
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._deltas = iter(stream.deltas)
        self._remaining = len(stream)
        self._due_times = _due_times(stream.every)
        self._start = self._next = 0.0
        self._ended = False
        self._loop: Loop | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._loop is None:
            self._loop = loop_running_here()
            self._start = self._loop.time()
            self._next = self._start + next(self._due_times)
        if self._next > self._loop.time() and self._remaining:
            await self._loop.sleep_until(self._next)
        else:
            await self._loop.checkpoint()
        # Checked after the wait: another task may have taken the last delta.
        if not self._remaining:
            if not self._ended:
                self._ended = True
                self._stream.end()
            raise StopAsyncIteration
        # Taken after the wait, so that a cancelled wait loses no delta.
        delta = next(self._deltas)
        self._remaining -= 1
        self._next = self._start + next(self._due_times)
        for listener in self._stream.listeners:
            listener.arrived(delta)
        return delta


def _due_times(every: float | Iterable[float]) -> Iterator[float]:
    """Return the time at which each delta is due, in seconds since the first request for a delta.

    Gaps are rounded up to steps of the virtual clock, so that no delta is due before its time.
    Items after the last gap of a pace are due at once.
    """
    if isinstance(every, int | float):
        step = to_the_next_step(every)
        return (index * step for index in count())
    return chain(accumulate(map(to_the_next_step, every)), repeat(0.0))


def listen(of: object, listener: Listener) -> None:
    """Register a new listener with the stream `of`, unless `of` is None."""
    concerns(listener)
    if of is None:
        return
    if not isinstance(of, Stream):
        msg = f"of must be a TokenStream, which records its deltas, not {of!r}"
        raise TypeError(msg)
    of.listeners.append(listener)


def count_of(name: str, value: object, *, least: int) -> int:
    """Return an argument that must be a whole number of at least `least`, or raise."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number of deltas, not {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, not {value}"
        raise ValueError(msg)
    return value


def _checked_pace(every: object, deltas: int) -> float | Iterable[float]:
    """Return a pace in seconds, with each gap checked.

    A text is converted here, once, so that readings take no time for it. An iterable of numbers
    is returned unchanged.
    """
    if not isinstance(every, Iterable) or isinstance(every, str | Iterator):
        return float(argument("every", read_pace, every))
    gaps, has_text = 0, False
    for gap in islice(every, deltas):
        argument("every", seconds_of, gap)
        gaps += 1
        has_text = has_text or isinstance(gap, str)
    if gaps < deltas:
        msg = f"every has the seconds before {gaps:,} deltas, and there are {deltas:,}"
        raise ValueError(msg)
    return tuple(map(seconds_of, islice(every, deltas))) if has_text else every


def _checked_deltas(
    tokens: int | Iterable[Any], seed: int, delta: Callable[[int], Any] | None
) -> Sequence[Any]:
    if isinstance(tokens, str | bytes | bytearray):
        msg = "tokens must be a number or the deltas; for text, TokenStream.turn(Text(...)) cuts it"
        raise TypeError(msg)
    if isinstance(tokens, Iterable):
        if delta is not None:
            msg = "delta= makes deltas for a number of tokens; tokens already holds the deltas"
            raise TypeError(msg)
        return tuple(tokens)
    count = count_of("tokens", tokens, least=0)
    if delta is None:
        return _RandomWords(seed, count)
    if not callable(delta):
        msg = f"delta must be a callable from index to delta, not {delta!r}"
        raise TypeError(msg)
    return _GeneratedDeltas(delta, count)


class _GeneratedDeltas(Sequence[Any]):
    """A sequence that makes each delta on request, so a long stream takes no memory."""

    def __init__(self, delta: Callable[[int], Any], count: int) -> None:
        self._delta, self._count = delta, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return (self._delta(index) for index in range(self._count))

    def __getitem__(self, index: int | slice) -> Any:
        selection = range(self._count)[index]
        if isinstance(selection, int):
            return self._delta(selection)
        if selection.step > 0:
            return [*islice(iter(self), selection.start, selection.stop, selection.step)]
        return [*map(self._delta, selection)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented
        return all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment] # a list has no hash either


class _RandomWords(_GeneratedDeltas):
    """Words drawn by a seed, a block at a time: drawing each word alone would be slower."""

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(self._word, count)
        self._seed = seed

    def __iter__(self) -> Iterator[str]:
        return islice(chain.from_iterable(map(self._block_of_words, count())), len(self))

    def _word(self, index: int) -> str:
        return self._block_of_words(index // _BLOCK_WORDS)[index % _BLOCK_WORDS]

    def _block_of_words(self, block: int) -> Sequence[str]:
        random_bytes = Random(f"{self._seed} {block}").randbytes(_BLOCK_WORDS)  # noqa: S311 - no secret
        return [_WORD_OF_BYTE[byte] for byte in random_bytes]
