"""Tests of the functions that read times, shares, rates and sizes from numbers and texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf._results.units import (
    argument,
    bytes_of,
    fraction_of,
    interval_of,
    mean_bytes_of,
    optional_argument,
    rate_of,
    seconds_of,
    share_of,
)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (seconds_of, "200ms", 0.2),
        (seconds_of, " 1.5 s ", 1.5),
        (seconds_of, "50us", 0.00005),
        (seconds_of, "2min", 120.0),
        (seconds_of, "10MS", 0.01),
        (seconds_of, 0.2, 0.2),
        (share_of, "25%", 0.25),
        (share_of, "0.5 %", 0.005),
        (share_of, 1, 1),
        (rate_of, "10/s", 10.0),
        (rate_of, "10 /S", 10.0),
        (rate_of, 10, 10),
        (bytes_of, "64MiB", 2**26),
        (bytes_of, "1.5 kB", 1500),
        (bytes_of, 5, 5),
        (mean_bytes_of, 1.5, 1.5),
        (mean_bytes_of, "1.5kB", 1500),
        (interval_of, "50ms", 0.05),
        (fraction_of, "0%", 0),
        (fraction_of, "100%", 1),
    ],
)
def test_what_people_write(read, text, value):
    """A function of `units` reads a text with a unit, or a plain number of the base unit."""
    assert read(text) == value


@pytest.mark.parametrize("value", ["", "5", "5 parsec", "-1s", "1e3s", "5%%", None, True, [], -1])
@pytest.mark.parametrize(
    ("read", "example"),
    [
        (seconds_of, "200ms"),
        (interval_of, "200ms"),
        (share_of, "25%"),
        (fraction_of, "50%"),
        (rate_of, "10/s"),
        (bytes_of, "64MiB"),
        (mean_bytes_of, "64MiB"),
    ],
)
def test_what_is_wrong(read, example, value):
    """The error for an invalid value repeats the value and shows an example of a valid one."""
    with pytest.raises(ValueError, match=f"must be .*{example}.*, not ") as raised:
        read(value)
    assert str(raised.value).endswith(f"not {value!r}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), pytest.param(10**400, id="huge")])
@pytest.mark.parametrize("read", [seconds_of, share_of, rate_of, bytes_of])
def test_no_number_is_infinite(read, value):
    """NaN, infinity and an integer beyond the range of floats are errors."""
    with pytest.raises(ValueError, match="must be"):
        read(value)


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (share_of, 0),
        (share_of, "101%"),
        (fraction_of, 1.5),
        (interval_of, "0s"),
        (rate_of, "0.5/s"),
        (rate_of, 0),
    ],
)
def test_out_of_range(read, value):
    """A number out of its range is an error.

    A share of 0 could never hold, and less than once a second is written as a time, not as a rate.
    """
    with pytest.raises(ValueError, match="must be"):
        read(value)


@given(st.integers(0, 10**6))
def test_units_are_factors(number):
    """A millisecond is 1,000 microseconds, and a kilobyte is 1,000 bytes."""
    assert seconds_of(f"{number}ms") == pytest.approx(seconds_of(f"{number * 1000}us"))
    assert bytes_of(f"{number}kB") == bytes_of(f"{number * 1000}B")


@pytest.mark.parametrize(
    ("value", "error"),
    [("soon", ValueError), (-1, ValueError), (None, TypeError), (True, TypeError)],
)
def test_an_argument_is_named_in_its_error(value, error):
    """The error for an argument names it; a value of a wrong type raises `TypeError`."""
    with pytest.raises(error, match=r"^timeout must be a time, .*, not "):
        argument("timeout", seconds_of, value)
    assert argument("timeout", seconds_of, "2min") == 120


def test_an_argument_may_be_left_out():
    """An optional argument may be None; any other value is read as usual."""
    assert optional_argument("timeout", seconds_of, None) is None
    assert optional_argument("timeout", seconds_of, "2min") == 120
    with pytest.raises(TypeError, match=r"^timeout must be a time"):
        optional_argument("timeout", seconds_of, [])


@pytest.mark.parametrize("number", [3, 1e-12, 0.1 + 0.2, 1.7e308, 10**30])
def test_a_number_is_not_rounded(number):
    """A number is returned unchanged; only the product of a text's number and unit is rounded."""
    assert seconds_of(number) is number
    assert seconds_of("0.3ms") == 0.0003
