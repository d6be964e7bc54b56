"""Anthropic's messages: turns as they are sent, and what is wrong is told."""

import doctest
import json

import pytest

from pytest_streamperf import (
    Failure,
    Reasoning,
    ReasoningDelta,
    Text,
    ToolCall,
    ToolCallDelta,
    Turn,
    Usage,
)
from pytest_streamperf.wire import WireError, anthropic_messages, sse
from pytest_streamperf.wire.anthropic_messages import Decoder, encode

TURN = Turn(
    Reasoning("Hm."),
    Text("Hi"),
    ToolCall("search", {"q": 1}),
    ToolCall("read", {}),
    usage=Usage(3, 4),
)


def events_of(turn):
    """The data of each event."""
    events = sse.decode(b"".join(encode(turn)))
    assert [event.type for event in events] == [json.loads(event.data)["type"] for event in events]
    return [json.loads(event.data) for event in events]


def test_a_turn_as_the_service_sends_it():
    """Blocks one after another, each with its start, its pieces and its stop."""
    told = events_of(TURN)
    assert told[0]["message"]["usage"]["input_tokens"] == 3
    assert told[1] == {"type": "ping"}
    starts = [each["content_block"] for each in told if each["type"] == "content_block_start"]
    assert starts == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_0", "name": "search", "input": {}},
        {"type": "tool_use", "id": "call_1", "name": "read", "input": {}},
    ]
    blocks = [
        (each["type"], each["index"]) for each in told if each["type"].startswith("content_block")
    ]
    assert [index for _, index in blocks] == sorted(index for _, index in blocks)
    assert [index for kind, index in blocks if kind.endswith("stop")] == [0, 1, 2, 3]
    assert told[-2]["delta"]["stop_reason"] == "tool_use"
    assert told[-2]["usage"] == {"output_tokens": 4}
    assert told[-1] == {"type": "message_stop"}


def test_a_turn_without_calls_ends_its_turn():
    """The reason is another."""
    assert events_of(Turn(Text("Hi")))[-2]["delta"]["stop_reason"] == "end_turn"


def test_a_failure_is_the_last_word():
    """An error, and no end after it."""
    assert events_of(Turn(Text("Hi"), Failure("Wait", type="overloaded_error")))[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Wait"},
    }


def told(kind, **more):
    return sse.encode(sse.Event(json.dumps({"type": kind, **more}), kind))


def piece(**delta):
    return told("content_block_delta", index=0, delta=delta)


def begun(**block):
    return told("content_block_start", index=0, content_block=block)


HI = begun(type="text", text="") + piece(type="text_delta", text="Hi")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"event: ping\ndata: {\n\n", "data must be JSON, not '{'"),
        (b"data: {}\n\n", "type must be a string, not None"),
        (
            b'data: {"type": "ping"}\n\n',
            "an event is named as its type, 'ping', not 'message'",
        ),
        (told("message_start", message={}), "usage must be an object, not None"),
        (
            told("content_block_delta", index=1, delta={}),
            "a block begins with content_block_start, and block 1 is not open",
        ),
        (told("content_block_stop", index=1), "a block begins with content_block_start"),
        (
            piece(type="input_json_delta", partial_json="{"),
            "input_json_delta belongs to a tool_use block, but block 0 is a text block",
        ),
        (piece(type="text_delta"), "text must be a string, not None"),
        (begun(type="tool_use", id="a"), "name must be a string, not None"),
        (told("error", error={"type": "a"}), "message must be a string, not None"),
    ],
)
def test_what_is_wrong_is_told(wrong, said, assert_refused):
    """With where it is; what was decoded before it is not lost."""
    assert_refused(Decoder(), HI, wrong, said, number=2)


def test_a_stream_that_ends_too_soon():
    """It is told from one that is whole."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match="too soon: event: message_stop was expected"):
        decoder.close()


def test_what_is_not_known_is_passed_over():
    """New events, blocks and pieces may come at any time; signatures are not read."""
    decoder = Decoder()
    unknown = (
        told("news", of="tomorrow")
        + begun(type="news")
        + piece(type="news_delta")
        + piece(type="text_delta", text="It rains.")
        + begun(type="thinking", thinking="")
        + piece(type="thinking_delta", thinking="Hm")
        + piece(type="signature_delta", signature="c2ln")
    )
    assert decoder.feed(unknown) == [ReasoningDelta("Hm")]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_calls_of_all_kinds(kind):
    """Whoever calls the tool: the SDK puts their arguments together in the same way."""
    call = begun(type=kind, id="a", name="search", input={})
    pieces = [piece(type="input_json_delta", partial_json=text) for text in ("", "{", "}")]
    assert Decoder().feed(call + b"".join(pieces)) == [
        ToolCallDelta(0, "a", "search", text) for text in ("", "{", "}")
    ]


def test_a_call_that_never_has_arguments():
    """It is given when its block ends."""
    decoder = Decoder()
    assert decoder.feed(begun(type="tool_use", id="a", name="stop", input={})) == []
    assert decoder.feed(told("content_block_stop", index=0)) == [ToolCallDelta(0, "a", "stop", "")]


def test_an_event_whose_data_is_empty():
    """It is passed over, as the SDK does."""
    assert Decoder().feed(b"event: message_stop\ndata:\n\n" + HI) == ["Hi"]


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(anthropic_messages).failed == 0
