"""Tests of server-sent events (SSE): cases of the standard, chunking, and refused input.

Each case is decoded whole and in chunks, because the events must not depend on the chunks.
"""

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import measure_growth
from pytest_streamperf.wire import WireError, sse
from pytest_streamperf.wire.sse import Decoder, Event, comment, decode, encode

LONG = "x" * 2_048

# Cases of the web platform tests and of the standard: a stream, and the data of its events.
STANDARD = {
    "one byte order mark": ("\ufeffdata:1\n\n\ufeffdata:2\n\ndata:3\n\n", ["1", "3"]),
    "two byte order marks": ("\ufeff\ufeffdata:1\n\ndata:2\n\n", ["2"]),
    "comments": (
        f"data:1\r:\0\n:\r\ndata:2\n:{LONG}\rdata:3\n:data:no\r:{LONG}\ndata:4\n\n",
        ["1\n2\n3\n4"],
    ),
    "no empty line at the end": ("retry:1000\ndata:test1\n\nid:test\ndata:test2", ["test1"]),
    "a line that does not end": ("data:1\n\ndata:2\n\nda", ["1", "2"]),
    "data without a colon": ("data:\n\ndata\ndata\n\ndata:test\n\n", ["", "\n", "test"]),
    "fields": (
        (
            "data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\nda-ta:3\rdata_5\ndata:3\r"
            "data:\r\n data:32\ndata:4\n\n"
        ),
        ["\0\n 2\n1\n3\n\n4"],
    ),
    "unknown fields": (
        "data:test\n data\ndata\nfoobar:xxx\njusttext\n:acomment\ndata:test\n\n",
        ["test\n\ntest"],
    ),
    "one leading space": ("data:\ttest\rdata: \ndata:test\n\n", ["\ttest\n\ntest"]),
    "all ends of lines": ("data:test\r\ndata\ndata:test\r\n\r\n", ["test\n\ntest"]),
    "CR alone": ("data:1\r\rdata:2\r\r", ["1", "2"]),
    "CR after CR LF": ("data:1\r\n\rdata:2\r\n\r\r\ndata:3\n\r", ["1", "2", "3"]),
    "a byte order mark in the data": ("data:\ufeff1\n\ndata\ufeff:2\ndata:3\n\n", ["\ufeff1", "3"]),
    "NUL": ("data:\0\n\n\n\n", ["\0"]),
    "beyond ASCII": ("data:ok…\n\n", ["ok…"]),
    "two events, two empty ones": ("data\n\ndata\ndata\n\ndata:", ["", "\n"]),
    "a stock quote": ("data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
    "an event without data": ("event: ping\n\ndata:1\n\n", ["1"]),
    "nothing": ("", []),
}


def texts(events):
    return [event.data for event in events]


@pytest.mark.parametrize(("text", "expected"), STANDARD.values(), ids=STANDARD)
def test_the_standard(text, expected):
    """A case of the standard gives the same events whole and byte by byte."""
    data = text.encode()
    assert texts(decode(data)) == expected
    decoder = Decoder()
    assert texts(event for byte in data for event in decoder.feed(bytes([byte]))) == expected


@pytest.mark.parametrize(
    ("text", "types"),
    [
        ("event:test\ndata:x\n\ndata:x\n\n", ["test", "message"]),
        ("event: \ndata:x\n\n", ["message"]),
        ("event:one\nevent:two\ndata:x\n\n", ["two"]),
        ("event:lost\n\ndata:x\n\n", ["message"]),
        ("event:  x\ndata:x\n\n", [" x"]),
        ("data:x\nid:1\nevent:last\n\n", ["last"]),
    ],
)
def test_types(text, types):
    """The last `event` field before the empty line sets the type, for that event only."""
    assert [event.type for event in decode(text.encode())] == types


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("id:1\ndata:x\n\ndata:y\n\n", ["1", "1"]),
        ("id:1\ndata:x\n\nid\ndata:y\n\n", ["1", ""]),
        ("id:1\ndata:x\n\nid:a\0b\ndata:y\n\n", ["1", "1"]),
        ("id:…\n\ndata:x\n\n", ["…"]),
        ("data:x\nid:1\n\ndata:y\n\ndata:z\n\n", ["1", "1", "1"]),
        ("id:1\ndata:x\n\ndata:y\nid:\n\ndata:z\n\n", ["1", "", ""]),
        *(
            (f"id:1\ndata:x\n\nid:{null}\ndata:y\n\n", ["1", "1"])
            for null in ("\0", "\0\0", "x\0", "\0x", "x\0x", " \0")
        ),
    ],
)
def test_ids(text, ids):
    """An id holds until the next id; an id that contains NUL is ignored."""
    assert [event.id for event in decode(text.encode())] == ids


