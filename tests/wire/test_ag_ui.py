"""Tests of the dialect `ag-ui`: the events of a turn, their decoding, and refused events."""

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
from pytest_streamperf.wire import WireError, ag_ui, sse
from pytest_streamperf.wire.ag_ui import Decoder, encode


def payloads_of(turn):
    """Return the parsed data of each event that encodes `turn`."""
    return [json.loads(event.data) for event in sse.decode(b"".join(encode(turn)))]


def test_a_turn_as_an_agent_sends_it():
    """A turn is encoded as items in order, each with a start, deltas and an end."""
    turn = Turn(
        *(Reasoning("Hm"), Text("Hi"), ToolCall("search", {}), ToolCall("read", {})),
        usage=Usage(3, 4),
    )
    payloads = payloads_of(turn)
    assert [payload["type"] for payload in payloads] == [
        "RUN_STARTED",
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        *["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"] * 2,
        "RUN_FINISHED",
    ]
    assert payloads[2] == {
        "type": "REASONING_MESSAGE_START",
        "messageId": "message_0",
        "role": "reasoning",
    }
    assert [payload["toolCallName"] for payload in payloads if "toolCallName" in payload] == [
        "search",
        "read",
    ]
    assert payloads[-1]["usage"] == [{"model": "scripted", "inputTokens": 3, "outputTokens": 4}]


def test_a_failure_is_the_last_word():
    """A turn that fails ends with RUN_ERROR in place of RUN_FINISHED."""
    assert payloads_of(Turn(Failure("Wait", type="busy")))[-1] == {
        "type": "RUN_ERROR",
        "message": "Wait",
        "code": "busy",
    }


def event_bytes(kind, **members):
    return sse.encode(sse.Event(json.dumps({"type": kind, **members})))


HI = event_bytes("TEXT_MESSAGE_START", messageId="a") + event_bytes(
    "TEXT_MESSAGE_CONTENT", messageId="a", delta="Hi"
)


@pytest.mark.parametrize(
    ("bad_event", "message"),
    [
        (b"data: [\n\n", "data must be JSON, not '['"),
        (b"data: {}\n\n", "type must be a string, not None"),
        (
            event_bytes("TEXT_MESSAGE_CONTENT", messageId="b", delta="x"),
            "TEXT_MESSAGE_CONTENT of 'b' needs a TEXT_MESSAGE_START before it",
        ),
        (
            event_bytes("REASONING_MESSAGE_CONTENT", messageId="a", delta="x"),
            "REASONING_MESSAGE_CONTENT of 'a' needs a REASONING_MESSAGE_START before it",
        ),
        (
            event_bytes("TOOL_CALL_ARGS", toolCallId="c", delta="x"),
            "TOOL_CALL_ARGS of 'c' needs a TOOL_CALL_START before it",
        ),
        (event_bytes("TOOL_CALL_START", toolCallId="c"), "toolCallName must be a string, not None"),
        (
            event_bytes("TEXT_MESSAGE_CONTENT", messageId="a", delta=7),
            "delta must be a string, not 7",
        ),
        (event_bytes("RUN_FINISHED", usage=[{}]), "inputTokens must be a whole number, not None"),
        (event_bytes("RUN_ERROR", message="no", code=500), "code must be a string, not 500"),
        (event_bytes("TEXT_MESSAGE_CHUNK", delta="x"), "messageId must be a string, not None"),
        (event_bytes("REASONING_MESSAGE_CHUNK", messageId=7), "messageId must be a string, not 7"),
        (event_bytes("TOOL_CALL_CHUNK", toolCallId="c"), "toolCallName must be a string, not None"),
    ],
)
def test_what_is_wrong_is_told(bad_event, message, assert_refused):
    """A decoder refuses an invalid event: it names the place and keeps the deltas before it."""
    assert_refused(Decoder(), HI, bad_event, message, number=2)


def test_a_message_that_has_ended_is_not_open(assert_refused):
    """A delta of a message that has ended is refused until the message starts again."""
    assert_refused(
        Decoder(),
        HI + event_bytes("TEXT_MESSAGE_END", messageId="a"),
        event_bytes("TEXT_MESSAGE_CONTENT", messageId="a", delta="x"),
        "TEXT_MESSAGE_CONTENT of 'a' needs a TEXT_MESSAGE_START before it",
        number=3,
    )


def test_a_stream_that_ends_too_soon():
    """A stream without the last event of a turn is an error when the decoder is closed."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match="too soon: RUN_FINISHED was expected"):
        decoder.close()


def test_chunks():
    """A CHUNK event starts a new item or continues an open one.

    Without an id, it continues the item of the latest CHUNK event of its type.
    """
    stream = (
        event_bytes("REASONING_MESSAGE_CHUNK", messageId="a", delta="Hm")
        + event_bytes("REASONING_MESSAGE_CHUNK", delta="!")
        + event_bytes("TEXT_MESSAGE_CHUNK", messageId="b", role="assistant")
        + event_bytes("TEXT_MESSAGE_CHUNK", delta="Hi")
        + event_bytes("TOOL_CALL_CHUNK", toolCallId="c", toolCallName="read", delta="{")
        + event_bytes("TOOL_CALL_CHUNK", toolCallId="d", toolCallName="stop")
        + event_bytes("TOOL_CALL_CHUNK", toolCallId="c", delta="}")
        + event_bytes("TEXT_MESSAGE_CHUNK", messageId="e", delta="there")
        + event_bytes("RUN_FINISHED")
    )
    assert Decoder().feed(stream) == [
        *(ReasoningDelta("Hm"), ReasoningDelta("!"), "Hi"),
        *(ToolCallDelta(0, "c", "read", "{"), ToolCallDelta(0, "c", "read", "}"), "there"),
        ToolCallDelta(1, "d", "stop", ""),
    ]


def test_a_call_that_never_has_arguments():
    """A tool call without arguments becomes one empty delta at its end.

    A message with the same id does not end the call.
    """
    decoder = Decoder()
    call_start = event_bytes("TOOL_CALL_START", toolCallId="a", toolCallName="stop")
    assert decoder.feed(call_start + HI + event_bytes("TEXT_MESSAGE_END", messageId="a")) == ["Hi"]
    end = event_bytes("TOOL_CALL_END", toolCallId="a")
    assert decoder.feed(end) == [ToolCallDelta(0, "a", "stop", "")]


def test_an_error_without_a_code():
    """A RUN_ERROR without a code becomes a `Failure` with the default type."""
    for code in ({}, {"code": None}):
        assert Decoder().feed(event_bytes("RUN_ERROR", message="no", **code)) == [Failure("no")]


def test_docstring_examples():
    """The doctests of this dialect's module pass."""
    assert doctest.testmod(ag_ui).failed == 0
