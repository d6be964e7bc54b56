"""The `agent_server` fixture: clients of the reference server receive the turn that a test scripts.

The fixture runs the server in this process or in a child process. `say(turn)` makes its agent
answer with a scripted turn. A real HTTP client reads the events.
"""

import json

import httpx
import pytest

from pytest_streamperf import Failure, Reasoning, Text, ToolCall, ToolCallDelta, Turn
from pytest_streamperf.wire import sse

BODY = {"messages": [{"role": "user", "content": "count"}]}


def events_of(agent_server):
    """Run one turn on the server, and return the type and the data of each event."""
    response = httpx.post(f"{agent_server.url}/agents/demo/run", json=BODY)
    return [(event.type, event.data) for event in sse.decode(response.content)]


def test_a_turn_with_tool_calls(agent_server):
    """The text after a tool call arrives after the result of that call."""
    before, after = Text("Let me count. "), Text("It has three words.")
    call = ToolCall("word_count", {"text": "one two three"})
    agent_server.say(Turn(Reasoning("Words?"), before, call, after, ToolCall("none", {})))
    for _ in range(2):  # the script is played from its start for every client
        events = events_of(agent_server)
        assert [kind for kind, _ in events if kind != "delta"] == [
            *("tool_call", "tool_result"),
            *("tool_call", "tool_result"),
            "done",
        ]
        payloads = [json.loads(data) for _, data in events]
        assert payloads[3] == {"name": "word_count", "arguments": dict(call.arguments)}
        assert "".join(payload.get("text", "") for payload in payloads) == before.text + after.text


def test_a_turn_that_fails(agent_server):
    """A scripted failure ends the turn with an error event."""
    agent_server.say(Turn(Text("Hi"), Failure("Overloaded")))
    assert events_of(agent_server)[-1][0] == "error"


def test_a_call_that_a_failure_cuts_off(agent_server):
    """A tool call whose arguments a failure cuts off is not made."""
    cut_off = ToolCallDelta(0, "call_0", "word_count", '{"text": "o')
    agent_server.say(Turn.of(["Hi", cut_off, Failure("Overloaded")]))
    assert [kind for kind, _ in events_of(agent_server)] == ["delta", "error"]


@pytest.mark.parametrize("arguments", ['{"text": "o', "[]"])
def test_a_call_that_cannot_be_made(agent_server, arguments):
    """`say` refuses a tool call whose arguments are not a JSON object, and names the tool."""
    call = ToolCallDelta(0, "call_0", "word_count", arguments)
    with pytest.raises(ValueError, match="arguments of word_count must be a JSON object"):
        agent_server.say(Turn.of([call]))


@pytest.mark.parametrize("agent_server", ["subprocess"], indirect=True)
def test_a_process_of_its_own_is_out_of_reach(agent_server):
    """A server in another process cannot be scripted, and `say` gives that reason."""
    with pytest.raises(AssertionError, match="runs in another process"):
        agent_server.say(Turn())
