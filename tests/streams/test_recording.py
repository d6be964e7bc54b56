"""Tests of recordings: a `Recorder` records a stream of bytes, and a `Recording` plays it back.

A recording holds the chunks, the gaps before them in seconds, the media type and the error at the
end. It is saved to a file of JSON lines that people can read.
"""

import asyncio
import doctest
import time
from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import Text, Turn, VirtualClock, WireStream
from pytest_streamperf.exceptions import RecordingError
from pytest_streamperf.streams import recording
from pytest_streamperf.streams.chunking import at, fixed, per_byte
from pytest_streamperf.streams.faults import CommentFlood, Duplicate
from pytest_streamperf.streams.pacing import Stalled
from pytest_streamperf.streams.recording import Recorder, Recording
from pytest_streamperf.streams.strategies import arrivals

# The first line of the file of a recording.
HEAD_LINE = '{"recording": 1, "media_type": "text/event-stream"}\n'


def chunks_with_times(stream):
    """Return the chunks of a stream, each with its arrival time in seconds from the start."""
    start = time.monotonic()
    return [(time.monotonic() - start, chunk) for chunk in stream]


@st.composite
def recordings(draw):
    """Make recordings of any chunks, gaps, media type and error."""
    chunks = draw(st.lists(st.binary(min_size=1) | st.text(min_size=1).map(str.encode)))
    gaps = draw(arrivals(len(chunks)))
    return Recording(tuple(chunks), tuple(gaps), draw(st.text(min_size=1)), draw(st.text()))


@given(recording=recordings())
def test_a_file_loses_nothing(tmp_path_factory, recording):
    """A recording that is saved and loaded again has equal chunks, gaps, media type and error."""
    path = tmp_path_factory.mktemp("recordings") / "reply.jsonl"
    recording.save(path)
    assert Recording.load(path) == recording


@given(recording=recordings())
def test_a_recording_plays_at_its_own_pace(recording):
    """A recording without an error plays its chunks back at the recorded times."""
    whole = replace(recording, error="").stream()
    with VirtualClock():
        arrived = chunks_with_times(whole)
    assert [chunk for _, chunk in arrived] == list(recording.chunks)
    assert [at for at, _ in arrived] == list(accumulate(recording.gaps))


def test_what_is_recorded_is_handed_on():
    """A recorder hands on each chunk, and its recording plays the same chunks at the same times."""
    stream = WireStream(Turn(Text("Grüße")), cut=fixed(7), every=Stalled(3, 2.0, every=0.25))
    recorder = Recorder()
    with VirtualClock():
        live = chunks_with_times(recorder(stream))
        replayed = chunks_with_times(recorder.recording.stream())
    assert replayed == live
    assert [chunk for _, chunk in live] == list(stream.deltas)


def test_async_streams_are_recorded_too():
    """`Recorder.aiter` records an async stream and hands on its chunks."""
    stream = WireStream(Turn(Text("Hi")), every=0.25)
    recorder = Recorder()

    async def main():
        return [chunk async for chunk in recorder.aiter(stream)]

    with VirtualClock(), asyncio.Runner() as runner:
        assert runner.run(main()) == list(stream.deltas)
    assert recorder.recording.gaps == (0.0, *[0.25] * (len(stream) - 1))


def test_a_recording_may_be_cut_anew():
    """A chunk of a recording with another cut arrives at the recorded time of its last byte."""
    recording = Recording((b"abc", b"de"), (1.0, 0.5))
    with VirtualClock():
        assert chunks_with_times(recording.stream(cut=at(2, 4))) == [
            (1.0, b"ab"),
            (1.5, b"cd"),
            (1.5, b"e"),
        ]
        assert [at for at, _ in chunks_with_times(recording.stream(cut=per_byte))] == [1.0] * 3 + [
            1.5
        ] * 2


def test_a_recording_may_have_another_pace():
    """A recording can be played back at another pace, or with no pace at all."""
    recording = Recording((b"abc", b"de"), (1.0, 0.5))
    with VirtualClock():
        assert chunks_with_times(recording.stream(every=0.0)) == [(0.0, b"abc"), (0.0, b"de")]


def test_what_broke_off_breaks_off_again():
    """A recording of a stream that failed fails with the same error text at its end.

    The recorder raises the original error, and forgets it when it records the next stream.
    """

    def chunks():
        yield b"data"
        raise TimeoutError("no more came")

    recorder = Recorder()
    with pytest.raises(TimeoutError):
        list(recorder(chunks()))
    with pytest.raises(ConnectionError, match="TimeoutError: no more came"):
        list(recorder.recording.stream())
    assert list(recorder([b"again"])) == [b"again"]
    assert recorder.recording.chunks == (b"again",)
    assert not recorder.recording.error


