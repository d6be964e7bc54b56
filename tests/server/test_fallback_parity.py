"""Tests of `assert_fallback_parity`: which implementation differs, at which place, by how much."""

import math
from array import array
from decimal import Decimal
from functools import partial

import numpy as np
import pytest

from pytest_streamperf import NothingMeasured, ServerExceeded
from pytest_streamperf.server import assert_fallback_parity
from tests.failure_messages import headline_of


def fast(values):
    """Return each value and its square."""
    return [[value, value * value] for value in values]


def slow(values):
    """Yield each value and its square."""
    for value in values:
        yield value, value**2


def wrong(values):
    """Return each value and its square, which is 0.25 too large for values above 3."""
    return [[value, value * value + (0.25 if value > 3 else 0.0)] for value in values]


def headline_of_difference(*answers, tolerance=1e-6):
    """Return the headline of the failed check of implementations with these fixed answers."""
    named = {name: lambda _, answer=answer: answer for name, answer in zip("abc", answers)}  # noqa: B905
    with pytest.raises(ServerExceeded) as caught:
        assert_fallback_parity(named, inputs=[None], tolerance=tolerance)
    return headline_of(caught)


def agree(*answers, tolerance=1e-6):
    """Return whether implementations with these fixed answers agree; raise if they differ."""
    named = [lambda _, answer=answer: answer for answer in answers]
    return assert_fallback_parity(named, inputs=[None], tolerance=tolerance).verdict == "within"


def test_those_that_agree():
    """The verdict has the implementations, the inputs and the largest difference."""
    verdict = assert_fallback_parity([fast, slow], inputs=[[1.0, 2.0], [3.0]])
    assert verdict.headline == "fast, slow agree on 2 inputs, to 0, limit 1e-06"
    assert verdict.figures.given == {"implementations": "fast, slow", "inputs": 2, "values": 6}


@pytest.mark.parametrize("order", [(fast, slow, wrong), (wrong, fast, slow), (fast, wrong, slow)])
def test_the_one_that_differs(order):
    """The message names the implementation that differs, the input, the place and all values."""
    with pytest.raises(ServerExceeded) as caught:
        assert_fallback_parity(order, inputs=[[1.0], [1.0, 2.0, 4.0]])
    other = next(function.__name__ for function in order if function is not wrong)
    assert headline_of(caught) == f"wrong differs from {other} by 0.25 at [2][1], limit 1.6e-05"
    message = str(caught.value)
    assert "  wrong    16.25   <- differs\n" in message
    assert "given  inputs[1]: [1.0, 2.0, 4.0]\n" in message
    assert "allow  tolerance=0.02, of the largest number, which is 16.2" in message


def test_two_that_differ():
    """Of two implementations, the message names the second as the one that differs."""
    with pytest.raises(ServerExceeded, match="fast differs from wrong by"):
        assert_fallback_parity([wrong, fast], inputs=[[4.0]])


def test_what_is_allowed_is_enough():
    """The tolerance that the message suggests covers the largest difference of all places."""
    answers = [1.0, 1.0, 4.0], [1.1, 2.0, 4.0]
    with pytest.raises(ServerExceeded, match=r"by 0\.1 at \[0\].*\n(?s:.*)tolerance=0\.3,"):
        assert_fallback_parity([lambda _: answers[0], lambda _: answers[1]], inputs=[None])
    assert agree(*answers, tolerance=0.3)


def test_what_is_allowed_of_next_to_nothing():
    """The message suggests a valid tolerance even for the smallest difference of two floats."""
    answers = [1e10, 5e-324], [1e10, 0.0]
    with pytest.raises(ServerExceeded, match=r"allow  tolerance=3e-308, of the largest number"):
        assert_fallback_parity(
            [lambda _: answers[0], lambda _: answers[1]], inputs=[None], tolerance=0
        )
    assert agree(*answers, tolerance=3e-308)


