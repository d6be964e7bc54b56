"""A client of one's own, on streams as they are in the wild: cut anywhere, broken, flooded."""

import codecs
import json

import pytest

from pytest_streamperf import Text, ToolCall, Turn, WireStream
from pytest_streamperf.growth.chunking_invariance import assert_chunking_invariant
from pytest_streamperf.streams.chunking import per_byte, worst_case
from pytest_streamperf.streams.faults import CommentFlood, Disconnect, ErrorEvent, Truncate
from pytest_streamperf.streams.pacing import Bursts, Stalled

TURN = Turn(Text("Grüße, 👩\u200d👧! " * 20), ToolCall("read", {"path": "ü.md"}))


class Client:
    """Reads chat completions, and keeps what is incomplete until the next chunk."""

    def __init__(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.line = []
        self.said = []
        self.done = False

    def feed(self, chunk):
        first, *others = self.decoder.decode(chunk).split("\n")
        self.line.append(first)
        for part in others:
            self.read("".join(self.line))
            self.line = [part]

    def read(self, line):
        if not line.startswith("data: "):
            return
        if line == "data: [DONE]":
            self.done = True
            return
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise RuntimeError(event["error"]["message"])
        self.said += [choice["delta"].get("content", "") for choice in event["choices"]]

    def end(self):
        if not self.done:
            raise EOFError("the reply is not complete")


def read(chunks):
    client = Client()
    for chunk in chunks:
        client.feed(chunk)
    client.end()
    return "".join(client.said)


def read_so_far(chunks):
    client = Client()
    for chunk in chunks:
        client.feed(chunk)
    return "".join(client.said)


def test_however_it_is_cut():
    data = b"".join(WireStream(TURN).deltas)
    assert_chunking_invariant(read_so_far, data[:4_000], examples=20)


@pytest.mark.parametrize("cut", [per_byte, worst_case])
def test_cuts_that_hurt(cut):
    assert read(WireStream(TURN, cut=cut)) == TURN.parts[0].text


@pytest.mark.parametrize("pace", [0.02, Bursts(8, every=0.5), Stalled(at=30, seconds=60.0)])
def test_any_pace(virtual_clock, pace):
    assert read(WireStream(TURN, every=pace)) == TURN.parts[0].text


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Disconnect(after=12), ConnectionResetError),
        (Truncate(after=12), EOFError),
        (ErrorEvent(after=12), RuntimeError),
    ],
)
def test_what_breaks_is_noticed(fault, error):
    with pytest.raises(error):
        read(WireStream(TURN).with_fault(fault))


def test_comments_are_no_text():
    stream = WireStream(TURN).with_fault(CommentFlood(after=3, comments=10_000))
    assert read(stream) == TURN.parts[0].text
