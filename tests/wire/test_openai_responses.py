"""OpenAI's responses: turns as they are sent, and what is wrong is told."""

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


def told_of(turn):
    """The data of each event."""
    return [json.loads(event.data) for event in sse.decode(b"".join(encode(turn)))]


def test_a_turn_as_the_service_sends_it():
    """Named and numbered events: items, their parts, their pieces, and all of it at the end."""
    events = sse.decode(b"".join(encode(TURN)))
    told = [json.loads(event.data) for event in events]
    assert [event.type for event in events] == [each["type"] for each in told]
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    types = [each["type"].removeprefix("response.") for each in told]
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
    whole = told[-1]["response"]
    assert whole["output"] == [each["item"] for each in told if each["type"].endswith("item.done")]
    assert [item["type"] for item in whole["output"]] == [
        *("reasoning", "message", "function_call", "function_call")
    ]
    assert whole["output"][1]["content"] == [
        {"type": "output_text", "annotations": [], "text": "Hi"}
    ]
    assert whole["output"][2]["arguments"] == "{}"
    assert whole["usage"]["total_tokens"] == 7


def test_lengths_of_deltas_are_hidden():
    """By a string of random length, the same in each run."""
    told = told_of(Turn(Text("Hi there, you. " * 9)))
    hidden = [each["obfuscation"] for each in told if "obfuscation" in each]
    assert len(set(map(len, hidden))) > 5
    assert told == told_of(Turn(Text("Hi there, you. " * 9)))


def test_a_failure_is_the_last_word():
    """An error instead of the end."""
    last = told_of(Turn(Text("Hi"), Failure("Wait", type="busy")))[-1]
    assert (last["type"], last["message"], last["code"]) == ("error", "Wait", "busy")


def told(kind, **more):
    return sse.encode_json({"type": kind, **more}, type=kind)


def begun(index, **item):
    return told("response.output_item.added", output_index=index, item=item)


HI = begun(0, type="message") + told("response.output_text.delta", output_index=0, delta="Hi")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"data: [\n\n", "data must be JSON, not '['"),
        (b"data: {}\n\n", "type must be a string, not None"),
        (
            told("response.output_text.delta", output_index=1, delta="x"),
            "response.output_text.delta needs a message, but item 1 has not begun",
        ),
        (
            told("response.function_call_arguments.delta", output_index=0, delta="x"),
            "response.function_call_arguments.delta needs a function_call, but item 0 is a message",
        ),
        (begun(1, type="function_call"), "call_id must be a string, not None"),
        (
            told("response.output_text.delta", output_index=0),
            "delta must be a string, not None",
        ),
        (
            told("response.completed", response={"usage": {}}),
            "input_tokens must be a whole number, not None",
        ),
        (told("error", message="no", code=500), "code must be a string, not 500"),
        (told("response.failed", response={"error": None}), "error must be an object, not None"),
    ],
)
def test_what_is_wrong_is_told(wrong, said, assert_refused):
    """With where it is; what was decoded before it is not lost."""
    assert_refused(Decoder(), HI, wrong, said, number=2)


def test_a_stream_that_ends_too_soon():
    """It is told from one that is whole."""
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
    """Each may say the usage."""
    decoder = Decoder()
    response = {"error": error, "usage": {"input_tokens": 3, "output_tokens": 4}}
    assert decoder.feed(HI + told(f"response.{kind}", response=response)) == ["Hi", *expected]
    decoder.close()
    assert decoder.usage == Usage(3, 4)


def test_other_pieces_of_what_is_said_and_thought():
    """A refusal is text, and reasoning comes whole where it is open."""
    stream = begun(0, type="reasoning") + begun(1, type="message")
    for at, kind in enumerate(("reasoning_text", "refusal")):
        stream += told(f"response.{kind}.delta", output_index=at, content_index=0, delta="No")
    assert Decoder().feed(stream) == [ReasoningDelta("No"), "No"]


def test_a_call_that_never_has_arguments():
    """It is given when its item is done."""
    decoder = Decoder()
    assert decoder.feed(begun(0, type="function_call", call_id="a", name="stop")) == []
    done = told("response.output_item.done", output_index=0, item={})
    assert decoder.feed(done) == [ToolCallDelta(0, "a", "stop", "")]


def test_items_side_by_side_are_whole_in_the_end():
    """In the order they began in."""
    pieces = [(0, "{"), (1, "{"), (1, "}"), (0, "}")]
    turn = Turn.of([ToolCallDelta(at, f"call_{at}", "stop", piece) for at, piece in pieces])
    *_, last = told_of(turn)
    assert [(item["call_id"], item["arguments"]) for item in last["response"]["output"]] == [
        ("call_0", "{}"),
        ("call_1", "{}"),
    ]


def test_docstring_examples():
    """What the documentation shows is what happens."""
    assert doctest.testmod(openai_responses).failed == 0
