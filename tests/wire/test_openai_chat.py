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
        (chosen({"content": 0}), "content must be a string, not 0"),
        (chosen({"reasoning_content": []}), "reasoning_content must be a string, not []"),
        (chosen({"tool_calls": {}}), "tool_calls must be an array, not {}"),
        (chosen({"tool_calls": [{"index": True}]}), "index must be a whole number, not True"),
        (
            chosen({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
            "the tool call at index 1 must begin with its id and its name",
        ),
        (
            chosen({"tool_calls": [{"index": 0, "id": "a", "function": None}]}),
            "name must be a string, not None",
        ),
        (
            chosen({"tool_calls": [{"index": 0, "id": "a", "function": {"name": 7}}]}),
            "name must be a string, not 7",
        ),
        (told({"error": "no"}), "error must be an object, not 'no'"),
        (told({"error": {}}), "message must be a string, not None"),
        (told({"error": {"message": "no", "type": 500}}), "type must be a string, not 500"),
        (
            told({"choices": [], "usage": {"prompt_tokens": "3"}}),
            "prompt_tokens must be a whole number, not '3'",
        ),
    ],
)
def test_what_is_wrong_is_told(wrong, said, assert_refused):
    """With where it is; what was decoded before it is not lost."""
    assert_refused(Decoder(), chosen({"content": "Hi"}), wrong, said, number=1)


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


def called(**call):
    return chosen({"tool_calls": [{"index": 0, **call}]})


def test_what_servers_leave_out_or_say_again():
    """Null is as good as nothing; an id that is said again, or empty, begins no other call."""
    stream = (
        called(id="a", type="function", function={"name": "search", "arguments": None})
        + chosen({"content": None, "reasoning_content": None, "tool_calls": None})
        + called(id=None, function={"arguments": "{"})
        + called(id="a", function={"name": None, "arguments": None})
        + called(id="", function={"name": "", "arguments": "}"})
        + called(function=None)
        + told({"choices": [], "usage": None, "error": None})
    )
    assert Decoder().feed(stream) == [
        ToolCallDelta(0, "a", "search", "{"),
        ToolCallDelta(0, "a", "search", "}"),
    ]


def test_another_id_is_another_call():
    """Also where the server counts all of them as the first."""
    stream = b"".join(called(id=id_, function={"name": "read", "arguments": "{}"}) for id_ in "ab")
    assert Decoder().feed(stream) == [
        ToolCallDelta(0, "a", "read", "{}"),
        ToolCallDelta(1, "b", "read", "{}"),
    ]


@pytest.mark.parametrize("function", [{"name": "stop"}, {"name": "stop", "arguments": ""}])
def test_a_call_that_never_has_arguments(function):
    """It is given when no more can come."""
    decoder = Decoder()
    assert decoder.feed(called(id="a", function=function)) == []
    assert decoder.feed(b"data: [DONE]\n\n") == [ToolCallDelta(0, "a", "stop", "")]


@pytest.mark.parametrize("error", [{"message": "no"}, {"message": "no", "type": None}])
def test_an_error_without_a_type(error):
    """It has the type that failures have."""
    assert Decoder().feed(told({"error": error})) == [Failure("no")]


def test_the_end_after_an_error():
    """Some servers say it all the same, once."""
    decoder = Decoder()
    done = b"data: [DONE]\n\n"
    assert decoder.feed(told({"error": {"message": "no"}}) + done) == [Failure("no")]
    decoder.close()
    with pytest.raises(WireError, match="nothing may come after the end"):
        decoder.feed(done)


def test_a_refusal_is_text():
    """The model says it."""
    assert Decoder().feed(chosen({"content": None, "refusal": "No."})) == ["No."]


def test_a_call_in_one_chunk():
    """Some servers send the name and all the arguments at once."""
    function = {"name": "search", "arguments": "{}"}
    call = {"index": 0, "id": "a", "type": "function", "function": function}
    assert Decoder().feed(chosen({"tool_calls": [call]})) == [ToolCallDelta(0, "a", "search", "{}")]


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(openai_chat).failed == 0
