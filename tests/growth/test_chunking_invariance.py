"""Properties, ready to use: what holds passes, and what does not is shown small."""

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
    """Each dialect's gives the same however it is cut, for work that is linear."""

    def consume(chunks):
        decoder = dialect(name).Decoder()
        return [delta for chunk in chunks for delta in decoder.feed(chunk)]

    assert_chunking_invariant(consume, b"".join(dialect(name).encode(TURN))[:6_000], examples=20)


def test_a_decoder_that_splits_characters():
    """The smallest cut that makes a difference is shown, and what became of it."""

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
    """It breaks wherever a chunk is no event."""

    def consume(chunks):
        return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]

    with pytest.raises(json.JSONDecodeError) as failed:
        assert_chunking_invariant(consume, sse.encode_json({"a": 1}))
    (note,) = failed.value.__notes__
    said, *_, cut = note.splitlines()
    assert said == "consume raised this for chunks that end here:"
    assert " | " in cut


def test_many_cuts_are_counted():
    """A few are shown."""
    *shown, more = chunking_invariance._cuts([b"a"] * 9)
    assert "and in 4 more places" in more
    assert "".join(shown).count("b'a' | b'a'") == 4


def test_a_decoder_that_copies_what_it_has():
    """The same result for more and more work is growth; nothing is timed for that."""

    def consume(chunks):
        buffer = b""
        for chunk in chunks:
            buffer += chunk
        return buffer.count(b"\n\n")

    with pytest.raises(GrowthExceeded, match="allocated"):
        assert_chunking_invariant(consume, b"data: 1\n\n" * 400, examples=10)


def test_a_decoder_that_copies_only_where_chunks_are_longer():
    """Work is counted for other cuts than the smallest, and the line is named."""

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
    """What is that short passes nothing."""
    with pytest.raises(ValueError, match=r"data must be 64 bytes or more, .*, not 8"):
        assert_chunking_invariant(b"".join, b"data: 1\n")


def test_examples_in_docstrings():
    """The module's doctests hold."""
    failed, attempted = doctest.testmod(chunking_invariance)
    assert attempted
    assert not failed
