"""How a turn looks on the wire: events and dialects, encoded and decoded by pure functions."""

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, cast

from pytest_streamperf.streams.messages import Delta, Turn, Usage

BUILT_IN = "ag-ui", "anthropic-messages", "ollama-chat", "openai-chat", "openai-responses"
"""The dialects that are there from the first, each in a module of its name."""

LONGEST_LINE = 16 * 2**20
"""Bytes that a line may have at most, where nothing else is said."""

_registered: dict[str, "Dialect"] = {}


def to_json(value: object) -> str:
    r"""Give a JSON document as it is sent: with an escape only for what UTF-8 has no bytes for.

    That is half a surrogate pair. Two halves come back as the character that they make.

    >>> print(to_json({"text": "\N{SNOWMAN} \ud800"}))
    {"text":"☃ \ud800"}
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace").decode()


class DeltaDecoder(Protocol):
    """Reads a dialect back: `close()` says that no more bytes come, and raises if they should."""

    usage: Usage | None
    ended: bool

    def feed(self, piece: bytes) -> list[Delta]:
        """Give the deltas that this piece completes."""

    def close(self) -> None:
        """Raise `WireError` where the turn is not at its end."""


class Dialect(Protocol):
    """How turns look on one wire: a module with these names, or any other object that has them."""

    NAME: str
    PATH: str
    """Where clients ask for it, below the base URL that they are given."""
    MEDIA_TYPE: str

    def encode(self, turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
        """Give the chunks of a turn."""

    def Decoder(self) -> DeltaDecoder:  # noqa: N802 - it is a class
        """Make what reads chunks back to deltas."""


def dialect(name: str) -> Dialect:
    """Give the dialect of this name.

    Raises `ValueError` for one that nobody has registered.

    >>> dialect("openai-chat").PATH
    '/v1/chat/completions'
    """
    if name in BUILT_IN:
        return cast(Dialect, import_module(f"{__package__}.{name.replace('-', '_')}"))
    if name not in _registered:
        known = ", ".join(map(repr, sorted({*BUILT_IN, *_registered})))
        msg = f"no dialect is named {name!r}: there are {known}"
        raise ValueError(msg)
    return _registered[name]


def named(dialect_or_name: "str | Dialect") -> Dialect:
    """Give a dialect that may have been said by its name."""
    return dialect(dialect_or_name) if isinstance(dialect_or_name, str) else dialect_or_name


def register(dialect: Dialect) -> None:
    """Add a dialect of your own, by its `NAME`; a module will do: `register(my_dialect)`.

    Raises `TypeError` for what is none, and `ValueError` for a name that is taken by another.
    """
    lacks = [name for name in _OF_A_DIALECT if not hasattr(dialect, name)]
    if lacks:
        msg = f"{dialect!r} is no dialect: it has no {', no '.join(lacks)}"
        raise TypeError(msg)
    if dialect.NAME in BUILT_IN or _registered.setdefault(dialect.NAME, dialect) is not dialect:
        msg = f"a dialect named {dialect.NAME!r} is there already"
        raise ValueError(msg)


_OF_A_DIALECT = "NAME", "PATH", "MEDIA_TYPE", "encode", "Decoder"
