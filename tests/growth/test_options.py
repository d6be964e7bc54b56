"""The arguments of a growth check are declared once, and read as numbers or text with units."""

from dataclasses import fields

import pytest

from pytest_streamperf import measure_growth
from pytest_streamperf.growth.options import METRICS, GrowthArguments, GrowthOptions


def test_arguments_and_options_have_the_same_names():
    """`GrowthArguments` and `GrowthOptions` declare the same names in the same order."""
    assert [field.name for field in fields(GrowthOptions)] == [*GrowthArguments.__annotations__]


def test_every_option_is_documented():
    """The docstring of `measure_growth` has a line for each option."""
    for name in GrowthArguments.__annotations__:
        assert f"- `{name}`, " in measure_growth.__doc__


def test_defaults_are_those_of_the_dataclass():
    """`GrowthOptions.of` without arguments returns the defaults."""
    assert GrowthOptions.of() == GrowthOptions()


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [
        ("seconds", "500ms", 0.5),
        ("seconds", 3, 3),
        ("timeout", "1min", 60.0),
        ("max_superlinear", "30%", 0.3),
        ("max_superlinear", 1, 1),
        ("sizes", [400, 100, 200], (100, 200, 400)),
        ("metrics", ["calls"], ("calls",)),
    ],
)
def test_values_are_read_with_their_units(name, value, option):
    """Times and shares may be numbers or text with a unit; `sizes` becomes a sorted tuple."""
    assert getattr(GrowthOptions.of(**{name: value}), name) == option


def test_a_served_stream_is_counted_by_calls():
    """The option `serve=` halves `up_to` again and again to get the lengths of the streams.

    By default, only calls are measured then.
    """
    options = GrowthOptions.of(serve="openai-chat", up_to=256)
    assert options.sizes == (32, 64, 128, 256)
    assert options.metrics == ("calls",)
    assert GrowthOptions.of(serve="openai-chat", metrics=METRICS[:1]).metrics == METRICS[:1]


def test_the_maximum_length_is_the_longest_size():
    """The maximum length of a check is the largest of `sizes=`, or `up_to=` without sizes."""
    assert GrowthOptions.of(sizes=(10, 40, 20)).max_length == 40
    assert GrowthOptions.of(up_to=500).max_length == 500
