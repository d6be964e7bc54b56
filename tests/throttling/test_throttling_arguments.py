"""Tests of the arguments of counters and throttles: a number and a text with a unit mean the same.

Each case uses one argument and returns a result that depends on it, such as a headline or a time.
"""

import time

import pytest

from pytest_streamperf import (
    FlushCounter,
    ThrottlingExceeded,
    ThrottlingInconclusive,
    TokenStream,
    UpdateCounter,
    VirtualClock,
)
from pytest_streamperf.throttling.mutants import THROTTLE_MUTANTS, Throttle


def headline(check, **arguments):
    """Return the headline of a check, whatever its verdict is."""
    try:
        return check(**arguments).headline
    except (ThrottlingExceeded, ThrottlingInconclusive) as failure:
        return failure.verdict.headline


def throttled_headline(**arguments):
    """Return the headline of `assert_throttled` for a correct throttle of 100 ms."""
    with VirtualClock():
        stream = TokenStream(40, every=0.02)
        counter = UpdateCounter(of=stream)
        throttle = Throttle(lambda _key, value: counter(value), 0.1)
        for delta in stream:
            throttle.feed(delta)
        throttle.end()
    return headline(counter.assert_throttled, **{"every": 0.1, "trailing": "next", **arguments})


def coalesced_headline(**arguments):
    """Return the headline of `assert_coalesced` for ten flushes of 10 bytes a second."""
    with VirtualClock():
        stream = TokenStream(["ten bytes."] * 30, every=0.1)
        counter = FlushCounter(of=stream)
        push = counter.call(len)
        for delta in stream:
            time.sleep(0.05)
            push(delta.encode())
    return headline(counter.assert_coalesced, **arguments)


def update_seconds(slow):
    """Return how long an update takes with this argument `slow`, in seconds."""
    with VirtualClock() as clock:
        UpdateCounter(slow=slow)("a")
        return clock.now


def update_times(every, make=Throttle):
    """Return when a throttle sends its updates, in seconds of a virtual clock."""
    with VirtualClock() as clock:
        sent = []
        throttle = make(lambda _key, _value: sent.append(clock.now), every)
        for delta in TokenStream(40, every=0.02):
            throttle.feed(delta)
        throttle.end()
    return sent


# A function that uses one argument, the argument's name, a number, and a text with the same value.
ARGUMENTS = [
    pytest.param(
        lambda every: throttled_headline(every=every), "every", 0.1, "100ms", id="every: kept"
    ),
    pytest.param(
        lambda every: throttled_headline(every=every), "every", 2, "2s", id="every: exceeded"
    ),
    pytest.param(
        lambda tolerance: throttled_headline(every=0.11, tolerance=tolerance),
        "tolerance",
        0.02,
        "20ms",
        id="assert_throttled.tolerance",
    ),
    pytest.param(
        lambda limit: throttled_headline(max_total_bytes=limit),
        "max_total_bytes",
        10,
        "10B",
        id="max_total_bytes: exceeded",
    ),
    pytest.param(
        lambda limit: throttled_headline(max_total_bytes=limit),
        "max_total_bytes",
        1024,
        "1KiB",
        id="max_total_bytes: kept",
    ),
    pytest.param(update_seconds, "slow", 0.25, "250ms", id="UpdateCounter.slow"),
    pytest.param(
        lambda limit: coalesced_headline(per_second=limit),
        "per_second",
        5,
        "5/s",
        id="per_second: exceeded",
    ),
    pytest.param(
        lambda limit: coalesced_headline(per_second=limit),
        "per_second",
        20.0,
        "20/s",
        id="per_second: kept",
    ),
    pytest.param(
        lambda limit: coalesced_headline(bytes_per_flush=limit),
        "bytes_per_flush",
        1000,
        "1kB",
        id="bytes_per_flush",
    ),
    pytest.param(
        lambda limit: coalesced_headline(max_held=limit),
        "max_held",
        0.01,
        "10ms",
        id="max_held: exceeded",
    ),
    pytest.param(
        lambda limit: coalesced_headline(max_held=limit),
        "max_held",
        0.06,
        "60ms",
        id="max_held: kept",
    ),
    pytest.param(
        lambda tolerance: coalesced_headline(max_held=0.01, tolerance=tolerance),
        "tolerance",
        0.05,
        "50ms",
        id="assert_coalesced.tolerance",
    ),
    pytest.param(update_times, "every", 0.1, "100ms", id="Throttle.every"),
    *(
        pytest.param(
            lambda every, make=make: update_times(every, make),
            "every",
            0.1,
            "100ms",
            id=f"make: {name}",
        )
        for name, make in THROTTLE_MUTANTS.items()
    ),
]


# The functions and names of the cases above, for values that every argument refuses.
USES = [pytest.param(*case.values[:2], id=case.id) for case in ARGUMENTS]


@pytest.mark.parametrize(("use", "_name", "number", "text"), ARGUMENTS)
def test_a_number_and_a_text_mean_the_same(use, _name, number, text):
    """A number, and a text with a unit for the same value, give the same result."""
    assert use(number) == use(text)


@pytest.mark.parametrize(("use", "name"), USES)
@pytest.mark.parametrize(("value", "error"), [("5 parsec", ValueError), (True, TypeError)])
def test_a_wrong_unit_names_the_argument(use, name, value, error):
    """A text with a wrong unit, or a bool, raises an error that names the argument."""
    with pytest.raises(error, match=f"^{name} must be .*, not {value!r}$"):
        use(value)


def test_a_mean_need_not_be_whole():
    """`bytes_per_flush` limits an average, so a fraction of a byte changes the headline."""
    assert coalesced_headline(bytes_per_flush=10.0) != coalesced_headline(bytes_per_flush=10.5)


def test_an_interval_of_nothing_is_refused():
    """An interval `every` of 0 seconds raises a `ValueError`."""
    with pytest.raises(ValueError, match=r"^every must be more than 0 seconds, not '0ms'$"):
        throttled_headline(every="0ms")