def test_the_last_id_is_that_of_a_whole_event():
    """`last_id` ignores the id of an event that no empty line has ended."""
    decoder = Decoder()
    decoder.feed(b"id: 1\n\nid: 2\ndata: x\n")
    assert decoder.last_id == "1"


@pytest.mark.parametrize(
    ("text", "retry"),
    [
        ("data:x\n\n", None),
        ("retry:3000\ndata:x\n\n", 3_000),
        ("retry:3000\nretry:1000x\n", 3_000),
        ("retry:3000\nretry\n", 3_000),
        ("retry:-1\n", None),
        ("retry:²\n", None),
        ("retry:٣\n", None),
        (f"retry:{'0' * 5_000}7\n", 7),
        (f"retry:{'9' * 5_000}\n", 2**53),
    ],
)
def test_retry(text, retry):
    """A retry consists of ASCII digits, of any number, and is limited to 2**53 ms."""
    decoder = Decoder()
    decoder.feed(text.encode())
    assert decoder.retry == retry


@pytest.mark.parametrize(
    ("value", "retry"),
    [("-1", -1), ("٣", 3), (" 7 ", 7), ("7x", None), ("9" * 5_000, None)],
)
def test_retry_as_the_sdks_have_it(value, retry):
    """In SDK mode, a retry is any text that `int` accepts, and it completes an event."""
    decoder = Decoder(mode="sdk")
    assert decoder.feed(f"retry:{value}\n\n".encode()) == [Event("")] * (retry is not None)
    assert decoder.retry == retry


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_given_as_soon_as_it_can_be(end):
    """A CR alone ends the empty line, so the event does not wait for an LF that may follow."""
    decoder = Decoder()
    assert decoder.feed(b"data: x" + end) == []
    assert texts(decoder.feed(end[:1])) == ["x"]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80"])
def test_what_is_not_utf_8(bad):
    """Bytes that are not UTF-8 become replacement characters, and the next line stays intact."""
    (event,) = decode(b"data: " + bad + b"\ndata: next\n\n")
    first, second = event.data.split("\n")
    assert set(first) == {"\N{REPLACEMENT CHARACTER}"}
    assert second == "next"


def test_the_sdks_deviation():
    """SDK mode returns events without data; standard mode drops them."""
    data = (
        b"event: ping\n\n\nretry: 5\n\nevent:\n\nevent: no\nevent:\n\n: comment\n\nid: 7\n\n\n"
        b"data: x\n\n"
    )
    assert decode(data) == [Event("x", id="7")]
    assert decode(data, mode="sdk") == [
        Event("", "ping"),
        Event(""),
        *[Event("", id="7")] * 2,
        Event("x", id="7"),
    ]


def test_an_unknown_mode():
    """The error of an unknown mode lists the valid modes."""
    with pytest.raises(ValueError, match="mode must be one of 'standard', 'sdk', not 'strict'"):
        Decoder(mode="strict")


def test_an_endless_line():
    """A line over the limit is an error that holds the place and the events of the same chunk.

    Every later chunk is an error, too.
    """
    decoder = Decoder(longest=8)
    decoder.feed(b"data: 1\n\n")
    with pytest.raises(WireError, match="more than 8 bytes, at byte 18, after 2 events") as raised:
        decoder.feed(b"data: 2\n\ndata: 345")
    assert texts(raised.value.decoded) == ["2"]
    assert (raised.value.offset, raised.value.number) == (18, 2)
    with pytest.raises(WireError):
        decoder.feed(b"more")


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
@given(places=st.lists(st.integers(0, 60)))
def test_an_endless_line_begins_where_it_does(end, places):
    """The error of a line over the limit gives the offset of the line, for every chunking.

    Earlier lines of the same event do not count.
    """
    before = f"data: 1{end}{end}: ping{end}{end}data: 2{end}".encode()
    decoder, events = Decoder(longest=8), []

    def read():
        for chunk in cut(before + b"data: 345 and more" + end.encode() * 2, places):
            events.extend(decoder.feed(chunk))

    with pytest.raises(WireError) as raised:
        read()
    assert (raised.value.offset, raised.value.number) == (len(before), 1)
    assert texts([*events, *raised.value.decoded]) == ["1"]


