"""Hypothesis strategies: what streams are made of, when it comes, and how its bytes are cut.

All shrink to what is small and short.

Imported by name only, as Hypothesis is an extra:
`from pytest_streamperf.streams.strategies import turns`.
"""

import json
from itertools import accumulate, pairwise
from typing import Any

from hypothesis import strategies as st

from pytest_streamperf.streams.chunking import worst_case
from pytest_streamperf.streams.messages import Failure, Reasoning, Text, ToolCall, Turn, Usage
from pytest_streamperf.streams.token_stream import TokenStream

_MOST_PARTS, _MOST_CALLED = 4, 8

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


def _as_sent(text: str) -> str:
    """The same with its surrogate pairs joined, as they are on any wire; halves stay."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


_HALVES = st.characters(categories=["Cs"])
_TEXT = st.text() | st.lists(st.characters() | _HALVES).map("".join).map(_as_sent)
_PARTS = st.lists(
    st.builds(Text, _TEXT)
    | st.builds(Reasoning, _TEXT)
    | st.builds(
        ToolCall,
        st.text(min_size=1, max_size=_MOST_CALLED),
        st.dictionaries(st.text(max_size=8), _JSON, max_size=4),
    ),
    max_size=_MOST_PARTS,
)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    """Turns of text, reasoning and tool calls, some of which end in a failure or say their usage.

    What is said may have any character, and halves of surrogate pairs. They shrink to `Turn()`.

    >>> isinstance(turns().example(), Turn)  # doctest: +SKIP
    True
    """
    types = st.just(Failure("").type) | _TEXT
    failures = draw(st.lists(st.builds(Failure, _TEXT, types), max_size=1))
    usage = draw(st.none() | st.builds(Usage, st.integers(0), st.integers(0)))
    return Turn(*draw(_PARTS), *failures, usage=usage, seed=draw(st.integers(0, 2**32)))


@st.composite
def token_streams(draw: st.DrawFn) -> TokenStream:
    """Streams of text, of a turn's deltas, or of a tool call's arguments, without a pace.

    They shrink to `TokenStream([])`.

    >>> isinstance(token_streams().example(), TokenStream)  # doctest: +SKIP
    True
    """
    deltas = draw(st.lists(st.text(min_size=1)) | turns() | partial_json().map(list))
    return TokenStream(deltas)


@st.composite
def arrivals(draw: st.DrawFn, deltas: int) -> list[float]:
    """The seconds before each of so many deltas, for `TokenStream(every=...)`.

    They are multiples of 1/64 s up to a minute, so that their sums are exact; they shrink to 0.

    >>> len(arrivals(3).example())  # doctest: +SKIP
    3
    """
    steps = draw(st.lists(st.integers(0, 64 * 60), min_size=deltas, max_size=deltas))
    return [step / 64 for step in steps]


@st.composite
def partial_json(draw: st.DrawFn) -> str:
    r"""The beginning of a JSON document, such as arguments that are still coming, or all of it.

    It may end anywhere, in an escape, too, and shrinks to the empty text.

    >>> partial_json().example()  # doctest: +SKIP
    '{"a": "\u00'
    """
    document = json.dumps(draw(_JSON), ensure_ascii=draw(st.booleans()))
    return document[: draw(st.integers(0, len(document)))]


@st.composite
def chunkings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Every way to cut `data` into pieces, none of them empty; they shrink to one piece.

    Half of the places are the worst: those of `pytest_streamperf.streams.chunking.worst_case`.

    >>> b"".join(chunkings(b"data: 1").example())  # doctest: +SKIP
    b'data: 1'
    """
    anywhere = st.integers(1, max(1, len(data) - 1))
    *worst, _ = accumulate(map(len, worst_case([data])), initial=0)
    place = anywhere | st.sampled_from(worst[1:]) if worst[1:] else anywhere
    places = {*draw(st.lists(place)), len(data)}  # sets do not shrink as far
    edges = [0, *sorted(edge for edge in places if edge <= len(data))]
    return [data[start:end] for start, end in pairwise(edges) if start < end]
