"""Limits of `assert_smooth`: numbers, or texts with a unit, that mean the same.

A `StallWatch` measures the responsiveness of the code inside it; `assert_smooth` checks the
measurements against limits. Here the measurements are made up.
"""

import time
from types import SimpleNamespace

import pytest

from pytest_streamperf import (
    NothingMeasured,
    ResponsivenessExceeded,
    StallWatch,
    TokenStream,
    VirtualClock,
)
from pytest_streamperf.responsiveness.gc_pauses import Pause
from pytest_streamperf.responsiveness.stalls import Stall


@pytest.fixture
def watch():
    """Return a finished watch with gaps of 1 s, a stall of 60 ms, a pause of 30 ms, and 3 MB."""
    with VirtualClock(), StallWatch(peak_memory=True) as watch:
        time.sleep(0.5)
        stream = TokenStream(3, every=1.0)
        watch.follow(stream)
        list(stream)
    watch._stalls = SimpleNamespace(stalls=[Stall(0.06, "app.py:3", "", sure=True)])
    watch._pauses = SimpleNamespace(pauses=[Pause(0.03, 2, sure=True)], generations={})
    watch._peak = 3_000_000
    watch._shares = FixedShares({"json:loads": 0.5})
    return watch


class FixedShares(dict):
    """Test double for the CPU shares of a watch: it returns the shares that it was given."""

    def taken(self):
        return dict(self)


def headline(watch, **limits):
    """Return the headline of `assert_smooth`, whatever its verdict is."""
    watch._memory = "max_stall" not in limits  # a watch that traces memory cannot check stalls
    try:
        return watch.assert_smooth(**limits).headline
    except ResponsivenessExceeded as failure:
        return failure.verdict.headline


# Rows of a limit's argument, its value as a number, and the same value as a text with a unit.
LIMITS = [
    ("max_first", 0.2, "200ms"),
    ("max_first", 2, "2s"),
    ("max_gap", 0.5, "500ms"),
    ("max_gap", 60.0, "1min"),
    ("max_stall", 0.05, "50ms"),
    ("max_stall", 0.1, "0.1s"),
    ("max_gc_pause", 0.02, "20ms"),
    ("max_gc_pause", 0.00005, "50us"),
    ("max_gc_pause", 1, "1s"),
    ("peak_memory", 1_000_000, "1MB"),
    ("peak_memory", 4 * 2**20, "4MiB"),
]


@pytest.mark.parametrize(("name", "number", "text"), LIMITS)
def test_a_number_and_a_text_mean_the_same(watch, name, number, text):
    """A limit as a number and as a text with a unit gives the same verdict and headline."""
    assert headline(watch, **{name: number}) == headline(watch, **{name: text})


@pytest.mark.parametrize(("number", "text"), [(0.2, "20%"), (1, "100%")])
def test_a_share_and_a_percentage_mean_the_same(watch, number, text):
    """A limit on a CPU share may be a part of 1 or a percentage, with the same headline."""
    numbers, texts = ({"json:loads": share} for share in (number, text))
    assert headline(watch, cpu_share=numbers) == headline(watch, cpu_share=texts)
    assert ("limit 20%" in headline(watch, cpu_share=texts)) is (text == "20%")


@pytest.mark.parametrize("name", sorted({name for name, _, _ in LIMITS}))
@pytest.mark.parametrize(("value", "error"), [("5 parsec", ValueError), (True, TypeError)])
def test_a_wrong_unit_names_the_argument(watch, name, value, error):
    """A limit with a wrong unit or type raises an error that names its argument."""
    with pytest.raises(error, match=f"^{name} must be .*, not {value!r}$"):
        watch.assert_smooth(**{name: value})


@pytest.mark.parametrize(
    ("shares", "error", "message_start"),
    [
        ({"json:loads": "5 parsec"}, ValueError, "cpu_share of json:loads must be a share, "),
        ({"json:loads": 0}, ValueError, "cpu_share of json:loads must be a share, "),
        ({"json:loads": None}, TypeError, "cpu_share of json:loads must be a share, "),
        ("20%", TypeError, "cpu_share must be a mapping, as "),
    ],
)
def test_a_wrong_share_names_the_function(watch, shares, error, message_start):
    """An error about a CPU share names the function that the share is for."""
    with pytest.raises(error, match=f"^{message_start}"):
        watch.assert_smooth(cpu_share=shares)


def test_what_is_measured_has_the_name_of_its_limit():
    """The advice for a limit on something unmeasured names the argument of `StallWatch` to pass."""
    with StallWatch() as watch:
        pass
    with pytest.raises(NothingMeasured, match="peak_memory=True"):
        watch.assert_smooth(peak_memory="1MB")
    with pytest.raises(NothingMeasured, match=r"cpu_share=\['json:loads'\]"):
        watch.assert_smooth(cpu_share={"json:loads": "1%"})
