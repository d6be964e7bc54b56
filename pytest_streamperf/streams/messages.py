"""Script one turn of an agent, and cut it into deltas.

A `Turn` takes parts: `Text`, `Reasoning`, `ToolCall`, and a `Failure` at the end. It is a sequence
of deltas: `str`, `ReasoningDelta`, `ToolCallDelta` and `Failure`. Equal parts and equal seeds give
equal deltas. The dialects of `pytest_streamperf.wire` encode them.
"""

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
    """Text of the model, as one part of a `Turn`.

    >>> Text("Let me look.").text
    'Let me look.'
    """

    text: str

    def __post_init__(self) -> None:
        _require_str(self, self.text)


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Reasoning of the model, as one part of a `Turn`, for dialects that separate it from text.

    >>> Reasoning("They want a file.").text
    'They want a file.'
    """

    text: str

    def __post_init__(self) -> None:
        _require_str(self, self.text)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of the server, as the last part and the last delta of a `Turn`.

    >>> Failure("Overloaded", type="overloaded_error").message
    'Overloaded'
    """

    message: str
    type: str = "server_error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a turn is billed for: tokens of the input, and tokens of the output.

    >>> Usage(12, 34).output_tokens
    34
    """

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool by the model, as one part of a `Turn`; the arguments are sent as JSON.

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
    """A delta of the arguments of tool call `index`, counted from 0 within the turn.

    >>> ToolCallDelta(0, "call_0", "search", '{"que').arguments
    '{"que'
    """

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A delta of the reasoning of the model.

    >>> ReasoningDelta("They ").text
    'They '
    """

    text: str


Part = Text | Reasoning | ToolCall | Failure
Delta = str | ReasoningDelta | ToolCallDelta | Failure


def text_of(delta: object) -> str:
    """Return the text of a delta of any kind: of text, reasoning or arguments.

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
    """Return the type and the tool call id that all deltas of one message part share.

    >>> whole_of("Hi"), whole_of(ToolCallDelta(0, "call_0", "search", '{"q'))[1]
    ((<class 'str'>, ''), 'call_0')
    """
    return type(delta), delta.id if isinstance(delta, ToolCallDelta) else ""


class Turn(Sequence[Delta]):
    """A scripted agent turn, cut into deltas.

    Text becomes `str` deltas, reasoning `ReasoningDelta`, and a tool call `ToolCallDelta`. A
    `Failure` may end the turn. `usage` is the usage that the server reports; it is no delta.

    >>> turn = Turn(Text("Let me look."), ToolCall("search", {"query": "streams"}))
    >>> "".join(delta for delta in turn if isinstance(delta, str))
    'Let me look.'
    """

    def __init__(self, *parts: Part, usage: Usage | None = None, seed: int = 0) -> None:
        for part in parts:
            if not isinstance(part, Part):
                kinds = ", ".join(f"{kind.__name__}(...)" for kind in get_args(Part))
                msg = f"Turn takes {kinds}, not {part!r}"
                raise TypeError(msg)
        if any(isinstance(part, Failure) for part in parts[:-1]):
            msg = f"a Failure ends a turn, so nothing may come after it in {parts!r}"
            raise ValueError(msg)
        self.parts = parts
        self.usage = usage
        self._deltas = tuple(_cut_parts(parts, Random(seed)))  # noqa: S311 - no secret

    @classmethod
    def of(cls, deltas: Iterable[Delta], *, usage: Usage | None = None) -> Self:
        """Make a turn of the given deltas without cutting them, such as deltas of unclosed JSON.

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


def _require_str(part: Text | Reasoning, text: object) -> None:
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
