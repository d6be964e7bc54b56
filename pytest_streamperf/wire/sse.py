"""Encode and decode server-sent events (SSE) as the WHATWG standard defines them.

https://html.spec.whatwg.org/multipage/server-sent-events.html

    stream   = [BOM] *event
    event    = *(comment | field) end-of-line
    comment  = ":" any-text end-of-line
    field    = name [":" [SPACE] value] end-of-line
    end-of-line is CR LF, LF or CR; the text is UTF-8

`encode` returns the bytes of an event, and `decode` the events of a whole stream. A `Decoder` takes
the stream in chunks, which may be cut anywhere. Its work does not depend on the cuts: it looks at
each byte once when the byte arrives, and once when its line is complete.
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
# 2**53 ms are 285,000 years, and floats hold every whole number up to 2**53.
_MAX_RETRY_MS = 2.0**53


@dataclass(frozen=True, slots=True)
class Event:
    """A server-sent event. Its `id` is the latest id that the stream has set, here or before.

    >>> Event("hello").type
    'message'
    """

    data: str
    type: str = "message"
    id: str = ""

    def __post_init__(self) -> None:
        for name, value, forbidden in (("type", self.type, "\r\n"), ("id", self.id, "\r\n\0")):
            if any(char in value for char in forbidden):
                msg = f"{name} must be one line without {forbidden!r}, not {value!r}"
                raise ValueError(msg)
        if not self.type:
            msg = "type must not be empty: an event without a type is a 'message'"
            raise ValueError(msg)


def encode(event: Event) -> bytes:
    r"""Return the bytes of an event, with one `data` field for each line of its data.

    A decoder returns CR and CR LF in the data as LF, because the format cannot tell them apart. It
    gives an event without an id the latest id of the stream. The bytes `id`, LF, LF between two
    events clear that id; they are no event.

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
    r"""Return the bytes of an event whose data is `value` as JSON.

    >>> encode_json({"done": True})
    b'data: {"done":true}\n\n'
    """
    return encode(Event(to_json(value), type))


def comment(text: str = "") -> bytes:
    r"""Return the bytes of a comment, which keeps a connection alive and is no event.

    >>> comment("ping")
    b': ping\n\n'
    """
    return "".join(f": {line}\n" for line in _END_OF_LINE.split(text)).encode() + b"\n"


def decode(data: bytes, *, mode: Mode = "standard") -> list[Event]:
    r"""Return the events of a whole stream.

    >>> decode(b"data: hello\n\n")
    [Event(data='hello', type='message', id='')]
    """
    return Decoder(mode=mode).feed(data)


class Decoder:
    r"""A decoder that turns the chunks of one stream into events.

    The first byte of an empty line completes an event. An event without its empty line is dropped,
    as the standard says. Bytes that are not UTF-8 become U+FFFD. `retry` is the latest reconnection
    time that the stream has set, in milliseconds, or None. `last_id` is the id that a client sends
    as `Last-Event-ID` when it reconnects. During `iter_events`, `offset` is where the latest event
    begins, in bytes from the start of the stream, and `number` is the count of events before it.

    `mode="sdk"` follows the clients of OpenAI and Anthropic. An empty line then completes an event
    without data, too, if a type, a retry or an earlier id was set. Any text that `int` accepts is a
    retry.

    A line of more than `longest` bytes raises `WireError`, which holds the events before that line.

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
        self._dispatches_empty = mode == "sdk"
        self._parse_retry = int if mode == "sdk" else _milliseconds
        self._line_parts: list[bytes] = []
        self._line_bytes = self._bytes_seen = 0
        self._after_cr, self._between_events = False, True
        self.offset = self.number = 0
        self._id, self._type = "", ""
        self._data: list[str] = []
        self._has_retry = False

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece`, the next chunk of the stream, completes."""
        events: list[Event] = []
        try:
            for event in self.iter_events(piece):
                events.append(event)  # noqa: PERF402 - keeps the events before an error
        except WireError as error:
            error.decoded = events
            raise
        return events

    def iter_events(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that `piece`, the next chunk of the stream, completes.

        The caller must exhaust the iterator before it passes the next chunk.
        """
        for begin, line in self._lines(piece):
            if self._between_events:
                self.offset = begin
            self._between_events = not line
            if line:
                self._add_field(line)
            elif event := self._dispatch():
                yield event
                self.number += 1

    def _lines(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield each line that `piece` completes, without its end, after the offset of the line."""
        for part in piece.splitlines(keepends=True):
            begin = self._bytes_seen - self._line_bytes
            self._bytes_seen += len(part)
            rest_of_crlf = self._after_cr and part == b"\n"
            self._after_cr = part.endswith(b"\r")
            if rest_of_crlf:
                continue
            self._line_parts.append(part.rstrip(b"\r\n"))
            self._line_bytes += len(self._line_parts[-1])
            if self._line_bytes > self._longest:
                self._line_parts.clear()
                msg = f"a line of more than {self._longest:,} bytes"
                raise WireError(msg, offset=begin, number=self.number)
            if part.endswith((b"\r", b"\n")):
                line = b"".join(self._line_parts)
                self._line_parts.clear()
                self._line_bytes = 0
                yield begin, line if begin else line.removeprefix(_BOM)

    def _add_field(self, line: bytes) -> None:
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
                    self.retry = self._parse_retry(value)
                    self._has_retry = True
            case _:
                pass  # the standard says to ignore other fields

    def _dispatch(self) -> Event | None:
        self.last_id = self._id
        type_, data = self._type, self._data
        empty = not data and not (self._dispatches_empty and (type_ or self._has_retry or self._id))
        self._type, self._data, self._has_retry = "", [], False
        return None if empty else Event("\n".join(data), type_ or "message", self.last_id)


def _milliseconds(value: str) -> int:
    """Return the number in a text of ASCII digits; raise `ValueError` for any other text."""
    if not (value.isascii() and value.isdigit()):
        raise ValueError(value)
    return int(min(float(value), _MAX_RETRY_MS))
