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

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, get_args

from pytest_streamperf.exceptions import WireError
from pytest_streamperf.wire.dialects import LONGEST_LINE, to_json

Mode = Literal["standard", "sdk"]

_BOM = b"\xef\xbb\xbf"
_END_OF_LINE = re.compile("\r\n|\n|\r")
# In milliseconds: nobody waits longer, and a float has every whole number up to here.
_LONGEST_RETRY = 2.0**53


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

    CR and CR LF in the data come back as LF: that is all that the format can carry. An event that
    has no id comes back with the last one before it, unless the bytes `id` and two ends of lines,
    which are no event, come between.

    >>> encode(Event("one\ntwo", type="note"))
    b'event: note\ndata: one\ndata: two\n\n'
    >>> one, other = encode(Event("1", id="7")), encode(Event("2"))
    >>> decode(one + other)[1].id, decode(one + b"id\n\n" + other)[1].id
    ('7', '')
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
    return encode(Event(to_json(value), type))


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
    as `Last-Event-ID` when it connects again. While events are taken from `each`, `offset` is where
    the last one begins, `number` how many came before it.

    `mode="sdk"` does as the clients of OpenAI and Anthropic do: an empty line gives an event also
    where there was no data, if there was a type, a retry, or an id at any time before. A retry is
    whatever `int` takes.

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
        self._retry_in = int if mode == "sdk" else _milliseconds
        self._line: list[bytes] = []  # the pieces of a line that is not complete
        self._length = self._seen = 0
        self._after_cr, self._between = False, True  # of a line end, and of two events
        self.offset = self.number = 0
        self._id, self._type = "", ""
        self._data: list[str] = []
        self._retried = False

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
        """Give the same one by one, to be taken to the end."""
        for begin, line in self._lines(piece):
            if self._between:
                self.offset = begin
            self._between = not line
            if line:
                self._field(line)
            elif event := self._dispatched():
                yield event
                self.number += 1

    def _lines(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that are complete now, without their ends, and where each of them begins."""
        for part in piece.splitlines(keepends=True):
            begin = self._seen - self._length
            self._seen += len(part)
            rest_of_crlf = self._after_cr and part == b"\n"
            self._after_cr = part.endswith(b"\r")
            if rest_of_crlf:
                continue
            self._line.append(part.rstrip(b"\r\n"))
            self._length += len(self._line[-1])
            if self._length > self._longest:
                self._line.clear()
                what = f"a line of more than {self._longest:,} bytes"
                raise WireError(what, offset=begin, number=self.number)
            if part.endswith((b"\r", b"\n")):
                line = b"".join(self._line)
                self._line.clear()
                self._length = 0
                yield begin, line if begin else line.removeprefix(_BOM)

    def _field(self, line: bytes) -> None:
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._type = value
            case "id" if "\0" not in value:
                self._id = value
            case "retry":
                with suppress(ValueError):
                    self.retry = self._retry_in(value)
                    self._retried = True
            case _:
                pass  # as the standard says

    def _dispatched(self) -> Event | None:
        self.last_id = self._id
        type_, data = self._type, self._data
        empty = not data and not (self._gives_empty and (type_ or self._retried or self._id))
        self._type, self._data, self._retried = "", [], False
        return None if empty else Event("\n".join(data), type_ or "message", self.last_id)


def _milliseconds(value: str) -> int:
    """The time that ASCII digits say, however many there are."""
    if not (value.isascii() and value.isdigit()):
        raise ValueError(value)
    return int(min(float(value), _LONGEST_RETRY))
