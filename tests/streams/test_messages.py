"""Tests of `Turn`: its deltas join to the parts of the turn, however the parts are cut."""

import doctest
import json
import math
from dataclasses import fields
from types import MappingProxyType

import pytest
from hypothesis import given

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
from pytest_streamperf.streams import messages, strategies


def join_deltas(deltas):
    """Join the deltas of a turn; return a list of the kind and the text of each part."""
    parts = []
    for delta in deltas:
        match delta:
            case str():
                kind, piece = "text", delta
            case ReasoningDelta():
                kind, piece = "reasoning", delta.text
            case ToolCallDelta():
                kind, piece = (delta.index, delta.id, delta.name), delta.arguments
            case Failure():
                kind, piece = "failure", delta.message
        if parts and parts[-1][0] == kind:
            parts[-1][1] += piece
        else:
            parts.append([kind, piece])
    return parts


@given(strategies.turns())
def test_turn_is_cut_losslessly(turn):
    """The deltas of a turn join to the parts of the turn, in order."""
    expected, calls = [], 0
    for part in turn.parts:
        if isinstance(part, ToolCall):
            expected.append([(calls, f"call_{calls}", part.name), part.json])
            calls += 1
            continue
        if isinstance(part, Failure):
            expected.append(["failure", part.message])
            continue
        kind = type(part).__name__.lower()
        if expected and expected[-1][0] == kind:
            expected[-1][1] += part.text
        elif part.text:
            expected.append([kind, part.text])
    assert join_deltas(turn) == expected


@given(strategies.turns())
def test_turn_has_no_empty_or_long_deltas(turn):
    """A delta of text, reasoning or arguments has one to seven characters."""
    cut = [delta for delta in turn if not isinstance(delta, Failure)]
    assert all(1 <= len(piece) <= 7 for delta in cut for _, piece in join_deltas([delta]))


def test_equal_turns_are_cut_alike():
    """Turns with equal parts and equal seeds have equal deltas."""
    parts = Text("Let me look. " * 9), ToolCall("search", {"query": "streams"})
    assert list(Turn(*parts, seed=3)) == list(Turn(*parts, seed=3))


@pytest.mark.parametrize(
    "part", [Text("Hi"), ToolCall("search", {}), ToolCallDelta(0, "call_0", "search", "{}")]
)
def test_parts_cannot_be_changed(part):
    """A part of a turn and a delta cannot be changed after they are made."""
    with pytest.raises(AttributeError):
        setattr(part, fields(part)[0].name, "changed")


def test_seeds_cut_turns_differently():
    """Turns with equal parts and different seeds have different deltas."""
    part = Text("Let me look. " * 9)
    assert list(Turn(part, seed=1)) != list(Turn(part, seed=2))


def test_turn_is_a_sequence():
    """A turn has a length, an index and slices."""
    turn = Turn(Text("Let me look."))
    assert "".join(turn[:-1]) + turn[-1] == "Let me look."
    assert len(turn) == len(list(turn))


def test_turn_repr_shows_its_parts():
    """The repr of a turn shows its parts and its usage."""
    assert repr(Turn(Text("Hi"))) == "Turn(Text(text='Hi'))"
    assert repr(Turn(usage=Usage(1, 2))) == "Turn(usage=Usage(input_tokens=1, output_tokens=2))"


@pytest.mark.parametrize("part", ["text", None, {"name": "search"}])
def test_turn_refuses_other_parts(part):
    """A turn raises a `TypeError` for an argument that is not a part, and shows the argument."""
    with pytest.raises(TypeError, match=r"^Turn takes Text\(...\), Reasoning\(...\), .*, not "):
        Turn(Text("Hi"), part)


def test_a_failure_ends_a_turn():
    """A failure is the last delta of a turn, and a part after a failure raises a `ValueError`."""
    failure = Failure("Overloaded", type="overloaded_error")
    assert list(Turn(Text("Hi"), failure))[-1] == failure
    with pytest.raises(ValueError, match="a Failure ends a turn, so nothing may come after it in"):
        Turn(failure, Text("Hi"))


@given(strategies.turns())
def test_arguments_are_json(turn):
    """The deltas of a tool call join to a JSON document that holds the arguments."""
    calls = [part for part in turn.parts if isinstance(part, ToolCall)]
    for index, call in enumerate(calls):
        pieces = [
            delta for delta in turn if isinstance(delta, ToolCallDelta) and delta.index == index
        ]
        assert json.loads("".join(delta.arguments for delta in pieces)) == call.arguments


def test_arguments_may_be_any_mapping():
    """The arguments of a tool call may be any mapping, not only a dict."""
    assert ToolCall("search", MappingProxyType({"query": "a"})).json == '{"query": "a"}'


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_arguments_that_json_lacks(value):
    """Arguments with NaN or infinity raise a `ValueError`, because JSON has no such numbers."""
    with pytest.raises(ValueError, match="JSON"):
        Turn(ToolCall("search", {"limit": value}))


@pytest.mark.parametrize("part", [Text, Reasoning])
def test_text_must_be_text(part):
    """A part of text or reasoning raises a `TypeError` for bytes."""
    with pytest.raises(TypeError, match=rf"^{part.__name__} takes a str, not b'abc'"):
        part(b"abc")


def test_docstring_examples():
    """The doctests of `streams.messages` pass."""
    assert doctest.testmod(messages).failed == 0
