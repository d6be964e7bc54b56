"""Tests of the curve model: the kinds of curves that it finds, with ONNX Runtime and with NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impl import curves
from reference_impl.curves import build

OFFSETS = [place - 7.5 for place in range(16)]
SHAPES = {
    "rising": [OFFSETS, [math.exp(x / 10) for x in OFFSETS], [math.atan(x) for x in OFFSETS]],
    "falling": [[-x for x in OFFSETS], [math.exp(-x / 10) for x in OFFSETS]],
    "peak": [
        [-x * x for x in OFFSETS],
        [math.cos(x / 5) for x in OFFSETS],
        [-abs(x) for x in OFFSETS],
    ],
    "trough": [
        [x * x for x in OFFSETS],
        [abs(x) for x in OFFSETS],
        [math.cosh(x / 5) for x in OFFSETS],
    ],
    "flat": [[0.0] * 16, [(-1) ** n for n in range(16)], [math.sin(2.5 * x) for x in OFFSETS]],
}
PRICES = st.lists(st.floats(-1e12, 1e12), min_size=16, max_size=80)


def detected_kinds(prices, load=curves.with_numpy):
    """Return the kind of curve in each window of the prices."""
    scores = load().run(curves.windows(prices))
    return [curve["kind"] for curve in curves.detected_curves(scores, len(prices))]


@pytest.mark.parametrize("load", [curves.with_onnx, curves.with_numpy])
@pytest.mark.parametrize("kind", SHAPES)
def test_clear_curves_are_seen(kind, load):
    """The model finds lines, waves, corners and parabolas, and calls a fast oscillation flat."""
    for shape in SHAPES[kind]:
        largest = max(map(abs, shape)) or 1.0
        assert detected_kinds([100 + 20 * value / largest for value in shape], load) == [kind]


@given(
    st.sampled_from(sorted(SHAPES.keys() - {"flat"})),
    st.floats(0.05, 10),
    st.floats(0.01, 1e9),
    st.lists(st.floats(-1, 1), min_size=16, max_size=16),
)
def test_a_curve_is_seen_at_any_size(kind, height, level, noise):
    """A curve of 5% of the price or more is found at any price level, despite 10% of noise."""
    shape = SHAPES[kind][0]
    largest = max(map(abs, shape))
    prices = [
        level * (1 + height * (value / largest + 0.1 * deviation))
        for value, deviation in zip(shape, noise, strict=True)
    ]
    assert detected_kinds(prices) == [kind]


@given(st.floats(0.01, 1e9), st.lists(st.floats(-1, 1), min_size=16, max_size=16))
def test_what_hardly_moves_is_flat(level, noise):
    """Random prices that vary by 0.2% are flat."""
    assert detected_kinds([level * (1 + 0.002 * value) for value in noise]) == ["flat"]


@given(PRICES)
def test_both_runtimes_say_the_same(prices):
    """ONNX Runtime and NumPy return the same scores for any prices; a row of scores sums to 1."""
    rows = curves.windows(prices)
    by_onnx, by_numpy = (load().run(rows) for load in (curves.with_onnx, curves.with_numpy))
    assert np.allclose(by_onnx, by_numpy, rtol=0, atol=1e-6)
    assert np.allclose(by_onnx.sum(axis=1), 1)


def test_the_file_is_what_the_script_makes():
    """`curve.onnx` holds exactly the bytes that `curves.build` makes of the weights."""
    assert build.model() == curves.FILE.read_bytes()


@given(st.integers(16, 200))
def test_windows_cover_all_prices(count):
    """The windows cover all prices, and the last window ends with the last price."""
    covered = {start + n for start in curves.starts(count) for n in range(16)}
    assert covered == set(range(count))
    assert curves.windows(range(count))[-1].tolist() == list(range(count - 16, count))
