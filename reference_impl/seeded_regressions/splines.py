"""Seeded regressions of `splines`: rendering on the event loop, and a fallback that differs.

`assert_responsive` and `assert_fallback_parity` must catch them.
"""

import struct
from collections.abc import AsyncIterator, Iterator, Sequence

from reference_impl.seeded_regressions import seeded

# The size of a piece, in samples. Not measured.
_SAMPLES_PER_PIECE = 2**9


async def rendered_on_the_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """All pieces of a curve are rendered on the event loop, so every other client waits."""
    for piece in list(pieces):
        yield piece


def straight_lines(points: Sequence[tuple[float, float]], samples: int) -> Iterator[bytes]:
    """The fallback in Python joins the points by straight lines instead of a spline."""
    segments, last = len(points) - 1, samples - 1
    for start in range(0, samples, _SAMPLES_PER_PIECE):
        pairs = bytearray()
        for sample in range(start, min(start + _SAMPLES_PER_PIECE, samples)):
            segment, remainder = divmod(sample * segments, last)
            t = remainder / last
            (x0, y0), (x1, y1) = points[segment], points[min(segment + 1, segments)]
            pairs += struct.pack("<2d", x0 * (1 - t) + x1 * t, y0 * (1 - t) + y1 * t)
        yield bytes(pairs)


REGRESSIONS = (
    seeded("assert_responsive", "spline-on-the-loop", "splines:off_the_loop", rendered_on_the_loop),
    seeded(
        "assert_fallback_parity", "spline-fallback-differs", "splines:in_python", straight_lines
    ),
)
