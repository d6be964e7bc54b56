"""Arguments of streams are numbers or texts with a unit, and both mean the same."""

import time

import pytest

from pytest_streamperf import Text, TokenStream, VirtualClock
from pytest_streamperf.streams.chunking import at_random, fixed
from pytest_streamperf.streams.faults import EndlessLine, RateLimit
from pytest_streamperf.streams.pacing import Bursts, Jittered, Stalled, slow_first
from pytest_streamperf.streams.recording import Recorder, Recording

RECORDING = Recording((b"data: 1", b"\n\n", b"data: 2"), (0.0, 0.1, 0.1))
BYTES = b"The reply of a model comes in small pieces. " * 60


def arrivals(stream):
    """Return when each delta of a stream came, in seconds of a virtual clock."""
    with VirtualClock():
        start = time.monotonic()
        return [time.monotonic() - start for _ in stream]


def paced(pace):
    """Return when the deltas of a stream with this pace come."""
    return arrivals(TokenStream(4, every=pace))


def recorded(most):
    """Return how many chunks a recorder takes before it refuses more bytes."""
    recorder = Recorder(most=most)
    with pytest.raises(ValueError, match="the recording is longer than 1,000 bytes"):
        list(recorder([b"x" * 300] * 4))
    return len(recorder.recording.chunks)


def retry_after(seconds):
    """Return what the error of a rate limit asks for."""
    error = TokenStream(1).with_fault(RateLimit(seconds)).error
    return error.header, error.retry_after


ARGUMENTS = [
    pytest.param(paced, "every", 0.05, "50ms", id="TokenStream.every"),
    pytest.param(paced, "every", [0, 0.05, 2, 0.1], [0, "50ms", "2s", 0.1], id="TokenStream.gaps"),
    pytest.param(
        lambda every: arrivals(TokenStream.turn(Text("so it goes"), every=every)),
        "every",
        1.5,
        "1.5s",
        id="TokenStream.turn.every",
    ),
    pytest.param(
        lambda every: arrivals(TokenStream.tool_call(3, every=every)),
        "every",
        60,
        "1min",
        id="TokenStream.tool_call.every",
    ),
    pytest.param(
        lambda every: arrivals(RECORDING.stream(every=every)),
        "every",
        0.2,
        "200ms",
        id="Recording.stream.every",
    ),
    pytest.param(
        lambda every: paced(Jittered(every, seed=3)), "every", 0.05, "50ms", id="Jittered.every"
    ),
    pytest.param(
        lambda part: paced(Jittered(0.1, part, seed=3)), "part", 0.25, "25%", id="Jittered.part"
    ),
    pytest.param(lambda every: paced(Bursts(2, every)), "every", 0.5, "500ms", id="Bursts.every"),
    pytest.param(
        lambda seconds: paced(Stalled(2, seconds, 0.1)), "seconds", 3.0, "3s", id="Stalled.seconds"
    ),
    pytest.param(
        lambda every: paced(Stalled(2, 1.0, every)), "every", 0.1, "100ms", id="Stalled.every"
    ),
    pytest.param(
        lambda seconds: paced(slow_first(seconds)), "seconds", 0.7, "700ms", id="slow_first.seconds"
    ),
    pytest.param(
        lambda every: paced(slow_first(1.0, every)), "every", 0.1, "100ms", id="slow_first.every"
    ),
    pytest.param(retry_after, "retry_after", 30, "30s", id="RateLimit.retry_after"),
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
    pytest.param(recorded, "most", 1000, "1kB", id="Recorder.most"),
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


def test_a_gap_with_a_wrong_unit_names_the_argument():
    """One bad gap of many is repeated in the error."""
    with pytest.raises(ValueError, match=r"^every must be a time, .*, not '5%'$"):
        TokenStream(3, every=[0.1, "5%", 0.1])


def test_a_pace_of_numbers_is_kept_as_it_is():
    """A list of measured gaps is not copied; only texts in it are read."""
    gaps = [0, 0.0000000001, 0.1]
    assert TokenStream(3, every=gaps).every is gaps
    assert TokenStream(3, every=["1s", "50ms", 0.1, 0.2]).every == (1.0, 0.05, 0.1)


def test_a_short_time_is_not_rounded():
    """A number is taken as it is, also where a text would be rounded to a nanosecond."""
    assert TokenStream(3, every=1e-12).every == 1e-12
    assert Stalled(1, 1e-12).seconds == 1e-12
