"""AG-UI: turns as they are sent, and what is wrong is told."""

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


def told_of(turn):
    """The data of each event."""
    return [json.loads(event.data) for event in sse.decode(b"".join(encode(turn)))]


def test_a_turn_as_an_agent_sends_it():
    """Messages one after another, each with its start, its pieces and its end."""
    turn = Turn(
        *(Reasoning("Hm"), Text("Hi"), ToolCall("search", {}), ToolCall("read", {})),
        usage=Usage(3, 4),
    )
    told = told_of(turn)
    assert [each["type"] for each in told] == [
        "RUN_STARTED",
        *("REASONING_START", "REASONING_MESSAGE_START", "REASONING_MESSAGE_CONTENT"),
        *("REASONING_MESSAGE_END", "REASONING_END"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        *["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"] * 2,
        "RUN_FINISHED",
    ]
    assert told[2] == {
        "type": "REASONING_MESSAGE_START",
        "messageId": "message_0",
        "role": "reasoning",
    }
    assert [each["toolCallName"] for each in told if "toolCallName" in each] == ["search", "read"]
    assert told[-1]["usage"] == [{"model": "scripted", "inputTokens": 3, "outputTokens": 4}]


def test_a_failure_is_the_last_word():
    """An error instead of the end."""
    assert told_of(Turn(Failure("Wait", type="busy")))[-1] == {
        "type": "RUN_ERROR",
        "message": "Wait",
        "code": "busy",
    }


def told(kind, **more):
    return sse.encode(sse.Event(json.dumps({"type": kind, **more})))


HI = told("TEXT_MESSAGE_START", messageId="a") + told(
    "TEXT_MESSAGE_CONTENT", messageId="a", delta="Hi"
)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"data: [\n\n", "data must be JSON, not '['"),
        (b"data: {}\n\n", "type must be a string, not None"),
        (
            told("TEXT_MESSAGE_CONTENT", messageId="b", delta="x"),
            "TEXT_MESSAGE_CONTENT of 'b' needs a TEXT_MESSAGE_START before it",
        ),
        (
            told("REASONING_MESSAGE_CONTENT", messageId="a", delta="x"),
            "REASONING_MESSAGE_CONTENT of 'a' needs a REASONING_MESSAGE_START before it",
        ),
        (
            told("TOOL_CALL_ARGS", toolCallId="c", delta="x"),
            "TOOL_CALL_ARGS of 'c' needs a TOOL_CALL_START before it",
        ),
        (told("TOOL_CALL_START", toolCallId="c"), "toolCallName must be a string, not None"),
        (told("TEXT_MESSAGE_CONTENT", messageId="a", delta=7), "delta must be a string, not 7"),
        (told("RUN_FINISHED", usage=[{}]), "inputTokens must be a whole number, not None"),
        (told("RUN_ERROR", message="no", code=500), "code must be a string, not 500"),
        (told("TEXT_MESSAGE_CHUNK", delta="x"), "messageId must be a string, not None"),
        (told("REASONING_MESSAGE_CHUNK", messageId=7), "messageId must be a string, not 7"),
        (told("TOOL_CALL_CHUNK", toolCallId="c"), "toolCallName must be a string, not None"),
    ],
)
def test_what_is_wrong_is_told(wrong, said, assert_refused):
    """With where it is; what was decoded before it is not lost."""
    assert_refused(Decoder(), HI, wrong, said, number=2)


def test_a_message_that_has_ended_is_not_open(assert_refused):
    """It has to be started again."""
    assert_refused(
        Decoder(),
        HI + told("TEXT_MESSAGE_END", messageId="a"),
        told("TEXT_MESSAGE_CONTENT", messageId="a", delta="x"),
        "TEXT_MESSAGE_CONTENT of 'a' needs a TEXT_MESSAGE_START before it",
        number=3,
    )


def test_a_stream_that_ends_too_soon():
    """It is told from one that is whole."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match="too soon: RUN_FINISHED was expected"):
        decoder.close()


def test_chunks():
    """They open what is new, and go on with what is open; without an id, with the last."""
    stream = (
        told("REASONING_MESSAGE_CHUNK", messageId="a", delta="Hm")
        + told("REASONING_MESSAGE_CHUNK", delta="!")
        + told("TEXT_MESSAGE_CHUNK", messageId="b", role="assistant")
        + told("TEXT_MESSAGE_CHUNK", delta="Hi")
        + told("TOOL_CALL_CHUNK", toolCallId="c", toolCallName="read", delta="{")
        + told("TOOL_CALL_CHUNK", toolCallId="d", toolCallName="stop")
        + told("TOOL_CALL_CHUNK", toolCallId="c", delta="}")
        + told("TEXT_MESSAGE_CHUNK", messageId="e", delta="there")
        + told("RUN_FINISHED")
    )
    assert Decoder().feed(stream) == [
        *(ReasoningDelta("Hm"), ReasoningDelta("!"), "Hi"),
        *(ToolCallDelta(0, "c", "read", "{"), ToolCallDelta(0, "c", "read", "}"), "there"),
        ToolCallDelta(1, "d", "stop", ""),
    ]


def test_a_call_that_never_has_arguments():
    """It is given when it ends; a message that has the id of the call is another thing."""
    decoder = Decoder()
    told_call = told("TOOL_CALL_START", toolCallId="a", toolCallName="stop")
    assert decoder.feed(told_call + HI + told("TEXT_MESSAGE_END", messageId="a")) == ["Hi"]
    end = told("TOOL_CALL_END", toolCallId="a")
    assert decoder.feed(end) == [ToolCallDelta(0, "a", "stop", "")]


def test_an_error_without_a_code():
    """It has the type that failures have."""
    for code in ({}, {"code": None}):
        assert Decoder().feed(told("RUN_ERROR", message="no", **code)) == [Failure("no")]


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(ag_ui).failed == 0
