"""Splines, rendered beside the event loop by the fastest of three renderers that is there.

    POST /api/render/spline      {"points": [[x, y], ...], "samples": n}

The answer is n pairs of little-endian 64-bit floats, x and y, of the uniform Catmull-Rom spline
through the points (Catmull and Rom, "A class of local interpolating splines", 1974): sampled evenly
in its parameter, from the first point to the last. Beyond both it is taken to go on straight, so
two points make a line. `X-Renderer` tells who rendered it, `X-Samples` how many pairs there are.

    wasm      spline.wat, both coordinates at once by SIMD, where wasmtime is installed
    numpy     all samples of a piece at once, where NumPy is
    python    one sample after the other, anywhere

They agree to 1e-6 of the largest coordinate, whichever points they are given: they do the same sums
in the same order. Each yields pieces, so what is in memory is a piece, however many samples there
are to be. A renderer keeps nothing from one call to the next: threads need no lock.
"""

import logging
import struct
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from reprlib import repr as short
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from reference_impl.bodies import RequestError, read_json

if TYPE_CHECKING:
    from wasmtime import Func, Memory

Point = tuple[float, float]
Pieces = Generator[bytes, None, None]
Render = Callable[[Sequence[Point], int], Pieces]
"""Yields the spline through points, in so many samples; `FEWEST` of both, piece by piece."""

PATH: Final = "/api/render/spline"
FEWEST, MOST_POINTS, MOST_SAMPLES, LARGEST = 2, 10_000, 1_000_000, 1e300

_ALLOWED = (
    f'{{"points": [[x, y], ...], "samples": n}}, {FEWEST} to {MOST_POINTS:,} points of numbers up '
    f"to {LARGEST:g}, n from {FEWEST} to {MOST_SAMPLES:,}"
)
_WAT = Path(__file__).with_name("spline.wat")
# What there is room for in the module's memory: corners, then the samples of a piece.
_PAGE, _PAIR = 2**16, 16
_OUT, _MEMORY = 3 * _PAGE, 7 * _PAGE
# Samples of a piece. Python's is so small as it keeps the interpreter while it makes one: half a
# millisecond, in which the event loop has to wait.
_PIECE, _SMALL_PIECE = 2**14, 2**9

_log = logging.getLogger(__name__)


def routes(max_body: int) -> list[Route]:
    """The route; bodies are of `max_body` bytes at most. The renderer is loaded on first use."""
    loading, loaded = Lock(), dict[str, Render]()

    def fastest() -> tuple[str, Render]:
        with loading:
            if not loaded:
                loaded.update([next(available())])
        return next(iter(loaded.items()))

    async def render(request: Request) -> StreamingResponse:
        points, samples = _curve(await read_json(request, max_body, _ALLOWED))
        name, rendered = await run_in_threadpool(fastest)
        return StreamingResponse(
            off_the_loop(rendered(points, samples)),
            media_type="application/octet-stream",
            headers={
                "Content-Length": str(_PAIR * samples),
                "X-Renderer": name,
                "X-Samples": str(samples),
                "Access-Control-Expose-Headers": "X-Renderer, X-Samples",
            },
        )

    return [Route(PATH, render, methods=["POST"])]


async def off_the_loop(pieces: Pieces) -> AsyncIterator[bytes]:
    """Make each piece in a thread, when the one before it was sent; release what they are made in.

    Who leaves early closes it.
    """
    with closing(pieces):
        async for piece in iterate_in_threadpool(pieces):
            yield piece


def available() -> Iterator[tuple[str, Render]]:
    """Load the renderers that are there and work, by name, the fastest first.

    Of one that is installed and does not work the log tells.

        name, render = next(available())
        pairs = b"".join(render([(0.0, 0.0), (1.0, 2.0)], 100))
    """
    for name, load in (("wasm", in_wasm), ("numpy", in_numpy), ("python", lambda: in_python)):
        try:
            render = load()
            next(render([(0.0, 0.0), (1.0, 1.0)], 2))
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - the next one will do
            _log.warning("splines are rendered without %s: %s", name, error)
        else:
            yield name, render


