"""The same client with two faults that no test of whole events would ever see."""

import json

from pytest_streamperf import Text, Turn, WireStream
from pytest_streamperf.growth.chunking_invariance import assert_chunking_invariant


def sent(text):
    """The bytes of a reply."""
    return b"".join(WireStream(Turn(Text(text))).deltas)


def text_in(events):
    """The text of complete events."""
    said = [event.removeprefix("data: ") for event in events]
    chunks = [json.loads(data) for data in said if data != "[DONE]"]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def decodes_each_chunk(chunks):
    buffer, said = "", ""
    for chunk in chunks:
        buffer += chunk.decode(errors="replace")
        *events, buffer = buffer.split("\n\n")
        said += text_in(events)
    return said


def buffers_again(chunks):
    received = b""
    for chunk in chunks:
        received += chunk
    *events, _rest = received.decode(errors="ignore").split("\n\n")
    return text_in(events)


def test_characters_are_cut():
    assert_chunking_invariant(decodes_each_chunk, sent("Käse"))


def test_everything_is_copied_again():
    assert_chunking_invariant(buffers_again, sent("one line after the other\n" * 3))
