"""Tests of the Hypothesis strategies: they make valid inputs and shrink to small examples."""

from contextlib import suppress

import partial_json_parser
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st

from pytest_streamperf import Failure, TokenStream
from pytest_streamperf.streams.strategies import (
    arrivals,
    chunkings,
    partial_json,
    token_streams,
    turns,
)

# The same examples in every run, without a database. Not measured: the number of examples.
REPEATABLE = settings(database=None, max_examples=40, derandomize=True)


def smallest(strategy, condition=lambda _: True):
    """Return the smallest value that Hypothesis finds in a strategy for this condition."""
    return find(strategy, condition, settings=REPEATABLE)


@pytest.mark.parametrize(
    ("strategy", "condition", "expected"),
    [
        (turns(), lambda _: True, "Turn()"),
        (
            turns(),
            lambda turn: any(isinstance(delta, str) for delta in turn),
            "Turn(Text(text='0'))",
        ),
        (
            turns(),
            lambda turn: any(isinstance(delta, Failure) for delta in turn),
            "Turn(Failure(message='', type='server_error'))",
        ),
        (token_streams(), lambda _: True, "TokenStream([])"),
        (token_streams(), lambda stream: len(stream) > 1, "TokenStream(['0', '0'])"),
        (partial_json(), lambda _: True, "''"),
        (partial_json(), lambda text: text.startswith("["), "'['"),
        (arrivals(3), lambda _: True, "[0.0, 0.0, 0.0]"),
        (arrivals(3), lambda gaps: sum(gaps) > 1, "[0.0, 0.0, 1.015625]"),
        (chunkings(b"data: 1"), lambda _: True, "[b'data: 1']"),
        (chunkings(b"data: 1"), lambda chunks: len(chunks) > 1, "[b'data', b': 1']"),
        (chunkings(b"data: 1"), lambda chunks: b"1" in chunks, "[b'data: ', b'1']"),
        (chunkings(b""), lambda _: True, "[]"),
    ],
)
def test_they_shrink(strategy, condition, expected):
    """A strategy shrinks to its smallest value, whose repr can be pasted into a test."""
    assert repr(smallest(strategy, condition)) == expected


@given(text=partial_json().filter(bool))
def test_partial_json_is_the_beginning_of_a_document(text):
    """A parser of partial JSON accepts every text of `partial_json` as the start of a document.

    The parser raises `PartialJSON` where the text is too short to show a value.
    """
    with suppress(partial_json_parser.PartialJSON):
        partial_json_parser.loads(text)


@given(data=st.data())
def test_arrivals_are_a_pace(data):
    """`arrivals(n)` makes a pace with a gap for each of the n deltas of a stream."""
    deltas = data.draw(st.lists(st.text(min_size=1)))
    stream = TokenStream(deltas, every=data.draw(arrivals(len(deltas))))
    assert len(stream.every or []) == len(deltas)
