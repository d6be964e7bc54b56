"""What is sent: streams of deltas, and the agent turns they are cut from.

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
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from math import ceil
from random import Random
from typing import Any, Literal, Protocol, Self, overload

from pytest_streamperf.here import Loop, loop_running_here

# About four characters a token, the usual rule of thumb for English text.
_WORDS = (
    *("The ", "reply ", "of ", "a ", "model ", "comes ", "in ", "small ", "piec", "es, "),
    *("each ", "one ", "a ", "delta", ". ", "They ", "are ", "shown ", "as ", "they "),
    *("arriv", "e: ", "text", ", ", "code", " and ", "the ", "argum", "ents ", "of "),
    *("tool ", "calls", ".\n", "What ", "is ", "done ", "for ", "every", " one ", "must "),
    *("not ", "grow ", "with ", "the ", "num", "ber ", "of ", "those ", "befo", "re it. "),
)


@dataclass(frozen=True, slots=True)
class Text:
    """Something the model says, as one part of a `Turn`.

    >>> Text("Let me look.").text
    'Let me look.'
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            msg = f"Text takes a str, not {self.text!r}"
            raise TypeError(msg)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model calls, as one part of a `Turn`; its arguments are sent as JSON, in deltas.

    >>> ToolCall("search", {"query": "streams"}).json
    '{"query": "streams"}'
    """

    name: str
    arguments: Mapping[str, Any]

    @property
    def json(self) -> str:
        """The arguments as the JSON text that is cut into deltas."""
        return json.dumps(dict(self.arguments), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of one tool call's arguments; `index` counts the tool calls of the turn from 0.

    >>> ToolCallDelta(0, "call_0", "search", '{"que').arguments
    '{"que'
    """

    index: int
    id: str
    name: str
    arguments: str


class Turn(Sequence[str | ToolCallDelta]):
    """A scripted agent turn, cut into deltas: `str` for text, `ToolCallDelta` for tool calls.

    >>> turn = Turn(Text("Let me look."), ToolCall("search", {"query": "streams"}))
    >>> "".join(delta for delta in turn if isinstance(delta, str))
    'Let me look.'
    """

    def __init__(self, *parts: Text | ToolCall, seed: int = 0) -> None:
        for part in parts:
            if not isinstance(part, Text | ToolCall):
                msg = f"Turn takes Text(...) and ToolCall(...), not {part!r}"
                raise TypeError(msg)
        self.parts = parts
        self._deltas = tuple(_cut_parts(parts, Random(seed)))  # noqa: S311 - no secret

    def __len__(self) -> int:
        return len(self._deltas)

    @overload
    def __getitem__(self, index: int) -> str | ToolCallDelta: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str | ToolCallDelta]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._deltas[index]

    def __repr__(self) -> str:
        return f"Turn({', '.join(map(repr, self.parts))})"


def _cut_parts(parts: Iterable[Text | ToolCall], random: Random) -> Iterator[str | ToolCallDelta]:
    calls = 0
    for part in parts:
        if isinstance(part, Text):
            yield from _cut(part.text, random)
        else:
            call_id = f"call_{calls}"
            for piece in _cut(part.json, random):
                yield ToolCallDelta(calls, call_id, part.name, piece)
            calls += 1


def _cut(text: str, random: Random) -> Iterator[str]:
    """Cut text into pieces of 1 to 7 characters, 4 on average."""
    start = 0
    while start < len(text):
        end = start + random.randint(1, 7)
        yield text[start:end]
        start = end


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


_ARGUMENTS = {"string": (string_arguments, '"}'), "objects": (object_arguments, "]}")}


class Listener(Protocol):
    """Whoever wants to know what a stream hands out."""

    def arrived(self, delta: Any) -> None:
        """A delta is handed out."""

    def ended(self) -> None:
        """There are no more."""


