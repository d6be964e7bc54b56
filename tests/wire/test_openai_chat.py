"""Tests of the dialect `openai-chat`: the chunks of a turn, decoding, and refused chunks."""

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
    """Return the parsed JSON of each chunk that encodes `turn`, without the last, [DONE]."""
    return [json.loads(event.data) for event in sse.decode(b"".join(encode(turn))[:-14])]


def test_a_turn_as_the_service_sends_it():
    """A turn is encoded as the role, the deltas, the finish reason, the usage and [DONE].

    A tool call begins with its id and name, before its arguments.
    """
    chunks = chunks_of(TURN)
    assert {(chunk["object"], chunk["model"]) for chunk in chunks} == {
        ("chat.completion.chunk", "scripted")
    }
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
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
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert reasons == [None] * (len(reasons) - 1) + ["tool_calls"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
    }
    assert b"".join(encode(TURN)).endswith(b"\n\ndata: [DONE]\n\n")


def test_a_turn_without_calls_stops():
    """A turn without tool calls has the finish reason "stop"."""
    assert chunks_of(Turn(Text("Hi")))[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_failure_is_the_last_word():
    """A turn that fails ends with an error in place of the next chunk, without [DONE]."""
    *_, last = encode(Turn(Text("Hi"), Failure("Overloaded")))
    assert json.loads(last.removeprefix(b"data: ")) == {
        "error": {"message": "Overloaded", "type": "server_error"}
    }


def chunk_bytes(value):
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def choice_bytes(delta):
    return chunk_bytes({"choices": [{"delta": delta}]})


@pytest.mark.parametrize(
    ("bad_event", "message"),
    [
        (b"data: {\n\n", "data must be JSON, not '{': Expecting property name"),
        (b"data: 7\n\n", "data must be an object, not 7"),
        (chunk_bytes({}), "choices must be an array, not None"),
        (chunk_bytes({"choices": 7}), "choices must be an array, not 7"),
        (chunk_bytes({"choices": [7]}), "delta must be an object, not None"),
        (choice_bytes({"content": 7}), "content must be a string, not 7"),
        (choice_bytes({"content": 0}), "content must be a string, not 0"),
        (choice_bytes({"reasoning_content": []}), "reasoning_content must be a string, not []"),
        (choice_bytes({"tool_calls": {}}), "tool_calls must be an array, not {}"),
        (choice_bytes({"tool_calls": [{"index": True}]}), "index must be a whole number, not True"),
        (
            choice_bytes({"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]}),
            "the tool call at index 1 must begin with its id and its name",
        ),
        (
            choice_bytes({"tool_calls": [{"index": 0, "id": "a", "function": None}]}),
            "name must be a string, not None",
        ),
        (
            choice_bytes({"tool_calls": [{"index": 0, "id": "a", "function": {"name": 7}}]}),
            "name must be a string, not 7",
        ),
        (chunk_bytes({"error": "no"}), "error must be an object, not 'no'"),
        (chunk_bytes({"error": {}}), "message must be a string, not None"),
        (chunk_bytes({"error": {"message": "no", "type": 500}}), "type must be a string, not 500"),
        (
            chunk_bytes({"choices": [], "usage": {"prompt_tokens": "3"}}),
            "prompt_tokens must be a whole number, not '3'",
        ),
    ],
)
def test_what_is_wrong_is_told(bad_event, message, assert_refused):
    """A decoder refuses an invalid event: it names the place and keeps the deltas before it."""
    assert_refused(Decoder(), choice_bytes({"content": "Hi"}), bad_event, message, number=1)


def test_a_line_that_is_too_long_keeps_what_came_before():
    """The error of a line over the limit holds the deltas before it, not the events."""
    decoder = Decoder()
    with pytest.raises(WireError, match="a line of more than") as raised:
        decoder.feed(choice_bytes({"content": "Hi"}) + b"data: " + bytes(17 * 2**20))
    assert raised.value.decoded == ["Hi"]


def test_a_stream_that_ends_too_soon():
    """A stream without the last event of a turn is an error when the decoder is closed."""
    decoder = Decoder()
    decoder.feed(choice_bytes({"content": "Hi"}))
    with pytest.raises(
        WireError, match=r"too soon: data: \[DONE\] was expected, at byte 51, after 1 event$"
    ):
        decoder.close()


def test_nothing_comes_after_the_end():
    """A chunk after [DONE] is refused."""
    decoder = Decoder()
    with pytest.raises(WireError, match="nothing may come after the end"):
        decoder.feed(b"data: [DONE]\n\n" + choice_bytes({"content": "Hi"}))


def call_bytes(**call):
    return choice_bytes({"tool_calls": [{"index": 0, **call}]})


def test_what_servers_leave_out_or_say_again():
    """A null member counts as missing, and a repeated or empty id continues the same call."""
    stream = (
        call_bytes(id="a", type="function", function={"name": "search", "arguments": None})
        + choice_bytes({"content": None, "reasoning_content": None, "tool_calls": None})
        + call_bytes(id=None, function={"arguments": "{"})
        + call_bytes(id="a", function={"name": None, "arguments": None})
        + call_bytes(id="", function={"name": "", "arguments": "}"})
        + call_bytes(function=None)
        + chunk_bytes({"choices": [], "usage": None, "error": None})
    )
    assert Decoder().feed(stream) == [
        ToolCallDelta(0, "a", "search", "{"),
        ToolCallDelta(0, "a", "search", "}"),
    ]


def test_another_id_is_another_call():
    """A new id begins a new tool call, even if the server sends index 0 for every call."""
    stream = b"".join(
        call_bytes(id=id_, function={"name": "read", "arguments": "{}"}) for id_ in "ab"
    )
    assert Decoder().feed(stream) == [
        ToolCallDelta(0, "a", "read", "{}"),
        ToolCallDelta(1, "b", "read", "{}"),
    ]


@pytest.mark.parametrize("function", [{"name": "stop"}, {"name": "stop", "arguments": ""}])
def test_a_call_that_never_has_arguments(function):
    """A tool call without arguments becomes one empty delta at the end of the stream."""
    decoder = Decoder()
    assert decoder.feed(call_bytes(id="a", function=function)) == []
    assert decoder.feed(b"data: [DONE]\n\n") == [ToolCallDelta(0, "a", "stop", "")]


@pytest.mark.parametrize("error", [{"message": "no"}, {"message": "no", "type": None}])
def test_an_error_without_a_type(error):
    """An error without a type becomes a `Failure` with the default type."""
    assert Decoder().feed(chunk_bytes({"error": error})) == [Failure("no")]


def test_the_end_after_an_error():
    """One [DONE] is allowed after an error, because some servers send it; a second is refused."""
    decoder = Decoder()
    done = b"data: [DONE]\n\n"
    assert decoder.feed(chunk_bytes({"error": {"message": "no"}}) + done) == [Failure("no")]
    decoder.close()
    with pytest.raises(WireError, match="nothing may come after the end"):
        decoder.feed(done)


def test_a_refusal_is_text():
    """A refusal of the model is decoded as text."""
    assert Decoder().feed(choice_bytes({"content": None, "refusal": "No."})) == ["No."]


def test_a_call_in_one_chunk():
    """A tool call that comes whole in one chunk, as from some servers, becomes one delta."""
    function = {"name": "search", "arguments": "{}"}
    call = {"index": 0, "id": "a", "type": "function", "function": function}
    assert Decoder().feed(choice_bytes({"tool_calls": [call]})) == [
        ToolCallDelta(0, "a", "search", "{}")
    ]


def test_docstring_examples():
    """The doctests of this dialect's module pass."""
    assert doctest.testmod(openai_chat).failed == 0
