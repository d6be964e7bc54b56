"""Server-sent events: the standard's cases, under every cut, and what is refused."""

import doctest
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import measure_growth
from pytest_streamperf.wire import WireError, sse
from pytest_streamperf.wire.sse import Decoder, Event, comment, decode, encode

LONG = "x" * 2_048

# What the web platform's tests and the standard's own examples ask of a client, as data.
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
    """Each case whole, and byte by byte."""
    data = text.encode()
    assert texts(decode(data)) == expected
    decoder = Decoder()
    assert texts(each for byte in data for each in decoder.feed(bytes([byte]))) == expected


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
    """The last one named before the empty line counts, and for this event only."""
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
    """An id holds until the next one; one with a NUL in it is none."""
    assert [event.id for event in decode(text.encode())] == ids


def test_the_last_id_is_that_of_a_whole_event():
    """An id that no empty line follows is not sent when the client connects again."""
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
    """Digits of ASCII, as many as there are, or nothing; nobody waits longer than 2**53 ms."""
    decoder = Decoder()
    decoder.feed(text.encode())
    assert decoder.retry == retry


@pytest.mark.parametrize(
    ("value", "retry"),
    [("-1", -1), ("٣", 3), (" 7 ", 7), ("7x", None), ("9" * 5_000, None)],
)
def test_retry_as_the_sdks_have_it(value, retry):
    """Whatever `int` takes; it gives an event, and what `int` does not take gives none."""
    decoder = Decoder(mode="sdk")
    assert decoder.feed(f"retry:{value}\n\n".encode()) == [Event("")] * (retry is not None)
    assert decoder.retry == retry


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_an_event_is_given_as_soon_as_it_can_be(end):
    """A CR ends the line: nobody waits for the LF that may follow."""
    decoder = Decoder()
    assert decoder.feed(b"data: x" + end) == []
    assert texts(decoder.feed(end[:1])) == ["x"]


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80"])
def test_what_is_not_utf_8(bad):
    """It is replaced, as the standard says, and the next line is not harmed."""
    (event,) = decode(b"data: " + bad + b"\ndata: next\n\n")
    first, second = event.data.split("\n")
    assert set(first) == {"\N{REPLACEMENT CHARACTER}"}
    assert second == "next"


def test_the_sdks_deviation():
    """They give an event without data, where the standard gives none."""
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
    """It says which there are."""
    with pytest.raises(ValueError, match="mode must be one of 'standard', 'sdk', not 'strict'"):
        Decoder(mode="strict")


def test_an_endless_line():
    """It ends the stream, with where that was; what came before it is not lost, nor kept."""
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
    """However the stream is cut, and whatever of the event came before it."""
    before = f"data: 1{end}{end}: ping{end}{end}data: 2{end}".encode()
    decoder, events = Decoder(longest=8), []

    def read():
        for piece in cut(before + b"data: 345 and more" + end.encode() * 2, places):
            events.extend(decoder.feed(piece))

    with pytest.raises(WireError) as raised:
        read()
    assert (raised.value.offset, raised.value.number) == (len(before), 1)
    assert texts([*events, *raised.value.decoded]) == ["1"]


@given(events=st.lists(st.sampled_from([b"data:1", b":\r\n\r\nid", b"\rdata:3"])), data=st.data())
def test_events_begin_where_they_do(events, data):
    """Each with the first line after an empty one, and one by one, however the stream is cut."""
    ends = [data.draw(st.sampled_from([b"\n\n", b"\r\r", b"\r\n\r\n"])) for _ in events]
    stream = b"".join(event + end for event, end in zip(events, ends, strict=True))

    def found(pieces):
        decoder = Decoder()
        return [
            (event.data, decoder.offset, decoder.number)
            for piece in pieces
            for event in decoder.iter_events(piece)
        ]

    expected = found([stream])
    assert [number for _, _, number in expected] == list(range(len(expected)))
    assert all(stream[offset:].lstrip(b"\r").startswith(b"data:") for _, offset, _ in expected)
    assert found(cut(stream, data.draw(st.lists(st.integers(0, 100))))) == expected


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"type": "a\nb"}, r"type must be one line without '\\r\\n', not 'a\\nb'"),
        ({"type": ""}, "type must not be empty"),
        ({"id": "a\0"}, "id must be one line without"),
    ],
)
def test_what_an_event_cannot_hold(wrong, said):
    """It would come back as something else."""
    with pytest.raises(ValueError, match=said):
        Event("x", **wrong)


def test_comments_are_no_events():
    """Whatever is in them."""
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
# Bytes that mean something to a decoder come often; so do those that end it in a character's midst.
_PIECES = "data", "event", "id", "retry", ":", " ", "\r", "\n", "\0", "7", "\ufeff", "…", "x"
WIRE = st.lists(
    st.sampled_from([*map(str.encode, _PIECES), "…".encode()[:1]]),
).map(b"".join)


def cut(data, places):
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(EVENTS)
def test_events_come_back(events):
    """What was encoded is what is decoded."""
    assert decode(b"".join(map(encode, events))) == events


@given(WIRE, st.lists(st.integers(0, 10_000)), st.sampled_from(["standard", "sdk"]))
def test_cuts_change_nothing(data, places, mode):
    """However a stream is cut, its events, its last id and its retry are the same."""
    whole, pieces = Decoder(mode=mode), Decoder(mode=mode)
    expected = whole.feed(data)
    assert [each for piece in cut(data, places) for each in pieces.feed(piece)] == expected
    assert (pieces.last_id, pieces.retry) == (whole.last_id, whole.retry)


@pytest.mark.parametrize("mode", ["one line", "one event"])
def test_the_work_is_linear(mode):
    """Counted, for a line and an event that do not end until the stream does, byte by byte."""

    def consume(stream):
        decoder = Decoder()
        decoder.feed(b"data: ")
        for piece in stream:
            decoder.feed(piece)
        return decoder.feed(b"\n\n")

    ends = b"\ndata: " if mode == "one event" else b"x"
    growth = measure_growth(
        consume,
        delta=lambda index: ends if index % 2 else b"y",
        metrics=["allocated_bytes", "calls"],
    )
    assert growth.verdict == "within", growth.message


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(sse).failed == 0
