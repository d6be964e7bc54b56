"""The reference server as a fixture: what it is scripted to say is what its clients get."""

import json

import httpx
import pytest

from pytest_streamperf import Failure, Reasoning, Text, ToolCall, ToolCallDelta, Turn
from pytest_streamperf.wire import sse

BODY = {"messages": [{"role": "user", "content": "count"}]}


def events_of(agent_server):
    """Type and data of each event of a turn."""
    response = httpx.post(f"{agent_server.url}/agents/demo/run", json=BODY)
    return [(event.type, event.data) for event in sse.decode(response.content)]


def test_a_turn_with_tool_calls(agent_server):
    """A call ends a reply, and what the model says next comes after its result."""
    before, after = Text("Let me count. "), Text("It has three words.")
    call = ToolCall("word_count", {"text": "one two three"})
    agent_server.say(Turn(Reasoning("Words?"), before, call, after, ToolCall("none", {})))
    for _ in range(2):  # the next client gets all of it, too
        events = events_of(agent_server)
        assert [kind for kind, _ in events if kind != "delta"] == [
            *("tool_call", "tool_result"),
            *("tool_call", "tool_result"),
            "done",
        ]
        told = [json.loads(data) for _, data in events]
        assert told[3] == {"name": "word_count", "arguments": dict(call.arguments)}
        assert "".join(each.get("text", "") for each in told) == before.text + after.text


def test_a_turn_that_fails(agent_server):
    """What came before the failure is shown, and then the error."""
    agent_server.say(Turn(Text("Hi"), Failure("Overloaded")))
    assert events_of(agent_server)[-1][0] == "error"


def test_a_call_that_a_failure_cuts_off(agent_server):
    """It is not made."""
    cut_off = ToolCallDelta(0, "call_0", "word_count", '{"text": "o')
    agent_server.say(Turn.of(["Hi", cut_off, Failure("Overloaded")]))
    assert [kind for kind, _ in events_of(agent_server)] == ["delta", "error"]


@pytest.mark.parametrize("arguments", ['{"text": "o', "[]"])
def test_a_call_that_cannot_be_made(agent_server, arguments):
    """It says which, and why."""
    call = ToolCallDelta(0, "call_0", "word_count", arguments)
    with pytest.raises(ValueError, match="arguments of word_count must be a JSON object"):
        agent_server.say(Turn.of([call]))


@pytest.mark.parametrize("agent_server", ["subprocess"], indirect=True)
def test_a_process_of_its_own_is_out_of_reach(agent_server):
    """As its engine is."""
    with pytest.raises(AssertionError, match="runs in another process"):
        agent_server.say(Turn())
