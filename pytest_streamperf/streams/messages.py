"""What an agent says in one turn, as it is scripted, and the deltas that it is cut into."""

import json
from collections.abc import (
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from random import Random
from typing import Any, Self, get_args, overload


@dataclass(frozen=True, slots=True)
class Text:
    """Something the model says, as one part of a `Turn`.

    >>> Text("Let me look.").text
    'Let me look.'
    """

    text: str

    def __post_init__(self) -> None:
        _must_be_text(self, self.text)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Something the model thinks, as one part of a `Turn`, where a dialect tells that apart.

    >>> Reasoning("They want a file.").text
    'They want a file.'
    """

    text: str

    def __post_init__(self) -> None:
        _must_be_text(self, self.text)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the server's that ends a `Turn`: its last part, and its last delta.

    >>> Failure("Overloaded", type="overloaded_error").message
    'Overloaded'
    """

    message: str
    type: str = "server_error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a turn was billed for: those read, and those written.

    >>> Usage(12, 34).output_tokens
    34
    """

    input_tokens: int
    output_tokens: int


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


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thinks.

    >>> ReasoningDelta("They ").text
    'They '
    """

    text: str


Part = Text | Reasoning | ToolCall | Failure
Delta = str | ReasoningDelta | ToolCallDelta | Failure


def text_of(delta: object) -> str:
    """The text that a delta carries, whatever it is of.

    >>> text_of("Hi"), text_of(ToolCallDelta(0, "call_0", "search", '{"q'))
    ('Hi', '{"q')
    """
    match delta:
        case ToolCallDelta():
            return delta.arguments
        case ReasoningDelta():
            return delta.text
    return str(delta)


def whole_of(delta: Delta) -> tuple[type, str]:
    """What a delta is a piece of: its kind and, of a tool call, the id.

    >>> whole_of("Hi"), whole_of(ToolCallDelta(0, "call_0", "search", '{"q'))[1]
    ((<class 'str'>, ''), 'call_0')
    """
    return type(delta), delta.id if isinstance(delta, ToolCallDelta) else ""


class Turn(Sequence[Delta]):
    """A scripted agent turn, cut into deltas.

    They are `str` for text, `ReasoningDelta` for reasoning, `ToolCallDelta` for tool calls, and the
    `Failure` that ends it, if any. `usage` is what the server says it came to; it is no delta.

    >>> turn = Turn(Text("Let me look."), ToolCall("search", {"query": "streams"}))
    >>> "".join(delta for delta in turn if isinstance(delta, str))
    'Let me look.'
    """

    def __init__(self, *parts: Part, usage: Usage | None = None, seed: int = 0) -> None:
        for part in parts:
            if not isinstance(part, Part):
                taken = ", ".join(f"{each.__name__}(...)" for each in get_args(Part))
                msg = f"Turn takes {taken}, not {part!r}"
                raise TypeError(msg)
        if any(isinstance(part, Failure) for part in parts[:-1]):
            msg = f"a Failure ends a turn, so nothing may come after it in {parts!r}"
            raise ValueError(msg)
        self.parts = parts
        self.usage = usage
        self._deltas = tuple(_cut_parts(parts, Random(seed)))  # noqa: S311 - no secret

    @classmethod
    def of(cls, deltas: Iterable[Delta], *, usage: Usage | None = None) -> Self:
        """Make a turn of these deltas as they are, such as one that never closes its JSON.

        >>> list(Turn.of(["Hi"]))
        ['Hi']
        """
        turn = cls(usage=usage)
        turn._deltas = tuple(deltas)
        return turn

    def __len__(self) -> int:
        return len(self._deltas)

    @overload
    def __getitem__(self, index: int) -> Delta: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Delta]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._deltas[index]

    def __repr__(self) -> str:
        usage = [f"usage={self.usage!r}"] if self.usage is not None else []
        if self._deltas and not self.parts:
            return f"Turn.of({', '.join([repr(list(self._deltas)), *usage])})"
        return f"Turn({', '.join([*map(repr, self.parts), *usage])})"


def _must_be_text(part: Text | Reasoning, text: object) -> None:
    if not isinstance(text, str):
        msg = f"{type(part).__name__} takes a str, not {text!r}"
        raise TypeError(msg)


def _cut_parts(parts: Iterable[Part], random: Random) -> Iterator[Delta]:
    calls = 0
    for part in parts:
        match part:
            case Text():
                yield from _cut(part.text, random)
            case Reasoning():
                yield from map(ReasoningDelta, _cut(part.text, random))
            case ToolCall():
                for piece in _cut(part.json, random):
                    yield ToolCallDelta(calls, f"call_{calls}", part.name, piece)
                calls += 1
            case Failure():
                yield part


def _cut(text: str, random: Random) -> Iterator[str]:
    """Cut text into pieces of 1 to 7 characters, 4 on average."""
    start = 0
    while start < len(text):
        end = start + random.randint(1, 7)
        yield text[start:end]
        start = end
