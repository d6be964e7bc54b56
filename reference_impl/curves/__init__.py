"""A tiny model that sees curves in prices: what it is made of, and the two ways to run it.

A window of prices is centred and scaled, so that 100 to 120 looks like 1,000 to 1,200; then it is
held against a line and a parabola, both ways up. What fits best by half wins, else it is flat. The
weights are constructed, not trained. `build` makes `curve.onnx` of them; NumPy takes them as they
are, so that the two cannot drift apart.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("curve.onnx")
KINDS: Final = ("rising", "falling", "peak", "trough", "flat")
WINDOW: Final = 16
# A curve of a part of a percent is none; and where prices are 0 there is nothing to divide by.
TOLERANCE: Final = 0.002
TINY: Final = 1e-9

_STEP = WINDOW // 2
_GAIN, _FLAT = 10.0, 0.5


class Weights(NamedTuple):
    """Of one layer: a row for each price of a window, a column for each of `KINDS`."""

    matrix: Sequence[Sequence[float]]
    bias: Sequence[float]


class Runtime(NamedTuple):
    """The model, loaded: the name of what runs it, and windows -> scores, of float64 both."""

    name: str
    run: Callable[[Any], Any]


def weights() -> Weights:
    """The weights: scores are 0 to 10 as a window fits, before softmax; 5 are enough.

    >>> weights().bias
    [0.0, 0.0, 0.0, 0.0, 5.0]
    """
    middle = (WINDOW - 1) / 2
    at = [place - middle for place in range(WINDOW)]
    square = sum(each * each for each in at) / WINDOW
    line = _scaled(at)
    bowl = _scaled([each * each - square for each in at])
    matrix = [[up, -up, -down, down, 0.0] for up, down in zip(line, bowl, strict=True)]
    return Weights(matrix, [0.0] * (len(KINDS) - 1) + [_GAIN * _FLAT])


def _scaled(shape: Sequence[float]) -> list[float]:
    """A shape so large that a window of that shape, of variance 1, scores 10."""
    length = math.sqrt(sum(each * each for each in shape))
    return [_GAIN * each / (length * math.sqrt(WINDOW)) for each in shape]


def starts(count: int) -> list[int]:
    """Where windows begin in so many prices: every 8, and one that ends with the last.

    >>> starts(34)
    [0, 8, 16, 18]
    """
    last = count - WINDOW
    return sorted({*range(0, last + 1, _STEP), last})


def windows(prices: Sequence[float]) -> Any:
    """The windows of 16 prices or more, an array with a row for each."""
    import numpy as np  # noqa: PLC0415 - a server that nobody asks for curves goes without

    parts = chain.from_iterable(prices[start : start + WINDOW] for start in starts(len(prices)))
    return np.fromiter(parts, np.float64).reshape(-1, WINDOW)


def found(scores: Any, count: int) -> list[dict[str, Any]]:
    """What scores of the windows of so many prices say: a curve for each, as JSON has it."""
    return [
        {
            "start": start,
            "end": start + WINDOW,
            "kind": KINDS[row.index(max(row))],
            "scores": dict(zip(KINDS, row, strict=True)),
        }
        for start, row in zip(starts(count), scores.tolist(), strict=True)
    ]


def load() -> Runtime:
    """Load the model: by ONNX Runtime, or by NumPy where that is not installed.

    Raises what ONNX Runtime does where the file is not there, or not what it was.
    """
    try:
        return with_onnx()
    except ImportError:
        return with_numpy()


def with_onnx() -> Runtime:
    """Load it by ONNX Runtime: `ImportError` without it.

    load().run(windows(prices))
    """
    # 0.3 s, for those who ask for curves.
    import onnxruntime  # type: ignore[import-untyped] # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # so small, others only wait
    session = onnxruntime.InferenceSession(
        FILE.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return Runtime("onnx", lambda windows: session.run(None, {"windows": windows})[0])


def with_numpy() -> Runtime:
    """The same by NumPy."""
    import numpy as np  # noqa: PLC0415

    matrix, bias = map(np.array, weights())

    def run(windows: Any) -> Any:
        middle = windows.mean(axis=1, keepdims=True)
        apart = windows - middle
        spread = np.sqrt((apart * apart).mean(axis=1, keepdims=True))
        scaled = apart / (spread + TOLERANCE * np.abs(middle) + TINY)
        fits = scaled @ matrix + bias
        powers = np.exp(fits - fits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    return Runtime("numpy", run)
