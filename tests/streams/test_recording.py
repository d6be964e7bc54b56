"""Recordings: nothing is lost, and the file is one that people can read."""

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

HEAD = '{"recording": 1, "media_type": "text/event-stream"}\n'


def taken(stream):
    """The chunks of a stream, each with the time it came at."""
    start = time.monotonic()
    return [(time.monotonic() - start, chunk) for chunk in stream]


@st.composite
def recorded(draw):
    """Recordings of anything."""
    chunks = draw(st.lists(st.binary(min_size=1) | st.text(min_size=1).map(str.encode)))
    gaps = draw(arrivals(len(chunks)))
    return Recording(tuple(chunks), tuple(gaps), draw(st.text(min_size=1)), draw(st.text()))


@given(recording=recorded())
def test_a_file_loses_nothing(tmp_path_factory, recording):
    """Bytes, where chunks end, times, and how it ended."""
    path = tmp_path_factory.mktemp("recordings") / "reply.jsonl"
    recording.save(path)
    assert Recording.load(path) == recording


@given(recording=recorded())
def test_a_recording_plays_at_its_own_pace(recording):
    """In virtual time."""
    whole = replace(recording, error="").stream()
    with VirtualClock():
        came = taken(whole)
    assert [chunk for _, chunk in came] == list(recording.chunks)
    assert [at for at, _ in came] == list(accumulate(recording.gaps))


def test_what_is_recorded_is_handed_on():
    """With the times at which it came; a stream and its recording are the same."""
    stream = WireStream(Turn(Text("Grüße")), cut=fixed(7), every=Stalled(3, 2.0, every=0.25))
    recorder = Recorder()
    with VirtualClock():
        live = taken(recorder(stream))
        again = taken(recorder.recording.stream())
    assert again == live
    assert [chunk for _, chunk in live] == list(stream.deltas)


def test_async_streams_are_recorded_too():
    """By `aiter`."""
    stream = WireStream(Turn(Text("Hi")), every=0.25)
    recorder = Recorder()

    async def main():
        return [chunk async for chunk in recorder.aiter(stream)]

    with VirtualClock(), asyncio.Runner() as runner:
        assert runner.run(main()) == list(stream.deltas)
    assert recorder.recording.gaps == (0.0, *[0.25] * (len(stream) - 1))


def test_a_recording_may_be_cut_anew():
    """A chunk comes when the last of its bytes did."""
    recording = Recording((b"abc", b"de"), (1.0, 0.5))
    with VirtualClock():
        assert taken(recording.stream(cut=at(2, 4))) == [(1.0, b"ab"), (1.5, b"cd"), (1.5, b"e")]
        assert [at for at, _ in taken(recording.stream(cut=per_byte))] == [1.0] * 3 + [1.5] * 2


def test_a_recording_may_have_another_pace():
    """None at all, say."""
    recording = Recording((b"abc", b"de"), (1.0, 0.5))
    with VirtualClock():
        assert taken(recording.stream(every=0.0)) == [(0.0, b"abc"), (0.0, b"de")]


def test_what_broke_off_breaks_off_again():
    """The error is recorded and goes on its way."""

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
    """They count its chunks, as it is cut; the pace stays, and so does how it ended."""
    recording = Recording((b"abc", b"de"), (1.0, 0.5), error="gone")
    stream = recording.stream(cut=at(2, 4)).with_fault(Duplicate(1))
    assert stream.deltas == [b"ab", b"cd", b"cd", b"e"]
    assert str(stream.error) == "gone"
    with VirtualClock():
        whole = replace(recording, error="").stream().with_fault(Duplicate(1))
        assert taken(whole) == [(1.0, b"abc"), (1.5, b"de"), (1.5, b"de")]


def test_faults_of_a_recording_know_what_it_is():
    """A comment is an empty line where lines are JSON."""
    recording = Recording((b"{}\n",), (0.0,), "application/x-ndjson; charset=utf-8")
    stream = recording.stream().with_fault(CommentFlood(after=1, comments=2))
    assert stream.deltas == [b"{}\n", b"\n", b"\n"]


def test_the_file_can_be_read(tmp_path):
    """A line for each chunk, in text where that is possible."""
    path = tmp_path / "reply.jsonl"
    Recording(("data: ü".encode(), "ü".encode()[:1]), (0.25, 0.5), error="gone").save(path)
    assert path.read_text(encoding="utf-8") == HEAD + (
        '{"after": 0.25, "text": "data: ü"}\n{"after": 0.5, "base64": "ww=="}\n{"error": "gone"}\n'
    )


def test_a_recorder_is_bounded():
    """It says so where more comes than it may hold."""
    with pytest.raises(ValueError, match="the recording is longer than 4 bytes"):
        list(Recorder(most=4)([b"data", b": 1"]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the file is empty"),
        ("data: 1\n", r":1: \{\"recording\": 1, \"media_type\": \"...\"\} was expected"),
        ('{"recording": 2, "media_type": ""}\n', ":1: "),
        (HEAD + "[]\n", ":2: .* was expected, not '\\[\\]'"),
        (HEAD + '{"text": "a"}\n', ":2: "),
        (HEAD + '{"after": 1, "base64": "!"}\n', ":2: "),
        (HEAD + '{"error": ""}\n{"after": 1, "text": "a"}\n', ":3: "),
        (HEAD + '{"after": 1, "text": "a"}\n{"after": "soon", "text": "a"}\n', ":3: "),
        (HEAD + '{"after": -1, "text": "a"}\n', ":2: .*seconds from 0 on.* was expected"),
        (HEAD + '{"after": NaN, "text": "a"}\n', ":2: "),
        (HEAD + '{"after": Infinity, "text": "a"}\n', ":2: "),
        (HEAD + f'{{"after": 1{"0" * 400}, "text": "a"}}\n', ":2: "),
        (HEAD + "[" * 100_000 + "\n", r":2: .* was expected, not '\[{60}'$"),
    ],
)
def test_what_is_no_recording(tmp_path, text, says):
    """Where it is wrong, and what was expected there."""
    path = tmp_path / "reply.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordingError, match=says):
        Recording.load(path)


def test_a_file_that_is_no_text(tmp_path):
    """The line that is not UTF-8 is named."""
    path = tmp_path / "reply.jsonl"
    path.write_bytes(HEAD.encode() + b'{"after": 1, "text": "\xff"}\n')
    with pytest.raises(RecordingError, match=r":2: .* was expected, not .*\ufffd"):
        Recording.load(path)


def test_a_gap_for_each_chunk():
    """No more and no fewer."""
    with pytest.raises(ValueError, match="there are 1 chunks and 2 gaps"):
        Recording((b"a",), (0.0, 1.0))


def test_examples_in_docstrings():
    """The module's doctests hold."""
    failed, attempted = doctest.testmod(recording)
    assert attempted
    assert not failed
