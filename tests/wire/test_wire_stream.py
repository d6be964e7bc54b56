"""Tests of wire streams, of the dialects by name, and of the rules that all dialects follow.

A dialect must return the deltas of a turn unchanged, for every chunking, and locate every error.
"""

import doctest
import time
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from pytest_streamperf import (
    Failure,
    Reasoning,
    Text,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
    VirtualClock,
    WireStream,
    measure_growth,
)
from pytest_streamperf.streams.chunking import at, at_random, fixed, per_byte, per_event, worst_case
from pytest_streamperf.streams.messages import text_of
from pytest_streamperf.streams.strategies import chunkings, turns
from pytest_streamperf.wire import BUILT_IN, WireError, dialect, dialects, openai_chat, register


@pytest.fixture
def registry(monkeypatch):
    """Replace the registry of custom dialects with an empty one for this test."""
    monkeypatch.setattr(dialects, "_registered", {})


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_dialect_by_its_name(name):
    """A built-in dialect is found by its name, and has a path and a media type."""
    built_in = dialect(name)
    assert name == built_in.NAME
    assert built_in.PATH.startswith("/")
    assert built_in.MEDIA_TYPE in {"text/event-stream", "application/x-ndjson"}


CUTS = [per_event, per_byte, fixed(5), at_random(seed=3), at(1, 2, 50), worst_case]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_wire_stream(name, cut):
    """A wire stream yields the encoded bytes of its turn at its pace, for every cut."""
    turn = Turn(Text("Grüße \u0000\r\n👩\u200d👧"), ToolCall("read", {"path": "ü.md"}))
    stream = WireStream(turn, name, cut=cut, every=0.25)
    assert b"".join(stream.deltas) == b"".join(dialect(name).encode(turn))
    decoder = dialect(name).Decoder()
    with VirtualClock():
        start = time.monotonic()
        deltas = [delta for chunk in stream for delta in decoder.feed(chunk)]
        assert time.monotonic() - start == pytest.approx(0.25 * (len(stream) - 1))
    decoder.close()
    assert deltas == carried(name, turn)


# Ollama sends the arguments of a tool call whole, and failures without a type.
OLLAMA = "ollama-chat"
# These dialects send a usage even if the turn has none.
ALWAYS_USAGE = {"anthropic-messages", OLLAMA}
SPLITS_CALLS = [name for name in BUILT_IN if name != OLLAMA]


def carried(name, turn):
    """Return the deltas that a decoder of the dialect must return for a turn."""
    return [*(whole_calls(turn) if name == OLLAMA else turn)]


def whole_calls(turn):
    """Yield the deltas of a turn as Ollama carries them.

    The deltas of a tool call are joined at its first delta, and failures have no type.
    """
    whole = defaultdict(str)
    for delta in turn:
        if isinstance(delta, ToolCallDelta):
            whole[delta.index] += delta.arguments
    for delta in turn:
        match delta:
            case ToolCallDelta(index=index) if index in whole:
                yield replace(delta, arguments=whole.pop(index))
            case Failure(message=message):
                yield Failure(message)
            case _ if not isinstance(delta, ToolCallDelta):
                yield delta


def decoded(name, pieces):
    """Return the deltas that the decoder of a dialect returns for a whole stream."""
    decoder = dialect(name).Decoder()
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    decoder.close()
    return deltas


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_every_turn_comes_back(name, turn, data):
    """An encoded turn is decoded to the same deltas and the same usage, for every chunking."""
    decoder = dialect(name).Decoder()
    pieces = data.draw(chunkings(b"".join(dialect(name).encode(turn))))
    decoded = [delta for piece in pieces for delta in decoder.feed(piece)]
    assert decoded == carried(name, turn)
    decoder.close()
    failed = bool(turn.parts) and isinstance(turn.parts[-1], Failure)
    usage = turn.usage or (Usage(0, 0) if name in ALWAYS_USAGE else None)
    assert decoder.usage == (None if failed else usage)


@pytest.mark.parametrize(
    "turn",
    [
        Turn(Text("\ud83d"), Reasoning("\udc67"), ToolCall("\ud800", {"\udfff": "\\\ud800"})),
        Turn(Failure("half: \ud83d", type="\udc67")),
        Turn(Failure("It failed", type="")),
        Turn.of(["\ud83d", "\udc67"]),
    ],
)
@pytest.mark.parametrize("name", BUILT_IN)
def test_what_is_rare_comes_back(name, turn):
    """Lone halves of surrogate pairs and empty failure types are decoded unchanged.

    JSON can express such a half, but UTF-8 has no bytes for it.
    """
    assert decoded(name, dialect(name).encode(turn)) == carried(name, turn)


