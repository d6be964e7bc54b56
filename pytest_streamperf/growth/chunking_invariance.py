"""The check that the result and the work do not depend on where chunks end.

This module is imported by name only, as Hypothesis is an extra.
"""

from collections.abc import Callable, Iterator
from itertools import accumulate, pairwise
from typing import Any

from hypothesis import Phase, given, settings

from pytest_streamperf._results.conclusion import conclude
from pytest_streamperf.exceptions import GrowthExceeded, GrowthInconclusive
from pytest_streamperf.growth.checks import measure_growth
from pytest_streamperf.growth.metered_stream import BLOCKS
from pytest_streamperf.streams.chunking import at_random, fixed, per_byte, worst_case
from pytest_streamperf.streams.strategies import chunkings

# The same cuts each time. No "explain" phase: it takes long, and our message says more.
_SETTINGS = settings(
    deadline=None, database=None, derandomize=True, phases=(Phase.generate, Phase.shrink)
)

# Ways to cut the data, under which work is counted: the smallest chunks, and larger ones.
_CUTS = per_byte, fixed(2), fixed(7), at_random(most=16), worst_case

__tracebackhide__ = True  # pytest shows the user's own frames


def assert_chunking_invariant(
    consume: Callable[[Iterator[bytes]], Any],
    data: bytes,
    *,
    examples: int = 100,
    max_superlinear: float | str = 0.25,
) -> None:
    r"""Assert that chunks may end anywhere: `consume(chunks)` gives the same, for linear work.

    `examples` ways to cut `data` are tried for the same result, and one that fails is shrunk. Then
    the work is counted, in allocated bytes and calls, for chunks of one byte, two, seven, of random
    sizes, and of cuts that decoders trip over. `max_superlinear` is the share of it that may be
    superlinear. To see growth, `consume` is called with the beginning of `data`, too. A few KiB of
    data are enough: in less, a copy costs no more than anything else.

    Raises `AssertionError` with the chunks that made a difference, `GrowthExceeded`,
    `GrowthInconclusive`, and what `consume` raises, with a note of where chunks ended.

    >>> assert_chunking_invariant(lambda chunks: b"".join(chunks), b"data: 1\n\n" * 100)
    """
    whole = consume(iter([data]))
    noted: list[str] = []

    @settings(_SETTINGS, max_examples=examples)
    @given(chunks=chunkings(data))
    def gives_the_same(chunks: list[bytes]) -> None:
        noted.clear()
        try:
            result = consume(iter(chunks))
        except Exception as error:
            noted[:] = [
                *getattr(error, "__notes__", ()),
                "\n".join(["consume raised this for chunks that end here:", *_cuts(chunks)]),
            ]
            raise
        if result != whole:
            raise AssertionError(_difference_text(chunks, result, whole))

    try:
        gives_the_same()
    except Exception as error:
        error.__notes__ = noted  # and not Hypothesis's, which shows all the bytes
        raise
    if len(data) < BLOCKS:
        msg = f"data must be {BLOCKS} bytes or more, to see how work grows, not {len(data)}"
        raise ValueError(msg)
    results = [
        measure_growth(
            consume,
            delta=chunks.__getitem__,
            up_to=len(chunks),
            max_superlinear=max_superlinear,
            metrics=("allocated_bytes", "calls"),
        )
        for chunks in (list(cut([data])) for cut in _CUTS)
        if len(chunks) >= BLOCKS
    ]
    order = ("within", "inconclusive", "exceeded")
    worst = max(results, key=lambda result: order.index(result.verdict))
    conclude(worst, GrowthExceeded, GrowthInconclusive, stacklevel=2)


# A message shows this many bytes or characters around a cut, and at most this many cuts. Not
# measured: they fit into the width and the lines of a message.
_CONTEXT_LENGTH, _MAX_SHOWN_CUTS = 24, 4


def _difference_text(chunks: list[bytes], result: object, whole: object) -> str:
    cut, uncut = repr(result), repr(whole)
    at = next((i for i, (a, b) in enumerate(zip(cut, uncut, strict=False)) if a != b), 0)
    start = max(0, at - _CONTEXT_LENGTH)
    lines = [
        "the result depends on where chunks end",
        "",
        *_cuts(chunks),
        "",
        f"  gave     {cut[start : at + 2 * _CONTEXT_LENGTH]}",
        f"  not      {uncut[start : at + 2 * _CONTEXT_LENGTH]}",
        "  try      keep incomplete bytes until the next chunk: an incremental decoder",
    ]
    return "\n".join(lines)


def _cuts(chunks: list[bytes]) -> list[str]:
    """Return a table of the cuts between chunks, with the bytes around each cut."""
    ends = list(accumulate(map(len, chunks)))[:-1]
    shown = [
        f"{end:>9,}  {before[-_CONTEXT_LENGTH:]!r} | {after[:_CONTEXT_LENGTH]!r}"
        for end, (before, after) in zip(ends[:_MAX_SHOWN_CUTS], pairwise(chunks), strict=False)
    ]
    more = (
        [f"           and in {len(ends) - _MAX_SHOWN_CUTS:,} more places"]
        if len(ends) > _MAX_SHOWN_CUTS
        else []
    )
    return ["  at byte  cut", *shown, *more]