@given(events=st.lists(st.sampled_from([b"data:1", b":\r\n\r\nid", b"\rdata:3"])), data=st.data())
def test_events_begin_where_they_do(events, data):
    """The offset of an event is its first line after an empty line, for every chunking.

    `number` counts the events before it.
    """
    ends = [data.draw(st.sampled_from([b"\n\n", b"\r\r", b"\r\n\r\n"])) for _ in events]
    stream = b"".join(event + end for event, end in zip(events, ends, strict=True))

    def decoded(chunks):
        decoder = Decoder()
        return [
            (event.data, decoder.offset, decoder.number)
            for chunk in chunks
            for event in decoder.iter_events(chunk)
        ]

    expected = decoded([stream])
    assert [number for _, _, number in expected] == list(range(len(expected)))
    assert all(stream[offset:].lstrip(b"\r").startswith(b"data:") for _, offset, _ in expected)
    assert decoded(cut(stream, data.draw(st.lists(st.integers(0, 100))))) == expected


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"type": "a\nb"}, r"type must be one line without '\\r\\n', not 'a\\nb'"),
        ({"type": ""}, "type must not be empty"),
        ({"id": "a\0"}, "id must be one line without"),
    ],
)
def test_what_an_event_cannot_hold(fields, message):
    """An event refuses a type or an id that would be decoded as something else."""
    with pytest.raises(ValueError, match=message):
        Event("x", **fields)


def test_comments_are_no_events():
    """A comment is no event, even if its text contains line ends and fields."""
    assert comment("one\ntwo") == b": one\n: two\n\n"
    assert decode(comment("data: x\r\rdata: y") + encode(Event("z"))) == [Event("z")]


LINES = st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"))
EVENTS = st.lists(
    st.builds(
        Event,
        st.text(st.characters(exclude_characters="\r", codec="utf-8")),
        LINES.filter(bool),
        st.text("0123456789…", min_size=1),
    )
)
# Bytes with a meaning for a decoder are frequent, and so is the first byte of a longer character.
_TOKENS = "data", "event", "id", "retry", ":", " ", "\r", "\n", "\0", "7", "\ufeff", "…", "x"
WIRE = st.lists(
    st.sampled_from([*map(str.encode, _TOKENS), "…".encode()[:1]]),
).map(b"".join)


def cut(data, places):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(EVENTS)
def test_events_come_back(events):
    """Encoded events are decoded to equal events."""
    assert decode(b"".join(map(encode, events))) == events


@given(WIRE, st.lists(st.integers(0, 10_000)), st.sampled_from(["standard", "sdk"]))
def test_cuts_change_nothing(data, places, mode):
    """The events, the last id and the retry of a stream do not depend on its chunks."""
    whole, chunked = Decoder(mode=mode), Decoder(mode=mode)
    expected = whole.feed(data)
    assert [event for chunk in cut(data, places) for event in chunked.feed(chunk)] == expected
    assert (chunked.last_id, chunked.retry) == (whole.last_id, whole.retry)


@pytest.mark.parametrize("mode", ["one line", "one event"])
def test_the_work_is_linear(mode):
    """The work per byte is constant for a line, or an event, as long as the whole stream.

    The stream comes byte by byte; the test counts calls and allocated bytes.
    """

    def consume(stream):
        decoder = Decoder()
        decoder.feed(b"data: ")
        for chunk in stream:
            decoder.feed(chunk)
        return decoder.feed(b"\n\n")

    even_delta = b"\ndata: " if mode == "one event" else b"x"
    growth = measure_growth(
        consume,
        delta=lambda index: even_delta if index % 2 else b"y",
        metrics=["allocated_bytes", "calls"],
    )
    assert growth.verdict == "within", growth.message


def test_docstring_examples():
    """The doctests of the module `sse` pass."""
    assert doctest.testmod(sse).failed == 0
