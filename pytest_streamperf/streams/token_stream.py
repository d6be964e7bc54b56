"""What is sent: streams of deltas, by count or of a turn, at a pace.

A `TokenStream` is sync and async iterable, any number of times. Equal arguments give equal deltas,
and a shorter stream is a prefix of a longer one with the same seed.
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

# About four characters a token, the usual rule of thumb for English text.
_WORDS = (
    *("The ", "reply ", "of ", "a ", "model ", "comes ", "in ", "small ", "piec", "es, "),
    *("each ", "one ", "a ", "delta", ". ", "They ", "are ", "shown ", "as ", "they "),
    *("arriv", "e: ", "text", ", ", "code", " and ", "the ", "argum", "ents ", "of "),
    *("tool ", "calls", ".\n", "What ", "is ", "done ", "for ", "every", " one ", "must "),
    *("not ", "grow ", "with ", "the ", "num", "ber ", "of ", "those ", "befo", "re it. "),
)


# A word for each byte, and so many bytes are drawn at once.
_OF_A_BYTE = tuple(_WORDS[byte % len(_WORDS)] for byte in range(256))
_BLOCK = 4_096


def string_arguments(index: int) -> str:
    """Delta `index` of tool arguments that hold one long string, such as the content of a file.

    The deltas from 0 on are always the start of a JSON document. To be passed as `delta=`.

    >>> "".join(map(string_arguments, range(3)))
    '{"path": "notes.md", "content": "The reply '
    """
    if index == 0:
        return '{"path": "notes.md", "content": "'
    return json.dumps(_WORDS[(index - 1) % len(_WORDS)])[1:-1]


def object_arguments(index: int) -> str:
    """Delta `index` of tool arguments that hold a list of objects, such as rows to insert.

    The deltas from 0 on are always the start of a JSON document. To be passed as `delta=`.

    >>> "".join(map(object_arguments, range(3)))
    '{"rows": [{"id": 0, "name": "The "}, {"id": 1, "name": "reply "}'
    """
    if index == 0:
        return '{"rows": ['
    row = {"id": index - 1, "name": _WORDS[(index - 1) % len(_WORDS)]}
    return ("" if index == 1 else ", ") + json.dumps(row)


# So many deltas are shown one by one.
_FEW = 8
_ARGUMENTS = {"string": (string_arguments, '"}'), "objects": (object_arguments, "]}")}


class Listener(Protocol):
    """Whoever wants to know what a stream hands out, and by a method `began` of each reading."""

    def arrived(self, delta: Any) -> None:
        """A delta is handed out."""

    def ended(self) -> None:
        """There are no more."""


Fault = Callable[[Iterable[Any]], Iterator[Any]]
"""From what is sent to what arrives: it may end with a `ConnectionError`, as a network does.

One that differs by what the bytes are has a method `within`, from their media type to the fault;
one after which a stream that broke before does so no more has an attribute `ends_well`.
"""


class Stream:
    """What is sent, at a pace: sync and async iterable, any number of times.

    Where it is broken, it ends with `error`. Bytes are served as `media_type`.
    """

    media_type = "text/event-stream"

    def __init__(self, items: Sequence[Any], every: Pace = 0.0) -> None:
        self.deltas = items
        self.every = _pace(every, len(items))
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
        concerns(self)  # it may be older than the test that reads it
        for listener in self.listeners:
            if hasattr(listener, "began"):
                listener.began()

    def _paced(self) -> Iterator[Any]:
        start = time.monotonic()
        for due, delta in zip(_due(self.every), self.deltas, strict=False):
            if self.every:
                time.sleep(max(0.0, start + due - time.monotonic()))
            for listener in self.listeners:
                listener.arrived(delta)
            yield delta
        self.end()

    def end(self) -> None:
        """Tell those who listen that there is no more, or raise `error`."""
        if self.error:
            raise self.error.with_traceback(None)
        for listener in self.listeners:
            listener.ended()

    def with_fault(self, *faults: Fault) -> Self:
        """Make a stream to which these happen, one after the other: see `streams.faults`.

        The pace is for what arrives in order: what comes after its last gap comes at once.

        >>> from pytest_streamperf.streams.faults import Truncate
        >>> len(TokenStream(5).with_fault(Truncate(after=3)))
        3
        """
        broken = copy(self)
        broken.listeners = []
        broken._break(faults)  # noqa: SLF001 - it is one of these
        return broken

    def _break(self, faults: Iterable[Fault]) -> None:
        self.deltas, self.error = self._arriving(self.deltas, faults, self.error)

    def _arriving(
        self, items: Sequence[Any], faults: Iterable[Fault], error: ConnectionError | None = None
    ) -> tuple[Sequence[Any], ConnectionError | None]:
        """What arrives of `items` through these faults, one after the other, and how it ends."""
        for fault in faults:
            happens = fault.within(self.media_type) if hasattr(fault, "within") else fault
            arrived: list[Any] = []
            if hasattr(fault, "ends_well"):
                error = None
            try:
                for item in happens(items):
                    arrived.append(item)  # noqa: PERF402 - those before an error arrive
            except ConnectionError as broken:
                error = broken
            items = arrived
        return items, error

    def __aiter__(self) -> AsyncIterator[Any]:
        self._begin()
        return _AsyncDeltas(self)

    def __repr__(self) -> str:
        name, every = type(self).__name__, f", every={self.every}" if self.every else ""
        if len(self) > _FEW:
            return f"<{name} of {len(self):,} deltas{every}>"
        return f"{name}({list(self.deltas)!r}{every})"


class TokenStream(Stream):
    """A simulated stream of deltas.

    `tokens` is how many (they are then drawn from a small English vocabulary by `seed`, or made by
    `delta`, a callable from index to delta) or the deltas themselves. `every` is the pace: seconds,
    or a text such as "50ms". Delta `i` is handed out no earlier than `i * every` after the first.
    It may also be the times before each delta: measured, or one of `streams.pacing`. The async form
    lets the event loop run before each delta, as a network would; it works under asyncio and trio.

    Raises `TypeError` or `ValueError` for arguments out of range, and where a stream is broken, the
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
        super().__init__(_deltas(tokens, seed, delta), every)

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
        """Make a stream of the arguments of one tool call: a complete JSON document.

        `shape` is what they hold, one long string or a list of objects: code that is linear on
        one can be quadratic on the other. `every` is the pace, as in `TokenStream`.
        """
        if shape not in _ARGUMENTS:
            msg = f"shape must be one of {', '.join(map(repr, _ARGUMENTS))}, not {shape!r}"
            raise ValueError(msg)
        last = count_of("tokens", tokens, least=2) - 1
        opening, closing = _ARGUMENTS[shape]
        return cls(tokens, every=every, delta=partial(_argument, opening, closing, last))

    @property
    def text(self) -> str:
        """All the text of the stream; deltas that are not `str` have none."""
        return "".join(delta for delta in self.deltas if isinstance(delta, str))


