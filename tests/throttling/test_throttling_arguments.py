"""Arguments of counters and throttles are numbers or texts with a unit, and both mean the same."""

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


def throttled(**arguments):
    """Check a good throttle of 100 ms: what `assert_throttled` says of it."""
    with VirtualClock():
        stream = TokenStream(40, every=0.02)
        counter = UpdateCounter(of=stream)
        throttle = Throttle(lambda _key, value: counter(value), 0.1)
        for delta in stream:
            throttle.feed(delta)
        throttle.end()
    return headline(counter.assert_throttled, **{"every": 0.1, "trailing": "next", **arguments})


def coalesced(**arguments):
    """Check ten flushes a second: what `assert_coalesced` says of them."""
    with VirtualClock():
        stream = TokenStream(["ten bytes."] * 30, every=0.1)
        counter = FlushCounter(of=stream)
        push = counter.call(len)
        for delta in stream:
            time.sleep(0.05)
            push(delta.encode())
    return headline(counter.assert_coalesced, **arguments)


def slow(seconds):
    """Return how long an update takes, in seconds."""
    with VirtualClock() as clock:
        UpdateCounter(slow=seconds)("a")
        return clock.now


def updates(every, make=Throttle):
    """Return when a throttle sends, in seconds of a virtual clock."""
    with VirtualClock() as clock:
        sent = []
        throttle = make(lambda _key, _value: sent.append(clock.now), every)
        for delta in TokenStream(40, every=0.02):
            throttle.feed(delta)
        throttle.end()
    return sent


ARGUMENTS = [
    pytest.param(lambda every: throttled(every=every), "every", 0.1, "100ms", id="every: kept"),
    pytest.param(lambda every: throttled(every=every), "every", 2, "2s", id="every: exceeded"),
    pytest.param(
        lambda tolerance: throttled(every=0.11, tolerance=tolerance),
        "tolerance",
        0.02,
        "20ms",
        id="assert_throttled.tolerance",
    ),
    pytest.param(
        lambda most: throttled(max_total_bytes=most),
        "max_total_bytes",
        10,
        "10B",
        id="max_total_bytes: exceeded",
    ),
    pytest.param(
        lambda most: throttled(max_total_bytes=most),
        "max_total_bytes",
        1024,
        "1KiB",
        id="max_total_bytes: kept",
    ),
    pytest.param(slow, "slow", 0.25, "250ms", id="UpdateCounter.slow"),
    pytest.param(
        lambda rate: coalesced(per_second=rate), "per_second", 5, "5/s", id="per_second: exceeded"
    ),
    pytest.param(
        lambda rate: coalesced(per_second=rate), "per_second", 20.0, "20/s", id="per_second: kept"
    ),
    pytest.param(
        lambda least: coalesced(bytes_per_flush=least),
        "bytes_per_flush",
        1000,
        "1kB",
        id="bytes_per_flush",
    ),
    pytest.param(
        lambda held: coalesced(max_held=held), "max_held", 0.01, "10ms", id="max_held: exceeded"
    ),
    pytest.param(
        lambda held: coalesced(max_held=held), "max_held", 0.06, "60ms", id="max_held: kept"
    ),
    pytest.param(
        lambda tolerance: coalesced(max_held=0.01, tolerance=tolerance),
        "tolerance",
        0.05,
        "50ms",
        id="assert_coalesced.tolerance",
    ),
    pytest.param(updates, "every", 0.1, "100ms", id="Throttle.every"),
    *(
        pytest.param(
            lambda every, make=make: updates(every, make), "every", 0.1, "100ms", id=f"make: {name}"
        )
        for name, make in THROTTLE_MUTANTS.items()
    ),
]


USES = [pytest.param(*each.values[:2], id=each.id) for each in ARGUMENTS]


@pytest.mark.parametrize(("use", "_name", "number", "text"), ARGUMENTS)
def test_a_number_and_a_text_mean_the_same(use, _name, number, text):
    """A number and the text with a unit for it give the same result."""
    assert use(number) == use(text)


@pytest.mark.parametrize(("use", "name"), USES)
@pytest.mark.parametrize(("value", "error"), [("5 parsec", ValueError), (True, TypeError)])
def test_a_wrong_unit_names_the_argument(use, name, value, error):
    """A text with another unit is a `ValueError`, and another type a `TypeError`."""
    with pytest.raises(error, match=f"^{name} must be .*, not {value!r}$"):
        use(value)


def test_a_mean_need_not_be_whole():
    """`bytes_per_flush` limits an average, so a part of a byte counts."""
    assert coalesced(bytes_per_flush=10.0) != coalesced(bytes_per_flush=10.5)


def test_an_interval_of_nothing_is_refused():
    """No update at most once in no time: `every` has to be more than 0."""
    with pytest.raises(ValueError, match=r"^every must be more than 0 seconds, not '0ms'$"):
        throttled(every="0ms")