def in_wasm() -> Render:
    """Compile the module. Each render has a store of its own, which a thread at a time is in."""
    from wasmtime import Engine, Instance, Module, Store  # noqa: PLC0415 - an extra

    engine = Engine()
    module = Module(engine, _WAT.read_text(encoding="utf-8"))

    def rendered(points: Sequence[Point], samples: int) -> Pieces:
        corners, segments, last = _continued(points), len(points) - 1, samples - 1
        with closing(Store(engine)) as store:
            store.set_limits(memory_size=_MEMORY, instances=1, memories=1, tables=0)
            exports = Instance(store, module, []).exports(store)
            memory: Memory = exports["memory"]  # type: ignore[assignment]
            render: Func = exports["render"]  # type: ignore[assignment]
            numbers = struct.pack(f"<{2 * len(corners)}d", *chain.from_iterable(corners))
            memory.write(store, numbers, 0)
            for start in range(0, samples, _PIECE):
                count = min(_PIECE, samples - start)
                segment, rest = divmod(start * segments, last)
                render(store, segment * _PAIR, rest, segments, last, _OUT, count)
                yield bytes(memory.get_buffer_ptr(store, count * _PAIR, _OUT))

    return rendered


def in_numpy() -> Render:
    """Load NumPy."""
    import numpy as np  # noqa: PLC0415 - half of the time that the server takes to start

    def rendered(points: Sequence[Point], samples: int) -> Pieces:
        corners, segments, last = np.array(_continued(points)), len(points) - 1, samples - 1
        a, b, c, d = _shaped(corners[:-3], corners[1:-2], corners[2:-1], corners[3:])
        for start in range(0, samples, _PIECE):
            numbers = np.arange(start, min(start + _PIECE, samples), dtype=np.int64)
            segment, rest = np.divmod(numbers * segments, last)
            t = (rest / last)[:, None]
            pairs = ((d[segment] * t + c[segment]) * t + b[segment]) * t + a[segment]
            yield pairs.astype("<f8", copy=False).tobytes()

    return rendered


def in_python(points: Sequence[Point], samples: int) -> Pieces:
    """Render with the standard library alone."""
    corners, segments, last = _continued(points), len(points) - 1, samples - 1
    at, shapes = -1, list[tuple[float, float, float, float]]()
    for start in range(0, samples, _SMALL_PIECE):
        numbers = []
        for sample in range(start, min(start + _SMALL_PIECE, samples)):
            segment, rest = divmod(sample * segments, last)
            if segment != at:
                four = corners[segment : segment + 4]
                at, shapes = segment, [_shaped(*each) for each in zip(*four, strict=True)]
            t = rest / last
            numbers += [((d * t + c) * t + b) * t + a for a, b, c, d in shapes]
        yield struct.pack(f"<{len(numbers)}d", *numbers)


def _continued(points: Sequence[Point]) -> list[Point]:
    """The corners: the points, one before them and two behind, in a straight line."""

    def beyond(end: Point, before: Point) -> Point:
        return 2 * end[0] - before[0], 2 * end[1] - before[1]

    # The last sample is the last point itself: the beginning of a segment like any other.
    after = beyond(points[-1], points[-2])
    return [beyond(points[0], points[1]), *points, after, beyond(after, points[-1])]


def _shaped(p0: Any, p1: Any, p2: Any, p3: Any) -> tuple[Any, Any, Any, Any]:
    """The cubic from p1 to p2 by its coefficients, of t to the power of 0, 1, 2 and 3."""
    return (
        p1,
        (p2 - p0) * 0.5,
        p0 - p1 * 2.5 + p2 * 2 - p3 * 0.5,
        (p1 - p2) * 1.5 + (p3 - p0) * 0.5,
    )


def _curve(data: Any) -> tuple[list[Point], int]:
    """Check what was asked for: the points, and the number of samples."""

    def wrong(what: str) -> RequestError:
        return RequestError(422, "wrong_shape", f"{what}, allowed: {_ALLOWED}")

    if not isinstance(data, dict):
        raise wrong(f"the body is {short(data)}")
    points, samples = data.get("points"), data.get("samples")
    if not isinstance(points, list):
        raise wrong(f"points is {short(points)}")
    if not FEWEST <= len(points) <= MOST_POINTS:
        raise wrong(f"{len(points):,} points")
    for index, point in enumerate(points):
        if not _is_pair(point):
            raise wrong(f"points[{index}] is {short(point)}")
    if type(samples) is not int or not FEWEST <= samples <= MOST_SAMPLES:
        raise wrong(f"samples is {short(samples)}")
    return [(float(x), float(y)) for x, y in points], samples


def _is_pair(point: Any) -> bool:
    # JSON has numbers without bounds, and Python's has NaN, which is no less than anything.
    return (
        isinstance(point, list)
        and len(point) == 2  # noqa: PLR2004 - x and y
        and all(type(each) in {int, float} and abs(each) <= LARGEST for each in point)
    )