def _argument(opening: Callable[[int], str], closing: str, last: int, index: int) -> str:
    return opening(index) if index < last else closing


class _AsyncDeltas:
    # Not an async generator: those need closing, and warn under trio when a consumer stops early.
    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._deltas = iter(stream.deltas)
        self._left = len(stream)
        self._due = _due(stream.every)
        self._start = self._next = 0.0
        self._ended = False
        self._loop: Loop | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._loop is None:
            self._loop = loop_running_here()
            self._start = self._loop.time()
            self._next = self._start + next(self._due)
        if self._next > self._loop.time() and self._left:
            await self._loop.sleep_until(self._next)
        else:
            await self._loop.checkpoint()
        if not self._left:  # only now: another task may have taken it
            if not self._ended:
                self._ended = True
                self._stream.end()
            raise StopAsyncIteration
        # Only now: a wait that is cancelled loses no delta.
        delta = next(self._deltas)
        self._left -= 1
        self._next = self._start + next(self._due)
        for listener in self._stream.listeners:
            listener.arrived(delta)
        return delta


def _due(every: float | Iterable[float]) -> Iterator[float]:
    """When each delta is due, in seconds from the first call for one.

    Rounded up: then so many steps of a virtual clock are never short of so many. After the last of
    the gaps all is due at once.
    """
    if isinstance(every, int | float):
        step = to_the_next_step(every)
        return (index * step for index in count())
    return chain(accumulate(map(to_the_next_step, every)), repeat(0.0))


def listen(of: object, listener: Listener) -> None:
    """Have a new listener told what the stream `of` hands out; nothing where it is None."""
    concerns(listener)
    if of is None:
        return
    if not isinstance(of, Stream):
        msg = f"of must be a TokenStream, which knows what it hands out, not {of!r}"
        raise TypeError(msg)
    of.listeners.append(listener)


def count_of(name: str, value: object, *, least: int) -> int:
    """Check that an argument is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number of deltas, not {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, not {value}"
        raise ValueError(msg)
    return value


def _pace(every: object, deltas: int) -> float | Iterable[float]:
    """Read a pace, once: what is a number stays as it is, also in an iterable."""
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


def _deltas(
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
        return _Drawn(seed, count)
    if not callable(delta):
        msg = f"delta must be a callable from index to delta, not {delta!r}"
        raise TypeError(msg)
    return _Made(delta, count)


class _Made(Sequence[Any]):
    """Deltas that are made as they are asked for: however many there are, none is held."""

    def __init__(self, delta: Callable[[int], Any], count: int) -> None:
        self._delta, self._count = delta, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        return (self._delta(index) for index in range(self._count))

    def __getitem__(self, index: int | slice) -> Any:
        where = range(self._count)[index]
        if isinstance(where, int):
            return self._delta(where)
        if where.step > 0:
            return [*islice(iter(self), where.start, where.stop, where.step)]
        return [*map(self._delta, where)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return NotImplemented
        return all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment] # like a list's


class _Drawn(_Made):
    """Words drawn by a seed, many at once: to draw one takes longer than to hand it out."""

    def __init__(self, seed: int, count: int) -> None:
        super().__init__(self._word, count)
        self._seed = seed

    def __iter__(self) -> Iterator[str]:
        return islice(chain.from_iterable(map(self._words, count())), len(self))

    def _word(self, index: int) -> str:
        return self._words(index // _BLOCK)[index % _BLOCK]

    def _words(self, block: int) -> Sequence[str]:
        drawn = Random(f"{self._seed} {block}").randbytes(_BLOCK)  # noqa: S311 - no secret
        return [_OF_A_BYTE[byte] for byte in drawn]