def test_faults_of_a_recording():
    """Faults count the chunks of a recording after its cut, and keep its pace and its error."""
    recording = Recording((b"abc", b"de"), (1.0, 0.5), error="gone")
    stream = recording.stream(cut=at(2, 4)).with_fault(Duplicate(1))
    assert stream.deltas == [b"ab", b"cd", b"cd", b"e"]
    assert str(stream.error) == "gone"
    with VirtualClock():
        whole = replace(recording, error="").stream().with_fault(Duplicate(1))
        assert chunks_with_times(whole) == [(1.0, b"abc"), (1.5, b"de"), (1.5, b"de")]


def test_faults_of_a_recording_know_what_it_is():
    """A comment flood in a recording of JSON lines consists of empty lines."""
    recording = Recording((b"{}\n",), (0.0,), "application/x-ndjson; charset=utf-8")
    stream = recording.stream().with_fault(CommentFlood(after=1, comments=2))
    assert stream.deltas == [b"{}\n", b"\n", b"\n"]


def test_the_file_can_be_read(tmp_path):
    """The file of a recording has a line for each chunk, with text where the bytes are UTF-8."""
    path = tmp_path / "reply.jsonl"
    Recording(("data: ü".encode(), "ü".encode()[:1]), (0.25, 0.5), error="gone").save(path)
    assert path.read_text(encoding="utf-8") == HEAD_LINE + (
        '{"after": 0.25, "text": "data: ü"}\n{"after": 0.5, "base64": "ww=="}\n{"error": "gone"}\n'
    )


def test_a_recorder_is_bounded():
    """A recorder raises a `ValueError` when more bytes arrive than it may hold."""
    with pytest.raises(ValueError, match="the recording is longer than 4 bytes"):
        list(Recorder(most=4)([b"data", b": 1"]))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("", "the file is empty"),
        ("data: 1\n", r":1: \{\"recording\": 1, \"media_type\": \"...\"\} was expected"),
        ('{"recording": 2, "media_type": ""}\n', ":1: "),
        (HEAD_LINE + "[]\n", ":2: .* was expected, not '\\[\\]'"),
        (HEAD_LINE + '{"text": "a"}\n', ":2: "),
        (HEAD_LINE + '{"after": 1, "base64": "!"}\n', ":2: "),
        (HEAD_LINE + '{"error": ""}\n{"after": 1, "text": "a"}\n', ":3: "),
        (HEAD_LINE + '{"after": 1, "text": "a"}\n{"after": "soon", "text": "a"}\n', ":3: "),
        (HEAD_LINE + '{"after": -1, "text": "a"}\n', ":2: .*seconds from 0 on.* was expected"),
        (HEAD_LINE + '{"after": NaN, "text": "a"}\n', ":2: "),
        (HEAD_LINE + '{"after": Infinity, "text": "a"}\n', ":2: "),
        (HEAD_LINE + f'{{"after": 1{"0" * 400}, "text": "a"}}\n', ":2: "),
        (HEAD_LINE + "[" * 100_000 + "\n", r":2: .* was expected, not '\[{60}'$"),
    ],
)
def test_what_is_no_recording(tmp_path, text, pattern):
    """A bad file raises a `RecordingError` with the number of the line and the expected form."""
    path = tmp_path / "reply.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError, match=pattern):
        Recording.load(path)


def test_a_file_that_is_no_text(tmp_path):
    """A line that is not UTF-8 raises a `RecordingError` with the number of the line."""
    path = tmp_path / "reply.jsonl"
    path.write_bytes(HEAD_LINE.encode() + b'{"after": 1, "text": "\xff"}\n')
    with pytest.raises(RecordingError, match=r":2: .* was expected, not .*\ufffd"):
        Recording.load(path)


def test_a_gap_for_each_chunk():
    """A recording with more gaps than chunks raises a `ValueError`."""
    with pytest.raises(ValueError, match="there are 1 chunks and 2 gaps"):
        Recording((b"a",), (0.0, 1.0))


def test_examples_in_docstrings():
    """The doctests of `streams.recording` pass."""
    failed, attempted = doctest.testmod(recording)
    assert attempted
    assert not failed
