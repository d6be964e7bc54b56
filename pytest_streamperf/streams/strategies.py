"""Hypothesis strategies for turns, streams, paces, partial JSON and cuts into chunks.

Each strategy shrinks to a small and short example. Hypothesis is an extra, so import this module by
its full name: `from pytest_streamperf.streams.strategies import turns`.
"""

import json
from itertools import accumulate, pairwise
from typing import Any

from hypothesis import strategies as st

from pytest_streamperf.streams.chunking import worst_case
from pytest_streamperf.streams.messages import Failure, Reasoning, Text, ToolCall, Turn, Usage
from pytest_streamperf.streams.token_stream import TokenStream

# Small examples keep a test fast. Not measured: no reason for the exact numbers is on record.
_MAX_PARTS, _MAX_TOOL_NAME = 4, 8

_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)


def _join_surrogate_pairs(text: str) -> str:
    """Return the text with its surrogate pairs joined, as on the wire; lone surrogates stay."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


_SURROGATES = st.characters(categories=["Cs"])
_TEXT = st.text() | st.lists(st.characters() | _SURROGATES).map("".join).map(_join_surrogate_pairs)
_PARTS = st.lists(
    st.builds(Text, _TEXT)
    | st.builds(Reasoning, _TEXT)
    | st.builds(
        ToolCall,
        st.text(min_size=1, max_size=_MAX_TOOL_NAME),
        st.dictionaries(st.text(max_size=8), _JSON, max_size=4),
    ),
    max_size=_MAX_PARTS,
)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    """Make turns of text, reasoning and tool calls, some with a failure at the end or a usage.

    Text may contain any character, and lone surrogates. The strategy shrinks to `Turn()`.

    >>> isinstance(turns().example(), Turn)  # doctest: +SKIP
    True
    """
    types = st.just(Failure("").type) | _TEXT
    failures = draw(st.lists(st.builds(Failure, _TEXT, types), max_size=1))
    usage = draw(st.none() | st.builds(Usage, st.integers(0), st.integers(0)))
    return Turn(*draw(_PARTS), *failures, usage=usage, seed=draw(st.integers(0, 2**32)))


@st.composite
def token_streams(draw: st.DrawFn) -> TokenStream:
    """Make streams of text, of a turn's deltas, or of a tool call's arguments, without a pace.

    The strategy shrinks to `TokenStream([])`.

    >>> isinstance(token_streams().example(), TokenStream)  # doctest: +SKIP
    True
    """
    deltas = draw(st.lists(st.text(min_size=1)) | turns() | partial_json().map(list))
    return TokenStream(deltas)


@st.composite
def arrivals(draw: st.DrawFn, deltas: int) -> list[float]:
    """Make paces of `deltas` gaps, in seconds, for `TokenStream(every=...)`.

    Gaps are multiples of 1/64 s up to a minute, so that their sums are exact. They shrink to 0.

    >>> len(arrivals(3).example())  # doctest: +SKIP
    3
    """
    steps = draw(st.lists(st.integers(0, 64 * 60), min_size=deltas, max_size=deltas))
    return [step / 64 for step in steps]


@st.composite
def partial_json(draw: st.DrawFn) -> str:
    r"""Make beginnings of JSON documents, as in a tool call whose arguments are incomplete.

    The text may end anywhere, also inside an escape, or hold the whole document. The strategy
    shrinks to the empty text.

    >>> partial_json().example()  # doctest: +SKIP
    '{"a": "\u00'
    """
    document = json.dumps(draw(_JSON), ensure_ascii=draw(st.booleans()))
    return document[: draw(st.integers(0, len(document)))]


@st.composite
def chunkings(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Make lists of chunks that join to `data`; no chunk is empty.

    About half of the cuts are at the places of `pytest_streamperf.streams.chunking.worst_case`.
    The strategy shrinks to one chunk.

    >>> b"".join(chunkings(b"data: 1").example())  # doctest: +SKIP
    b'data: 1'
    """
    anywhere = st.integers(1, max(1, len(data) - 1))
    *worst, _ = accumulate(map(len, worst_case([data])), initial=0)
    place = anywhere | st.sampled_from(worst[1:]) if worst[1:] else anywhere
    places = {*draw(st.lists(place)), len(data)}  # `st.sets` shrinks less far than a list
    edges = [0, *sorted(edge for edge in places if edge <= len(data))]
    return [data[start:end] for start, end in pairwise(edges) if start < end]
