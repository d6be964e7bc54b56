"""The model that sees curves: what it says, by both runtimes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impl import curves
from reference_impl.curves import build

AT = [place - 7.5 for place in range(16)]
SHAPES = {
    "rising": [AT, [math.exp(x / 10) for x in AT], [math.atan(x) for x in AT]],
    "falling": [[-x for x in AT], [math.exp(-x / 10) for x in AT]],
    "peak": [[-x * x for x in AT], [math.cos(x / 5) for x in AT], [-abs(x) for x in AT]],
    "trough": [[x * x for x in AT], [abs(x) for x in AT], [math.cosh(x / 5) for x in AT]],
    "flat": [[0.0] * 16, [(-1) ** n for n in range(16)], [math.sin(2.5 * x) for x in AT]],
}
PRICES = st.lists(st.floats(-1e12, 1e12), min_size=16, max_size=80)


def kinds(prices, load=curves.with_numpy):
    """What is seen, window by window."""
    scores = load().run(curves.windows(prices))
    return [each["kind"] for each in curves.found(scores, len(prices))]


@pytest.mark.parametrize("load", [curves.with_onnx, curves.with_numpy])
@pytest.mark.parametrize("kind", SHAPES)
def test_clear_curves_are_seen(kind, load):
    """Lines, waves, corners and parabolas; what goes up and down all the time is flat."""
    for shape in SHAPES[kind]:
        top = max(map(abs, shape)) or 1.0
        assert kinds([100 + 20 * each / top for each in shape], load) == [kind]


@given(
    st.sampled_from(sorted(SHAPES.keys() - {"flat"})),
    st.floats(0.05, 10),
    st.floats(0.01, 1e9),
    st.lists(st.floats(-1, 1), min_size=16, max_size=16),
)
def test_a_curve_is_seen_at_any_size(kind, height, level, noise):
    """Of 5% of the price and more, with a tenth of noise."""
    shape = SHAPES[kind][0]
    top = max(map(abs, shape))
    prices = [
        level * (1 + height * (each / top + 0.1 * off))
        for each, off in zip(shape, noise, strict=True)
    ]
    assert kinds(prices) == [kind]


@given(st.floats(0.01, 1e9), st.lists(st.floats(-1, 1), min_size=16, max_size=16))
def test_what_hardly_moves_is_flat(level, noise):
    """A fifth of a percent."""
    assert kinds([level * (1 + 0.002 * each) for each in noise]) == ["flat"]


@given(PRICES)
def test_both_runtimes_say_the_same(prices):
    """Of whatever is sent."""
    rows = curves.windows(prices)
    by_onnx, by_numpy = (each().run(rows) for each in (curves.with_onnx, curves.with_numpy))
    assert np.allclose(by_onnx, by_numpy, rtol=0, atol=1e-6)
    assert np.allclose(by_onnx.sum(axis=1), 1)


def test_the_file_is_what_the_script_makes():
    """Of the weights that NumPy takes: `python -m reference_impl.curves.build`."""
    assert build.model() == curves.FILE.read_bytes()


@given(st.integers(16, 200))
def test_windows_cover_all_prices(count):
    """And none goes beyond."""
    seen = {start + n for start in curves.starts(count) for n in range(16)}
    assert seen == set(range(count))
    assert curves.windows(range(count))[-1].tolist() == list(range(count - 16, count))
