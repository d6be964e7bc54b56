"""Ollama's chat: turns as they are sent, and what is wrong is told."""

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
    """A line for each piece, arguments as an object, and the counters at the end."""
    turn = Turn(Reasoning("Hm."), Text("Hi"), ToolCall("search", {"q": 1}), usage=Usage(3, 4))
    lines = [json.loads(line) for line in b"".join(encode(turn)).splitlines()]
    assert "".join(line["message"].get("thinking", "") for line in lines) == "Hm."
    assert "".join(line["message"]["content"] for line in lines) == "Hi"
    (calls,) = (each["message"]["tool_calls"] for each in lines if "tool_calls" in each["message"])
    assert calls == [{"function": {"name": "search", "arguments": {"q": 1}}}]
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    last = lines[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("stop", 3, 4)


def test_a_failure_is_the_last_word():
    """An error in a line's place."""
    assert [*encode(Turn(Failure("out of memory")))] == [b'{"error":"out of memory"}\n']


HI = ndjson.encode({"message": {"content": "Hi"}, "done": False})


@pytest.mark.parametrize(
    ("wrong", "said"),
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
def test_what_is_wrong_is_told(wrong, said, assert_refused):
    """With where it is; what was decoded before it is not lost."""
    assert_refused(Decoder(), HI, wrong, said, number=1)


@given(places=st.lists(st.integers(1, 12)))
def test_an_endless_line(places):
    """It ends the stream, and is where it begins, however that is cut."""
    decoder, lines = ndjson.Decoder(longest=8), []

    def read():
        for piece in at(*sorted({*places}))([b"\r\n1\n123456789\n"]):
            for line in decoder.iter_events(piece):
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
    """All of them, or the one that is 0, as where the prompt was cached."""
    decoder = Decoder()
    assert decoder.feed(ndjson.encode({"message": {}, "done": True, **counters})) == []
    decoder.close()
    assert decoder.usage == usage


def test_a_stream_that_ends_too_soon():
    """It is told from one that is whole."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match='too soon: "done": true was expected'):
        decoder.close()


@pytest.mark.parametrize("module", [ndjson, ollama_chat])
def test_docstring_examples(module):
    """What the documentation shows is what happens."""
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed
