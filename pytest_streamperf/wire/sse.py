"""Server-sent events, to the letter of the standard.

https://html.spec.whatwg.org/multipage/server-sent-events.html

    stream   = [BOM] *event
    event    = *(comment | field) end-of-line
    comment  = ":" any-text end-of-line
    field    = name [":" [SPACE] value] end-of-line
    end-of-line is CR LF, LF or CR; the text is UTF-8

A decoder takes pieces that end anywhere, and does the same work for them however they are cut: each
byte is looked at once where it arrives, and once where its line is complete.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from pytest_streamperf.wire import LONGEST_LINE, WireError

Mode = Literal["standard", "sdk"]

_BOM = b"\xef\xbb\xbf"
_END_OF_LINE = re.compile("\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its data, its type, and the last id that the stream has named by then.

    >>> Event("hello").type
    'message'
    """

    data: str
    type: str = "message"
    id: str = ""

    def __post_init__(self) -> None:
        for name, value, never in (("type", self.type, "\r\n"), ("id", self.id, "\r\n\0")):
            if any(each in value for each in never):
                msg = f"{name} must be one line without {never!r}, not {value!r}"
                raise ValueError(msg)
        if not self.type:
            msg = "type must not be empty: what has none is a 'message'"
            raise ValueError(msg)


def encode(event: Event) -> bytes:
    r"""Give the bytes of an event, each line of its data in a field of its own.

    CR and CR LF in the data come back as LF: that is all that the format can carry.

    >>> encode(Event("one\ntwo", type="note"))
    b'event: note\ndata: one\ndata: two\n\n'
    """
    fields = [
        *([f"event: {event.type}"] if event.type != "message" else []),
        *([f"id: {event.id}"] if event.id else []),
        *(f"data: {line}" for line in _END_OF_LINE.split(event.data)),
    ]
    return "\n".join([*fields, "", ""]).encode()


def encode_json(value: object, *, type: str = "message") -> bytes:  # noqa: A002 - the field's name
    r"""Give the bytes of an event whose data is a JSON document.

    >>> encode_json({"done": True})
    b'data: {"done":true}\n\n'
    """
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return encode(Event(data, type))


def comment(text: str = "") -> bytes:
    r"""Give the bytes of a comment, which keeps a connection alive and is no event.

    >>> comment("ping")
    b': ping\n\n'
    """
    return "".join(f": {line}\n" for line in _END_OF_LINE.split(text)).encode() + b"\n"


def decode(data: bytes, *, mode: Mode = "standard") -> list[Event]:
    r"""Give the events of a whole stream.

    >>> decode(b"data: hello\n\n")
    [Event(data='hello', type='message', id='')]
    """
    return Decoder(mode=mode).feed(data)


class Decoder:
    r"""Decodes a stream piece by piece.

    An event is given as soon as its empty line has begun; one that never gets there is dropped, as
    the standard says. Bytes that are not UTF-8 become U+FFFD. `retry` is the reconnection time in
    milliseconds that the stream asked for last, None if it has not; `last_id` what a client sends
    as `Last-Event-ID` when it connects again. `offset` counts the bytes that were looked at,
    `number` the events that were given.

    `mode="sdk"` does as the clients of OpenAI and Anthropic do: an empty line gives an event also
    where there was no data, if there was any other field, or an id at any time before.

    Raises `WireError` for a line of more than `longest` bytes, with the events before it.

    >>> decoder = Decoder()
    >>> decoder.feed(b"data: hel"), decoder.feed(b"lo\n\n")
    ([], [Event(data='hello', type='message', id='')])
    """

    def __init__(self, *, mode: Mode = "standard", longest: int = LONGEST_LINE) -> None:
        if mode not in get_args(Mode):
            msg = f"mode must be one of {', '.join(map(repr, get_args(Mode)))}, not {mode!r}"
            raise ValueError(msg)
        self.last_id = ""
        self.retry: int | None = None
        self._longest = longest
        self._gives_empty = mode == "sdk"
        self._line: list[bytes] = []  # the pieces of a line that is not complete
        self._length = 0
        self._after_cr = self._begun = False
        self.offset = self.number = 0
        self._id, self._type = "", ""
        self._data: list[str] = []
        self._any_field = False

    def feed(self, piece: bytes) -> list[Event]:
        """Give the events that this piece completes."""
        events: list[Event] = []
        try:
            for event in self.each(piece):
                events.append(event)  # noqa: PERF402 - those before an error are kept
        except WireError as error:
            error.decoded = events
            raise
        return events

    def each(self, piece: bytes) -> Iterator[Event]:
        """Give the same one by one, to be taken to the end: `offset` tells where each one ends."""
        for line in self._lines(piece):
            if line is None:
                what = f"a line of more than {self._longest:,} bytes"
                raise WireError(what, offset=self.offset, number=self.number)
            if line:
                self._field(line)
            else:
                yield from self._dispatched()

    def _lines(self, piece: bytes) -> Iterator[bytes | None]:
        """The lines that are complete now, without their ends; None for one that is too long."""
        for part in piece.splitlines(keepends=True):
            ended = part[-1:] in b"\r\n"
            if part == b"\n" and self._after_cr:  # the rest of a CR LF
                self._after_cr = False
                self.offset += 1
                continue
            self._after_cr = part[-1:] == b"\r"
            self._line.append(part.rstrip(b"\r\n"))
            self._length += len(self._line[-1])
            if self._length > self._longest:
                self._line.clear()
                yield None
            self.offset += len(part)
            if not ended:
                continue
            line = b"".join(self._line)
            self._line.clear()
            self._length = 0
            if not self._begun:
                self._begun = True
                line = line.removeprefix(_BOM)
            yield line

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._type = value
                self._any_field = self._any_field or bool(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry = int(value)
                self._any_field = True
            case _:
                pass  # as the standard says

    def _dispatched(self) -> list[Event]:
        self.last_id = self._id
        type_, data = self._type, self._data
        empty = not data and not (self._gives_empty and (self._any_field or self._id))
        self._type, self._data, self._any_field = "", [], False
        if empty:
            return []
        self.number += 1
        return [Event("\n".join(data), type_ or "message", self.last_id)]