def test_turns_have_halves_of_pairs():
    """The strategy `turns` draws texts with lone halves of surrogate pairs."""

    def has_half(turn):
        return any("\ud800" <= char <= "\udfff" for delta in turn for char in text_of(delta))

    turn = find(turns(), has_half, settings=settings(max_examples=60, derandomize=True))
    assert repr(turn) == r"Turn(Text(text='\ud800'))"


def test_turns_have_failures_of_all_types():
    """The strategy `turns` draws failures with an empty type."""

    def has_empty_type(turn):
        return any(isinstance(delta, Failure) and not delta.type for delta in turn)

    turn = find(turns(), has_empty_type, settings=settings(max_examples=200, derandomize=True))
    assert repr(turn) == "Turn(Failure(message='', type=''))"


def call_delta(index, arguments):
    return ToolCallDelta(index, f"call_{index}", "search", arguments)


@pytest.mark.parametrize(
    "deltas",
    [
        [call_delta(0, "")],
        [call_delta(0, ""), "Hi", call_delta(1, ""), call_delta(2, "{}")],
        [call_delta(0, ""), call_delta(0, "{}"), call_delta(1, "{"), call_delta(1, "")],
    ],
)
@pytest.mark.parametrize("name", SPLITS_CALLS)
def test_a_call_without_arguments(name, deltas):
    """A tool call with empty arguments is decoded at its place among the other deltas."""
    assert decoded(name, dialect(name).encode(Turn.of(deltas))) == deltas


@pytest.mark.parametrize(
    "deltas",
    [
        [
            call_delta(0, '{"a": '),
            call_delta(1, '{"b": '),
            call_delta(0, "1}"),
            call_delta(1, "2}"),
        ],
        [call_delta(0, "{"), call_delta(1, '{"b": 2}'), call_delta(0, "}")],
        [
            call_delta(0, "{"),
            "Hi",
            call_delta(1, "{"),
            "there",
            call_delta(1, "}"),
            call_delta(0, "}"),
        ],
    ],
)
@pytest.mark.parametrize("name", BUILT_IN)
def test_calls_side_by_side(name, deltas):
    """The deltas of interleaved tool calls keep the index, the id and the name of their call."""
    turn = Turn.of(deltas)
    assert decoded(name, dialect(name).encode(turn)) == carried(name, turn)


def decoding_error(name, pieces):
    """Return the offset, the number and the text of a stream's error, and the deltas before it."""
    decoder, deltas = dialect(name).Decoder(), []
    try:
        for piece in pieces:
            deltas += decoder.feed(piece)
        decoder.close()
    except WireError as error:
        return error.offset, error.number, str(error), [*deltas, *error.decoded]
    pytest.fail("the decoder accepted the stream")


# NDJSON allows the first two line ends, and SSE all three.
ENDS = [b"\n", b"\r\n", b"\r"]


def event_bytes(name, data):
    """Return the bytes of an event with `data`, in the framing of the dialect."""
    return data + b"\n" if name == OLLAMA else b"data: " + data + b"\n\n"


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_an_error_is_where_it_is(name, turn, data):
    """An error gives the same offset, event number, text and earlier deltas for every chunking."""
    end = data.draw(st.sampled_from(ENDS[: 2 if name == OLLAMA else 3]))
    events = [event.replace(b"\n", end) for event in dialect(name).encode(turn)]
    at = data.draw(st.integers(0, len(events)))
    before, after = b"".join(events[:at]), b"".join(events[at:])
    stream = before + event_bytes(name, b"{").replace(b"\n", end) + after
    expected = decoding_error(name, [stream])
    assert expected[:2] == (len(before), at)
    assert decoding_error(name, data.draw(chunkings(stream))) == expected


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_a_stream_that_ends_too_soon_is_told_from_its_end(name, turn, data):
    """The error of a truncated stream counts all its bytes, and all its complete events."""
    events = [*dialect(name).encode(turn)]
    at = data.draw(st.integers(0, len(events) - 1))
    stream = b"".join(events[:at]) + b"d"
    offset, number, message, deltas = decoding_error(name, data.draw(chunkings(stream)))
    assert (offset, number) == (len(stream), at)
    assert "the stream ended too soon" in message
    assert deltas == carried(name, turn)[: len(deltas)]


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"1" * 5_000])
@pytest.mark.parametrize("name", BUILT_IN)
def test_json_that_is_more_than_json_takes(name, data):
    """JSON beyond a limit of the parser is an error with its place and the deltas before it."""
    events = [*dialect(name).encode(Turn.of(["Hi"]))]
    hi = next(at for at, event in enumerate(events, 1) if b"Hi" in event)
    before = b"".join(events[:hi])
    offset, number, message, deltas = decoding_error(name, [before + event_bytes(name, data)])
    assert (offset, number, deltas) == (len(before), hi, ["Hi"])
    assert message.startswith("data must be JSON, not ")


