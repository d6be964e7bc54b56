"""Dialects by name: those that are there, one's own, and what all of them have in common."""

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
    """One of the test's own."""
    monkeypatch.setattr(dialects, "_registered", {})


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_dialect_by_its_name(name):
    """The name is its own, too."""
    found = dialect(name)
    assert name == found.NAME
    assert found.PATH.startswith("/")
    assert found.MEDIA_TYPE in {"text/event-stream", "application/x-ndjson"}


CUTS = [per_event, per_byte, fixed(5), at_random(seed=3), at(1, 2, 50), worst_case]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_wire_stream(name, cut):
    """Its chunks are the bytes of its turn, wherever they are cut, at its pace."""
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


# These say a usage in any case; this one has tool calls whole, and failures without a type.
SAYS_USAGE, OLLAMA = {"anthropic-messages", "ollama-chat"}, "ollama-chat"
CUTS_CALLS = [name for name in BUILT_IN if name != OLLAMA]


def carried(name, turn):
    """The deltas of a turn that a dialect can carry."""
    return [*(whole_calls(turn) if name == OLLAMA else turn)]


def whole_calls(turn):
    """The deltas, those of each tool call joined where it begins, and failures without a type."""
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
    """All the deltas of a whole stream."""
    decoder = dialect(name).Decoder()
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    decoder.close()
    return deltas


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_every_turn_comes_back(name, turn, data):
    """Delta by delta, with the usage, under every chunking."""
    decoder = dialect(name).Decoder()
    pieces = data.draw(chunkings(b"".join(dialect(name).encode(turn))))
    decoded = [delta for piece in pieces for delta in decoder.feed(piece)]
    assert decoded == carried(name, turn)
    decoder.close()
    failed = bool(turn.parts) and isinstance(turn.parts[-1], Failure)
    said = turn.usage or (Usage(0, 0) if name in SAYS_USAGE else None)
    assert decoder.usage == (None if failed else said)


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
    """Halves of surrogate pairs, which JSON has and UTF-8 has not, and types that are empty."""
    assert decoded(name, dialect(name).encode(turn)) == carried(name, turn)


def test_turns_have_halves_of_pairs():
    """Tests that draw turns meet them."""

    def has_half(turn):
        return any("\ud800" <= each <= "\udfff" for delta in turn for each in text_of(delta))

    turn = find(turns(), has_half, settings=settings(max_examples=60, derandomize=True))
    assert repr(turn) == r"Turn(Text(text='\ud800'))"


def test_turns_have_failures_of_all_types():
    """An empty one, too, which is not the same as none."""

    def has_empty_type(turn):
        return any(isinstance(delta, Failure) and not delta.type for delta in turn)

    turn = find(turns(), has_empty_type, settings=settings(max_examples=200, derandomize=True))
    assert repr(turn) == "Turn(Failure(message='', type=''))"


def called(index, arguments):
    return ToolCallDelta(index, f"call_{index}", "search", arguments)


@pytest.mark.parametrize(
    "deltas",
    [
        [called(0, "")],
        [called(0, ""), "Hi", called(1, ""), called(2, "{}")],
        [called(0, ""), called(0, "{}"), called(1, "{"), called(1, "")],
    ],
)
@pytest.mark.parametrize("name", CUTS_CALLS)
def test_a_call_without_arguments(name, deltas):
    """It is not lost, and stays where it was."""
    assert decoded(name, dialect(name).encode(Turn.of(deltas))) == deltas


@pytest.mark.parametrize(
    "deltas",
    [
        [called(0, '{"a": '), called(1, '{"b": '), called(0, "1}"), called(1, "2}")],
        [called(0, "{"), called(1, '{"b": 2}'), called(0, "}")],
        [called(0, "{"), "Hi", called(1, "{"), "there", called(1, "}"), called(0, "}")],
    ],
)
@pytest.mark.parametrize("name", BUILT_IN)
def test_calls_side_by_side(name, deltas):
    """Each piece comes back with the index, the id and the name of its own call."""
    turn = Turn.of(deltas)
    assert decoded(name, dialect(name).encode(turn)) == carried(name, turn)


def refused(name, pieces):
    """Where a stream is wrong and what is said of it, with all the deltas before that."""
    decoder, deltas = dialect(name).Decoder(), []
    try:
        for piece in pieces:
            deltas += decoder.feed(piece)
        decoder.close()
    except WireError as error:
        return error.offset, error.number, str(error), [*deltas, *error.decoded]
    pytest.fail("it was taken")


# Those of NDJSON first.
ENDS = [b"\n", b"\r\n", b"\r"]


