"""Dialects by name: those that are there, one's own, and what all of them have in common."""

import doctest
import time
from dataclasses import replace
from itertools import groupby
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import (
    Failure,
    Text,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
    VirtualClock,
    WireStream,
    measure_growth,
    wire,
)
from pytest_streamperf.cutting import at, at_random, fixed, per_byte, per_event, worst_case
from pytest_streamperf.strategies import chunkings, turns
from pytest_streamperf.turns import text_of, whole_of
from pytest_streamperf.wire import BUILT_IN, dialect, openai_chat, register


@pytest.fixture
def registry(monkeypatch):
    """One of the test's own."""
    monkeypatch.setattr(wire, "_registered", {})


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
    assert deltas == [*(whole_calls(turn) if name in WHOLE_CALLS else turn)]


# The format has to say a usage; the format does not cut tool calls.
SAYS_USAGE, WHOLE_CALLS = {"anthropic-messages", "ollama-chat"}, {"ollama-chat"}


def whole_calls(deltas):
    """The deltas, those of each tool call joined."""
    for _, group in groupby(deltas, whole_of):
        first, *more = group
        if isinstance(first, ToolCallDelta):
            yield replace(first, arguments="".join(map(text_of, (first, *more))))
        else:
            yield from (first, *more)


@pytest.mark.parametrize("name", BUILT_IN)
@given(turn=turns(), data=st.data())
def test_every_turn_comes_back(name, turn, data):
    """Delta by delta, with the usage, under every chunking."""
    decoder = dialect(name).Decoder()
    pieces = data.draw(chunkings(b"".join(dialect(name).encode(turn))))
    decoded = [delta for piece in pieces for delta in decoder.feed(piece)]
    assert decoded == [*(whole_calls(turn) if name in WHOLE_CALLS else turn)]
    decoder.close()
    failed = bool(turn.parts) and isinstance(turn.parts[-1], Failure)
    said = turn.usage or (Usage(0, 0) if name in SAYS_USAGE else None)
    assert decoder.usage == (None if failed else said)


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
    data = b"".join(dialect(name).encode(Turn(Text("All of it, piece by piece. " * 80))))

    def consume(stream):
        decoder = dialect(name).Decoder()
        for piece in stream:
            decoder.feed(piece)

    growth = measure_growth(
        consume,
        up_to=len(data),
        delta=lambda index: data[index : index + 1],
        meters=["copies", "calls"],
    )
    assert growth.verdict == "within", growth.message


@pytest.mark.usefixtures("registry")
def test_ones_own():
    """A module, or anything that has the names of one."""
    own = SimpleNamespace(**{**vars(openai_chat), "NAME": "own"})
    register(own)
    register(own)
    assert dialect("own") is own


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
    assert doctest.testmod(wire).failed == 0
