"""Mistakes in how splines are rendered: where, and what by those who step in."""

import struct
from collections.abc import AsyncIterator, Iterator, Sequence

from reference_impl.seeded_regressions import seeded

_PIECE = 2**9


async def rendered_on_the_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Renders all pieces where they are asked for, and everyone else waits."""
    for piece in list(pieces):
        yield piece


def straight_lines(points: Sequence[tuple[float, float]], samples: int) -> Iterator[bytes]:
    """Joins the points by straight lines, which was to do for those who have no extras."""
    segments, last = len(points) - 1, samples - 1
    for start in range(0, samples, _PIECE):
        pairs = bytearray()
        for sample in range(start, min(start + _PIECE, samples)):
            segment, rest = divmod(sample * segments, last)
            t = rest / last
            (x0, y0), (x1, y1) = points[segment], points[min(segment + 1, segments)]
            pairs += struct.pack("<2d", x0 * (1 - t) + x1 * t, y0 * (1 - t) + y1 * t)
        yield bytes(pairs)


REGRESSIONS = (
    seeded("assert_responsive", "spline-on-the-loop", "splines:off_the_loop", rendered_on_the_loop),
    seeded(
        "assert_fallback_parity", "spline-fallback-differs", "splines:in_python", straight_lines
    ),
)
