"""Tests of `openai-responses`: the events of a turn, their decoding, and refused events."""

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
from pytest_streamperf.wire import WireError, openai_responses, sse
from pytest_streamperf.wire.openai_responses import Decoder, encode

TURN = Turn(
    *(Reasoning("Hm"), Text("Hi"), ToolCall("search", {}), ToolCall("read", {})),
    usage=Usage(3, 4),
)


def payloads_of(turn):
    """Return the parsed data of each event that encodes `turn`."""
    return [json.loads(event.data) for event in sse.decode(b"".join(encode(turn)))]


def test_a_turn_as_the_service_sends_it():
    """A turn is encoded as numbered events for items, parts and deltas, and the whole response."""
    events = sse.decode(b"".join(encode(TURN)))
    payloads = [json.loads(event.data) for event in events]
    assert [event.type for event in events] == [payload["type"] for payload in payloads]
    assert [payload["sequence_number"] for payload in payloads] == list(range(len(payloads)))
    types = [payload["type"].removeprefix("response.") for payload in payloads]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done"]
    assert types == [
        *("created", "in_progress"),
        *("output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"),
        *("reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *[*call, "output_item.done"] * 2,
        "completed",
    ]
    whole = payloads[-1]["response"]
    assert whole["output"] == [
        payload["item"] for payload in payloads if payload["type"].endswith("item.done")
    ]
    assert [item["type"] for item in whole["output"]] == [
        *("reasoning", "message", "function_call", "function_call")
    ]
    assert whole["output"][1]["content"] == [
        {"type": "output_text", "annotations": [], "text": "Hi"}
    ]
    assert whole["output"][2]["arguments"] == "{}"
    assert whole["usage"]["total_tokens"] == 7


def test_lengths_of_deltas_are_hidden():
    """A delta has an obfuscation of pseudo-random length, which is the same in every run."""
    payloads = payloads_of(Turn(Text("Hi there, you. " * 9)))
    obfuscations = [payload["obfuscation"] for payload in payloads if "obfuscation" in payload]
    assert len(set(map(len, obfuscations))) > 5
    assert payloads == payloads_of(Turn(Text("Hi there, you. " * 9)))


def test_a_failure_is_the_last_word():
    """A turn that fails ends with an error event in place of response.completed."""
    last = payloads_of(Turn(Text("Hi"), Failure("Wait", type="busy")))[-1]
    assert (last["type"], last["message"], last["code"]) == ("error", "Wait", "busy")


def event_bytes(kind, **members):
    return sse.encode_json({"type": kind, **members}, type=kind)


def item_added(index, **item):
    return event_bytes("response.output_item.added", output_index=index, item=item)


HI = item_added(0, type="message") + event_bytes(
    "response.output_text.delta", output_index=0, delta="Hi"
)


@pytest.mark.parametrize(
    ("bad_event", "message"),
    [
        (b"data: [\n\n", "data must be JSON, not '['"),
        (b"data: {}\n\n", "type must be a string, not None"),
        (
            event_bytes("response.output_text.delta", output_index=1, delta="x"),
            "response.output_text.delta needs a message, but item 1 has not begun",
        ),
        (
            event_bytes("response.function_call_arguments.delta", output_index=0, delta="x"),
            "response.function_call_arguments.delta needs a function_call, but item 0 is a message",
        ),
        (item_added(1, type="function_call"), "call_id must be a string, not None"),
        (
            event_bytes("response.output_text.delta", output_index=0),
            "delta must be a string, not None",
        ),
        (
            event_bytes("response.completed", response={"usage": {}}),
            "input_tokens must be a whole number, not None",
        ),
        (event_bytes("error", message="no", code=500), "code must be a string, not 500"),
        (
            event_bytes("response.failed", response={"error": None}),
            "error must be an object, not None",
        ),
    ],
)
def test_what_is_wrong_is_told(bad_event, message, assert_refused):
    """A decoder refuses an invalid event: it names the place and keeps the deltas before it."""
    assert_refused(Decoder(), HI, bad_event, message, number=2)


def test_a_stream_that_ends_too_soon():
    """A stream without the last event of a turn is an error when the decoder is closed."""
    decoder = Decoder()
    decoder.feed(HI)
    with pytest.raises(WireError, match=r"too soon: response\.completed was expected"):
        decoder.close()


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        ("completed", None, []),
        ("incomplete", None, []),
        ("failed", {"code": "invalid_prompt", "message": "no"}, [Failure("no", "invalid_prompt")]),
        ("failed", {"code": None, "message": "no"}, [Failure("no")]),
    ],
)
def test_the_ends_that_a_response_may_have(kind, error, expected):
    """A response may end as completed, incomplete or failed, and each end may hold the usage."""
    decoder = Decoder()
    response = {"error": error, "usage": {"input_tokens": 3, "output_tokens": 4}}
    assert decoder.feed(HI + event_bytes(f"response.{kind}", response=response)) == [
        "Hi",
        *expected,
    ]
    decoder.close()
    assert decoder.usage == Usage(3, 4)


def test_other_pieces_of_what_is_said_and_thought():
    """Deltas of a refusal become text, and deltas of unsummarized reasoning become reasoning."""
    stream = item_added(0, type="reasoning") + item_added(1, type="message")
    for index, kind in enumerate(("reasoning_text", "refusal")):
        stream += event_bytes(
            f"response.{kind}.delta", output_index=index, content_index=0, delta="No"
        )
    assert Decoder().feed(stream) == [ReasoningDelta("No"), "No"]


def test_a_call_that_never_has_arguments():
    """A tool call without arguments becomes one empty delta at the end of its item."""
    decoder = Decoder()
    assert decoder.feed(item_added(0, type="function_call", call_id="a", name="stop")) == []
    done = event_bytes("response.output_item.done", output_index=0, item={})
    assert decoder.feed(done) == [ToolCallDelta(0, "a", "stop", "")]


def test_items_side_by_side_are_whole_in_the_end():
    """The whole response lists interleaved tool calls in the order in which they began."""
    parts = [(0, "{"), (1, "{"), (1, "}"), (0, "}")]
    turn = Turn.of([ToolCallDelta(index, f"call_{index}", "stop", text) for index, text in parts])
    *_, last = payloads_of(turn)
    assert [(item["call_id"], item["arguments"]) for item in last["response"]["output"]] == [
        ("call_0", "{}"),
        ("call_1", "{}"),
    ]


def test_docstring_examples():
    """The doctests of this dialect's module pass."""
    assert doctest.testmod(openai_responses).failed == 0
