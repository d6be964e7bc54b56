"""Tests of cuts into chunks: a cut keeps all bytes, and `worst_case` cuts where decoders fail."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf.streams import chunking
from pytest_streamperf.streams.chunking import at, at_random, fixed, per_byte, per_event, worst_case

# Pieces of a stream, with line ends, characters of several bytes and JSON escapes.
PIECES = st.lists(
    st.binary(max_size=40)
    | st.text(alphabet="a:é\u200d👩\r\n\\", max_size=12).map(str.encode)
    | st.text(max_size=8).map(json.dumps).map(str.encode)
)
# Every kind of cut, with any argument.
CUTS = st.one_of(
    st.sampled_from([per_event, per_byte, worst_case]),
    st.builds(fixed, st.integers(1, 50)),
    st.builds(at_random, st.integers(0, 2**32), most=st.integers(1, 50)),
    st.sets(st.integers(1, 100)).map(lambda offsets: at(*sorted(offsets))),
)


@given(pieces=PIECES, cut=CUTS)
def test_every_cut_gives_the_same_bytes(pieces, cut):
    """The chunks of a cut join to the same bytes, are not empty and are the same each time."""
    chunks = list(cut(pieces))
    assert b"".join(chunks) == b"".join(pieces)
    assert all(chunks)
    assert list(cut(iter(pieces))) == chunks


@given(pieces=PIECES, size=st.integers(1, 50))
def test_fixed_chunks_are_of_one_size(pieces, size):
    """The chunks of a `fixed` cut have one size, and only the last chunk may be shorter."""
    chunks = list(fixed(size)(pieces))
    assert {len(chunk) for chunk in chunks[:-1]} <= {size}
    assert all(len(chunk) <= size for chunk in chunks)


@given(pieces=PIECES, offsets=st.sets(st.integers(1, 200)))
def test_chunks_end_at_the_offsets(pieces, offsets):
    """The chunks of an `at` cut end at every offset inside the stream, and at the stream's end."""
    length = sum(map(len, pieces))
    ends, end = set(), 0
    for chunk in at(*sorted(offsets))(pieces):
        end += len(chunk)
        ends.add(end)
    assert ends == {offset for offset in offsets if offset < length} | ({length} - {0})


@given(pieces=PIECES, seed=st.integers(0, 2**32))
def test_random_chunks_depend_on_their_seed_alone(pieces, seed):
    """The chunks of an `at_random` cut depend on its seed, not on the pieces that it receives."""
    assert list(at_random(seed)(pieces)) == list(at_random(seed)([b"".join(pieces)]))


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("aéb", [b"a\xc3", b"\xa9b"]),
        ("👩\u200d👧", "f09f91a9 e2808d f09f91a7"),
        ("a\r\nb", [b"a\r", b"\nb"]),
        ("a\n\nb", [b"a\n", b"\nb"]),
        ("a\r\r", [b"a\r", b"\r"]),
        (r"a\nb", [b"a\\", b"nb"]),
        (r"\ud83d\ude00", [b"\\", b"ud8", b"3d", b"\\", b"ude", b"00"]),
        ("data: 1", [b"data", b": 1"]),
    ],
)
def test_the_worst_case(text, chunks):
    """`worst_case` cuts inside characters, CR LF, empty lines and JSON escapes, and before a colon.

    It also cuts on both sides of a zero-width joiner.
    """
    if isinstance(chunks, str):  # a text lists the bytes in hex, one byte for each chunk
        chunks = [bytes([byte]) for byte in bytes.fromhex(chunks)]
    assert list(worst_case([text.encode()])) == chunks


def test_the_worst_case_joins_events():
    """A chunk of `worst_case` holds the end of one event and the beginning of the next."""
    chunks = list(worst_case([b"data: 1\n\n", b"data: 2\n\n"]))
    assert b"\ndata" in chunks


def test_pieces_are_taken_one_by_one():
    """A cut makes its first chunk from the first piece alone, so that it holds no stream back."""
    taken_pieces = []

    def pieces():
        for number in range(3):
            taken_pieces.append(number)
            yield b"data: %d\n\n" % number

    for cut in (per_event, per_byte, fixed(3), at_random(1, most=5), at(2), worst_case):
        taken_pieces.clear()
        next(cut(pieces()))
        assert taken_pieces == [0]


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (lambda: fixed(0), "size must be at least 1 byte, not 0"),
        (lambda: at_random(most=0), "most must be at least 1 byte, not 0"),
        (lambda: at(0, 3), r"offsets must be 1 or more and increase, not \(0, 3\)"),
        (lambda: at(3, 3), "offsets must be 1 or more and increase"),
    ],
)
def test_bad_argument_is_named(make, pattern):
    """A bad argument of a cut raises a `ValueError` that names it and the allowed values."""
    with pytest.raises(ValueError, match=pattern):
        make()


def test_examples_in_docstrings():
    """The doctests of `streams.chunking` pass."""
    failed, attempted = doctest.testmod(chunking)
    assert attempted
    assert not failed
