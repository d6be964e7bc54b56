"""Tests of `ollama-chat` and NDJSON: the lines of a turn, their decoding, and refused lines."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_streamperf import Failure, Reasoning, Text, ToolCall, Turn, Usage
from pytest_streamperf.streams.chunking import at
from pytest_streamperf.wire import WireError, ndjson, ollama_chat
from pytest_streamperf.wire.ollama_chat import Decoder, encode


def test_a_turn_as_the_service_sends_it():
    """A turn is encoded as a line for each delta, tool calls as objects, and a line of counters."""
    turn = Turn(Reasoning("Hm."), Text("Hi"), ToolCall("search", {"q": 1}), usage=Usage(3, 4))
    lines = [json.loads(line) for line in b"".join(encode(turn)).splitlines()]
    assert "".join(line["message"].get("thinking", "") for line in lines) == "Hm."
    assert "".join(line["message"]["content"] for line in lines) == "Hi"
    (calls,) = (line["message"]["tool_calls"] for line in lines if "tool_calls" in line["message"])
    assert calls == [{"function": {"name": "search", "arguments": {"q": 1}}}]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    last = lines[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 3, 4)


def test_a_failure_is_the_last_word():
    """A turn that fails ends with an error in place of the next line."""
    assert [*encode(Turn(Failure("out of memory")))] == [b'{"error":"out of memory"}\n']


HI = ndjson.encode({"message": {"content": "Hi"}, "done": False})


@pytest.mark.parametrize(
    ("bad_event", "message"),
    [
        (b"{\n", "data must be JSON, not '{'"),
        (b"7\n", "data must be an object, not 7"),
        (b"{}\n", "message must be an object, not None"),
        (b'{"error": 7}\n', "error must be a string, not 7"),
        (
            ndjson.encode({"message": {"tool_calls": [{"function": {"name": "a"}}]}}),
            "arguments must be an object, not None",
        ),
        (ndjson.encode({"message": {"content": 0}}), "content must be a string, not 0"),
        (ndjson.encode({"message": {"thinking": []}}), "thinking must be a string, not []"),
        (
            ndjson.encode({"message": {}, "done": True, "prompt_eval_count": "3"}),
            "prompt_eval_count must be a whole number, not '3'",
        ),
        (b'{"\xff": 1}\n', "a line must be UTF-8, but decoding fails at its byte 2"),
    ],
)
def test_what_is_wrong_is_told(bad_event, message, assert_refused):
    """A decoder refuses an invalid event: it names the place and keeps the deltas before it."""
    assert_refused(Decoder(), HI, bad_event, message, number=1)


@given(places=st.lists(st.integers(1, 12)))
def test_an_endless_line(places):
    """A line over the limit is an error at the offset where it begins, for every chunking."""
    decoder, lines = ndjson.Decoder(longest=8), []

    def read():
        for chunk in at(*sorted({*places}))([b"\r\n1\n123456789\n"]):
            for line in decoder.iter_events(chunk):
                lines.append(line)

    with pytest.raises(WireError, match="more than 8 bytes, at byte 4, after 1 event"):
        read()
    assert lines == ["1"]


@pytest.mark.parametrize(
    ("counters", "usage"),
    [
        ({}, None),
        ({"prompt_eval_count": None, "eval_count": None}, None),
        ({"eval_count": 4}, Usage(0, 4)),
        ({"prompt_eval_count": 3, "eval_count": 4}, Usage(3, 4)),
    ],
)
def test_counters_may_be_left_out(counters, usage):
    """A missing counter counts as 0, as for a cached prompt; without any there is no usage."""
    decoder = Decoder()
    assert decoder.feed(ndjson.encode({"message": {}, "done": True, **counters})) == []
    decoder.close()
    assert decoder.usage == usage


def test_a_stream_that_ends_too_soon():
    """A stream without the last event of a turn is an error when the decoder is closed."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match='too soon: "done": true was expected'):
        decoder.close()


@pytest.mark.parametrize("module", [ndjson, ollama_chat])
def test_docstring_examples(module):
    """The doctests of the modules `ndjson` and `ollama_chat` pass."""
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