class TokenStream:
    """A simulated stream of deltas.

    `tokens` is how many (they are then drawn from a small English vocabulary by `seed`, or made by
    `delta`, a callable from index to delta) or the deltas themselves. `every` is the pace in
    seconds: delta `i` is handed out no earlier than `i * every` after the first. The async form
    lets the event loop run before each delta, as a network would; it works under asyncio and trio.

    Raises `TypeError` or `ValueError` for arguments out of range.

    >>> stream = TokenStream(tokens=3)
    >>> "".join(stream) == stream.text
    True
    """

    def __init__(
        self,
        tokens: int | Iterable[Any] = 5_000,
        *,
        every: float = 0.0,
        seed: int = 0,
        delta: Callable[[int], Any] | None = None,
    ) -> None:
        self.every = _pace(every)
        # Rounded up to 2**-30 s: then so many steps of a virtual clock are never short of so many.
        self._step = ceil(self.every * 2**30) / 2**30
        self.deltas = _deltas(tokens, seed, delta)
        self.listeners: list[Listener] = []

    @classmethod
    def turn(cls, *parts: Text | ToolCall, every: float = 0.0, seed: int = 0) -> Self:
        """Make a stream of the deltas of `Turn(*parts)`."""
        return cls(Turn(*parts, seed=seed), every=every)

    @classmethod
    def tool_call(
        cls,
        tokens: int = 5_000,
        *,
        shape: Literal["string", "objects"] = "string",
        every: float = 0.0,
    ) -> Self:
        """Make a stream of the arguments of one tool call: a complete JSON document.

        `shape` is what they hold, one long string or a list of objects: code that is linear on
        one can be quadratic on the other.
        """
        if shape not in _ARGUMENTS:
            msg = f"shape must be one of {', '.join(map(repr, _ARGUMENTS))}, not {shape!r}"
            raise ValueError(msg)
        count = count_of("tokens", tokens, least=2)
        opening, closing = _ARGUMENTS[shape]
        return cls([*map(opening, range(count - 1)), closing], every=every)

    @property
    def text(self) -> str:
        """All the text of the stream; deltas that are not `str` have none."""
        return "".join(delta for delta in self.deltas if isinstance(delta, str))

    def __len__(self) -> int:
        return len(self.deltas)

    def __iter__(self) -> Iterator[Any]:
        if not self.every and not self.listeners:
            return iter(self.deltas)
        return self._paced()

    def _paced(self) -> Iterator[Any]:
        start = time.monotonic()
        for index, delta in enumerate(self.deltas):
            if self._step:
                time.sleep(max(0.0, start + index * self._step - time.monotonic()))
            for listener in self.listeners:
                listener.arrived(delta)
            yield delta
        for listener in self.listeners:
            listener.ended()

    def __aiter__(self) -> AsyncIterator[Any]:
        return _AsyncDeltas(self.deltas, self._step, self.listeners)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} deltas, every={self.every}>"


class _AsyncDeltas:
    # Not an async generator: those need closing, and warn under trio when a consumer stops early.
    def __init__(self, deltas: Sequence[Any], every: float, listeners: Sequence[Listener]) -> None:
        self._deltas = deltas
        self._every = every
        self._listeners = listeners
        self._index = 0
        self._ended = False
        self._start = 0.0
        self._loop: Loop | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._loop is None:
            self._loop = loop_running_here()
            self._start = self._loop.time()
        due = self._start + self._index * self._every
        if due > self._loop.time() and self._index < len(self._deltas):
            await self._loop.sleep_until(due)
        else:
            await self._loop.checkpoint()
        if self._index == len(self._deltas):  # only now: another task may have taken it
            if not self._ended:
                self._ended = True
                for listener in self._listeners:
                    listener.ended()
            raise StopAsyncIteration
        # Only now: a wait that is cancelled loses no delta.
        delta = self._deltas[self._index]
        self._index += 1
        for listener in self._listeners:
            listener.arrived(delta)
        return delta


def count_of(name: str, value: object, *, least: int) -> int:
    """Check that an argument is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"{name} must be a whole number of deltas, not {value!r}"
        raise TypeError(msg)
    if value < least:
        msg = f"{name} must be at least {least}, not {value}"
        raise ValueError(msg)
    return value


def _pace(every: object) -> float:
    if not isinstance(every, int | float) or isinstance(every, bool):
        msg = f"every must be a number of seconds, not {every!r}"
        raise TypeError(msg)
    if not 0 <= every < float("inf"):
        msg = f"every must be 0 seconds or more, and finite, not {every!r}"
        raise ValueError(msg)
    return float(every)


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
        return Random(seed).choices(_WORDS, k=count)  # noqa: S311 - no secret
    if not callable(delta):
        msg = f"delta must be a callable from index to delta, not {delta!r}"
        raise TypeError(msg)
    return [delta(index) for index in range(count)]