@pytest.mark.parametrize("first", [b"retry: 3000\n\n", b"id: 7\n\n\n", b"event: ping\n\n"])
@pytest.mark.parametrize("name", SPLITS_CALLS)
def test_what_has_no_data_says_nothing(name, first):
    """A decoder skips an SSE block without data, even before the first event."""
    assert decoded(name, [first, *dialect(name).encode(Turn.of(["Hi"]))]) == ["Hi"]


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns())
def test_equal_turns_are_encoded_alike(name, turn):
    """Equal turns are encoded to equal bytes: no byte depends on a clock or on chance."""
    encode = dialect(name).encode
    assert [*encode(turn)] == [*encode(turn)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_model_is_named(name):
    """The encoded turn contains the name of the model."""
    turn = Turn(Text("Hi"), usage=Usage(1, 2))
    assert b"tiny" in b"".join(dialect(name).encode(turn, model="tiny"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_reading_is_linear(name):
    """A decoder does the same work per byte for long and short turns.

    The stream comes byte by byte; the test counts calls and allocated bytes.
    """
    data = b"".join(dialect(name).encode(Turn(Text("All of it, piece by piece. " * 30))))

    def consume(stream):
        decoder = dialect(name).Decoder()
        for chunk in stream:
            decoder.feed(chunk)

    growth = measure_growth(
        consume,
        up_to=len(data),
        delta=lambda index: data[index : index + 1],
        metrics=["allocated_bytes", "calls"],
    )
    assert growth.verdict == "within", growth.message


@pytest.mark.usefixtures("registry")
def test_ones_own():
    """A custom dialect may be any object with the members of a dialect, and may register twice."""
    own = SimpleNamespace(**{**vars(openai_chat), "NAME": "own"})
    register(own)
    register(own)
    assert dialect("own") is own


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.05, "50ms"), (2, "2s"), ([0, 0.1] * 20, [0, "100ms"] * 20)],
)
def test_a_pace_is_a_number_or_a_text(number, text):
    """Chunks arrive at the same times if the pace is a number of seconds or a text with a unit."""

    def arrivals(every):
        with VirtualClock() as clock:
            return [clock.now for _ in WireStream(Turn(Text("so it goes")), every=every)]

    assert arrivals(number) == arrivals(text)
    assert arrivals(text)[-1] > 0


@pytest.mark.parametrize(("every", "error"), [("5 parsec", ValueError), (None, TypeError)])
def test_a_wrong_pace_names_the_argument(every, error):
    """A pace with an unknown unit raises `ValueError`, and one of another type `TypeError`."""
    with pytest.raises(error, match=f"^every must be a time, .*, not {every!r}$"):
        WireStream(Turn(), every=every)


@pytest.mark.usefixtures("registry")
def test_a_name_that_is_taken():
    """A custom dialect cannot take the name of a built-in or another custom dialect."""
    with pytest.raises(ValueError, match="a dialect named 'openai-chat' is there already"):
        register(openai_chat)
    first, second = (SimpleNamespace(**{**vars(openai_chat), "NAME": "own"}) for _ in range(2))
    register(first)
    with pytest.raises(ValueError, match="a dialect named 'own' is there already"):
        register(second)


@pytest.mark.usefixtures("registry")
def test_what_is_no_dialect():
    """The error for an object that is no dialect lists its missing members."""
    with pytest.raises(TypeError, match="is no dialect: it has no PATH, no encode, no Decoder"):
        register(SimpleNamespace(NAME="own", MEDIA_TYPE="text/plain"))


@pytest.mark.usefixtures("registry")
def test_an_unknown_name():
    """The error for an unknown dialect lists the known dialects."""
    with pytest.raises(ValueError, match="no dialect is named 'morse': there are 'ag-ui', 'anthr"):
        dialect("morse")


def test_docstring_examples():
    """The doctests of the module `dialects` pass."""
    assert doctest.testmod(dialects).failed == 0
