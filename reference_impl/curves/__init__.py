"""A tiny model that finds curves in prices: its weights, and two runtimes that run it.

`windows` cuts prices into overlapping windows, `load` returns a runtime that scores the windows,
and `detected_curves` turns the scores into curves.

The model centres and scales each window, so that 100 to 120 looks like 1,000 to 1,200. Then it
compares the window with a rising line, a falling line, a peak and a trough. The best shape wins if
its correlation with the window is above one half; otherwise the window is flat.

The weights are constructed, not trained. `build` writes them to `curve.onnx` for ONNX Runtime, and
NumPy uses the same weights directly, so both runtimes give the same scores.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("curve.onnx")
KINDS: Final = ("rising", "falling", "peak", "trough", "flat")
WINDOW: Final = 16
# A window whose standard deviation is 0.2% of its mean scores half as much, so it is flat. `TINY`
# prevents a division by zero where all prices are 0. Not measured: both are constructed.
TOLERANCE: Final = 0.002
TINY: Final = 1e-9

_WINDOW_STEP = WINDOW // 2
# Scores before softmax: a window of exactly one shape scores 10 for it, and "flat" always scores
# half of that. Not measured: with 10, softmax gives an exact shape 0.99 of the probability.
_PERFECT_FIT_SCORE, _FLAT_SHARE = 10.0, 0.5


class Weights(NamedTuple):
    """The weights of the model's one layer.

    `matrix` has a row for each price of a window, and a column for each of `KINDS`; `bias` has a
    number for each of `KINDS`.
    """

    matrix: Sequence[Sequence[float]]
    bias: Sequence[float]


class Runtime(NamedTuple):
    """A loaded model: the name of its runtime, and a function from windows to scores.

    `run` takes an array of float64 with a row for each window, and returns one with a row of scores
    for each window. The scores of a row add up to 1.
    """

    name: str
    run: Callable[[Any], Any]


def weights() -> Weights:
    """Return the constructed weights, which score a window before softmax.

    The score of a shape is 10 times its correlation with the window; "flat" always scores 5.

    >>> weights().bias
    [0.0, 0.0, 0.0, 0.0, 5.0]
    """
    middle = (WINDOW - 1) / 2
    offsets = [place - middle for place in range(WINDOW)]
    mean_square = sum(value * value for value in offsets) / WINDOW
    line_column = _scaled_to_score(offsets)
    parabola_column = _scaled_to_score([value * value - mean_square for value in offsets])
    matrix = [
        [line_weight, -line_weight, -parabola_weight, parabola_weight, 0.0]
        for line_weight, parabola_weight in zip(line_column, parabola_column, strict=True)
    ]
    return Weights(matrix, [0.0] * (len(KINDS) - 1) + [_PERFECT_FIT_SCORE * _FLAT_SHARE])


def _scaled_to_score(shape: Sequence[float]) -> list[float]:
    """Return the shape, scaled so that a window of this shape and of variance 1 scores 10."""
    length = math.sqrt(sum(value * value for value in shape))
    return [_PERFECT_FIT_SCORE * value / (length * math.sqrt(WINDOW)) for value in shape]


def starts(count: int) -> list[int]:
    """Return the first index of each window in `count` prices.

    A window begins at every eighth price, and the last window ends with the last price.

    >>> starts(34)
    [0, 8, 16, 18]
    """
    last = count - WINDOW
    return sorted({*range(0, last + 1, _WINDOW_STEP), last})


def windows(prices: Sequence[float]) -> Any:
    """Return an array with a row for each window; `prices` are 16 or more."""
    import numpy as np  # noqa: PLC0415 - only a server that is asked for curves needs it

    prices_by_window = chain.from_iterable(
        prices[start : start + WINDOW] for start in starts(len(prices))
    )
    return np.fromiter(prices_by_window, np.float64).reshape(-1, WINDOW)


def detected_curves(scores: Any, count: int) -> list[dict[str, Any]]:
    """Return the curve in each window, as JSON data.

    `scores` is what a runtime returns for the windows of `count` prices. `end` is the index after
    the last price of the window.
    """
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
    """Load the model with ONNX Runtime, or with NumPy if ONNX Runtime is not installed.

    Raises `FileNotFoundError` if `curve.onnx` is missing, and an error of ONNX Runtime if the file
    is damaged.
    """
    try:
        return with_onnx()
    except ImportError:
        return with_numpy()


def with_onnx() -> Runtime:
    """Load the model with ONNX Runtime; raises `ImportError` if that is not installed.

    with_onnx().run(windows(prices))
    """
    # The import takes 0.3 s, so only a server that is asked for curves pays for it.
    import onnxruntime  # type: ignore[import-untyped] # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a model too small for threads
    session = onnxruntime.InferenceSession(
        FILE.read_bytes(), options, providers=["CPUExecutionProvider"]
    )
    return Runtime("onnx", lambda windows: session.run(None, {"windows": windows})[0])


def with_numpy() -> Runtime:
    """Load the model with NumPy, which computes the same scores as ONNX Runtime."""
    import numpy as np  # noqa: PLC0415

    matrix, bias = map(np.array, weights())

    def run(windows: Any) -> Any:
        middle = windows.mean(axis=1, keepdims=True)
        deviations = windows - middle
        spread = np.sqrt((deviations * deviations).mean(axis=1, keepdims=True))
        scaled = deviations / (spread + TOLERANCE * np.abs(middle) + TINY)
        raw_scores = scaled @ matrix + bias
        exponentials = np.exp(raw_scores - raw_scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    return Runtime("numpy", run)
