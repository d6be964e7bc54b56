"""The same tests, with the same budgets, of code that got slow: none of them would fail without."""

import hashlib
import time

import pytest


class View:
    """Shows text with every delta."""

    def __init__(self, show):
        self.show = show
        self.text = []

    def feed(self, delta):
        self.text.append(delta)
        self.show("".join(self.text))


@pytest.mark.streamperf(updates_every="100ms", max_gap="250ms")
def test_the_view(virtual_clock, token_stream, update_counter):
    stream = token_stream(tokens=500, every=0.02)
    view = View(update_counter(of=stream, value=lambda call: call.args[0]))
    for delta in stream:
        view.feed(delta)
    assert len(view.text) == 500


def digest(stream):
    pieces = [delta.encode() for delta in stream]  # all of them, to hash them in one go
    return hashlib.sha256(b"".join(pieces)).hexdigest()


@pytest.mark.streamperf(peak_memory="500kB")
def test_the_digest(token_stream):
    stream = token_stream(tokens=20_000)
    assert digest(stream) == digest(stream)


@pytest.mark.streamperf(max_gap="100ms")
def test_a_reader(virtual_clock, token_stream):
    text = []
    for number, delta in enumerate(token_stream(tokens=20, every=0.02)):
        text.append(delta)
        if number == 10:
            time.sleep(0.4)  # a retry that waits in the loop that reads
    assert len(text) == 20