def wrong(name, data):
    """The bytes of an event with this data."""
    return data + b"\n" if name == OLLAMA else b"data: " + data + b"\n\n"


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_an_error_is_where_it_is(name, turn, data):
    """The same byte, number of events, message and deltas before it, however the stream is cut."""
    end = data.draw(st.sampled_from(ENDS[: 2 if name == OLLAMA else 3]))
    events = [event.replace(b"\n", end) for event in dialect(name).encode(turn)]
    at = data.draw(st.integers(0, len(events)))
    before, after = b"".join(events[:at]), b"".join(events[at:])
    stream = before + wrong(name, b"{").replace(b"\n", end) + after
    expected = refused(name, [stream])
    assert expected[:2] == (len(before), at)
    assert refused(name, data.draw(chunkings(stream))) == expected


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_a_stream_that_ends_too_soon_is_told_from_its_end(name, turn, data):
    """By all its bytes and events, also where the last event is not whole."""
    events = [*dialect(name).encode(turn)]
    at = data.draw(st.integers(0, len(events) - 1))
    stream = b"".join(events[:at]) + b"d"
    offset, number, said, deltas = refused(name, data.draw(chunkings(stream)))
    assert (offset, number) == (len(stream), at)
    assert "the stream ended too soon" in said
    assert deltas == carried(name, turn)[: len(deltas)]


@pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, b'{"a": ' + b"1" * 5_000])
@pytest.mark.parametrize("name", BUILT_IN)
def test_json_that_is_more_than_json_takes(name, data):
    """As any other that is wrong: it is located, and what came before it is kept."""
    events = [*dialect(name).encode(Turn.of(["Hi"]))]
    hi = next(at for at, event in enumerate(events, 1) if b"Hi" in event)
    before = b"".join(events[:hi])
    offset, number, said, deltas = refused(name, [before + wrong(name, data)])
    assert (offset, number, deltas) == (len(before), hi, ["Hi"])
    assert said.startswith("data must be JSON, not ")


@pytest.mark.parametrize("first", [b"retry: 3000\n\n", b"id: 7\n\n\n", b"event: ping\n\n"])
@pytest.mark.parametrize("name", CUTS_CALLS)
def test_what_has_no_data_says_nothing(name, first):
    """It is no event, so it may come before them all."""
    assert decoded(name, [first, *dialect(name).encode(Turn.of(["Hi"]))]) == ["Hi"]


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns())
def test_equal_turns_are_encoded_alike(name, turn):
    """Nothing on the wire comes from a clock, or from chance."""
    encode = dialect(name).encode
    assert [*encode(turn)] == [*encode(turn)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_model_is_named(name):
    """The client may look at it."""
    turn = Turn(Text("Hi"), usage=Usage(1, 2))
    assert b"tiny" in b"".join(dialect(name).encode(turn, model="tiny"))


@pytest.mark.parametrize("name", BUILT_IN)
def test_reading_is_linear(name):
    """Counted, a byte at a time: a long turn costs no more per byte than a short one."""
    data = b"".join(dialect(name).encode(Turn(Text("All of it, piece by piece. " * 30))))

    def consume(stream):
        decoder = dialect(name).Decoder()
        for piece in stream:
            decoder.feed(piece)

    growth = measure_growth(
        consume,
        up_to=len(data),
        delta=lambda index: data[index : index + 1],
        metrics=["allocated_bytes", "calls"],
    )
    assert growth.verdict == "within", growth.message


@pytest.mark.usefixtures("registry")
def test_ones_own():
    """A module, or anything that has the names of one."""
    own = SimpleNamespace(**{**vars(openai_chat), "NAME": "own"})
    register(own)
    register(own)
    assert dialect("own") is own


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.05, "50ms"), (2, "2s"), ([0, 0.1] * 20, [0, "100ms"] * 20)],
)
def test_a_pace_is_a_number_or_a_text(number, text):
    """The chunks of a turn come at the same times, whether `every` is seconds or has a unit."""

    def arrivals(every):
        with VirtualClock() as clock:
            return [clock.now for _ in WireStream(Turn(Text("so it goes")), every=every)]

    assert arrivals(number) == arrivals(text)
    assert arrivals(text)[-1] > 0


@pytest.mark.parametrize(("every", "error"), [("5 parsec", ValueError), (None, TypeError)])
def test_a_wrong_pace_names_the_argument(every, error):
    """A text with another unit is a `ValueError`, and another type a `TypeError`."""
    with pytest.raises(error, match=f"^every must be a time, .*, not {every!r}$"):
        WireStream(Turn(), every=every)


@pytest.mark.usefixtures("registry")
def test_a_name_that_is_taken():
    """By one that is built in, or by another's."""
    with pytest.raises(ValueError, match="a dialect named 'openai-chat' is there already"):
        register(openai_chat)
    one, other = (SimpleNamespace(**{**vars(openai_chat), "NAME": "own"}) for _ in range(2))
    register(one)
    with pytest.raises(ValueError, match="a dialect named 'own' is there already"):
        register(other)


@pytest.mark.usefixtures("registry")
def test_what_is_no_dialect():
    """It says what it lacks."""
    with pytest.raises(TypeError, match="is no dialect: it has no PATH, no encode, no Decoder"):
        register(SimpleNamespace(NAME="own", MEDIA_TYPE="text/plain"))


@pytest.mark.usefixtures("registry")
def test_an_unknown_name():
    """It says which there are."""
    with pytest.raises(ValueError, match="no dialect is named 'morse': there are 'ag-ui', 'anthr"):
        dialect("morse")


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(dialects).failed == 0
