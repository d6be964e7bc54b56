"""`assert_chunking_invariant`: a consumer gives the same result, with linear work, for all chunks.

The consumers here are decoders of bytes. Some are right; some depend on where chunks end, or do
quadratic work.
"""

import doctest
import json

import pytest

from pytest_streamperf import GrowthExceeded, Text, ToolCall, Turn
from pytest_streamperf.growth import chunking_invariance
from pytest_streamperf.growth.chunking_invariance import assert_chunking_invariant
from pytest_streamperf.wire import BUILT_IN, dialect, sse

TURN = Turn(Text("Grüße, 👩\u200d👧! " * 20), ToolCall("read", {"path": "ü.md"}))


@pytest.mark.parametrize("name", BUILT_IN)
def test_our_decoders_do(name):
    """The decoder of each built-in dialect gives the same deltas for all cuts, with linear work."""

    def consume(chunks):
        decoder = dialect(name).Decoder()
        return [delta for chunk in chunks for delta in decoder.feed(chunk)]

    assert_chunking_invariant(consume, b"".join(dialect(name).encode(TURN))[:6_000], examples=20)


def test_a_decoder_that_splits_characters():
    """The error shows the smallest cut that changes the result, and both results."""

    def consume(chunks):
        return "".join(chunk.decode(errors="replace") for chunk in chunks)

    with pytest.raises(AssertionError) as failed:
        assert_chunking_invariant(consume, "data: é\n\n".encode())
    assert str(failed.value).splitlines() == [
        "the result depends on where chunks end",
        "",
        "  at byte  cut",
        r"        7  b'data: \xc3' | b'\xa9\n\n'",
        "",
        "  gave     'data: \ufffd\ufffd\\n\\n'",
        "  not      'data: é\\n\\n'",
        "  try      keep incomplete bytes until the next chunk: an incremental decoder",
    ]


def test_a_decoder_that_takes_chunks_for_events():
    """An exception of the consumer gets a note that lists where the chunks ended."""

    def consume(chunks):
        return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]

    with pytest.raises(json.JSONDecodeError) as failed:
        assert_chunking_invariant(consume, sse.encode_json({"a": 1}))
    (note,) = failed.value.__notes__
    headline, *_, cut_line = note.splitlines()
    assert headline == "consume raised this for chunks that end here:"
    assert " | " in cut_line


def test_many_cuts_are_counted():
    """A table of eight cuts shows four of them, and counts the other four."""
    *shown, more = chunking_invariance._cuts([b"a"] * 9)
    assert "and in 4 more places" in more
    assert "".join(shown).count("b'a' | b'a'") == 4


def test_a_decoder_that_copies_what_it_has():
    """A consumer with the right result but quadratic work fails, by a count of allocated bytes."""

    def consume(chunks):
        buffer = b""
        for chunk in chunks:
            buffer += chunk
        return buffer.count(b"\n\n")

    with pytest.raises(GrowthExceeded, match="allocated"):
        assert_chunking_invariant(consume, b"data: 1\n\n" * 400, examples=10)


def test_a_decoder_that_copies_only_where_chunks_are_longer():
    """Growth that only chunks of two or more bytes cause fails too, and its line is blamed."""

    def consume(chunks):
        buffer, bytes_alone = b"", []
        for chunk in chunks:
            bytes_alone.append(chunk)
            if len(chunk) > 1:
                buffer = b"".join([buffer, *bytes_alone])
                bytes_alone.clear()
        return b"".join([buffer, *bytes_alone]).count(b"\n\n")

    with pytest.raises(GrowthExceeded) as exceeded:
        assert_chunking_invariant(consume, b"data: 1\n\n" * 600, examples=10)
    assert exceeded.value.verdict.blame[0].source.startswith("buffer = ")


def test_too_little_to_see_growth():
    """Data of less than 64 bytes, too short to show growth, is a `ValueError`."""
    with pytest.raises(ValueError, match=r"data must be 64 bytes or more, .*, not 8"):
        assert_chunking_invariant(b"".join, b"data: 1\n")


def test_examples_in_docstrings():
    """The module's doctests exist and pass."""
    failed, attempted = doctest.testmod(chunking_invariance)
    assert attempted
    assert not failed
