"""Tests of `anthropic-messages`: the events of a turn, their decoding, and refused events."""

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


def payloads_of(turn):
    """Return the parsed data of each event that encodes `turn`; check the types of the events."""
    events = sse.decode(b"".join(encode(turn)))
    assert [event.type for event in events] == [json.loads(event.data)["type"] for event in events]
    return [json.loads(event.data) for event in events]


def test_a_turn_as_the_service_sends_it():
    """A turn is encoded as one block after another, each with a start, deltas and a stop."""
    payloads = payloads_of(TURN)
    assert payloads[0]["message"]["usage"]["input_tokens"] == 3
    assert payloads[1] == {"type": "ping"}
    starts = [
        payload["content_block"] for payload in payloads if payload["type"] == "content_block_start"
    ]
    assert starts == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_0", "name": "search", "input": {}},
        {"type": "tool_use", "id": "call_1", "name": "read", "input": {}},
    ]
    blocks = [
        (payload["type"], payload["index"])
        for payload in payloads
        if payload["type"].startswith("content_block")
    ]
    assert [index for _, index in blocks] == sorted(index for _, index in blocks)
    assert [index for kind, index in blocks if kind.endswith("stop")] == [0, 1, 2, 3]
    assert payloads[-2]["delta"]["stop_reason"] == "tool_use"
    assert payloads[-2]["usage"] == {"output_tokens": 4}
    assert payloads[-1] == {"type": "message_stop"}


def test_a_turn_without_calls_ends_its_turn():
    """A turn without tool calls has the stop reason "end_turn"."""
    assert payloads_of(Turn(Text("Hi")))[-2]["delta"]["stop_reason"] == "end_turn"


def test_a_failure_is_the_last_word():
    """A turn that fails ends with an error event, and no event follows it."""
    assert payloads_of(Turn(Text("Hi"), Failure("Wait", type="overloaded_error")))[-1] == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Wait"},
    }


def event_bytes(kind, **members):
    return sse.encode(sse.Event(json.dumps({"type": kind, **members}), kind))


def block_delta(**delta):
    return event_bytes("content_block_delta", index=0, delta=delta)


def block_start(**block):
    return event_bytes("content_block_start", index=0, content_block=block)


HI = block_start(type="text", text="") + block_delta(type="text_delta", text="Hi")


@pytest.mark.parametrize(
    ("bad_event", "message"),
    [
        (b"event: ping\ndata: {\n\n", "data must be JSON, not '{'"),
        (b"data: {}\n\n", "type must be a string, not None"),
        (
            b'data: {"type": "ping"}\n\n',
            "an event is named as its type, 'ping', not 'message'",
        ),
        (event_bytes("message_start", message={}), "usage must be an object, not None"),
        (
            event_bytes("content_block_delta", index=1, delta={}),
            "a block begins with content_block_start, and block 1 is not open",
        ),
        (event_bytes("content_block_stop", index=1), "a block begins with content_block_start"),
        (
            block_delta(type="input_json_delta", partial_json="{"),
            "input_json_delta belongs to a tool_use block, but block 0 is a text block",
        ),
        (block_delta(type="text_delta"), "text must be a string, not None"),
        (block_start(type="tool_use", id="a"), "name must be a string, not None"),
        (event_bytes("error", error={"type": "a"}), "message must be a string, not None"),
    ],
)
def test_what_is_wrong_is_told(bad_event, message, assert_refused):
    """A decoder refuses an invalid event: it names the place and keeps the deltas before it."""
    assert_refused(Decoder(), HI, bad_event, message, number=2)


def test_a_stream_that_ends_too_soon():
    """A stream without the last event of a turn is an error when the decoder is closed."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match="too soon: event: message_stop was expected"):
        decoder.close()


def test_what_is_not_known_is_passed_over():
    """The decoder skips unknown events, blocks and deltas, and the signatures of reasoning."""
    decoder = Decoder()
    unknown = (
        event_bytes("news", of="tomorrow")
        + block_start(type="news")
        + block_delta(type="news_delta")
        + block_delta(type="text_delta", text="It rains.")
        + block_start(type="thinking", thinking="")
        + block_delta(type="thinking_delta", thinking="Hm")
        + block_delta(type="signature_delta", signature="c2ln")
    )
    assert decoder.feed(unknown) == [ReasoningDelta("Hm")]


@pytest.mark.parametrize("kind", ["tool_use", "server_tool_use", "mcp_tool_use"])
def test_calls_of_all_kinds(kind):
    """Calls of the client's tools and of the service's own tools are decoded alike.

    Anthropic's SDK assembles their arguments in the same way.
    """
    call = block_start(type=kind, id="a", name="search", input={})
    deltas = [block_delta(type="input_json_delta", partial_json=text) for text in ("", "{", "}")]
    assert Decoder().feed(call + b"".join(deltas)) == [
        ToolCallDelta(0, "a", "search", text) for text in ("", "{", "}")
    ]


def test_a_call_that_never_has_arguments():
    """A tool call without arguments becomes one empty delta at the end of its block."""
    decoder = Decoder()
    assert decoder.feed(block_start(type="tool_use", id="a", name="stop", input={})) == []
    assert decoder.feed(event_bytes("content_block_stop", index=0)) == [
        ToolCallDelta(0, "a", "stop", "")
    ]


def test_an_event_whose_data_is_empty():
    """The decoder skips an event with empty data, as Anthropic's SDK does."""
    assert Decoder().feed(b"event: message_stop\ndata:\n\n" + HI) == ["Hi"]


def test_docstring_examples():
    """The doctests of this dialect's module pass."""
    assert doctest.testmod(anthropic_messages).failed == 0
