"""OpenAI's chat completions: turns as they are sent, and what is wrong is told."""

import doctest
import json

import pytest

from pytest_streamperf import Failure, Reasoning, Text, ToolCall, ToolCallDelta, Turn, Usage
from pytest_streamperf.wire import WireError, openai_chat, sse
from pytest_streamperf.wire.openai_chat import Decoder, encode

TURN = Turn(
    Reasoning("Hm."),
    Text("Hi"),
    ToolCall("search", {"q": 1}),
    ToolCall("read", {}),
    usage=Usage(3, 4),
)


def chunks_of(turn):
    """The JSON of each chunk."""
    return [json.loads(event.data) for event in sse.decode(b"".join(encode(turn))[:-14])]


def test_a_turn_as_the_service_sends_it():
    """The role first, a call's name before its arguments, then the reason, the usage, the end."""
    chunks = chunks_of(TURN)
    assert {(each["object"], each["model"]) for each in chunks} == {
        ("chat.completion.chunk", "scripted")
    }
    deltas = [choice["delta"] for each in chunks for choice in each["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert [call["index"] for call in calls if "id" in call] == [0, 1]
    assert calls[0] == {
        "index": 0,
        "id": "call_0",
        "type": "function",
        "function": {"name": "search", "arguments": ""},
    }
    assert calls[1].keys() == {"index", "function"}
    reasons = [choice["finish_reason"] for each in chunks for choice in each["choices"]]
    assert reasons == [None] * (len(reasons) - 1) + ["tool_calls"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
    }
    assert b"".join(encode(TURN)).endswith(b"\n\ndata: [DONE]\n\n")


def test_a_turn_without_calls_stops():
    """The reason is another."""
    assert chunks_of(Turn(Text("Hi")))[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_failure_is_the_last_word():
    """An error in a chunk's place, and no end after it."""
    *_, last = encode(Turn(Text("Hi"), Failure("Overloaded")))
    assert json.loads(last.removeprefix(b"data: ")) == {
        "error": {"message": "Overloaded", "type": "server_error"}
    }


def told(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chosen(delta):
    return told({"choices": [{"delta": delta}]})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"data: {\n\n", "data must be JSON, not '{': Expecting property name"),
        (b"data: 7\n\n", "data must be an object, not 7"),
        (told({}), "choices must be an array, not None"),
        (told({"choices": 7}), "choices must be an array, not 7"),
        (told({"choices": [7]}), "delta must be an object, not None"),
        (chosen({"content": 7}), "content must be a string, not 7"),
        (chosen({"tool_calls": {}}), "tool_calls must be an array, not {}"),
        (chosen({"tool_calls": [{"index": True}]}), "index must be a whole number, not True"),
        (
            chosen({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
            "a tool call begins with its id and name, which index 1 has not had",
        ),
        (told({"error": "no"}), "error must be an object, not 'no'"),
        (
            told({"choices": [], "usage": {"prompt_tokens": "3"}}),
            "prompt_tokens must be a whole number, not '3'",
        ),
    ],
)
def test_what_is_wrong_is_told(wrong, said):
    """With where it is; what was decoded before it is not lost."""
    decoder = Decoder()
    before = chosen({"content": "Hi"})
    with pytest.raises(WireError) as raised:
        decoder.feed(before + wrong + chosen({"content": "there"}))
    assert str(raised.value).startswith(said)
    assert raised.value.decoded == ["Hi"]
    assert (raised.value.offset, raised.value.number) == (len(before + wrong), 2)


def test_a_line_that_is_too_long_keeps_what_came_before():
    """The deltas, that is, not the events."""
    decoder = Decoder()
    with pytest.raises(WireError, match="a line of more than") as raised:
        decoder.feed(chosen({"content": "Hi"}) + b"data: " + bytes(17 * 2**20))
    assert raised.value.decoded == ["Hi"]


def test_a_stream_that_ends_too_soon():
    """It is told from one that is whole."""
    decoder = Decoder()
    decoder.feed(chosen({"content": "Hi"}))
    with pytest.raises(
        WireError, match=r"too soon: data: \[DONE\] was expected, at byte 51, after 1 event$"
    ):
        decoder.close()


def test_nothing_comes_after_the_end():
    """A second answer on the same stream is none."""
    decoder = Decoder()
    with pytest.raises(WireError, match="nothing may come after the end"):
        decoder.feed(b"data: [DONE]\n\n" + chosen({"content": "Hi"}))


def test_a_call_in_one_chunk():
    """Some servers send the name and all the arguments at once."""
    function = {"name": "search", "arguments": "{}"}
    call = {"index": 0, "id": "a", "type": "function", "function": function}
    assert Decoder().feed(chosen({"tool_calls": [call]})) == [ToolCallDelta(0, "a", "search", "{}")]


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(openai_chat).failed == 0
