"""Budgets on existing tests: a marker measures the test as it stands, and its body says nothing."""

import hashlib
import time

import pytest


class View:
    """Shows text ten times a second at most."""

    def __init__(self, show):
        self.show = show
        self.text = []
        self.shown_at = -1.0
        self.shown = 0

    def feed(self, delta):
        self.text.append(delta)
        if time.monotonic() - self.shown_at >= 0.1:
            self.update()

    def update(self):
        self.show("".join(self.text))
        self.shown_at, self.shown = time.monotonic(), len(self.text)

    def end(self):
        if self.shown < len(self.text):
            self.update()


@pytest.mark.streamperf(updates_every="100ms", max_gap="250ms")
def test_the_view(virtual_clock, token_stream, update_counter):
    stream = token_stream(tokens=500, every=0.02)
    view = View(update_counter(of=stream, value=lambda call: call.args[0]))
    for delta in stream:
        view.feed(delta)
    view.end()
    assert view.shown == 500


def digest(stream):
    found = hashlib.sha256()
    for delta in stream:
        found.update(delta.encode())
    return found.hexdigest()


@pytest.mark.streamperf(peak_memory="500kB")
def test_the_digest(token_stream):
    stream = token_stream(tokens=20_000)
    assert digest(stream) == digest(stream)


@pytest.mark.parametrize(
    "every",
    [0.02, pytest.param(0.5, marks=pytest.mark.streamperf(max_gap="1s"))],
)
@pytest.mark.streamperf(max_gap="100ms")
def test_a_reader(virtual_clock, token_stream, every):
    assert "".join(token_stream(tokens=20, every=every))