@pytest.mark.parametrize(("other", "same"), [(1_000_001.0, True), (1_000_001.1, False)])
def test_the_limit(other, same):
    """The tolerance is a share of the largest number in both answers, at every place."""
    one, two = [0.0, 1_000_000.0], [0.0, other]
    assert (
        agree(one, two, tolerance=1e-6)
        if same
        else headline_of_difference(one, two, tolerance=1e-6)
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([[1.0, 2.0]]), array("d", [1.0, 2.0]).tolist()),
        (np.float64(math.nan), 1.0),
        (math.nan, 0.0),
        (math.inf, 1e308),
        (math.inf, -math.inf),
        (1e308, -1e308),
        ([1.0, 2.0], [1.0, 2.0, 3.0]),
        ([1.0], 1.0),
        ([], 1.0),
        ({"x": 1.0}, {"y": 1.0}),
        ("a", "b"),
        (True, False),
        ([1e9, True], [1e9, False]),
        (Decimal(1), 1.5),
        (10**400, 1.0),
        (b"ab", b"ac\0"),
        (None, 0),
        (5e-324, 0.0),
        (20_000_000, 20_000_010),
        ({"at": 1.79e12, "n": 5}, {"at": 1.79e12, "n": 90_000}),
        ({"at": 1.79e12, "raw": b"\0abc"}, {"at": 1.79e12, "raw": b"\xffxyz"}),
        ({"id": 10**12, "x": 0.5}, {"id": 10**12, "x": 0.9}),
        (b"ab", [97, 98]),
    ],
)
def test_what_differs(one, other):
    """Values of another shape or kind, and numbers that are too far apart, fail the check."""
    assert "differs from" in headline_of_difference(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array([[1.0, 2.0]]), [(1.0, 2.0)]),
        ([math.nan, math.inf, 1.0], [math.nan, math.inf, 1.0]),
        ({"x": [1, "a", None]}, {"x": (1.0, "a", None)}),
        (array("d", [1.0]), memoryview(array("d", [1.0]))),
        (10**400, 10**400),
        (Decimal("1.5"), Decimal("1.5000001")),
        ([0.0, -0.0], [-0.0, 0.0]),
        (range(3), [0, 1, 2]),
        (b"ab", bytearray(b"ab")),
        ([1_000_000, 1], [1_000_000.1, 1.1]),
    ],
)
def test_what_is_the_same(one, other):
    """Equal values in different containers agree, and NaN equals NaN."""
    assert agree(one, other)


def fails(error):
    """Return an implementation that raises `error`."""

    def failing(_):
        raise error

    return failing


def test_one_that_raises():
    """An implementation that raises, even late in its answer, differs from one that answers."""
    with pytest.raises(ServerExceeded) as caught:
        assert_fallback_parity({"fast": fast, "new": fails(ValueError("too few"))}, inputs=[[1.0]])
    assert headline_of(caught) == "new differs from fast: raises ValueError, not 1 value"
    assert "says   too few\n" in str(caught.value)
    with pytest.raises(ServerExceeded, match="late differs from fast: raises ZeroDivisionError"):
        assert_fallback_parity({"fast": fast, "late": lambda v: (1 / 0 for _ in v)}, inputs=[[1.0]])


def test_all_that_raise():
    """Errors of the same type measure nothing, and errors of two types differ."""
    raising = [fails(ValueError("a")), fails(ValueError("b"))]
    with pytest.raises(NothingMeasured, match=r"1 input, and no answer(?s:.*)raises ValueError"):
        assert_fallback_parity(raising, inputs=[1])
    with pytest.raises(ServerExceeded, match="raises TypeError, not raises ValueError"):
        assert_fallback_parity({"a": raising[0], "b": fails(TypeError())}, inputs=[1])


@pytest.mark.parametrize(
    ("implementations", "inputs", "message"),
    [
        ([], [1], "nothing has no other implementation to agree with"),
        ([fast], [[1.0]], "fast has no other implementation to agree with"),
        ([fast, slow], [], "0 inputs, and no answer with anything to compare"),
        ([fast, slow], [[], []], "2 inputs, and no answer with anything to compare"),
        ([lambda _: math.nan] * 2, [1], r"1 input, and no answer(?s:.*)the last was nan"),
        ([list.sort, lambda _: None], [[2, 1]], r"no answer(?s:.*)the last was None"),
        ([lambda _: ["", b"", {}]] * 2, [1], "1 input, and no answer with anything to compare"),
    ],
)
def test_nothing_to_measure(implementations, inputs, message):
    """A single implementation, no inputs, and answers without values measure nothing."""
    with pytest.raises(NothingMeasured, match=message):
        assert_fallback_parity(implementations, inputs=inputs)


def test_names():
    """A repeated name gets a number, and an object without a name goes by its type."""
    verdict = assert_fallback_parity([fast, fast, partial(fast)], inputs=[[1.0]])
    assert verdict.headline.startswith("fast, fast (2), partial agree")


@pytest.mark.parametrize("tolerance", [-1e-9, math.nan, math.inf])
def test_a_limit_that_is_none(tolerance):
    """A tolerance that is negative or not finite is a ValueError."""
    with pytest.raises(ValueError, match=r"tolerance=.* must be 0 or more, and finite"):
        assert_fallback_parity([fast, slow], inputs=[[1.0]], tolerance=tolerance)


def test_an_answer_that_has_to_be_awaited():
    """An implementation whose answer must be awaited is a TypeError."""

    async def later(_):
        return 1

    with pytest.raises(TypeError, match="later answers with an awaitable: give a function that"):
        assert_fallback_parity([later, later], inputs=[1])


def test_a_message_keeps_its_form():
    """A message keeps its width and its length, however long names, values and inputs are."""
    named = {"n" * 90: lambda _: "x" * 900, "m" * 90: lambda _: "\N{SNOWMAN}" * 900}
    with pytest.raises(ServerExceeded) as caught:
        assert_fallback_parity(named, inputs=["y" * 900])
    assert headline_of(caught).isascii()
