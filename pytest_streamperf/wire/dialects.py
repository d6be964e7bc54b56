"""Dialects: the formats in which a turn goes over the wire, found by their names.

A dialect encodes a turn to chunks of bytes and decodes chunks back to deltas. Both directions are
pure: no sockets, no clocks. `dialect(name)` returns a built-in dialect or one that `register`
added. A built-in dialect is a module of this package.
"""

import json
from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, cast

from pytest_streamperf.streams.messages import Delta, Turn, Usage

BUILT_IN = "ag-ui", "anthropic-messages", "ollama-chat", "openai-chat", "openai-responses"
"""Names of the built-in dialects. Each has a module of that name, with `_` in place of `-`."""

# Not measured. The limit keeps one endless line from filling the memory of the test run.
LONGEST_LINE = 16 * 2**20
"""Default limit of a line, in bytes; a decoder refuses a longer line."""

_registered: dict[str, "Dialect"] = {}


def to_json(value: object) -> str:
    r"""Return `value` as compact JSON text that UTF-8 can encode.

    Only a lone half of a surrogate pair is escaped, because UTF-8 has no bytes for it. Two
    consecutive halves decode to the character that they form.

    >>> print(to_json({"text": "\N{SNOWMAN} \ud800"}))
    {"text":"☃ \ud800"}
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace").decode()


class DeltaDecoder(Protocol):
    """The decoder of a dialect: turns the chunks of one stream back into deltas.

    `usage` is the usage that the server reported, or None before that. `ended` is true after the
    last event of the turn.
    """

    usage: Usage | None
    ended: bool

    def feed(self, piece: bytes) -> list[Delta]:
        """Return the deltas that `piece`, the next chunk of the stream, completes."""

    def close(self) -> None:
        """Declare the end of the stream. Raise `WireError` if the turn has not ended."""


class Dialect(Protocol):
    """A format of turns on the wire: a module, or any other object, with these members."""

    NAME: str
    PATH: str
    """Path that clients append to their base URL."""
    MEDIA_TYPE: str

    def encode(self, turn: Turn, *, model: str = "scripted") -> Iterator[bytes]:
        """Yield the bytes of `turn`, one chunk for each event."""

    def Decoder(self) -> DeltaDecoder:  # noqa: N802 - it is a class
        """Return a new decoder for one stream."""


def dialect(name: str) -> Dialect:
    """Return the dialect with this name.

    Raises `ValueError` for a name that is neither built in nor registered.

    >>> dialect("openai-chat").PATH
    '/v1/chat/completions'
    """
    if name in BUILT_IN:
        return cast(Dialect, import_module(f"{__package__}.{name.replace('-', '_')}"))
    if name not in _registered:
        names = ", ".join(map(repr, sorted({*BUILT_IN, *_registered})))
        msg = f"no dialect is named {name!r}: there are {names}"
        raise ValueError(msg)
    return _registered[name]


def as_dialect(dialect_or_name: "str | Dialect") -> Dialect:
    """Return the dialect with this name; return a dialect unchanged."""
    return dialect(dialect_or_name) if isinstance(dialect_or_name, str) else dialect_or_name


def register(dialect: Dialect) -> None:
    """Add a custom dialect under its `NAME`; it may be a module: `register(my_dialect)`.

    Raises `TypeError` for an object that lacks a member of a dialect, and `ValueError` for the name
    of another dialect.
    """
    missing = [name for name in _DIALECT_MEMBERS if not hasattr(dialect, name)]
    if missing:
        msg = f"{dialect!r} is no dialect: it has no {', no '.join(missing)}"
        raise TypeError(msg)
    if dialect.NAME in BUILT_IN or _registered.setdefault(dialect.NAME, dialect) is not dialect:
        msg = f"a dialect named {dialect.NAME!r} is there already"
        raise ValueError(msg)


_DIALECT_MEMBERS = "NAME", "PATH", "MEDIA_TYPE", "encode", "Decoder"
