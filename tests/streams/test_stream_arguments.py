"""Tests of the arguments of streams: a number and a text with a unit mean the same.

Each case uses one argument and returns a result that depends on it, such as times or chunks.
"""

import time

import pytest

from pytest_streamperf import Text, TokenStream, VirtualClock
from pytest_streamperf.streams.chunking import at_random, fixed
from pytest_streamperf.streams.faults import EndlessLine, RateLimit
from pytest_streamperf.streams.pacing import Bursts, Jittered, Stalled, slow_first
from pytest_streamperf.streams.recording import Recorder, Recording

# Inputs for the cases: a recording with gaps to replace, and bytes to cut into chunks.
RECORDING = Recording((b"data: 1", b"\n\n", b"data: 2"), (0.0, 0.1, 0.1))
BYTES = b"The reply of a model comes in small pieces. " * 60


def arrival_times(stream):
    """Return when each delta of a stream arrives, in seconds of a virtual clock."""
    with VirtualClock():
        start = time.monotonic()
        return [time.monotonic() - start for _ in stream]


def times_at_pace(pace):
    """Return when the four deltas of a stream with this pace arrive, in seconds."""
    return arrival_times(TokenStream(4, every=pace))


def recorded_chunks(most):
    """Return the number of chunks that a recorder accepts before it refuses more bytes."""
    recorder = Recorder(most=most)
    with pytest.raises(ValueError, match="the recording is longer than 1,000 bytes"):
        list(recorder([b"x" * 300] * 4))
    return len(recorder.recording.chunks)


def rate_limit_values(seconds):
    """Return the `Retry-After` header of a rate limit, and its seconds as a number."""
    error = TokenStream(1).with_fault(RateLimit(seconds)).error
    return error.header, error.retry_after


# A function that uses one argument, the argument's name, a number, and a text with the same value.
ARGUMENTS = [
    pytest.param(times_at_pace, "every", 0.05, "50ms", id="TokenStream.every"),
    pytest.param(
        times_at_pace, "every", [0, 0.05, 2, 0.1], [0, "50ms", "2s", 0.1], id="TokenStream.gaps"
    ),
    pytest.param(
        lambda every: arrival_times(TokenStream.turn(Text("so it goes"), every=every)),
        "every",
        1.5,
        "1.5s",
        id="TokenStream.turn.every",
    ),
    pytest.param(
        lambda every: arrival_times(TokenStream.tool_call(3, every=every)),
        "every",
        60,
        "1min",
        id="TokenStream.tool_call.every",
    ),
    pytest.param(
        lambda every: arrival_times(RECORDING.stream(every=every)),
        "every",
        0.2,
        "200ms",
        id="Recording.stream.every",
    ),
    pytest.param(
        lambda every: times_at_pace(Jittered(every, seed=3)),
        "every",
        0.05,
        "50ms",
        id="Jittered.every",
    ),
    pytest.param(
        lambda part: times_at_pace(Jittered(0.1, part, seed=3)),
        "part",
        0.25,
        "25%",
        id="Jittered.part",
    ),
    pytest.param(
        lambda every: times_at_pace(Bursts(2, every)), "every", 0.5, "500ms", id="Bursts.every"
    ),
    pytest.param(
        lambda seconds: times_at_pace(Stalled(2, seconds, 0.1)),
        "seconds",
        3.0,
        "3s",
        id="Stalled.seconds",
    ),
    pytest.param(
        lambda every: times_at_pace(Stalled(2, 1.0, every)),
        "every",
        0.1,
        "100ms",
        id="Stalled.every",
    ),
    pytest.param(
        lambda seconds: times_at_pace(slow_first(seconds)),
        "seconds",
        0.7,
        "700ms",
        id="slow_first.seconds",
    ),
    pytest.param(
        lambda every: times_at_pace(slow_first(1.0, every)),
        "every",
        0.1,
        "100ms",
        id="slow_first.every",
    ),
    pytest.param(rate_limit_values, "retry_after", 30, "30s", id="RateLimit.retry_after"),
    pytest.param(
        lambda size: len(b"".join(EndlessLine(0, size)([]))),
        "size",
        64 * 1024,
        "64KiB",
        id="EndlessLine.size",
    ),
    pytest.param(lambda size: list(fixed(size)([BYTES])), "size", 1000, "1kB", id="fixed.size"),
    pytest.param(
        lambda most: list(at_random(1, most=most)([BYTES])),
        "most",
        1024,
        "1KiB",
        id="at_random.most",
    ),
    pytest.param(recorded_chunks, "most", 1000, "1kB", id="Recorder.most"),
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


def test_a_gap_with_a_wrong_unit_names_the_argument():
    """A gap with a wrong unit in a pace raises a `ValueError` that shows the gap."""
    with pytest.raises(ValueError, match=r"^every must be a time, .*, not '5%'$"):
        TokenStream(3, every=[0.1, "5%", 0.1])


def test_a_pace_of_numbers_is_kept_as_it_is():
    """A stream keeps a list of numbers as its pace, and converts only a list that holds texts."""
    gaps = [0, 0.0000000001, 0.1]
    assert TokenStream(3, every=gaps).every is gaps
    assert TokenStream(3, every=["1s", "50ms", 0.1, 0.2]).every == (1.0, 0.05, 0.1)


def test_a_short_time_is_not_rounded():
    """A time given as a number is not rounded, unlike a text, which is rounded to a nanosecond."""
    assert TokenStream(3, every=1e-12).every == 1e-12
    assert Stalled(1, 1e-12).seconds == 1e-12
