"""An application's own code, with a real SDK, unmodified, against a scripted server."""

import json

import openai
import pytest

from pytest_streamperf import Text, ToolCall, Turn, WireStream, assert_linear
from pytest_streamperf.streams.chunking import worst_case
from pytest_streamperf.streams.faults import Disconnect, RateLimit
from pytest_streamperf.wire.server import serve

QUESTION = [{"role": "user", "content": "What is in the notes?"}]
TURN = Turn(Text("Let me look. "), ToolCall("read", {"path": "notes.md"}))
ANSWER = Turn(Text("Milk, eggs and bread."))


def chunks_of(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=1) as client:
        yield from client.chat.completions.create(model="m", messages=QUESTION, stream=True)


def reply(url):
    """The text of a reply, and the arguments of the tool that it calls."""
    said, arguments = [], []
    for chunk in chunks_of(url):
        for choice in chunk.choices:
            said.append(choice.delta.content or "")
            arguments += [call.function.arguments for call in choice.delta.tool_calls or []]
    return "".join(said), json.loads("".join(arguments) or "null")


def test_a_conversation():
    with serve(WireStream(TURN, cut=worst_case), WireStream(ANSWER)) as server:
        assert reply(server.url) == ("Let me look. ", {"path": "notes.md"})
        assert reply(server.url) == ("Milk, eggs and bread.", None)
        assert [request.json["messages"] for request in server.requests] == [QUESTION] * 2


def test_a_rate_limit_is_waited_for():
    limited = WireStream(ANSWER).with_fault(RateLimit(retry_after=0.01))
    with serve(limited, WireStream(ANSWER)) as server:
        assert reply(server.url)[0] == "Milk, eggs and bread."


def test_a_connection_that_breaks():
    broken = WireStream(ANSWER).with_fault(Disconnect(after=3))
    with serve(broken) as server, pytest.raises(openai.APIConnectionError):
        reply(server.url)


def test_replies_may_be_long():
    assert_linear(reply, serve="openai-chat", up_to=250, seconds=6.0)
