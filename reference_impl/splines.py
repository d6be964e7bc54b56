"""Splines over HTTP, rendered in a thread by the fastest renderer that is installed.

    POST /api/render/spline      {"points": [[x, y], ...], "samples": n}

The response is n pairs of little-endian 64-bit floats, x and y. They are samples of the uniform
Catmull-Rom spline through the points (Catmull and Rom, "A class of local interpolating splines",
1974), evenly spaced in its parameter from the first point to the last. The spline is continued in a
straight line at both ends, so two points make a line. The header `X-Renderer` names the renderer,
and `X-Samples` is the number of pairs.

    wasm      spline.wat, both coordinates at once by SIMD, if wasmtime is installed
    numpy     all samples of a piece at once, if NumPy is installed
    python    one sample after the other, always available

The renderers agree to 1e-6 of the largest coordinate for any points, because they do the same sums
in the same order. A renderer yields pieces, so memory holds one piece at a time, whatever the
number of samples. A renderer keeps no state between calls, so threads need no lock.
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
"""A renderer: takes points and a number of samples, both at least `FEWEST`, and yields pieces."""

PATH: Final = "/api/render/spline"
# Not measured: the largest response is 16 MB, and sums of coordinates up to 1e300 stay finite.
FEWEST, MOST_POINTS, MOST_SAMPLES, LARGEST = 2, 10_000, 1_000_000, 1e300

_ALLOWED = (
    f'{{"points": [[x, y], ...], "samples": n}}, {FEWEST} to {MOST_POINTS:,} points of numbers up '
    f"to {LARGEST:g}, n from {FEWEST} to {MOST_SAMPLES:,}"
)
_WAT = Path(__file__).with_name("spline.wat")
# The memory of the WebAssembly module, in bytes: three pages for the corners, which are at most
# 160 KB, and four pages for the samples of a piece, which are 256 KiB.
_WASM_PAGE_BYTES, _PAIR_BYTES = 2**16, 16
_SAMPLES_OFFSET, _MEMORY_BYTES = 3 * _WASM_PAGE_BYTES, 7 * _WASM_PAGE_BYTES
# Samples in a piece. The Python renderer keeps the interpreter, and so makes the event loop wait,
# while it renders a piece: 512 samples take it half a millisecond.
_PIECE, _PYTHON_PIECE = 2**14, 2**9

_log = logging.getLogger(__name__)


def routes(max_body: int) -> list[Route]:
    """Return the route for splines, which accepts bodies of at most `max_body` bytes.

    The first request loads the renderer, and all later ones use it.
    """
    load_lock, loaded_renderer = Lock(), dict[str, Render]()

    def fastest_renderer() -> tuple[str, Render]:
        with load_lock:
            if not loaded_renderer:
                loaded_renderer.update([next(available())])
        return next(iter(loaded_renderer.items()))

    async def render(request: Request) -> StreamingResponse:
        points, samples = _points_and_samples(await read_json(request, max_body, _ALLOWED))
        name, render_pieces = await run_in_threadpool(fastest_renderer)
        return StreamingResponse(
            off_the_loop(render_pieces(points, samples)),
            media_type="application/octet-stream",
            headers={
                "Content-Length": str(_PAIR_BYTES * samples),
                "X-Renderer": name,
                "X-Samples": str(samples),
                "Access-Control-Expose-Headers": "X-Renderer, X-Samples",
            },
        )

    return [Route(PATH, render, methods=["POST"])]


async def off_the_loop(pieces: Pieces) -> AsyncIterator[bytes]:
    """Make each piece in a thread, after the previous piece was sent.

    The generator of the pieces is closed at the end, also when the client leaves early.
    """
    with closing(pieces):
        async for piece in iterate_in_threadpool(pieces):
            yield piece


def available() -> Iterator[tuple[str, Render]]:
    """Load and yield each renderer that works, with its name, the fastest first.

    A renderer that is installed but does not work is left out, and a warning is logged.

        name, render = next(available())
        pairs = b"".join(render([(0.0, 0.0), (1.0, 2.0)], 100))
    """
    for name, load in (("wasm", in_wasm), ("numpy", in_numpy), ("python", lambda: in_python)):
        try:
            render = load()
            next(render([(0.0, 0.0), (1.0, 1.0)], 2))
        except ModuleNotFoundError:
            continue
        except Exception as error:  # noqa: BLE001 - the next renderer takes its place
            _log.warning("splines are rendered without %s: %s", name, error)
        else:
            yield name, render


def in_wasm() -> Render:
    """Compile spline.wat and return the renderer; raises `ModuleNotFoundError` without wasmtime.

    Each render has its own store, which only one thread at a time uses.
    """
    from wasmtime import Engine, Instance, Module, Store  # noqa: PLC0415 - an optional dependency

    engine = Engine()
    module = Module(engine, _WAT.read_text(encoding="utf-8"))

    def render_pieces(points: Sequence[Point], samples: int) -> Pieces:
        corners, segments, last = _with_outer_corners(points), len(points) - 1, samples - 1
        with closing(Store(engine)) as store:
            store.set_limits(memory_size=_MEMORY_BYTES, instances=1, memories=1, tables=0)
            exports = Instance(store, module, []).exports(store)
            memory: Memory = exports["memory"]  # type: ignore[assignment]
            render: Func = exports["render"]  # type: ignore[assignment]
            numbers = struct.pack(f"<{2 * len(corners)}d", *chain.from_iterable(corners))
            memory.write(store, numbers, 0)
            for start in range(0, samples, _PIECE):
                count = min(_PIECE, samples - start)
                segment, rest = divmod(start * segments, last)
                render(store, segment * _PAIR_BYTES, rest, segments, last, _SAMPLES_OFFSET, count)
                yield bytes(memory.get_buffer_ptr(store, count * _PAIR_BYTES, _SAMPLES_OFFSET))

    return render_pieces


def in_numpy() -> Render:
    """Load NumPy and return the renderer; raises `ModuleNotFoundError` without NumPy."""
    import numpy as np  # noqa: PLC0415 - half of the server's start-up time

    def render_pieces(points: Sequence[Point], samples: int) -> Pieces:
        corners = np.array(_with_outer_corners(points))
        segments, last = len(points) - 1, samples - 1
        a, b, c, d = _cubic_coefficients(corners[:-3], corners[1:-2], corners[2:-1], corners[3:])
        for start in range(0, samples, _PIECE):
            numbers = np.arange(start, min(start + _PIECE, samples), dtype=np.int64)
            segment, rest = np.divmod(numbers * segments, last)
            t = (rest / last)[:, None]
            pairs = ((d[segment] * t + c[segment]) * t + b[segment]) * t + a[segment]
            yield pairs.astype("<f8", copy=False).tobytes()

    return render_pieces


def in_python(points: Sequence[Point], samples: int) -> Pieces:
    """Yield the spline piece by piece, with the standard library alone."""
    corners, segments, last = _with_outer_corners(points), len(points) - 1, samples - 1
    cubics_of, cubics = -1, list[tuple[float, float, float, float]]()
    for start in range(0, samples, _PYTHON_PIECE):
        numbers = []
        for sample in range(start, min(start + _PYTHON_PIECE, samples)):
            segment, rest = divmod(sample * segments, last)
            if segment != cubics_of:
                by_coordinate = zip(*corners[segment : segment + 4], strict=True)
                cubics_of, cubics = segment, [_cubic_coefficients(*four) for four in by_coordinate]
            t = rest / last
            numbers += [((d * t + c) * t + b) * t + a for a, b, c, d in cubics]
        yield struct.pack(f"<{len(numbers)}d", *numbers)


def _with_outer_corners(points: Sequence[Point]) -> list[Point]:
    """Return the points with one corner before the first and two after the last.

    The added corners continue the first and the last segment in a straight line.
    """

    def mirrored(pivot: Point, inner: Point) -> Point:
        return 2 * pivot[0] - inner[0], 2 * pivot[1] - inner[1]

    # Renderers compute the last sample, which is the last point, as the start of one more segment.
    # That segment needs a second corner after the last point.
    next_corner = mirrored(points[-1], points[-2])
    return [mirrored(points[0], points[1]), *points, next_corner, mirrored(next_corner, points[-1])]


def _cubic_coefficients(p0: Any, p1: Any, p2: Any, p3: Any) -> tuple[Any, Any, Any, Any]:
    """Return the cubic from p1 to p2 as its coefficients of t to the power of 0, 1, 2 and 3."""
    return (
        p1,
        (p2 - p0) * 0.5,
        p0 - p1 * 2.5 + p2 * 2 - p3 * 0.5,
        (p1 - p2) * 1.5 + (p3 - p0) * 0.5,
    )


def _points_and_samples(data: Any) -> tuple[list[Point], int]:
    """Return the points and the number of samples in a request's JSON data.

    Raises a `RequestError` that names the first invalid part.
    """

    def wrong_shape(problem: str) -> RequestError:
        return RequestError(422, "wrong_shape", f"{problem}, allowed: {_ALLOWED}")

    if not isinstance(data, dict):
        raise wrong_shape(f"the body is {short(data)}")
    points, samples = data.get("points"), data.get("samples")
    if not isinstance(points, list):
        raise wrong_shape(f"points is {short(points)}")
    if not FEWEST <= len(points) <= MOST_POINTS:
        raise wrong_shape(f"{len(points):,} points")
    for index, point in enumerate(points):
        if not _is_pair(point):
            raise wrong_shape(f"points[{index}] is {short(point)}")
    if type(samples) is not int or not FEWEST <= samples <= MOST_SAMPLES:
        raise wrong_shape(f"samples is {short(samples)}")
    return [(float(x), float(y)) for x, y in points], samples


def _is_pair(point: Any) -> bool:
    # JSON numbers have no bounds, and Python also reads NaN, for which `<=` is false.
    return (
        isinstance(point, list)
        and len(point) == 2  # noqa: PLR2004 - x and y
        and all(type(number) in {int, float} and abs(number) <= LARGEST for number in point)
    )
